"""What the files look like now, without reading them: a fingerprint each."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from mixture_assets.core.errors import MixtureError
from mixture_assets.store.runs import RunFolder, list_runs


@dataclass(frozen=True)
class Scan:
    """Files that go to the index, by their name below the store."""

    runs: dict[str, RunFolder] = field(default_factory=dict)  # runs/<id>
    records: dict[str, Path] = field(default_factory=dict)  # records/<kind>/<id>.json
    fingerprints: dict[str, str] = field(default_factory=dict)  # of both
    touched_ns: dict[str, int] = field(default_factory=dict)  # last change of any of its files


def scan(store: Path) -> Scan:
    """Look at every run folder and record; reads none of them."""
    found = Scan()
    for run in list_runs(store):
        name = f"runs/{run.run_id}"
        files = (
            run.spec_path,
            run.metrics_path,
            run.result_path,
            run.failure_path,
            run.losses_path,
        )
        stats = [_stat(path) for path in files]
        # The status too: a killed process lets go of its lock without touching a file.
        texts = [*map(_text, stats), str(_n_losses(run))]
        found.fingerprints[name] = " ".join([_status(run), *texts])
        found.touched_ns[name] = max(s.st_mtime_ns for s in stats if s) if any(stats) else 0
        found.runs[name] = run
    for path in sorted((store / "records").glob("*/*.json")):
        stat = None if path.name.startswith(".") else _stat(path)
        if stat:
            name = f"records/{path.parent.name}/{path.name}"
            found.fingerprints[name] = _text(stat)
            found.touched_ns[name] = stat.st_mtime_ns
            found.records[name] = path
    return found


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _n_losses(run: RunFolder) -> int:
    """A folder's time stands still between two ticks of the clock, and can be set back."""
    try:
        return len(os.listdir(run.losses_path))
    except FileNotFoundError:
        return 0


def _text(stat: os.stat_result | None) -> str:
    """Size, time and inode: a file renamed into place within one tick still differs."""
    return f"{stat.st_size}:{stat.st_mtime_ns}:{stat.st_ino}" if stat else "-"


def _status(run: RunFolder) -> str:
    try:
        return run.status()
    except MixtureError:  # a broken failure.json: ingest reads it, and says so
        return "unreadable"
