"""Which SQL is a question: one SELECT over the index, judged by DuckDB's own syntax tree.

What is not known to be harmless is refused: table functions and kinds of nodes go by a list of
the allowed ones. Scalar functions cannot write or read files, so the few that tell of the
machine, wait, or leave something behind are listed instead.
"""

import contextlib
import json
import re
from collections.abc import Mapping
from typing import Any

import duckdb

from mixture_assets.core.errors import MixtureError
from mixture_assets.store.database import interruptible

TABLE_FUNCTIONS = (
    *("lineage_from", "range", "generate_series", "unnest", "json_each", "json_tree"),
    *("duckdb_tables", "duckdb_views", "duckdb_columns"),
)
REFUSED_FUNCTIONS = (
    *("current_setting", "getenv", "getvariable"),  # of this machine
    *("pg_sleep", "sleep_ms"),
    *("create_sequence", "nextval", "currval", "setval", "setseed", "write_log"),  # leave traces
)
REFUSED_HINT = "ask with one SELECT over the tables and views; docs/store.md has examples"

_MAX_CHARS = 100_000  # a statement of 1 MB takes DuckDB seconds to parse, under no time limit
_READS = ("SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE")
_EXPLAIN = re.compile(r"\s*explain\s+(analyze\s+)?(?=\S)", re.IGNORECASE)
_SYSTEM_PREFIXES = ("duckdb_", "pg_", "pragma_", "sqlite_")
_OWN_VIEWS = ("duckdb_tables", "duckdb_views", "duckdb_columns")  # without parentheses


def check(sql: str, parser: duckdb.DuckDBPyConnection | None = None) -> None:
    """Raise MixtureError unless `sql` is one statement that only reads tables and views.

    Any connection will do as `parser`; opening one takes 20 ms.
    """
    _check_text(sql)
    with interruptible(), contextlib.ExitStack() as stack:
        parser = parser or stack.enter_context(contextlib.closing(duckdb.connect()))
        kind, tree = _tree(sql, parser)
    if tree["error"]:
        raise MixtureError(f"a query only reads, {kind} is refused", hint=REFUSED_HINT)
    pending: list[Any] = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, dict):
            _check_node(node)
            pending.extend(node.values())
        elif isinstance(node, list):
            pending.extend(node)


def _check_text(sql: str) -> None:
    if len(sql) > _MAX_CHARS:
        raise MixtureError(
            f"a query has at most {_MAX_CHARS:,} characters, got {len(sql):,}",
            hint="say it shorter: join on a key instead of listing values",
        )
    try:
        sql.encode()
    except UnicodeEncodeError as error:
        raise MixtureError("the query is not UTF-8", hint=REFUSED_HINT) from error


def _tree(sql: str, parser: duckdb.DuckDBPyConnection) -> tuple[str, dict[str, Any]]:
    """The kind of the only statement, and its syntax tree; `error` where it is no SELECT."""
    try:
        statements = parser.extract_statements(sql)
        if len(statements) != 1:
            problem = f"a query is one statement, got {len(statements)}"
            raise MixtureError(problem, hint=REFUSED_HINT)
        kind = _kind(statements[0])
        # EXPLAIN cannot be serialised: look at what it explains.
        inner = _EXPLAIN.sub("", sql, count=1) if kind == "EXPLAIN" else sql
        row = parser.execute("SELECT json_serialize_sql(?)", [inner]).fetchone()
    except duckdb.Error as error:
        raise failed(error) from error
    assert row is not None
    try:
        tree: dict[str, Any] = json.loads(row[0])
    except RecursionError as error:
        raise MixtureError("the query is nested too deeply", hint=REFUSED_HINT) from error
    return kind, tree


def _kind(statement: duckdb.Statement) -> str:
    try:
        return str(statement.type.name)
    except ValueError:  # UPDATE EXTENSIONS has a number that duckdb 2.0.0 gave no name
        return "this statement"


def _check_node(node: Mapping[str, Any]) -> None:
    """Refuse writes inside WITH, and what could tell of anything but the index."""
    kind = str(node.get("type", ""))
    if kind.endswith("_NODE") and kind not in _READS:
        word = kind.removesuffix("_NODE").removesuffix("_QUERY")
        raise MixtureError(f"a query only reads, {word} is refused", hint=REFUSED_HINT)
    if kind == "TABLE_FUNCTION":
        _check_table_function(str(node["function"].get("function_name", "")).lower())
    elif kind == "BASE_TABLE":
        _check_table(str(node.get("schema_name", "")), str(node.get("table_name", "")))
    elif str(node.get("function_name", "")).lower() in REFUSED_FUNCTIONS:
        raise MixtureError(
            f"a query cannot use {node['function_name']}(): it asks about rows, and nothing else",
            hint=REFUSED_HINT,
        )


def _check_table_function(name: str) -> None:
    if name not in TABLE_FUNCTIONS:
        raise MixtureError(
            f"a query cannot use {name}(): it reads the index and nothing else",
            hint=f"table functions: {', '.join(TABLE_FUNCTIONS)}",
        )


def _check_table(schema: str, name: str) -> None:
    """DuckDB's own views would tell settings and paths of this machine."""
    is_system = name.lower().startswith(_SYSTEM_PREFIXES) and name.lower() not in _OWN_VIEWS
    if is_system and schema.lower() != "information_schema":
        raise MixtureError(
            f"a query cannot read {name}: it is about DuckDB, not about the store",
            hint="`SHOW TABLES` lists what there is; `DESCRIBE run` lists a table's columns",
        )


def failed(error: duckdb.Error) -> MixtureError:
    """DuckDB's message as one sentence."""
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    text = re.sub(r"^[A-Za-z ]+ Error: ", "", text).rstrip("!. ")
    return MixtureError(
        f"the query failed: {text}",
        hint="`DESCRIBE run` lists a table's columns; see docs/store.md",
    )
