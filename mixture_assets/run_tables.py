"""Tables of somebody's runs, CSV or parquet: a row a run, and what each column holds."""

import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mixture_assets.core.errors import MixtureError, quoted, shortlist
from mixture_assets.core.names import nearest
from mixture_assets.tables import read_rows

NAMES_OF_RUNS = ("run", "run_id", "index", "id", "name")
NAMES_OF_STATES = ("state", "status")
SETTINGS = ("params", "tokens", "seed")  # of a run: neither domains nor metrics

Cells = Mapping[str, object]
Rows = Mapping[str, Cells]  # run -> column -> cell


@dataclass(frozen=True, kw_only=True)
class TableOptions:
    """How tables are read that were written for something else.

    A pattern is a column's name with `{}` where the domain or the metric stands in it:
    `train_the_pile_{}` reads the column `train_the_pile_arxiv` as the domain `arxiv`.
    """

    domains: tuple[str, ...] = ()  # as they are named in the end; by default all that can be
    weight_pattern: str = ""  # of the columns with weights
    metric_pattern: str = ""  # of the columns with metrics
    normalise: bool = False  # rescale rows that do not sum to 1, instead of leaving them out

    def __post_init__(self) -> None:
        for pattern in (self.weight_pattern, self.metric_pattern):
            if pattern and pattern.count("{}") != 1:
                raise MixtureError(
                    f"{quoted(pattern)} does not say where the name is in it",
                    hint="put {} there once, as in 'train_the_pile_{}'",
                )
        if len(set(self.domains)) < len(self.domains):
            raise MixtureError(
                f"a domain is named twice in {shortlist(self.domains, 20)}", hint="name each once"
            )


AS_IT_IS = TableOptions()


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """Which columns hold what was looked for, and the columns that hold something else."""

    columns: Mapping[str, str]  # domain or metric -> column
    others: tuple[str, ...]


def read_table(path: Path) -> list[Cells]:
    """Rows of a CSV or a parquet file, which has one or more."""
    if path.suffix != ".parquet":
        return [row for _, row in read_rows(path, ())]
    try:
        rows: list[Cells] = pq.read_table(path).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise MixtureError(f"{path.name} is not a parquet file: {error}") from error
    if not rows:
        raise MixtureError(f"{path.name} has no rows")
    return rows


def common_key(tables: Mapping[Path, Sequence[Cells]]) -> str:
    """The column that names the runs in every table."""
    for name in NAMES_OF_RUNS:
        if all(name in rows[0] for rows in tables.values()):
            return name
    names = [path.name for path in tables]
    raise MixtureError(
        f"{names[0]} has no column that names the runs"
        if len(names) == 1
        else f"{' and '.join(names)} share no column that names the runs",
        hint=f"call it one of {', '.join(NAMES_OF_RUNS)}" + (" in both" if names[1:] else ""),
    )


def rows_by_run(path: Path, rows: Sequence[Cells], key: str) -> dict[str, Cells]:
    """Run -> its other cells, those that only name or number it left out."""
    found: dict[str, Cells] = {}
    for row in rows:
        run = str(row[key]).strip()
        if run in found:
            raise MixtureError(
                f"{path.name} has the run {quoted(run)} twice", hint="keep one row for each run"
            )
        found[run] = {column: cell for column, cell in row.items() if not _names_a_run(column)}
    return found


def other_names(columns: Iterable[str], key: str) -> list[str]:
    """Columns that are left out because they are called as if they named the runs, as `key` does.

    One of them may be a domain or a metric, so somebody must be told.
    """
    return [column for column in columns if column in NAMES_OF_RUNS and column != key]


def _names_a_run(column: str) -> bool:
    return column in NAMES_OF_RUNS or not column or bool(re.fullmatch(r"Unnamed: \d+", column))


# --- which column is what ---------------------------------------------------------------------


def weight_columns(path: Path, columns: Iterable[str], options: TableOptions) -> Chosen:
    """Columns with weights, as the options name them; by default all that may be weights."""
    free = [c for c in columns if c not in NAMES_OF_STATES]
    if options.domains:
        return _chosen(path, free, options.domains, options.weight_pattern, "domain")
    free = [c for c in free if c not in SETTINGS]
    return _matching(path, free, options.weight_pattern, "weights")


def metric_columns(
    path: Path, columns: Iterable[str], options: TableOptions, needed: Collection[str]
) -> Chosen:
    """Columns with metrics: those that are needed, or all."""
    free = [c for c in columns if c not in (*NAMES_OF_STATES, *SETTINGS)]
    found = _matching(path, free, options.metric_pattern, "metrics")
    if not needed:
        return found
    known = [_filled(options.metric_pattern, name) for name in found.columns]
    wanted = _chosen(path, known, needed, options.metric_pattern, "metric")
    return Chosen(columns=wanted.columns, others=found.others)


def _matching(path: Path, columns: Sequence[str], pattern: str, noun: str) -> Chosen:
    named = {name: c for c in columns if (name := _name_in(pattern, c))}
    if not named:
        raise MixtureError(
            f"{path.name} has no column {f'like {quoted(pattern)}' if pattern else f'of {noun}'}",
            hint=f"its columns are {shortlist(columns, 12)}",
        )
    return Chosen(columns=named, others=tuple(sorted(set(columns) - set(named.values()))))


def _chosen(
    path: Path, columns: Sequence[str], names: Iterable[str], pattern: str, noun: str
) -> Chosen:
    known = [name for c in columns if (name := _name_in(pattern, c))]
    found = {name: _filled(pattern, name) for name in names}
    for name in found:
        if name not in known:
            raise MixtureError(
                f"{path.name} has no {noun} {name!r}{nearest(name, known)}",
                hint=f"its {noun}s are {shortlist(known, 20)}",
            )
    return Chosen(columns=found, others=tuple(sorted(set(columns) - set(found.values()))))


def _filled(pattern: str, name: str) -> str:
    return pattern.replace("{}", name) if pattern else name


def _name_in(pattern: str, column: str) -> str:
    """The name that a column carries; empty if the pattern is not its."""
    if not pattern:
        return column
    before, after = pattern.split("{}")
    fits = column.startswith(before) and column.endswith(after)
    return column[len(before) : len(column) - len(after)] if fits else ""


# --- cells ------------------------------------------------------------------------------------


def numbers(
    path: Path, run: str, cells: Cells, columns: Mapping[str, str]
) -> dict[str, float | None]:
    """Name -> the number in its column; None where a cell says that there is none."""
    return {name: _number(path, run, column, cells[column]) for name, column in columns.items()}


def _number(path: Path, run: str, column: str, cell: object) -> float | None:
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
