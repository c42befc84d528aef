"""What nothing in a store refers to any more: listed, and removed when asked.

A run is referred to by proposals, comparisons, costs and re-fits, which are history and stay, and
by the plans that experiments are at; tokens by the runs trained on them, by where experiments
stand, and by the states that domains may fall back to. Finished full runs stay in any case: they
cost the most, and are evaluated late. Only what is also old goes: a file may be there before the
record that will name it.
"""

import re
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psutil

from mixture_assets import selection_garbage
from mixture_assets.core.errors import MixtureError
from mixture_assets.store.files import read_json_object
from mixture_assets.store.ingest import ingest
from mixture_assets.store.records import read_records
from mixture_assets.store.runs import RunFolder, list_runs

Kind = (
    Literal["run", "model", "checkpoint", "tokens", "validation", "log", "temporary"]
    | selection_garbage.Kind
)

_TEMPORARY = re.compile(r"\..*\.(\d+)-[0-9a-f]{8}\.tmp")  # core.files writes the process's id
_DAY_SECONDS = 86_400.0
_HISTORY = ("proposal", "comparison", "cost", "refit", "selection")  # kinds of record


@dataclass(frozen=True)
class Garbage:
    """Something that can go."""

    kind: Kind
    path: Path
    n_bytes: int
    reason: str


def find_garbage(store: Path, *, older_than_days: float, models: bool = False) -> list[Garbage]:
    """Everything that nothing refers to and that is that old, by kind and name.

    Args:
        store: Root of the store; all its experiments count.
        older_than_days: Since its last change. 0 takes all.
        models: Also the models of finished proxy runs: they are referred to, and only needed to
            measure a run on a domain that lands later. Such a run is trained again then.
    """
    if older_than_days < 0:
        raise MixtureError(f"--older-than must be >= 0 days, got {older_than_days:g}")
    runs = _unused_runs(store)
    kept = [run for run in list_runs(store) if run.path not in {g.path for g in runs}]
    found = [*runs, *_checkpoints(kept), *_unused_tokens(store, kept), *_logs(store)]
    found += _temporaries(store)
    specs = [run.spec()["spec"] for run in kept]
    found += [_garbage(*each) for each in selection_garbage.unused(store, specs)]
    if models:
        found += _proxy_models(kept)
    return sorted(_old(found, older_than_days), key=lambda g: (g.kind, g.path))


def remove(store: Path, garbage: Iterable[Garbage]) -> int:
    """Delete what was found, but for runs that somebody trains by now; returns bytes freed."""
    freed = 0
    for each in garbage:
        if _remove(store, each):
            freed += each.n_bytes
    ingest(store)
    return freed


def _remove(store: Path, garbage: Garbage) -> bool:
    if garbage.kind in ("run", "model", "checkpoint"):
        name = garbage.path.relative_to(store / "runs").parts[0]
        with RunFolder(store, name).lock() as is_mine:
            if is_mine:
                _delete(garbage.path)
            return is_mine
    _delete(garbage.path)
    return True


def _delete(path: Path) -> None:
    """Out of sight at once, then away: a kill leaves no half of it under its name."""
    hidden = path.with_name(f".{path.name}.gone")
    if path.is_dir():
        shutil.rmtree(hidden, ignore_errors=True)
        path.rename(hidden)
        shutil.rmtree(hidden)
    else:
        path.unlink(missing_ok=True)


def _old(found: Iterable[Garbage], days: float) -> Iterator[Garbage]:
    limit = time.time() - days * _DAY_SECONDS
    for each in found:
        files = [each.path, *each.path.rglob("*")] if each.path.is_dir() else [each.path]
        if not days or all(p.stat().st_mtime < limit for p in files if p.exists()):
            yield each


def _garbage(kind: Kind, path: Path, reason: str) -> Garbage:
    files = [p for p in path.rglob("*") if p.is_file()] if path.is_dir() else [path]
    return Garbage(kind, path, sum(p.stat().st_size for p in files), reason)


# --- runs -------------------------------------------------------------------------------------


def _unused_runs(store: Path) -> list[Garbage]:
    used, runs = _used_runs(store), list_runs(store)
    unused = [run for run in runs if run.run_id not in used and not run.is_locked()]
    reason = "and no current plan, proposal, comparison or re-fit has it"
    return [
        _garbage("run", run.path, f"{run.status()}, {reason}")
        for run in unused
        if run.status() != "done" or run.spec()["purpose"] != "full"
    ]


def _used_runs(store: Path) -> set[str]:
    """Ids that history or a current plan holds; those of other things do no harm."""
    history = (r for kind in _HISTORY for r in read_records(store, kind))
    rows = (row for r in history for several in r["rows"].values() for row in several)
    return {str(v) for row in rows for v in (row.get("run_id"), row.get("parent"))} | {
        run_id for plan in _current_plans(store) for run_id in plan
    }


def _current_plans(store: Path) -> list[set[str]]:
    """Run ids of what each experiment planned or worked on last, for proxy and full runs each."""
    plans: dict[tuple[str, str], list[tuple[float, set[str]]]] = {}
    for record in read_records(store, "experiment_run"):
        rows = record["rows"]["experiment_run"]
        runs = {row["run_id"] for row in rows}
        for key in {(row["experiment"], row["purpose"]) for row in rows}:
            plans.setdefault(key, []).append((_last_change(store, record["id"], runs), runs))
    # Two plans with a run in common may be equally new: then both are kept.
    return [
        runs for known in plans.values() for at, runs in known if at == max(t for t, _ in known)
    ]


def _last_change(store: Path, plan_id: str, runs: Iterable[str]) -> float:
    """Of a plan or of its run folders: a plan that is returned to is not written again."""
    paths = [store / "records" / "experiment_run" / f"{plan_id}.json"]
    paths += [RunFolder(store, run_id).path for run_id in runs]
    return max(p.stat().st_mtime for p in paths if p.exists())


def _checkpoints(runs: Iterable[RunFolder]) -> list[Garbage]:
    paths = [run.path / "checkpoint" for run in runs if run.status() == "done"]
    return [_garbage("checkpoint", p, "its run is done") for p in paths if p.exists()]


def _proxy_models(runs: Iterable[RunFolder]) -> list[Garbage]:
    proxies = [r for r in runs if r.is_complete() and r.spec()["purpose"] == "proxy"]
    reason = "of a proxy run: only needed to measure it on a domain that lands later"
    return [_garbage("model", r.model_path, reason) for r in proxies if r.model_path.exists()]


# --- tokens -----------------------------------------------------------------------------------


def _unused_tokens(store: Path, runs: Iterable[RunFolder]) -> list[Garbage]:
    """Token sets, their arrays and shards, and validation documents."""
    sets, validations = _referred_sets(store), set()
    for run in runs:
        spec = run.spec()["spec"]
        sets |= set(spec["token_sets"].values())
        if spec.get("online"):
            sets.add(spec["online"]["specialist"])  # what it steers by is no domain of its own
        validations |= {name for asked in run.asked() for name in asked.validation_sets.values()}
    manifests = {p: read_json_object(p) or {} for p in sorted(store.glob("token_sets/*/*.json"))}
    kept = [m for p, m in manifests.items() if p.stem in sets]
    validations |= {m["validation_digest"] for m in kept}
    names = {str(store / path) for m in kept for path, _ in m["arrays"]}
    names |= {
        str(store / "tokens" / selection_garbage.shard_folder(m["domain"]) / f"{s}.parquet")
        for m in kept
        for s in m["token_shards"]
    }
    names |= selection_garbage.token_files(store)
    files = sorted(p for p in store.glob("tokens/*/*") if not p.name.startswith("."))
    unused = [p for p in manifests if p.stem not in sets]
    unused += [p for p in files if str(p) not in names]
    documents = [p for p in sorted(store.glob("validation/*/*")) if not p.name.startswith(".")]
    return [
        *(_garbage("tokens", p, "no run, search or fall-back state has it") for p in unused),
        *(
            _garbage("validation", p, "no run is measured on it, and no token set has it")
            for p in documents
            if p.name.partition(".")[0] not in validations
        ),
    ]


def _referred_sets(store: Path) -> set[str]:
    """Token sets that experiments stand on, or may fall back to."""
    found: set[str] = set()
    for path in sorted([*store.glob("searches/**/*.json"), *store.glob("domains/*.json")]):
        found |= set(_texts(read_json_object(path)))
    return found


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from _texts(list(value.values()))
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)


# --- what killed processes leave --------------------------------------------------------------


def _logs(store: Path) -> list[Garbage]:
    """Output of training processes whose pool is gone."""
    found = []
    for path in sorted(store.glob("logs/worker-*.log")):
        pid = int(path.stem.split("-")[1])
        if not psutil.pid_exists(pid):
            found.append(_garbage("log", path, "of a training process that did not end well"))
    return found


def _temporaries(store: Path) -> list[Garbage]:
    found = []
    for path in sorted(store.rglob(".*")):
        match = _TEMPORARY.fullmatch(path.name)
        is_left = match is not None and not psutil.pid_exists(int(match[1]))
        if is_left or path.name.endswith(".gone"):
            found.append(_garbage("temporary", path, "left by a process that was killed"))
    return found
