"""What must hold after any number of kills, judged from outside: ledgers, bytes, plain DuckDB."""

import hashlib
import json
from collections import Counter
from pathlib import Path

import duckdb
from _chaos_victims import steps_of


def check_rows(store: Path, ledgers: dict[str, Path]) -> dict[str, int]:
    """Acknowledged rows that the files or the index lack, or have twice.

    The ledger is not part of the store: a writer notes a row there once `append` has returned.
    """
    found = Counter()
    index = _index_rows(store)
    for name, ledger in sorted(ledgers.items()):
        acknowledged = _lines(ledger)
        rows = _file_rows(store / "runs" / name / "metrics.jsonl")
        times, last = Counter(rows), dict(rows)
        found["acknowledged"] += len(acknowledged)
        found["steps"] += len(steps_of(ledger))
        found["repeated_by_resumes"] += len(acknowledged) - len(steps_of(ledger))
        found["lost_in_files"] += sum(times[row] == 0 for row in acknowledged)
        found["duplicated_in_files"] += sum(n > 1 for n in times.values())
        in_index = Counter(step for step, _ in index.get(name, []))
        found["lost_in_index"] += sum(in_index[step] == 0 for step in last)
        found["duplicated_in_index"] += sum(n > 1 for n in in_index.values())
        found["outdated_in_index"] += sum(last.get(s) != a for s, a in index.get(name, []))
    return dict(found)


def _lines(ledger):
    text = ledger.read_text()
    lines = text[: text.rfind("\n") + 1].splitlines()
    return [tuple(map(int, line.split())) for line in lines]


def _file_rows(path):
    """(step, attempt) of every whole line, in order."""
    rows = []
    for line in path.read_bytes().split(b"\n"):
        try:
            row = json.loads(line)
            rows.append((row["step"], row["loss_nats"]))
        except (ValueError, TypeError, KeyError):
            continue
    return rows


def _index_rows(store):
    rows = {}
    with duckdb.connect(str(store / "mixture.duckdb"), read_only=True) as connection:
        sql = "SELECT run_id, step, loss_nats FROM step_metric JOIN run USING (run_id) "
        answer = connection.execute(sql + "WHERE experiment = 'writers'").fetchall()
    for name, step, attempt in answer:
        rows.setdefault(name, []).append((step, int(attempt)))
    return rows


def index_content(store: Path) -> dict[str, list]:
    """Every row of every table, as a plain connection sees them."""
    with duckdb.connect(str(store / "mixture.duckdb"), read_only=True) as connection:
        tables = [name for (name,) in connection.execute("SHOW TABLES").fetchall()]
        is_view = {
            name
            for (name,) in connection.execute("SELECT view_name FROM duckdb_views()").fetchall()
        }
        return {
            table: connection.execute(f"SELECT * FROM {table} ORDER BY ALL").fetchall()
            for table in tables
            if table not in is_view
        }


def differing_tables(store: Path, rebuild) -> list[str]:
    """Tables whose rows are others once the database was deleted and built from the files."""
    grown = index_content(store)
    (store / "mixture.duckdb").unlink()
    rebuild()
    rebuilt = index_content(store)
    return sorted(t for t in grown.keys() | rebuilt.keys() if grown.get(t) != rebuilt.get(t))


def token_bytes(store: Path) -> dict[str, str]:
    """Hash by name of all that tokenizing makes; hidden leftovers of killed processes aside."""
    folders = ("tokens", "token_sets", "validation", "tokenizers")
    paths = (path for folder in folders for path in (store / folder).rglob("*"))
    return {str(p.relative_to(store)): _sha(p) for p in paths if _is_product(p)}


def run_bits(store: Path) -> dict[str, str]:
    """By run: its final losses, and the bytes of its model where one is kept."""
    bits = {}
    for path in sorted(store.glob("runs/*/result.json")):
        name = path.parent.name
        result = json.loads(path.read_text())
        kept = {key: result[key] for key in ("losses", "realised_tokens", "steps", "flops_train")}
        bits[f"{name} losses"] = json.dumps(kept, sort_keys=True)
        for model in sorted((path.parent / "model").glob("*.safetensors")):
            bits[f"{name} {model.name}"] = _sha(model)
    return bits


def _is_product(path):
    return path.is_file() and not path.name.startswith(".")


def _sha(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def different(expected: dict[str, str], found: dict[str, str]) -> list[str]:
    """Entries that differ or are on one side only."""
    return sorted(k for k in expected.keys() | found.keys() if expected.get(k) != found.get(k))
