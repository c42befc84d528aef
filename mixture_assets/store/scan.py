"""What the files look like now, without reading them: a fingerprint each."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mixture_assets.core.errors import MixtureError
from mixture_assets.store.runs import RunFolder

# The folder of later losses is counted too: its time stands still between two ticks of the clock.
_RUN_FILES = ("spec.json", "metrics.jsonl", "result.json", "failure.json", "losses")


@dataclass(frozen=True)
class Scan:
    """Files that go to the index, by their name below the store."""

    store: Path
    records: dict[str, Path] = field(default_factory=dict)  # records/<kind>/<id>.json, latest/...
    fingerprints: dict[str, str] = field(default_factory=dict)  # of these, and of runs/<id>
    touched_ns: dict[str, int] = field(default_factory=dict)  # last change of any of its files

    def run(self, name: str) -> RunFolder | None:
        """The folder of 'runs/<id>', if it is there."""
        is_there = name in self.fingerprints
        return RunFolder(self.store, name.removeprefix("runs/")) if is_there else None

    def only(self, names: Iterable[str]) -> "Scan":
        """As if these files were all that there is."""
        kept = set(names)
        return Scan(
            self.store,
            {name: path for name, path in self.records.items() if name in kept},
            {name: text for name, text in self.fingerprints.items() if name in kept},
        )


def scan(store: Path) -> Scan:
    """Look at every run folder and record; reads none of them."""
    found = Scan(Path(store))
    for run_id in _names(found.store / "runs"):
        _add_run(found, run_id)
    for path in (*found.store.glob("records/*/*.json"), *found.store.glob("latest/*.json")):
        stat = None if path.name.startswith(".") else _stat(str(path))
        if stat:
            name = path.relative_to(found.store).as_posix()
            found.fingerprints[name] = _text(stat)
            found.touched_ns[name] = stat.st_mtime_ns
            found.records[name] = path
    return found


def _names(folder: Path) -> list[str]:
    try:
        return sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _add_run(found: Scan, run_id: str) -> None:
    """Plain strings and one stat a file: pathlib takes twice the time over 10,000 runs."""
    folder = f"{found.store}/runs/{run_id}"
    stats = [_stat(f"{folder}/{name}") for name in _RUN_FILES]
    if stats[0] is None:
        return  # no specification, no run
    name = f"runs/{run_id}"
    # The status too: a killed process lets go of its lock without touching a file.
    status = "done" if stats[2] else _status(RunFolder(found.store, run_id))
    n_losses = len(_names(Path(f"{folder}/losses"))) if stats[-1] else 0
    found.fingerprints[name] = " ".join([status, *map(_text, stats), str(n_losses)])
    found.touched_ns[name] = max(stat.st_mtime_ns for stat in _there(stats))


def _there(stats: list[os.stat_result | None]) -> Iterator[os.stat_result]:
    return (stat for stat in stats if stat)


def _stat(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _text(stat: os.stat_result | None) -> str:
    """Size, time and inode: a file renamed into place within one tick still differs."""
    return f"{stat.st_size}:{stat.st_mtime_ns}:{stat.st_ino}" if stat else "-"


def _status(run: RunFolder) -> str:
    try:
        return run.status()
    except MixtureError:  # a broken failure.json: ingest reads it, and says so
        return "unreadable"
