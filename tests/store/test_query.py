import csv
import io
import json
import math
import time
from pathlib import Path

import pytest

from mixture_assets.core.errors import MixtureError
from mixture_assets.store import database
from mixture_assets.store.ingest import ingest
from mixture_assets.store.query import QueryResult, query
from tests.store import fakes


@pytest.mark.parametrize(
    ("sql", "first"),
    [
        ("SELECT count(*) FROM run", 5),
        ("  select count(*) from run ; ", 5),
        ("-- how many\nSELECT count(*) FROM run -- runs", 5),
        ("FROM run SELECT count(*)", 5),
        ("WITH x AS (SELECT * FROM run) SELECT count(*) FROM x", 5),
        ("SELECT count(*) FROM mixture.main.run", 5),
        ("SELECT sum(i) FROM range(4) t(i)", 6),
        ("SELECT 1 UNION ALL SELECT 2 ORDER BY 1", 1),
        ("VALUES (7)", 7),
        ("SELECT spec->>'seed' FROM run WHERE run_id = 'r2'", "2"),
        ("SELECT count(*) FROM (PIVOT run ON purpose IN ('proxy', 'full') USING count(*))", 5),
    ],
)
def test_reads_are_answered(store: Path, sql: str, first: object) -> None:
    assert query(store, sql).rows[0][0] == first


def test_the_index_describes_itself(store: Path) -> None:
    assert ("run_id", "VARCHAR") in [row[:2] for row in query(store, "DESCRIBE run").rows]
    assert ("lineage",) in query(store, "SHOW TABLES").rows
    assert query(store, "SUMMARIZE run").columns[0] == "column_name"
    assert query(store, "EXPLAIN SELECT * FROM run").columns == ["explain_key", "explain_value"]
    assert query(store, "explain analyze\nSELECT * FROM run").rows
    names = query(store, "SELECT table_name FROM duckdb_tables() WHERE table_name = 'edge'")
    assert names.rows == [("edge",)]


@pytest.mark.parametrize(
    ("sql", "message", "hint"),
    [
        (
            "SELECT * FROM evaluatoin",
            r"'evaluatoin' \(did you mean 'evaluation'\?\)",
            "step_metric",
        ),
        ("SELECT los FROM step_metric", 'the query failed: Referenced column "los"', "DESCRIBE"),
        ("SELECT * FROM run WHERE", "the query failed: syntax error", "docs/store.md"),
        ("DELETE FROM run", "a query only reads, DELETE is refused", "one SELECT"),
        ("SELECT 1; SELECT 2", "a query is one statement, got 2", "one SELECT"),
        ("SELECT * FROM read_csv('x')", r"cannot use read_csv\(\)", "lineage_from"),
        ("SELECT * FROM range(2000000)", "more than 1,000,000 rows", "LIMIT"),
        ("SELECT 'x'::INT", "the query failed: Could not convert string 'x'", "docs/store.md"),
    ],
)
def test_mistakes_are_one_sentence(store: Path, sql: str, message: str, hint: str) -> None:
    with pytest.raises(MixtureError, match=message) as caught:
        query(store, sql)
    assert hint in caught.value.hint


def test_an_answer_reflects_what_was_written_a_moment_ago(store: Path) -> None:
    for number in range(3):
        fakes.finished_run(store, f"new{number}")
        n_runs = query(store, "SELECT count(*) FROM run WHERE run_id LIKE 'new%'").rows
        assert n_runs == [(number + 1,)]


def test_a_store_on_a_read_only_medium_still_answers(store: Path) -> None:
    ingest(store)
    (store / f"{database.DATABASE_NAME}.lock").unlink()
    (store / f"{database.DATABASE_NAME}.lock").mkdir()  # cannot be opened for writing
    assert query(store, "SELECT count(*) FROM run").rows == [(5,)]


def test_lineage_goes_from_a_weight_to_the_raw_shards(store: Path) -> None:
    rows = query(
        store,
        "SELECT DISTINCT depth, role, node_kind FROM lineage "
        "WHERE proposal_id = '90a1000000000001' AND domain = 'code' ORDER BY depth, node_kind",
    ).rows
    assert rows == [
        (0, "weight", "weight"),
        (1, "fit", "fit"),
        (2, "proxy_run", "run"),
        (3, "training_tokens", "token_set"),
        (4, "shard", "token_shard"),
        (5, "raw", "shard"),
        (5, "tokenizer", "tokenizer"),
    ]
    shards = query(
        store,
        "SELECT DISTINCT detail FROM lineage WHERE domain = 'code' "
        "AND node_kind = 'shard' AND node_domain = 'code' ORDER BY 1",
    ).rows
    assert shards == [("data/raw/code/0.jsonl.zst",), ("data/raw/code/1.jsonl.zst",)]
    runs = query(
        store, "SELECT node FROM lineage WHERE domain = 'prose' AND node_kind = 'run' ORDER BY 1"
    ).rows
    assert runs == [("r0",), ("r1",), ("r2",)]
    assert query(store, "SELECT DISTINCT weight FROM lineage WHERE domain = 'code'").rows == [
        (0.4,)
    ]


def test_lineage_from_any_node_and_in_a_circle(store: Path) -> None:
    nodes = query(store, "SELECT DISTINCT node_kind FROM lineage_from('r0') ORDER BY 1").rows
    assert [n for (n,) in nodes] == ["run", "shard", "token_set", "token_shard", "tokenizer"]
    edges = [{"child": "x", "parent": "y", "role": "a"}, {"child": "y", "parent": "x", "role": "a"}]
    record = {"kind": "note", "id": "n", "rows": {"edge": edges}}
    fakes.write_json(store / "records" / "note" / "n.json", record)
    assert query(store, "SELECT max(depth) FROM lineage_from('x')").rows == [(32,)]


def test_views_answer_the_daily_questions(store: Path) -> None:
    board = query(store, "SELECT place, mixture_name, seed, mean_loss_nats FROM leaderboard")
    assert sorted(board.rows) == [(1, "proposal", 0, 3.4), (2, "natural", 0, 3.5)]
    proxies = query(store, "SELECT * FROM proxy_results").to_dicts()
    assert len(proxies) == 6
    assert {p["realised_tokens"] for p in proxies} == {640, 1216}
    cost = query(store, "SELECT n_runs, device_seconds, devices FROM cost_by_decision").rows
    assert cost == [(3, 37.5, "cpu")]
    newer = fakes.proposal_rows(["r0"], "p2", created_at="2026-02-01T00:00:00Z")
    fakes.write_json(
        store / "records" / "proposal" / "p2.json", {"kind": "proposal", "id": "p2", "rows": newer}
    )
    latest = query(store, "SELECT DISTINCT proposal_id FROM latest_weights").rows
    assert latest == [("p2",)]
    history = query(store, "SELECT count(*) FROM weight_history WHERE domain = 'code'").rows
    assert history == [(2,)]


def test_answers_as_json_csv_and_table(store: Path) -> None:
    answer = query(
        store,
        "SELECT 'a,b\n' AS text, NULL AS none, 1.23456789 ::DOUBLE AS number, true AS yes, "
        "TIMESTAMP '2026-01-02 03:04:05' AS time, [1, 2] AS list, {'k': 1.5} AS pair, "
        "'nan'::DOUBLE AS nan, 10::HUGEINT AS big, 1.5::DECIMAL(4, 2) AS money, 'x'::BLOB AS raw",
    )
    (row,) = json.loads(answer.to_json())
    assert row == {
        "text": "a,b\n",
        "none": None,
        "number": 1.23456789,
        "yes": True,
        "time": "2026-01-02T03:04:05",
        "list": [1, 2],
        "pair": {"k": 1.5},
        "nan": None,
        "big": 10,
        "money": 1.5,
        "raw": "78",
    }
    header, cells = csv.reader(io.StringIO(answer.to_csv()))
    assert header == answer.columns
    assert cells[:4] == ["a,b\n", "", "1.23456789", "true"]
    assert math.isnan(answer.to_dicts()[0]["nan"])


def test_table_lines_up_numbers_to_the_right() -> None:
    answer = QueryResult(["domain", "weight"], [("code", 0.25), ("a long name", None)])
    assert answer.to_table() == (
        "domain       weight\n-----------  ------\ncode           0.25\na long name       -"
    )
    assert QueryResult(["n"], []).to_table() == "n\n-"
    assert QueryResult(["n"], []).to_csv() == "n\n"
    assert QueryResult(["n"], []).to_json() == "[]"


def test_columns_of_one_name_are_all_there(store: Path) -> None:
    answer = query(store, "SELECT 1 AS a, 2 AS a, 3 AS a_1, 4 AS a, 5 AS a_1")
    assert json.loads(answer.to_json()) == [{"a": 1, "a_2": 2, "a_1": 3, "a_3": 4, "a_1_1": 5}]


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT 'caf\udce9'", "the query is not UTF-8"),
        ("SELECT 1" + " UNION ALL SELECT 1" * 40_000, "at most 100,000 characters, got 760,008"),
    ],
)
def test_a_text_that_no_parser_should_see_is_refused(store: Path, sql: str, message: str) -> None:
    begun = time.monotonic()
    with pytest.raises(MixtureError, match=message):
        query(store, sql)
    assert time.monotonic() - begun < 1
