import re
import shlex
from pathlib import Path

import pytest

from mixture_assets.store import database
from mixture_assets.store.domain_log import note_bad
from mixture_assets.store.query import index, query
from tests.store import fakes

TEXT = (Path(__file__).parents[2] / "docs" / "store.md").read_text()
SQL = re.findall(r"^```sql\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
SHELL = [
    shlex.split(line)[2]
    for block in re.findall(r"^```sh\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
    for line in block.splitlines()
    if line.startswith("mixture query")
]


def test_there_are_examples() -> None:
    assert len(SQL) >= 20
    assert any("FROM lineage " in sql for sql in SHELL)


@pytest.mark.parametrize("sql", SQL + SHELL)
def test_every_documented_query_runs_and_finds_something(store: Path, sql: str) -> None:
    fakes.later_records(store)
    (store / "runs" / "r9").mkdir()
    spec = (store / "runs" / "r0" / "spec.json").read_text()
    (store / "runs" / "r9" / "spec.json").write_text(spec)  # planned, so that one is not done
    note_bad(store, "demo", "code", "'code/0.jsonl' is not UTF-8", "convert it")
    assert query(store, sql).rows


def test_every_table_column_and_view_is_documented(store: Path) -> None:
    sections = dict(re.findall(r"^### (\w+)\n(.*?)(?=^##|\Z)", TEXT, re.DOTALL | re.MULTILINE))
    with index(store) as connection:
        views = connection.execute(
            "SELECT view_name FROM duckdb_views() WHERE NOT internal"
        ).fetchall()
        described = {
            name: [row[0] for row in connection.execute(f"DESCRIBE {name}").fetchall()]
            for name in [*database.tables(), *(v for (v,) in views)]
        }
    described["latest_weights"] = []  # documented as another view's columns
    for name, columns in described.items():
        assert name in sections
        missing = [c for c in columns if f"`{c}`" not in sections[name]]
        assert not missing, f"{name}: {missing}"
    assert set(sections) == set(described)


def test_documented_types_are_the_real_ones() -> None:
    for table, columns in database.tables().items():
        section = TEXT.split(f"### {table}\n")[1].split("\n###")[0]
        for column, kind in columns.items():
            assert f"| `{column}` | {kind} | " in section, f"{table}.{column}"
