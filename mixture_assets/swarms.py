"""Somebody's own runs: one table of mixtures, one of metrics, joined by the name of the run."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mixture_assets.core.errors import MixtureError, quoted, shortlist
from mixture_assets.core.names import nearest
from mixture_assets.methods.swarm import Swarm
from mixture_assets.tables import read_rows

NAMES_OF_RUNS = ("run", "run_id", "index", "id", "name")
NAMES_OF_STATES = ("state", "status")
FINISHED = ("finished", "done", "completed", "complete", "success", "succeeded")
SUM_SLACK = 0.02  # of 1, for weights that were rounded; what is further off is no mixture

Cells = Mapping[str, object]


@dataclass(frozen=True, kw_only=True)
class SwarmTable:
    """A swarm, and every run that is not in it with the reason."""

    swarm: Swarm
    excluded: Mapping[str, str] = field(default_factory=dict)  # run -> reason
    notes: Sequence[str] = ()


def read_swarm(ratios: Path, metrics: Path, *, needed: Collection[str] = ()) -> SwarmTable:
    """Runs from two tables, CSV or parquet.

    Args:
        ratios: A row for each run: its name, and a weight for each domain.
        metrics: A row for each run: its name, and its metrics. A column `state` or `status` says
            which runs are finished; others do not count.
        needed: Metrics that a run must have; all by default.

    Raises:
        MixtureError: A run that is there twice, no common name of runs, a cell that is no number,
            or fewer than half of the runs left.
    """
    weights, values = _table(ratios), _table(metrics)
    key = _common_key(ratios, weights, metrics, values)
    mixtures, results = _by_run(ratios, weights, key), _by_run(metrics, values, key)
    wanted = _metrics(metrics, results, needed)
    excluded = _unmatched(mixtures, results, ratios, metrics)
    kept: dict[str, dict[str, float]] = {}
    measured: dict[str, dict[str, float]] = {}
    for run in sorted(mixtures.keys() & results.keys()):
        mixture = _numbers(ratios, run, mixtures[run])
        found = {n: _number(metrics, run, n, results[run][n]) for n in wanted}
        reason = _not_finished(results[run]) or _no_mixture(mixture) or _unmeasured(found)
        if reason:
            excluded[run] = reason
        else:
            kept[run] = {name: x for name, x in mixture.items() if x is not None}
            measured[run] = {name: x for name, x in found.items() if x is not None}
    if len(kept) < max(2, len(excluded)):
        raise MixtureError(
            f"{len(excluded)} of {len(excluded) + len(kept)} runs cannot be used, as "
            f"{_listed(excluded)}",
            hint="weights are shares that sum to 1, and every run needs its metrics",
        )
    swarm = Swarm.of(kept, measured)
    return SwarmTable(swarm=swarm, excluded=dict(sorted(excluded.items())), notes=_notes(swarm))


def _listed(excluded: Mapping[str, str]) -> str:
    return "; ".join(f"{quoted(run)}: {excluded[run]}" for run in sorted(excluded)[:3])


def _notes(swarm: Swarm) -> list[str]:
    if not swarm.constant:
        return []
    return [
        f"{shortlist(swarm.constant, 12)} has the same weight in every run: its effect cannot be "
        "learned"
    ]


# --- tables -----------------------------------------------------------------------------------


def _table(path: Path) -> list[Cells]:
    if path.suffix != ".parquet":
        return [row for _, row in read_rows(path, ())]
    try:
        rows: list[Cells] = pq.read_table(path).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise MixtureError(f"{path.name} is not a parquet file: {error}") from error
    if not rows:
        raise MixtureError(f"{path.name} has no rows")
    return rows


def _common_key(a: Path, weights: Sequence[Cells], b: Path, values: Sequence[Cells]) -> str:
    found = [name for name in NAMES_OF_RUNS if name in weights[0] and name in values[0]]
    if not found:
        raise MixtureError(
            f"{a.name} and {b.name} share no column that names the runs",
            hint=f"call it one of {', '.join(NAMES_OF_RUNS)} in both",
        )
    return found[0]


def _by_run(path: Path, rows: Sequence[Cells], key: str) -> dict[str, Cells]:
    """Run -> its other cells, those that only name it left out."""
    found: dict[str, Cells] = {}
    for row in rows:
        run = str(row[key]).strip()
        if run in found:
            raise MixtureError(
                f"{path.name} has the run {quoted(run)} twice", hint="keep one row for each run"
            )
        found[run] = {n: x for n, x in row.items() if n not in NAMES_OF_RUNS and n}
    return found


def _metrics(path: Path, results: Mapping[str, Cells], needed: Collection[str]) -> list[str]:
    known = [n for n in next(iter(results.values())) if n not in NAMES_OF_STATES]
    for name in needed:
        if name not in known:
            raise MixtureError(
                f"{path.name} has no metric {name!r}{nearest(name, known)}",
                hint=f"its metrics are {shortlist(known, 20)}",
            )
    return sorted(needed or known)


def _number(path: Path, run: str, column: str, cell: object) -> float | None:
    """The number in a cell; None for one that says that there is none."""
    if cell is None or str(cell).strip().lower() in ("", "nan", "none", "null", "na"):
        return None
    try:
        value = float(str(cell))
    except ValueError as error:
        raise MixtureError(
            f"{path.name}: {column} of the run {quoted(run)} is {quoted(cell)}, not a number",
            hint=f"take the column out, or call it one of {', '.join(NAMES_OF_RUNS)} if it names "
            "the runs",
        ) from error
    return value if math.isfinite(value) else None


def _numbers(path: Path, run: str, cells: Cells) -> dict[str, float | None]:
    return {name: _number(path, run, name, cell) for name, cell in cells.items()}


# --- runs that do not count -------------------------------------------------------------------


def _unmatched(
    mixtures: Mapping[str, Cells], results: Mapping[str, Cells], a: Path, b: Path
) -> dict[str, str]:
    lacking = {run: f"not in {b.name}" for run in mixtures.keys() - results.keys()}
    return lacking | {run: f"not in {a.name}" for run in results.keys() - mixtures.keys()}


def _not_finished(cells: Cells) -> str:
    for name in NAMES_OF_STATES:
        state = str(cells.get(name) or FINISHED[0]).strip().lower()
        if state not in FINISHED:
            return f"its {name} is {quoted(state)}"
    return ""


def _no_mixture(mixture: Mapping[str, float | None]) -> str:
    known = {name: x for name, x in mixture.items() if x is not None}
    if len(known) < len(mixture):
        return f"no weight for {shortlist(mixture.keys() - known.keys())}"
    if min(known.values(), default=0) < 0:
        return f"the weight of {min(known, key=known.__getitem__)!r} is below 0"
    total = math.fsum(known.values())
    return "" if abs(total - 1) <= SUM_SLACK else f"its weights sum to {total:.4g}"


def _unmeasured(found: Mapping[str, float | None]) -> str:
    missing = [name for name, value in found.items() if value is None]
    return f"no {shortlist(missing)}" if missing else ""


def same_domains(swarm: Swarm, other: Swarm) -> None:
    """MixtureError unless two swarms have the same domains."""
    apart = set(swarm.domains) ^ set(other.domains)
    if apart:
        raise MixtureError(
            f"the two swarms do not have the same domains: {shortlist(apart)} is in one only",
            hint="a domain without tokens is a column of zeros",
        )
