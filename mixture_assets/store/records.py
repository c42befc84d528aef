"""Records: everything but run folders that goes to DuckDB, one small JSON file each.

A record is named by what it rests on, so the same step writes the same file again, or none.
"""

import datetime
import json
import math
import numbers
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mixture_assets.core.errors import MixtureError, shortlist
from mixture_assets.core.names import nearest
from mixture_assets.store import database
from mixture_assets.store.files import atomic_write_json, read_json_object

Row = Mapping[str, Any]
Rows = Mapping[str, Sequence[Row]]

# Filled from run folders.
RUN_TABLES = ("run", "run_domain_tokens", "step_metric", "evaluation", "weight_trajectory")
FILE_TABLES = (*RUN_TABLES, "latest", "ingested")  # those that no record can fill
RUN_EDGE_ROLE = "training_tokens"  # likewise: run -> token set

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:+-]{0,149}")
_CLOCK = "created_at"  # a record that differs in this alone is the same record


def write_record(store: Path, kind: str, record_id: str, rows: Rows) -> Path:
    """Write rows for the index under one name; a second time changes nothing.

    A record that exists keeps its `created_at`; other changes replace it in one step.

    Args:
        store: Root of the store.
        kind: Folder below records/, for example 'proposal'.
        record_id: Digest of what the rows rest on.
        rows: Table -> rows; a column that is left out is NULL.

    Raises:
        MixtureError: An unknown table or column, a value of another type, a key that is missing.
    """
    path = _path(store, kind, record_id)
    checked = {t: [_checked(t, row) for row in several] for t, several in sorted(rows.items())}
    record = {"kind": kind, "id": record_id, "rows": checked}
    if not _is_written(path, record):
        atomic_write_json(path, record)
    return path


def read_record(store: Path, kind: str, record_id: str) -> dict[str, list[dict[str, Any]]] | None:
    """The rows of a record by table, or None."""
    found = read_json_object(_path(store, kind, record_id))
    return None if found is None else found["rows"]


def read_records(store: Path, kind: str) -> list[dict[str, Any]]:
    """Every record of a kind, by id: mappings with `kind`, `id` and `rows` (table -> rows)."""
    found = (read_json_object(_path(store, kind, name)) for _, name in list_records(store, kind))
    return [record for record in found if record is not None]


def list_records(store: Path, kind: str = "") -> list[tuple[str, str]]:
    """(kind, id) of every record, or of one kind, in sorted order."""
    paths = Path(store).glob(f"records/{kind or '*'}/*.json")
    return sorted((p.parent.name, p.stem) for p in paths if not p.name.startswith("."))


def _path(store: Path, kind: str, record_id: str) -> Path:
    for name in (kind, record_id):
        if not _NAME.fullmatch(name):
            raise MixtureError(
                f"{name!r} cannot name a record", hint="use a digest, or letters, digits, _ . : + -"
            )
    return Path(store) / "records" / kind / f"{record_id}.json"


def _checked(table: str, row: Row) -> dict[str, Any]:
    """The row with plain JSON values, or MixtureError."""
    known = {t: c for t, c in database.tables().items() if t not in FILE_TABLES}
    if table in RUN_TABLES:
        raise MixtureError(
            f"a record cannot fill {table!r}: its rows come from run folders",
            hint="write spec.json, metrics.jsonl and result.json; ingest reads them",
        )
    if table not in known:
        raise MixtureError(
            f"there is no table {table!r}{nearest(table, known)}",
            hint=f"tables for records: {', '.join(known)}",
        )
    columns = known[table]
    unknown = [name for name in row if name not in columns]
    if unknown:
        raise MixtureError(
            f"table {table!r} has no column {shortlist(unknown)}{nearest(unknown[0], columns)}",
            hint=f"columns: {', '.join(columns)}",
        )
    missing = [key for key in database.primary_keys()[table] if row.get(key) is None]
    if missing:
        raise MixtureError(f"a row for {table!r} lacks its key {shortlist(missing)}: {dict(row)}")
    if table == "edge" and row["role"] == RUN_EDGE_ROLE:
        raise MixtureError(f"edges of role {RUN_EDGE_ROLE!r} come from run folders, not records")
    return {name: _value(value, columns[name], table, name) for name, value in row.items()}


def _value(value: Any, kind: str, table: str, column: str) -> Any:
    """One value as JSON holds it, if it is of the column's type."""
    if value is None:
        return None
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if kind == "BIGINT" and is_number and math.isfinite(value) and value == int(value):
        return int(value)  # also 5e9 and numpy's integers
    if kind == "DOUBLE" and is_number and math.isfinite(value):
        return float(value)
    if kind == "VARCHAR" and isinstance(value, str):
        return value
    if kind == "BOOLEAN" and isinstance(value, bool):
        return value
    if kind == "TIMESTAMP" and isinstance(value, str) and _is_time(value):
        return value
    if kind == "JSON":
        return json.loads(json.dumps(value, allow_nan=False))
    raise MixtureError(
        f"{table}.{column} must be {kind}, got {value!r}",
        hint="TIMESTAMP: ISO 8601 in UTC; what is not known is None, never NaN",
    )


def _is_time(value: str) -> bool:
    try:
        datetime.datetime.fromisoformat(value)
    except ValueError:
        return False
    return True


def _is_written(path: Path, record: Mapping[str, Any]) -> bool:
    try:
        found = read_json_object(path)
        return found is not None and _timeless(found) == _timeless(record)
    except (MixtureError, AttributeError, KeyError, TypeError):
        return False  # broken by hand: we have what belongs there


def _timeless(record: Mapping[str, Any]) -> dict[str, Any]:
    rows = {
        table: [{k: v for k, v in row.items() if k != _CLOCK} for row in several]
        for table, several in record["rows"].items()
    }
    return dict(record) | {"rows": rows}
