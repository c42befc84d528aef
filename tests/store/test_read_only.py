"""SQL that is no question: refused in one sentence, and nothing on the disk has changed."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner

from mixture_assets.cli import cli
from mixture_assets.core.errors import MixtureError
from mixture_assets.store import database
from mixture_assets.store.query import query
from mixture_assets.store.read_only import TABLE_FUNCTIONS, check

HOSTILE = [
    "INSERT INTO run(run_id) VALUES ('x')",
    "UPDATE run SET status = 'done'",
    "DELETE FROM run",
    "TRUNCATE run",
    "DROP TABLE run",
    "ALTER TABLE run ADD COLUMN x INT",
    "CREATE TABLE x AS SELECT 1",
    "CREATE TEMP TABLE x AS SELECT 1",
    "CREATE OR REPLACE VIEW leaderboard AS SELECT 1",
    "CREATE MACRO f(x) AS x",
    "MERGE INTO run USING (SELECT 'r0' AS run_id) u USING (run_id) WHEN MATCHED THEN DELETE",
    "WITH x AS (INSERT INTO run(run_id) VALUES ('x') RETURNING *) SELECT * FROM x",
    "WITH x AS (DELETE FROM run RETURNING *) SELECT * FROM x",
    "WITH x AS (UPDATE run SET status = 'done' RETURNING *) SELECT * FROM x",
    "SELECT * FROM (WITH x AS (DELETE FROM run RETURNING *) SELECT * FROM x)",
    "EXPLAIN ANALYZE DELETE FROM run",
    "EXPLAIN ANALYZE WITH x AS (DELETE FROM run RETURNING *) SELECT * FROM x",
    "EXPLAIN ANALYZE COPY run TO 'stolen.csv'",
    "COPY run TO 'stolen.csv'",
    "COPY (SELECT 1) TO 'stolen.parquet'",
    "COPY run FROM '/etc/passwd'",
    "EXPORT DATABASE 'stolen'",
    "IMPORT DATABASE 'stolen'",
    "ATTACH 'other.duckdb' AS other",
    "DETACH mixture",
    "USE memory",
    "INSTALL httpfs",
    "LOAD json",
    "PRAGMA enable_profiling",
    "PRAGMA database_list",
    "SET enable_external_access = true",
    "RESET enable_external_access",
    "SET VARIABLE x = 1",
    "CALL pragma_version()",
    "CHECKPOINT",
    "VACUUM",
    "BEGIN",
    "PREPARE p AS SELECT 1",
    "EXECUTE p",
    "SELECT 1; DELETE FROM run",
    "SELECT 1; SELECT 2",
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM read_csv_auto('/etc/passwd')",
    "SELECT * FROM READ_TEXT('/etc/passwd')",
    "SELECT * FROM read_blob('/etc/passwd')",
    "SELECT * FROM read_json('/etc/passwd')",
    "SELECT * FROM read_parquet('x.parquet')",
    "SELECT * FROM parquet_scan('x.parquet')",
    "SELECT * FROM read_duckdb('other.duckdb')",
    "SELECT * FROM sniff_csv('/etc/passwd')",
    "SELECT * FROM glob('/etc/*')",
    "SELECT (SELECT content FROM read_text('/etc/passwd'))",
    "SELECT * FROM run WHERE run_id IN (SELECT filename FROM glob('/*'))",
    "EXPLAIN SELECT * FROM read_text('/etc/passwd')",
    "EXPLAIN ANALYZE SELECT * FROM read_text('/etc/passwd')",
    "DESCRIBE SELECT * FROM read_csv('/etc/passwd')",
    "SUMMARIZE SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM '/etc/passwd'",
    "SELECT * FROM '/etc/passwd.csv'",
    'SELECT * FROM "s3://bucket/x.parquet"',
    "SELECT * FROM query('DELETE FROM run')",
    "SELECT * FROM query_table('run')",
    "SELECT * FROM json_execute_serialized_sql('{}')",
    "SELECT * FROM force_checkpoint('mixture')",
    "SELECT * FROM enable_logging()",
    "SELECT * FROM duckdb_secrets()",
    "SELECT * FROM sqlite_scan('x', 'y')",
    "SELECT * FROM arrow_scan(0, 0, 0)",
    "SELECT getenv('HOME')",
    "SELECT * FROM store",  # a Python variable in the caller's frame
    "SELECT * FROM HOSTILE",
    "",
    ";",
    "-- nothing",
    "SELEC 1",
    "SELECT '",
    "SELECT " + "(" * 3000 + "1" + ")" * 3000,
    "SELECT \0",
    "PIVOT run ON status",
    "EXPLAIN /* ANALYZE */ ANALYZE DELETE FROM run",
    "EXPLAIN (FORMAT json) DELETE FROM run",
    "/**/ DELETE /**/ FROM run -- SELECT 1",
    "SELECT 1 /* ; */; DROP TABLE run --",
    "SELECT 1;\n\n;COPY run TO 'stolen.csv'",
    "DELETE FROM run RETURNING *",
    "INSERT OR REPLACE INTO ingested VALUES ('schema', 'x')",
    "WITH x AS (COPY run TO 'stolen.csv') SELECT 1",
    "WITH x AS (MERGE INTO run USING run u USING (run_id) WHEN MATCHED THEN DELETE RETURNING *) "
    "FROM x",
    "CREATE SECRET s (TYPE s3, KEY_ID 'x')",
    "CREATE SEQUENCE q",
    "CREATE TYPE mood AS ENUM ('a')",
    "CREATE MACRO stolen() AS TABLE SELECT * FROM read_text('/etc/passwd')",
    "COMMENT ON TABLE run IS 'x'",
    "ANALYZE",
    "ATTACH ':memory:' AS stolen",
    "ATTACH 'stolen.duckdb'",
    "ATTACH 'https://example.invalid/x.duckdb' AS x",
    "INSTALL 'stolen.duckdb_extension'",
    "LOAD 'stolen.duckdb_extension'",
    "FORCE INSTALL httpfs FROM 'http://example.invalid'",
    "UPDATE EXTENSIONS",
    "SET GLOBAL temp_directory = 'stolen'",
    "SET lock_configuration = false",
    "PRAGMA import_database('stolen')",
    "PRAGMA enable_checkpoint_on_shutdown",
    "PRAGMA profiling_output = 'stolen.json'",
    "EXECUTE IMMEDIATE 'DELETE FROM run'",
    "DEALLOCATE p",
    "COMMIT",
    "ROLLBACK",
    "SELECT * FROM read_json_auto('/proc/self/environ')",
    "SELECT * FROM read_ndjson_objects('/etc/passwd')",
    "SELECT * FROM query('SELECT * FROM read_text(''/etc/passwd'')')",
    "SELECT * FROM lineage_from((SELECT content FROM read_text('/etc/passwd')))",
    "SELECT * FROM run, LATERAL (SELECT * FROM read_text(run_id))",
    "SELECT (FROM glob('/*') LIMIT 1)",
    "SELECT 1 ORDER BY (SELECT max(content) FROM read_text('/etc/passwd'))",
    "SELECT 1 UNION ALL SELECT content FROM read_text('/etc/passwd')",
    "SELECT CASE WHEN true THEN (SELECT content FROM read_text('/etc/passwd')) END",
    "SELECT list_transform([1], x -> (SELECT content FROM read_text('/etc/passwd')))",
    "VALUES ((SELECT content FROM read_text('/etc/passwd')))",
    "FROM '/etc/passwd'",
    "FROM 'https://example.invalid/x.csv'",
    "FROM 'hf://datasets/x/y.parquet'",
    "DESCRIBE '/etc/passwd'",
    "SUMMARIZE 'file.csv'",
    "PIVOT '/etc/passwd' ON column0",
    "SELECT getvariable('x')",
    "SELECT current_setting('temp_directory')",
    "SELECT system.main.current_setting('home_directory')",
    "SELECT 'x'.write_log()",
    "SELECT sleep_ms(100000)",
    "SELECT pg_sleep(1000)",
    "SELECT * FROM pg_settings",
    "SELECT * FROM pg_catalog.pg_settings",
    "SELECT * FROM Duckdb_Databases",
    "SELECT * FROM pragma_database_list",
    "SELECT * FROM duckdb_settings()",
    "SELECT * FROM duckdb_logs",
    "SELECT * FROM sqlite_master",
    "WITH pg_settings AS (SELECT 1) SELECT * FROM (SELECT * FROM pg_catalog.pg_settings)",
    "SELECT * FROM which_secret('s3://x', 's3')",
    "SELECT * FROM truncate_duckdb_logs()",
    "SELECT * FROM pandas_scan(0)",
    "SELECT * FROM run WHERE run_id = $1",
    "SHOW SECRETS",
]


Parser = duckdb.DuckDBPyConnection
EXPERIMENT = 'name = "x"\nstore = "store"\n[data]\nroot = "raw"\n[full]\nbudget_tokens = 1\n'


def tree(folder: Path) -> dict[str, str]:
    """Every file below a folder, hidden ones too, with its content."""
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in folder.rglob("*")
        if p.is_file()
    }


@pytest.fixture
def experiment(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An experiment file beside the store, in a folder with a table that could be read."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "file.csv").write_text("a,b\n1,2\n")
    (folder / "x.toml").write_text(EXPERIMENT)
    store.rename(folder / "store")
    path = folder / "x.toml"
    first = CliRunner().invoke(cli, ["query", "SELECT 1", "--experiment", str(path)])
    assert first.exit_code == 0, first.output  # the index, and a note of what the file says
    return path


@pytest.mark.parametrize("is_held", [False, True], ids=["file", "memory"])
def test_hostile_statements_are_refused_and_change_nothing(
    experiment: Path, monkeypatch: pytest.MonkeyPatch, is_held: bool
) -> None:
    """On the file, and on the copy in memory that serves while somebody holds the file."""
    monkeypatch.chdir(experiment.parent)  # where a relative COPY would write
    with duckdb.connect() as other:
        if is_held:
            other.execute(f"ATTACH '{experiment.parent / 'store' / database.DATABASE_NAME}'")
        before = tree(experiment.parent)
        for sql in HOSTILE:
            answer = CliRunner().invoke(cli, ["query", "--experiment", str(experiment), "--", sql])
            assert (answer.exit_code, answer.stdout) == (1, ""), (sql, answer.exception)
            assert answer.stderr, (sql, answer.exception)
            problem, hint = answer.stderr.splitlines()
            assert problem.startswith("Error: "), sql
            assert hint.startswith("hint: "), sql
            assert "root:" not in answer.stderr, sql  # /etc/passwd
        assert tree(experiment.parent) == before
    assert query(experiment.parent / "store", "SELECT count(*) FROM run").rows == [(5,)]


def test_the_list_is_as_long_as_it_must_be() -> None:
    assert len(set(HOSTILE)) >= 40


@pytest.fixture
def parser() -> Iterator[Parser]:
    with duckdb.connect() as connection:
        yield connection


def names(parser: Parser, sql: str) -> list[str]:
    return [name for (name,) in parser.execute(sql).fetchall()]


def test_every_table_function_that_duckdb_has_is_refused_unless_it_is_listed(
    parser: Parser,
) -> None:
    found = names(
        parser,
        "SELECT DISTINCT function_name FROM duckdb_functions() "
        "WHERE function_type IN ('table', 'table_macro')",
    )
    assert len(found) > 80
    for name in set(found) - set(TABLE_FUNCTIONS):
        for sql in (f"SELECT * FROM {name}('x')", f"SELECT 1 WHERE 1 IN (FROM {name.upper()}())"):
            with pytest.raises(MixtureError, match=r"cannot use|syntax error"):
                check(sql, parser)


def test_every_system_view_is_refused_unless_it_describes_the_index(parser: Parser) -> None:
    found = names(
        parser,
        "SELECT view_name FROM duckdb_views() WHERE internal AND schema_name <> "
        "'information_schema'",
    )
    assert len(found) > 20
    for name in set(found) - set(TABLE_FUNCTIONS):
        with pytest.raises(MixtureError, match="it is about DuckDB"):
            check(f"SELECT * FROM {name}", parser)


def test_volatile_functions_that_are_allowed_are_those_that_leave_nothing_behind(
    parser: Parser,
) -> None:
    harmless = {"random", "gen_random_uuid", "uuid", "uuidv4", "uuidv7", "error", "stats"}
    harmless |= {"vector_type", "current_connection_id", "current_query", "current_query_id"}
    harmless |= {"current_transaction_id"}
    found = names(
        parser,
        "SELECT DISTINCT function_name FROM duckdb_functions() "
        "WHERE function_type = 'scalar' AND stability = 'VOLATILE'",
    )
    assert "write_log" in found
    for name in set(found) - harmless:
        with pytest.raises(MixtureError, match="cannot use"):
            check(f"SELECT {name}('x')", parser)


def test_without_its_first_fence_the_file_is_still_safe(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The syntax tree is one of three fences: locked settings and a read-only file remain."""
    monkeypatch.setattr("mixture_assets.store.query.check", lambda sql: None)
    monkeypatch.chdir(tmp_path)
    for sql in (
        "WITH x AS (DELETE FROM run RETURNING *) SELECT * FROM x",
        "SELECT * FROM read_text('/etc/passwd')",
        "COPY run TO 'stolen.csv'",
        "SET enable_external_access = true",
        "ATTACH 'other.duckdb'",
        "INSTALL httpfs",
        "SELECT * FROM store",
    ):
        with pytest.raises(MixtureError):
            query(store, sql)
    assert query(store, "SELECT count(*) FROM run").rows == [(5,)]
