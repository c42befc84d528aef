"""Bringing a table in line with rows read from files, touching only what differs."""

import datetime
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import duckdb

from mixture_assets.store import database

_AS_TEXT = ("TIMESTAMP", "JSON")  # staged as text, cast on the way in
_HALF = re.compile("[\ud800-\udfff]")  # not UTF-8, and so not DuckDB's


def from_rows(
    connection: duckdb.DuckDBPyConnection, name: str, table: str, rows: Sequence[Mapping[str, Any]]
) -> None:
    """Put Python rows into the temporary table `name`, with `table`'s columns and an order."""
    columns = database.tables()[table]
    plain = [
        {c: _plain(row.get(c), kind) for c, kind in columns.items()} | {"row_order": i}
        for i, row in enumerate(rows)
    ]
    kinds = {c: "VARCHAR" if k in _AS_TEXT else k for c, k in columns.items()}
    structure = json.dumps([kinds | {"row_order": "BIGINT"}])
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE {name} AS "
        f"SELECT unnest(from_json(?::JSON, '{structure}'), recursive := true)",
        [_json(plain)],
    )


def _plain(value: Any, kind: str) -> Any:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return None
    if kind == "JSON":
        return _json(value)
    return _utc(str(value)) if kind == "TIMESTAMP" else value


def _json(value: Any) -> str:
    """JSON that DuckDB takes: half a character, of a file's odd name, becomes its escape."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return _HALF.sub(lambda half: f"\\\\u{ord(half[0]):04x}", text)


def has_halves(text: str) -> bool:
    """Whether a text is not UTF-8."""
    return _HALF.search(text) is not None


def _utc(text: str) -> str | None:
    """Without its offset, which a cast to TIMESTAMP would drop unread."""
    try:
        time = datetime.datetime.fromisoformat(text)
        if time.tzinfo is not None:
            time = time.astimezone(datetime.UTC).replace(tzinfo=None)
    except (ValueError, OverflowError):  # the first hours of year 1 are in no year in UTC
        return None
    return time.isoformat(sep=" ")


def settle(connection: duckdb.DuckDBPyConnection, name: str, table: str) -> None:
    """Cast the staged rows to `table`'s types, keep the last of each key, drop those without."""
    columns = database.tables()[table]
    keys = database.primary_keys()[table]
    cast = ", ".join(f"CAST({c} AS {kind}) AS {c}" for c, kind in columns.items())
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE settled AS SELECT {cast} FROM temp.{name} "
        f"WHERE {' AND '.join(f'{k} IS NOT NULL' for k in keys)} "
        f"QUALIFY row_number() OVER (PARTITION BY {', '.join(keys)} ORDER BY row_order DESC) = 1"
    )


def n_conflicts(connection: duckdb.DuckDBPyConnection, table: str) -> int:
    """How many settled rows are in `table` with other values."""
    columns, keys = ", ".join(database.tables()[table]), database.primary_keys()[table]
    found = connection.execute(
        f"SELECT count(*) FROM (SELECT {columns} FROM temp.settled "
        f"SEMI JOIN {table} USING ({', '.join(keys)}) EXCEPT SELECT {columns} FROM {table})"
    ).fetchone()
    assert found is not None
    return int(found[0])


def sync(
    connection: duckdb.DuckDBPyConnection, table: str, *, scope: str, is_complete: bool
) -> int:
    """Insert or replace the settled rows that differ; returns how many.

    `scope` is a SQL condition: which rows of the table the settled ones speak for. Are they all
    that there is in it (`is_complete`), the others are deleted.
    """
    columns = database.tables()[table]
    keys = database.primary_keys()[table]
    names = ", ".join(columns)
    if is_complete:
        same = " AND ".join(f"settled.{k} = {table}.{k}" for k in keys)
        connection.execute(
            f"DELETE FROM {table} WHERE {scope} "
            f"AND NOT EXISTS (SELECT 1 FROM temp.settled AS settled WHERE {same})"
        )
    clash = "REPLACE" if len(columns) > len(keys) else "IGNORE"
    found = connection.execute(
        f"INSERT OR {clash} INTO {table} ({names}) SELECT {names} FROM ("
        f"SELECT {names} FROM temp.settled EXCEPT SELECT {names} FROM {table} WHERE {scope}) "
        f"ORDER BY {', '.join(keys)}"
    ).fetchone()
    assert found is not None
    return int(found[0])
