"""Questions to the index: one SELECT, read-only, answered whatever else is going on.

Three fences, each enough for most: the statement's syntax tree may hold nothing but reads of
tables and views; DuckDB may touch no file, and its settings are locked; and the index is
attached read-only, or is a copy in memory.
"""

import contextlib
import csv
import datetime
import decimal
import io
import itertools
import json
import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import duckdb

from mixture_assets.core.errors import MixtureError, MixtureWarning
from mixture_assets.core.names import nearest
from mixture_assets.store import database
from mixture_assets.store.database import Broken, Busy
from mixture_assets.store.ingest import (
    CANNOT_FILL,
    PATIENCE_SECONDS,
    attempt,
    fill,
    reason,
    reflects,
    unreadable_text,
)
from mixture_assets.store.limits import MAX_SECONDS, capped_memory, limited
from mixture_assets.store.read_only import check, failed
from mixture_assets.store.scan import scan

MAX_ROWS = 1_000_000  # what an answer may hold; more belongs into an aggregate

_CHUNK_ROWS = 10_000
_UPDATE_PATIENCE_SECONDS = 0.2  # another query may hold the file for minutes: memory is quicker
_SETTINGS = (
    "memory_limit = '4GB'",
    "temp_directory = ''",  # what does not fit is refused: a question writes no file
    "enable_external_access = false",
    "lock_configuration = true",
)


@dataclass(frozen=True)
class QueryResult:
    """An answer: column names and rows of Python values."""

    columns: list[str]
    rows: list[tuple[Any, ...]]

    def to_dicts(self) -> list[dict[str, Any]]:
        """One mapping per row."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]

    def to_json(self) -> str:
        """A JSON array of objects; times as ISO 8601, NaN and infinity as null."""
        return json.dumps([{k: _plain(v) for k, v in row.items()} for row in self.to_dicts()])

    def to_csv(self) -> str:
        """RFC 4180 with a header; NULL is an empty field."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows([_cell(value, digits=0) for value in row] for row in self.rows)
        return text.getvalue()

    def to_table(self, *, digits: int = 6) -> str:
        """Columns under their names; numbers to the right, rounded to `digits`; NULL is '-'."""
        cells = [[_cell(v, digits) if v is not None else "-" for v in row] for row in self.rows]
        columns = list(zip(self.columns, *cells, strict=True))
        widths = [max(map(len, column)) for column in columns]
        is_right = [
            any(isinstance(row[i], int | float | decimal.Decimal) for row in self.rows)
            for i in range(len(self.columns))
        ]
        lines = [self.columns, ["-" * w for w in widths], *cells]
        return "\n".join(
            "  ".join(
                cell.rjust(width) if right else cell.ljust(width)
                for cell, width, right in zip(line, widths, is_right, strict=True)
            ).rstrip()
            for line in lines
        )


def query(
    store: Path, sql: str, *, seconds: float = MAX_SECONDS, cap_bytes: int = 0
) -> QueryResult:
    """Answer one SELECT (or EXPLAIN, DESCRIBE, SHOW, SUMMARIZE) from what the files say now.

    Args:
        store: Root of the store.
        sql: One statement.
        seconds: That it may take, once the index is up to date.
        cap_bytes: That the process may grow by meanwhile; 0 where it has other work to do.

    Raises:
        MixtureError: The statement is not a read, names something unknown, fails, or takes
            more than `seconds`.
    """
    check(sql)  # before anything is opened
    with _fenced(store) as connection, capped_memory(cap_bytes):
        return _answer(connection, sql, seconds)


class Ask(Protocol):
    """A read with values for its question marks: nobody has to quote a name."""

    def __call__(self, sql: str, values: Sequence[Any] = ()) -> QueryResult:
        """Answer one SELECT; MixtureError where it is none, or fails."""
        ...


@contextlib.contextmanager
def snapshot(store: Path, *, seconds: float = MAX_SECONDS) -> Iterator[Ask]:
    """Answer any number of reads from one state of the files, with one look at them."""
    with _fenced(store) as connection:

        def ask(sql: str, values: Sequence[Any] = ()) -> QueryResult:
            check(sql, connection)
            return _answer(connection, sql, seconds, values)

        yield ask


@contextlib.contextmanager
def _fenced(store: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with index(store) as connection:
        for setting in _SETTINGS:
            connection.execute(f"SET {setting}")
        yield connection


def _answer(
    connection: duckdb.DuckDBPyConnection, sql: str, seconds: float, values: Sequence[Any] = ()
) -> QueryResult:
    try:
        with limited(connection, seconds=seconds):
            cursor = connection.execute(sql, list(values))
            rows = _rows(cursor)
            columns = _unique([column[0] for column in cursor.description or []])
    except duckdb.Error as error:
        raise _readable(error, connection) from error
    if len(rows) > MAX_ROWS:
        raise MixtureError(
            f"the answer has more than {MAX_ROWS:,} rows", hint="add LIMIT, or GROUP BY"
        )
    return QueryResult(columns, rows)


def _unique(names: Sequence[str]) -> list[str]:
    """Each name once, so that no column of a mapping hides another: a, a_1."""
    taken, found = set(names), []
    for i, name in enumerate(names):
        if name in names[:i]:
            name = next(n for k in itertools.count(1) if (n := f"{name}_{k}") not in taken)
            taken.add(name)
        found.append(name)
    return found


def _rows(cursor: duckdb.DuckDBPyConnection) -> list[tuple[Any, ...]]:
    """At most one row too many, in steps that a limit can come between."""
    rows: list[tuple[Any, ...]] = []
    while len(rows) <= MAX_ROWS and (chunk := cursor.fetchmany(_CHUNK_ROWS)):
        rows += chunk
    return rows


@contextlib.contextmanager
def index(store: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection to an index that reflects the files, in catalog `mixture`.

    The database file where it is up to date or can be brought there; else one in memory.
    """
    with contextlib.ExitStack() as stack:
        connection, problems = _entered(stack, Path(store))
        if problems:
            warnings.warn(unreadable_text(problems), MixtureWarning, stacklevel=6)
        yield connection


def _entered(
    stack: contextlib.ExitStack, store: Path
) -> tuple[duckdb.DuckDBPyConnection, Sequence[str]]:
    """A connection, and the problems of files that it lacks.

    Where no file changed, no lock is needed that a running query would keep from us.
    """
    connection = _enter_file(stack, store)
    if connection is not None:
        return connection, ()
    report = attempt(store, _UPDATE_PATIENCE_SECONDS)
    # What was just brought up to date counts as current, though files may have changed since.
    connection = _enter_file(stack, store, is_fresh=True) if report.is_current else None
    if connection is not None:
        return connection, report.unreadable
    return _enter_memory(stack, store)


def _enter_file(
    stack: contextlib.ExitStack, store: Path, *, is_fresh: bool = False
) -> duckdb.DuckDBPyConnection | None:
    path = store / database.DATABASE_NAME
    with contextlib.ExitStack() as trial, contextlib.suppress(Busy, Broken):
        trial.enter_context(
            database.locked(store, patience_seconds=PATIENCE_SECONDS, is_shared=True)
        )
        connection = trial.enter_context(database.opened(path, is_read_only=True))
        if is_fresh or reflects(connection, scan(store)):
            stack.push(trial.pop_all())
            return connection
    return None


def _enter_memory(
    stack: contextlib.ExitStack, store: Path
) -> tuple[duckdb.DuckDBPyConnection, Sequence[str]]:
    connection = stack.enter_context(database.in_memory())
    try:
        _, problems = fill(connection, scan(store))
    except (MemoryError, *CANNOT_FILL) as error:
        raise MixtureError(
            f"the index cannot be built from the files: {reason(error)}",
            hint="`mixture doctor` looks at the store",
        ) from error
    return connection, problems


def _readable(error: duckdb.Error, connection: duckdb.DuckDBPyConnection) -> MixtureError:
    """One sentence, with what there is where a table was not found."""
    unknown = re.search(r"Table with name (\S+) does not exist", str(error))
    if not unknown:
        return failed(error)
    names = _tables_and_views(connection)
    return MixtureError(
        f"there is no table or view {unknown[1]!r}{nearest(unknown[1], names)}",
        hint=f"there are {', '.join(names)}",
    )


def _tables_and_views(connection: duckdb.DuckDBPyConnection) -> list[str]:
    rows = connection.execute(
        "SELECT table_name FROM information_schema.tables "
        f"WHERE table_catalog = '{database.CATALOG}' ORDER BY ALL"
    ).fetchall()
    return [name for (name,) in rows]


def _cell(value: Any, digits: int) -> str:
    if value is None:
        return ""
    if isinstance(value, float) and digits:
        return f"{value:.{digits}g}"
    if isinstance(value, bool):
        return "true" if value else "false"
    plain = _plain(value)
    return plain if isinstance(plain, str) else json.dumps(plain)


def _plain(value: Any) -> Any:
    """A value that JSON can say."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float | decimal.Decimal):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(v) for v in value]
    return str(value)
