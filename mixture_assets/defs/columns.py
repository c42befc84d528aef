"""Columns of what assets make, for Dagster's column schema: names, types, and what they mean."""

import re

import dagster as dg

from mixture_assets.store import database

_LINE = re.compile(r"\s+(\w+) [A-Z]+,?\s*(?:-- (.*))?$")

TOKENS = dg.TableSchema(
    columns=[
        dg.TableColumn("doc_id", "string", description="sha256 of the text, first 16 hex digits"),
        dg.TableColumn("input_ids", "list<uint16 | uint32>", description="token ids"),
        dg.TableColumn("n_tokens", "int32", description="length of input_ids"),
        dg.TableColumn("n_bytes", "int32", description="length of the text in UTF-8"),
    ]
)


def of_table(name: str) -> dict[str, dg.TableSchema]:
    """Metadata with the columns of a table of the database, from schema.sql and its comments."""
    notes = _notes(name)
    columns = [
        dg.TableColumn(column, kind, description=notes.get(column))
        for column, kind in database.tables()[name].items()
    ]
    return {"dagster/column_schema": dg.TableSchema(columns=columns)}


def of_tokens() -> dict[str, dg.TableSchema]:
    """Metadata with the columns of a token shard."""
    return {"dagster/column_schema": TOKENS}


def of_validation() -> dict[str, dg.TableSchema]:
    """Metadata with the columns of a validation set."""
    kept = [column for column in TOKENS.columns if column.name != "n_tokens"]
    return {"dagster/column_schema": dg.TableSchema(columns=kept)}


def _notes(name: str) -> dict[str, str]:
    """Column -> its comment in schema.sql."""
    body = database.schema_sql().split(f"CREATE TABLE {name} (")[1].split("\n);")[0]
    lines = filter(None, map(_LINE.match, body.splitlines()))
    return {line[1]: line[2] for line in lines if line[2]}
