"""From files to tables: idempotent, incremental, and never in the way of a training.

Only files whose fingerprint changed are read. All of an ingest is one transaction under one
lock, so a process killed in the middle leaves the index as it was. Of rows with the same key,
the last in the file counts: after a resume it is the one that the model came from.
"""

import contextlib
import re
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb

from mixture_assets.core.errors import MixtureError, MixtureWarning, shortlist
from mixture_assets.store import database, run_rows, staging
from mixture_assets.store.database import Broken, Busy
from mixture_assets.store.files import read_json_object
from mixture_assets.store.records import FILE_TABLES, RUN_EDGE_ROLE
from mixture_assets.store.scan import Scan, scan

PATIENCE_SECONDS = 5.0  # for other processes of ours; strangers are not waited for

_NO_MEMORY = (duckdb.OutOfMemoryException, MemoryError)
CANNOT_FILL = (duckdb.Error, ValueError, RecursionError)  # a file's fault, or the machine's


@dataclass(frozen=True)
class IngestReport:
    """What one ingest did."""

    rows: Mapping[str, int] = field(default_factory=dict)  # new or changed, by table
    seconds: float = 0.0
    waiting: int = 0  # run folders and records that changed since the index was written
    reason: str = ""  # why they wait
    is_current: bool = True  # the index reflects the files
    unreadable: tuple[str, ...] = ()  # problems with files that were left out


def ingest(store: Path, *, patience_seconds: float = PATIENCE_SECONDS) -> IngestReport:
    """Bring the index in line with the files.

    Warns (MixtureWarning) and leaves the rest for next time when the index is busy, the disk is
    full or a file is broken: nothing here may end a training.
    """
    report = attempt(Path(store), patience_seconds)
    if not report.is_current:
        warnings.warn(
            f"the index was not updated, {report.waiting} files wait: {report.reason}; "
            "nothing is lost, the next ingest takes them",
            MixtureWarning,
            stacklevel=2,
        )
    if report.unreadable:
        warnings.warn(unreadable_text(report.unreadable), MixtureWarning, stacklevel=2)
    return report


def unreadable_text(problems: Iterable[str]) -> str:
    """One sentence about files that the index lacks."""
    listed = list(problems)
    return f"{len(listed)} broken files are not in the index: {shortlist(listed)}"


def attempt(store: Path, patience_seconds: float = PATIENCE_SECONDS) -> IngestReport:
    """Ingest without a word; the report says how it went."""
    begun = time.monotonic()
    if not store.is_dir():
        raise MixtureError(
            f"there is no store at {str(store)!r}", hint="`mixture run` makes one; see `store`"
        )
    try:
        with database.locked(store, patience_seconds=patience_seconds):
            rows, unreadable = _fill_file(store / database.DATABASE_NAME, scan(store))
    except (Busy, Broken, OSError, MemoryError, *CANNOT_FILL) as error:
        waiting, is_current = _n_waiting(store)
        seconds = time.monotonic() - begun
        return IngestReport({}, seconds, waiting, reason(error), is_current)
    return IngestReport(rows, time.monotonic() - begun, unreadable=tuple(unreadable))


def reason(error: BaseException) -> str:
    """What DuckDB, or the machine, has against it, on one line."""
    holder = re.search(r"lock is held in .*\((PID \d+)\)", str(error))
    text = f"{holder[1]} has it open" if holder else (str(error).splitlines() or ["unknown"])[0]
    return re.sub(r"^[A-Za-z ]+ Error: ", "", text)


def _n_waiting(store: Path) -> tuple[int, bool]:
    """Files that the index lacks, and whether it is known to lack none.

    Where the index cannot be read, the files count that changed after it.
    """
    found = scan(store)
    path = store / database.DATABASE_NAME
    with (
        contextlib.suppress(Busy, Broken, OSError, duckdb.Error),
        database.locked(store, patience_seconds=0, is_shared=True),
        database.opened(path, is_read_only=True) as connection,
    ):
        if database.has_schema(connection):
            changed, gone = _difference(connection, found)
            return len(changed) + len(gone), not changed and not gone
    built_ns = path.stat().st_mtime_ns if path.exists() else 0
    return sum(touched >= built_ns for touched in found.touched_ns.values()), False


def _fill_file(path: Path, found: Scan) -> tuple[dict[str, int], list[str]]:
    """Fill the database file; one that is damaged or of another version is made anew."""
    if path.exists():
        try:
            with database.opened(path) as connection:
                if database.has_schema(connection):
                    return fill(connection, found)
        except Broken as error:
            warnings.warn(
                f"{path} was damaged and is built again: {reason(error)}",
                MixtureWarning,
                stacklevel=4,
            )
    return _made_anew(path, found)


def _made_anew(path: Path, found: Scan) -> tuple[dict[str, int], list[str]]:
    """Fill a new file aside and give it its name: nobody ever sees an index half made."""
    aside = path.with_name(f".{path.name}.new")  # one name is enough: we hold the lock
    database.remove(aside)
    with database.opened(aside) as connection:
        database.create_schema(connection)
        answer = fill(connection, found)
    database.replace(path, aside)
    return answer


def _difference(
    connection: duckdb.DuckDBPyConnection, found: Scan
) -> tuple[dict[str, str | None], set[str]]:
    """Files that changed, each with the fingerprint that the index has; and those that went."""
    rows = connection.execute("SELECT file, fingerprint FROM ingested").fetchall()
    known = {file: fingerprint for file, fingerprint in rows if file != "schema"}
    changed = {n: known.get(n) for n, f in found.fingerprints.items() if known.get(n) != f}
    return changed, known.keys() - found.fingerprints.keys()


def reflects(connection: duckdb.DuckDBPyConnection, found: Scan) -> bool:
    """Whether an open index reflects the files."""
    return database.has_schema(connection) and not any(_difference(connection, found))


def fill(connection: duckdb.DuckDBPyConnection, found: Scan) -> tuple[dict[str, int], list[str]]:
    """Bring an open index in line with the files, in one transaction.

    Returns:
        New or changed rows by table, and the problems of files that were left out.
    """
    changed, gone = _difference(connection, found)
    if not changed and not gone:
        return {}, []
    problems = _misnamed(changed)
    try:
        rows = _fill(connection, found, changed, gone, problems)
    except _NO_MEMORY:
        raise
    except CANNOT_FILL:
        problems = _misnamed(changed)
        culprits = _culprits(found, sorted(changed.keys() - problems.keys()))
        if not culprits:
            raise  # the files are not to blame: a full disk, lost rights
        problems |= culprits
        connection.execute("ROLLBACK")
        rows = _fill(connection, found, changed, gone, problems)
    return {table: n for table, n in sorted(rows.items()) if n}, list(problems.values())


def _misnamed(names: Iterable[str]) -> dict[str, str]:
    """Problems of files whose names DuckDB cannot hold."""
    return {n: f"{n!a}: its name is not UTF-8" for n in names if staging.has_halves(n)}


def _culprits(found: Scan, names: Sequence[str]) -> dict[str, str]:
    """Problems of those of the files that an index of their own cannot be made from.

    In halves: one bad file of 10,000 is found in 28 trials.
    """
    error = _trial(found, names)
    if error is None:
        return {}
    if len(names) == 1:
        return {names[0]: f"{names[0]}: {reason(error)}"}
    middle = len(names) // 2
    return _culprits(found, names[:middle]) | _culprits(found, names[middle:])


def _trial(found: Scan, names: Sequence[str]) -> BaseException | None:
    """What an index in memory says to these files alone."""
    part = found.only(names)
    try:
        with database.in_memory() as connection:
            _fill(connection, part, dict.fromkeys(names), set(), {})
    except _NO_MEMORY:
        raise
    except CANNOT_FILL as error:
        return error
    return None


def _fill(
    connection: duckdb.DuckDBPyConnection,
    found: Scan,
    changed: Mapping[str, str | None],
    gone: set[str],
    problems: dict[str, str],
) -> Counter[str]:
    """Rows by table; files in `problems` are left out, and those that cannot be read join them."""
    rows: Counter[str] = Counter()
    connection.execute("BEGIN")
    rows.update(run_rows.fill(connection, found, changed.keys() | gone, problems))
    rows.update(_fill_records(connection, found, changed, gone, problems))
    rows.update(_fill_latest(connection, found, problems))
    _remember(connection, found, changed.keys() - problems.keys(), changed.keys() | gone)
    connection.execute("COMMIT")
    return rows


def _remember(
    connection: duckdb.DuckDBPyConnection, found: Scan, read: set[str], forget: set[str]
) -> None:
    known = sorted(name for name in forget if not staging.has_halves(name))
    connection.execute("DELETE FROM ingested WHERE file IN (SELECT unnest(?))", [known])
    rows = [{"file": n, "fingerprint": found.fingerprints[n]} for n in sorted(read)]
    staging.from_rows(connection, "stage", "ingested", rows)
    connection.execute("INSERT INTO ingested SELECT file, fingerprint FROM temp.stage")


def _fill_records(
    connection: duckdb.DuckDBPyConnection,
    found: Scan,
    changed: Mapping[str, str | None],
    gone: set[str],
    problems: dict[str, str],
) -> Counter[str]:
    """Rows of new records; of all records again where one changed, went or disagrees."""
    known = [n for n in found.records if n.startswith("records/") and n not in problems]
    fresh = [name for name in known if name in changed]
    is_additive = not any(name.startswith("records/") for name in gone) and all(
        changed[name] is None for name in fresh
    )
    if is_additive:
        added = _sync_records(connection, _read(found, fresh, problems), is_complete=False)
        if added is not None:
            return added
    every = _read(found, known, problems)
    complete = _sync_records(connection, every, is_complete=True)
    assert complete is not None
    return complete


def _read(
    found: Scan, names: Iterable[str], problems: dict[str, str]
) -> dict[str, list[dict[str, Any]]]:
    """Rows by table over several records, in the order of their names."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for name in sorted(names):
        try:
            for table, several in (read_json_object(found.records[name]) or {})["rows"].items():
                rows.setdefault(table, []).extend(dict(row) for row in several)
        except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
            problems[name] = f"{name}: {error}"
    return rows


def _sync_records(
    connection: duckdb.DuckDBPyConnection,
    rows: Mapping[str, list[dict[str, Any]]],
    *,
    is_complete: bool,
) -> Counter[str] | None:
    """Counts by table; None if a new row disagrees with an old one, so that order would count."""
    tables = [t for t in database.tables() if t not in FILE_TABLES]
    wanted = tables if is_complete else [t for t in tables if t in rows]
    if not is_complete:
        for table in wanted:
            _stage(connection, table, rows[table])
            if staging.n_conflicts(connection, table):
                return None
    counts: Counter[str] = Counter()
    for table in wanted:
        _stage(connection, table, rows.get(table, []))
        scope = f"role <> '{RUN_EDGE_ROLE}'" if table == "edge" else "true"
        counts[table] = staging.sync(connection, table, scope=scope, is_complete=is_complete)
    return counts


def _fill_latest(
    connection: duckdb.DuckDBPyConnection, found: Scan, problems: dict[str, str]
) -> Counter[str]:
    """Which proposal each experiment's files lead to now: latest/<experiment>.json."""
    rows = []
    for name in sorted(n for n in found.records if n.startswith("latest/") and n not in problems):
        try:
            proposal_id = (read_json_object(found.records[name]) or {})["proposal_id"]
            rows.append({"experiment": found.records[name].stem, "proposal_id": str(proposal_id)})
        except (OSError, KeyError, ValueError) as error:
            problems[name] = f"{name}: {error}"
    _stage(connection, "latest", rows)
    return Counter(latest=staging.sync(connection, "latest", scope="true", is_complete=True))


def _stage(connection: duckdb.DuckDBPyConnection, table: str, rows: list[dict[str, Any]]) -> None:
    staging.from_rows(connection, "stage", table, rows)
    staging.settle(connection, "stage", table)
