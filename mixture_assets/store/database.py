"""Opening the index: one lock of ours before DuckDB's own, and ATTACH instead of connect.

duckdb 2.0.0 reads a file's header before it locks the file, so that two processes that open,
write and close in turn can undo each other's commits (upstream PR #23613: 12 of 4,728 rows
lost). Through ATTACH from an in-memory connection, under a lock taken before, none is.
"""

import contextlib
import fcntl
import functools
import os
import time
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import duckdb

from mixture_assets.core.digest import digest

DATABASE_NAME = "mixture.duckdb"
CATALOG = "mixture"  # what DuckDB calls the file when a shell opens it
_STORAGE_VERSION = "v1.5.0"  # 2.0's own default cannot be opened by any 1.x shell
_LOCK_POLL_SECONDS = 0.02
_INDEX_VERSION = 3  # raise when ingest fills the same tables in another way
_SETTINGS: dict[str, Any] = {
    # Extensions are downloaded at run time: never on behalf of a query, never without a network.
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "temp_directory": "",  # by default .tmp in whatever folder the process stands in
    "python_enable_replacements": "false",  # a table's name must not reach a Python variable
}
_BROKEN = ("not a valid DuckDB database", "Could not read enough bytes", "Corrupt", "checksum")


class Busy(Exception):
    """Somebody else has the index open, or it cannot be opened here."""


class Broken(Exception):
    """The file is no DuckDB database, or a damaged one."""


def schema_sql() -> str:
    """Tables, then views."""
    package = resources.files("mixture_assets.store")
    return (package / "schema.sql").read_text() + (package / "views.sql").read_text()


def schema_version() -> str:
    """Names this schema, so that an index of another one is built again."""
    return digest([schema_sql(), _INDEX_VERSION])


@contextlib.contextmanager
def locked(store: Path, *, patience_seconds: float, is_shared: bool = False) -> Iterator[None]:
    """Hold our own lock beside the database; Busy if it is not free in time."""
    try:
        descriptor = os.open(store / f"{DATABASE_NAME}.lock", os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise Busy(f"{error.strerror}: {error.filename}") from error
    try:
        _wait(descriptor, fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX, patience_seconds)
        yield
    finally:
        os.close(descriptor)


def _wait(descriptor: int, kind: int, patience_seconds: float) -> None:
    deadline = time.monotonic() + patience_seconds
    while True:
        try:
            return fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise Busy("another process of ours is using it") from None
        time.sleep(_LOCK_POLL_SECONDS)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Raise KeyboardInterrupt where DuckDB says that a signal's handler raised something.

    duckdb 2.0.0 puts a RuntimeError in its place, which would read as a bug. Dagster ends a run
    on a KeyboardInterrupt as on an interrupt of its own.
    """
    try:
        yield
    except RuntimeError as error:
        if "Query interrupted" not in str(error):
            raise
        raise KeyboardInterrupt from error


@contextlib.contextmanager
def _connected(settings: dict[str, Any]) -> Iterator[duckdb.DuckDBPyConnection]:
    with interruptible(), contextlib.closing(duckdb.connect(config=settings)) as connection:
        # After two seconds it would go to stdout, where answers go.
        connection.execute("SET enable_progress_bar = false")
        yield connection


@contextlib.contextmanager
def opened(path: Path, *, is_read_only: bool = False) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection with the database attached and in use. The caller holds the lock."""
    mode = "READ_ONLY" if is_read_only else f"STORAGE_VERSION '{_STORAGE_VERSION}'"
    name = str(path).replace("'", "''")
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise Busy("the path of the store is not UTF-8") from error
    with _connected(_SETTINGS | {"temp_directory": f"{path}.tmp"}) as connection:
        try:
            connection.execute(f"ATTACH '{name}' AS {CATALOG} (TYPE duckdb, {mode})")
        except duckdb.Error as error:
            text = str(error)
            raise (Broken if any(word in text for word in _BROKEN) else Busy)(text) from error
        connection.execute(f"USE {CATALOG}")
        yield connection


@contextlib.contextmanager
def in_memory() -> Iterator[duckdb.DuckDBPyConnection]:
    """An empty index that leaves nothing behind."""
    with _connected(_SETTINGS) as connection:
        connection.execute(f"ATTACH ':memory:' AS {CATALOG}")
        connection.execute(f"USE {CATALOG}")
        create_schema(connection)
        yield connection


def create_schema(connection: duckdb.DuckDBPyConnection) -> None:
    """Create all tables and views, and note their version, or nothing at all."""
    connection.execute("BEGIN")
    connection.execute(schema_sql())
    connection.execute("INSERT INTO ingested VALUES ('schema', ?)", [schema_version()])
    connection.execute("COMMIT")


def has_schema(connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether the tables are there, and of this version."""
    try:
        found = connection.execute(
            "SELECT fingerprint FROM ingested WHERE file = 'schema'"
        ).fetchone()
    except duckdb.Error:
        return False
    return found == (schema_version(),)


def remove(path: Path) -> None:
    """Delete the index; it is built again from the files."""
    for each in (path, path.with_name(path.name + ".wal")):
        each.unlink(missing_ok=True)


def replace(path: Path, new: Path) -> None:
    """Put another index in place of this one. Its log goes first: it is not the new one's."""
    path.with_name(path.name + ".wal").unlink(missing_ok=True)
    os.replace(new, path)


@functools.cache
def tables() -> dict[str, dict[str, str]]:
    """Type by column by table, as schema.sql has them."""
    with in_memory() as connection:
        rows = connection.execute(
            "SELECT table_name, column_name, data_type FROM duckdb_columns() "
            "JOIN duckdb_tables() USING (database_name, table_name) "
            f"WHERE database_name = '{CATALOG}' ORDER BY table_name, column_index"
        ).fetchall()
    found: dict[str, dict[str, str]] = {}
    for table, column, kind in rows:
        found.setdefault(table, {})[column] = kind
    return found


@functools.cache
def primary_keys() -> dict[str, list[str]]:
    """Primary key columns by table."""
    with in_memory() as connection:
        rows = connection.execute(
            "SELECT table_name, constraint_column_names FROM duckdb_constraints() "
            f"WHERE database_name = '{CATALOG}' AND constraint_type = 'PRIMARY KEY'"
        ).fetchall()
    return {table: list(columns) for table, columns in rows}
