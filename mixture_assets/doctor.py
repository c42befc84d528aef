"""Is this machine fit for the job? One finding a line, and the fix where there is one."""

import importlib.metadata
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mixture_assets.core.errors import MixtureError
from mixture_assets.core.run import TrainingSpec
from mixture_assets.core.units import bytes_text

_PACKAGES = ("torch", "transformers", "dagster", "duckdb", "pyarrow", "tokenizers", "gigatoken")
_LEAST_DISK_BYTES = 1e9
_LEAST_MEMORY_BYTES = 4e9


@dataclass(frozen=True)
class Finding:
    """What one check found."""

    check: str
    is_ok: bool
    finding: str
    fix: str = ""


def examine(store: Path) -> list[Finding]:
    """Run every check; none of them changes anything outside a temporary folder."""
    checks: list[tuple[str, Callable[[], Finding]]] = [
        ("python", _python),
        ("packages", _packages),
        ("device", _device),
        ("memory", _memory),
        ("disk", lambda: _disk(store)),
        ("tokenizer", _tokenizer),
        ("records", lambda: _records(store)),
        ("database", lambda: _database(store)),
    ]
    return [_guarded(name, check) for name, check in checks]


def findings_table(findings: Sequence[Finding]) -> tuple[tuple[str, ...], list[list[str]]]:
    """Header and rows for people."""
    body = [[f.check, "ok" if f.is_ok else "FIX", f.finding] for f in findings]
    return ("check", "state", "finding"), body


def _guarded(name: str, check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except Exception as error:  # a check that cannot run is a finding too
        return Finding(
            name,
            False,
            f"{type(error).__name__}: {error}",
            "reinstall: rm -r .venv, then make test",
        )


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding("python", sys.version_info >= (3, 11), version, "")


def _packages() -> Finding:
    versions, missing = [], []
    for name in _PACKAGES:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        return Finding("packages", False, f"missing: {', '.join(missing)}", "pip install -e .")
    return Finding("packages", True, ", ".join(versions))


def _device() -> Finding:
    from mixture_assets.training.device import probe

    device = probe(TrainingSpec(), context=64)
    return Finding("device", True, f"{device.name}: {device.numeric_path}")


def _memory() -> Finding:
    import psutil

    free = psutil.virtual_memory().available
    is_ok = free >= _LEAST_MEMORY_BYTES
    fix = "" if is_ok else "the demo needs 4 GB: close something, or lower [compute] workers"
    return Finding("memory", is_ok, f"{bytes_text(free)} free", fix)


def _disk(store: Path) -> Finding:
    folder = next(p for p in (store, *store.parents) if p.exists())
    free = shutil.disk_usage(folder).free
    is_ok = free >= _LEAST_DISK_BYTES
    fix = "" if is_ok else f"free some space under {folder}"
    return Finding("disk", is_ok, f"{bytes_text(free)} free", fix)


def _tokenizer() -> Finding:
    """Train a small tokenizer and see which engine agrees with the reference."""
    from mixture_assets.data.shards import discover
    from mixture_assets.data.tokenize import tokenize_shard
    from mixture_assets.data.tokenizer import train_tokenizer

    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        (root / "raw" / "probe").mkdir(parents=True)
        text = "\n\n".join(f"The quick brown fox, number {i}, jumps." for i in range(200))
        (root / "raw" / "probe" / "a.txt").write_text(text)
        shards = discover(str(root / "raw"), cache=root / "shards.json")
        tokenizer = train_tokenizer(shards, vocab_size=300, store=root)
        shard = tokenize_shard(shards["probe"][0], tokenizer, store=root)
    is_fast = shard.engine == "gigatoken"
    fix = "" if is_fast else "pip install gigatoken: tokenizing is about 30 times slower without it"
    return Finding("tokenizer", is_fast, f"engine {shard.engine}", fix)


def _records(store: Path) -> Finding:
    from mixture_assets.store.status import run_table

    if not store.exists():
        return Finding("records", True, "no store yet")
    rows = run_table(store)
    counts = {s: sum(row["status"] == s for row in rows) for s in ("done", "failed", "running")}
    text = f"{len(rows)} runs: " + ", ".join(f"{n} {status}" for status, n in counts.items())
    fix = "`mixture status` says why" if counts["failed"] else ""
    return Finding("records", not counts["failed"], text, fix)


def _database(store: Path) -> Finding:
    from mixture_assets.store.query import query

    if not (store / "runs").exists():
        return Finding("database", True, "nothing recorded yet")
    try:
        answer = query(store, "SELECT count(*) AS n FROM run")
    except MixtureError as error:
        return Finding("database", False, str(error), "delete mixture.duckdb: it is rebuilt")
    return Finding("database", True, f"answers; {answer.rows[0][0]} runs indexed")
