"""Rows of run folders: the run, its tokens by domain, its steps and its evaluations."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import duckdb

from mixture_assets.store import staging
from mixture_assets.store.files import read_json_object
from mixture_assets.store.records import RUN_EDGE_ROLE, RUN_TABLES
from mixture_assets.store.runs import RunFolder
from mixture_assets.store.scan import Scan

_METRIC_COLUMNS = {  # of metrics.jsonl, all kinds of row
    "kind": "VARCHAR",
    "run_id": "VARCHAR",
    "step": "BIGINT",
    "tokens": "BIGINT",
    "loss_nats": "DOUBLE",
    "learning_rate": "DOUBLE",
    "grad_norm": "DOUBLE",
    "tokens_per_second": "DOUBLE",
    "seconds": "DOUBLE",
    "domain": "VARCHAR",
    "validation_id": "VARCHAR",
    "loss_se_nats": "DOUBLE",
    "bits_per_byte": "DOUBLE",
    "bits_per_byte_se": "DOUBLE",
    "perplexity": "DOUBLE",
    "n_tokens": "BIGINT",
    "n_documents": "BIGINT",
    "metric_version": "BIGINT",
    "weight": "DOUBLE",
    "iterate": "DOUBLE",
    "alignment": "DOUBLE",
    "alignment_se": "DOUBLE",
}
# Tables whose rows are lines of metrics.jsonl alone.
_FROM_METRICS = {
    "step_metric": "SELECT * FROM temp.metrics WHERE kind = 'step'",
    "weight_trajectory": "SELECT *, tokens AS from_token, loss_nats AS steering_loss_nats "
    "FROM temp.metrics WHERE kind = 'weights'",
}
_FROM_HEADER = ("purpose", "label", "experiment", "scale", "mixture_name", "created_at")
_FROM_RESULT = (
    "n_params",
    "steps",
    "seconds",
    "flops_train",
    "flops_eval",
    "flops_steering",
    "seconds_steering",
    "device",
    "code_version",
    "peak_memory_bytes",
)
_FROM_FAILURE = ("reason", "hint", "attempts")

Rows = dict[str, list[dict[str, Any]]]


def fill(
    connection: duckdb.DuckDBPyConnection,
    found: Scan,
    names: Iterable[str],
    problems: dict[str, str],
) -> Counter[str]:
    """Bring the rows of the named run folders in line; those that went lose theirs.

    Of `names`, those of the form 'runs/<id>' count. Folders that cannot be read go to
    `problems` and keep the rows that they have; so do those that are named there already.
    """
    rows = _empty()
    spoken_for: list[str] = []
    metrics: list[str] = []
    for name in sorted(n for n in names if n.startswith("runs/") and n not in problems):
        run = found.run(name)
        try:
            collected = _collect(run, found.fingerprints[name].split()[0]) if run else _empty()
            logs = [_quoted(run.metrics_path)] if run and run.metrics_path.exists() else []
        except (OSError, AttributeError, KeyError, TypeError, ValueError) as error:
            problems[name] = f"{name}: {error}"
            continue
        spoken_for.append(name.removeprefix("runs/"))
        for table, several in collected.items():
            rows[table] += several
        metrics += logs
    if not spoken_for:
        return Counter()
    _stage_metrics(connection, metrics)
    connection.execute("CREATE OR REPLACE TEMP TABLE scope AS SELECT unnest(?) AS id", [spoken_for])
    return _sync(connection, rows)


def _empty() -> Rows:
    return {table: [] for table in (*RUN_TABLES, "edge")}


def _collect(run: RunFolder, status: str) -> Rows:
    rows = _empty()
    header = run.spec()
    spec, result = _mapping(header.get("spec")), run.result() or {}
    failure = read_json_object(run.failure_path) or {}
    if result and (not failure or run.is_complete()):
        failure = {}  # a done run has one where it could not be measured on what it was asked later
    run_id = run.run_id
    rows["run"].append(
        {key: header.get(key) for key in _FROM_HEADER}
        | {key: result.get(key) for key in _FROM_RESULT}
        | ({key: failure.get(key) for key in _FROM_FAILURE} if failure else {})
        | {"finished_at": (result or failure).get("finished_at")}
        | {"run_id": run_id, "status": status, "spec": spec, "seed": spec.get("seed")}
        | {"numeric_path": result.get("numeric_path") or spec.get("numeric_path")}
        | {"budget_tokens": sum(_mapping(spec.get("tokens")).values())}
    )
    realised = _mapping(result.get("realised_tokens"))
    requested = _mapping(result.get("requested_tokens")) or _mapping(spec.get("tokens"))
    for domain in sorted({*requested, *realised}):
        amounts = {
            "requested_tokens": requested.get(domain),
            "realised_tokens": realised.get(domain),
        }
        rows["run_domain_tokens"].append({"run_id": run_id, "domain": domain} | amounts)
    for token_set in sorted(set(_mapping(spec.get("token_sets")).values())):
        rows["edge"].append({"child": run_id, "parent": token_set, "role": RUN_EDGE_ROLE})
    end = {"run_id": run_id, "step": result.get("steps"), "is_final": True}
    end |= {"tokens": sum(realised.values()) or None}
    measured_on = _mapping(result.get("validation_sets"))
    for domain, loss in sorted(_mapping(result.get("losses")).items()):
        row = {"domain": domain, "metric_version": result.get("metric_version")}
        row |= {"validation_id": measured_on.get(domain)}
        rows["evaluation"].append(_mapping(loss) | row | end)
    if result:
        rows["evaluation"] += [row | end for row in _later_losses(run)]
    return rows


def _later_losses(run: RunFolder) -> list[dict[str, Any]]:
    """Losses on validation sets that a finished run was asked for later."""
    rows = []
    for found in run.later_losses():
        keys = ("domain", "validation_id", "metric_version")
        rows.append(_mapping(found.get("loss")) | {key: found.get(key) for key in keys})
    return rows


def _mapping(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}


def _stage_metrics(connection: duckdb.DuckDBPyConnection, paths: list[str]) -> None:
    """Read metrics.jsonl files into the temporary table `metrics`, without their torn lines."""
    columns = "{" + ", ".join(f"'{c}': '{kind}'" for c, kind in _METRIC_COLUMNS.items()) + "}"
    names = ", ".join(_METRIC_COLUMNS)
    if not paths:
        typed = ", ".join(f"NULL::{kind} AS {c}" for c, kind in _METRIC_COLUMNS.items())
        source = f"SELECT {typed}, '' AS filename LIMIT 0"
    else:
        listed = ", ".join(paths)
        source = (
            f"SELECT {names}, filename FROM read_json([{listed}], format = 'newline_delimited', "
            f"columns = {columns}, ignore_errors = true, filename = true)"
        )
    # A torn line reads as a row of NULLs. A file copied from another folder is not this run's.
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE metrics AS SELECT {names}, row_order FROM "
        f"(SELECT *, row_number() OVER () AS row_order FROM ({source})) "
        "WHERE run_id = parse_path(filename, 'both_slash')[-2]"
    )


def _quoted(path: Path) -> str:
    """A path as a SQL string that stands for itself, though it may hold * ? or [."""
    text = re.sub(r"([*?\[])", r"[\1]", str(path)).replace("'", "''")
    text.encode()  # ValueError where it is not UTF-8
    return f"'{text}'"


def _sync(connection: duckdb.DuckDBPyConnection, rows: Rows) -> Counter[str]:
    counts: Counter[str] = Counter()
    for table in (*RUN_TABLES, "edge"):
        if table in _FROM_METRICS:
            connection.execute(f"CREATE OR REPLACE TEMP TABLE stage AS {_FROM_METRICS[table]}")
        else:
            staging.from_rows(connection, "stage", table, rows[table])
        if table == "evaluation":
            _add_scheduled_evaluations(connection)
        staging.settle(connection, "stage", table)
        owner = "child" if table == "edge" else "run_id"
        scope = f"{owner} IN (SELECT id FROM temp.scope)"
        if table == "edge":
            scope += f" AND role = '{RUN_EDGE_ROLE}'"
        counts[table] = staging.sync(connection, table, scope=scope, is_complete=True)
    return counts


def _add_scheduled_evaluations(connection: duckdb.DuckDBPyConnection) -> None:
    """Add the losses of metrics.jsonl; where the result has one too, the result wins."""
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE stage AS "
        "SELECT stage.* REPLACE (row_order + (1::BIGINT << 60) AS row_order) "
        "FROM temp.stage AS stage "
        "UNION ALL BY NAME "
        "SELECT run_id, step, tokens, domain, validation_id, metric_version, "
        "    loss_nats, loss_se_nats, bits_per_byte, bits_per_byte_se, perplexity, n_tokens, "
        "    n_documents, false AS is_final, row_order "
        "FROM temp.metrics WHERE kind = 'evaluation'"
    )
