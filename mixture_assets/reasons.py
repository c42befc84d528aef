"""Why a domain has its weight: from the weight to fits, runs, token sets, shards and code."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mixture_assets.core.errors import MixtureError
from mixture_assets.core.names import nearest, require_one
from mixture_assets.core.problem import Objective
from mixture_assets.store.query import Ask, snapshot

Row = dict[str, Any]

_NO_LOSS = {"loss_nats": None, "loss_se_nats": None}

_FITS = """
    SELECT fit.*, max(value) FILTER (name = 'a') AS a, max(value) FILTER (name = 'b') AS b,
        max(value) FILTER (name = 'c') AS c
    FROM fit LEFT JOIN fit_parameter USING (fit_id)
    WHERE fit_id IN (SELECT parent FROM edge WHERE child = ? AND role = 'fit')
    GROUP BY ALL ORDER BY base_tokens, scale
"""
_RUNS = """
    SELECT edge.child AS fit_id, run.run_id, run.label, status, run.budget_tokens, requested_tokens,
        flops_train + flops_eval AS flops, seconds, device,
        numeric_path, code_version
    FROM edge JOIN run ON run.run_id = edge.parent
    LEFT JOIN run_domain_tokens AS asked ON asked.run_id = run.run_id AND asked.domain = ?
    WHERE edge.role = 'proxy_run'
        AND edge.child IN (SELECT parent FROM edge WHERE child = ? AND role = 'fit')
    ORDER BY fit_id, requested_tokens NULLS FIRST, run.label, run.run_id
"""
_REUSED = "SELECT parent FROM edge WHERE child = ? AND role = 'reused'"
# A run may be measured on other documents later: those count that the proposal was made on.
_LOSSES = """
    SELECT e.run_id, e.domain, e.loss_nats, e.loss_se_nats FROM evaluation AS e
    LEFT JOIN input AS measured ON measured.owner = $1 AND measured.kind = 'validation_set'
        AND measured.name = e.domain
    LEFT JOIN input AS code ON code.owner = $1 AND code.kind = 'code' AND code.name = 'metric'
    WHERE is_final AND coalesce(measured.value = e.validation_id, true)
        AND coalesce(code.value = e.metric_version::VARCHAR, true)
        AND run_id IN (
            SELECT edge.parent FROM edge JOIN fit ON fit.fit_id = edge.child
            WHERE edge.role = 'proxy_run' AND proposal_id = $1)
    QUALIFY row_number() OVER (
        PARTITION BY run_id, domain ORDER BY metric_version DESC, validation_id) = 1
"""
_TOKEN_SETS = """
    SELECT DISTINCT d.domain, token_set_id, available_tokens, n_documents, validation_tokens,
        validation_documents
    FROM edge AS fit JOIN edge AS of_fit ON of_fit.child = fit.parent AND of_fit.role = 'proxy_run'
    JOIN edge AS of_run ON of_run.child = of_fit.parent AND of_run.role = 'training_tokens'
    JOIN domain AS d ON d.token_set_id = of_run.parent
    WHERE fit.child = ? AND fit.role = 'fit' ORDER BY ALL
"""
_SHARDS = """
    SELECT DISTINCT shard.url, shard.n_bytes, shard.n_documents, token_shard.n_tokens,
        shard.shard_id, token_shard.tokenizer_id
    FROM edge JOIN token_shard ON token_shard.token_shard_id = edge.parent
    JOIN shard ON shard.shard_id = token_shard.shard_id AND shard.domain = token_shard.domain
    WHERE edge.role = 'shard' AND token_shard.domain = ?
        AND edge.child IN (SELECT unnest(?::VARCHAR[])) ORDER BY ALL
"""


def reasons(store: Path, experiment: str, domain: str, proposal_id: str = "") -> Row:
    """Everything that one weight rests on.

    Args:
        store: Root of the store.
        experiment: Its name.
        domain: Whose weight.
        proposal_id: One proposal, or the beginning of its id; the latest if left out.
    """
    with snapshot(store) as ask:
        found = _proposal(ask, experiment, proposal_id)
        name = found["proposal_id"]
        weight = _weight(ask, name, domain)
        token_sets = ask(_TOKEN_SETS, [f"{name}:{domain}"]).to_dicts()
        own = [t["token_set_id"] for t in token_sets if t["domain"] == domain]
        shards = ask(_SHARDS, [domain, own]).to_dicts()
        return {
            "proposal": found,
            "weight": weight,
            "reused": _rows(ask, _REUSED, f"{name}:{domain}"),
            "fits": _fits(ask, name, domain),
            "token_sets": token_sets,
            "shards": shards,
            "tokenizers": _named(ask, sorted({s["tokenizer_id"] for s in shards})),
            "code": _code(ask, name),
            "cost": _rows(ask, "SELECT * FROM cost_by_decision WHERE decision_id = ?", name),
            "stale": _rows(ask, "SELECT * FROM stale WHERE thing = ? ORDER BY ALL", name),
        }


def _rows(ask: Ask, sql: str, *values: Any) -> list[Row]:
    return ask(sql, values).to_dicts()


def _proposal(ask: Ask, experiment: str, prefix: str) -> Row:
    known = _rows(
        ask,
        "SELECT * FROM proposal WHERE experiment = ? "
        "AND proposal_id IN (SELECT proposal_id FROM proposal_weight) "  # not a sweep's forecasts
        "ORDER BY proposal_id IN "
        "(SELECT proposal_id FROM latest_weights WHERE experiment = ?) DESC, proposal_id",
        *(experiment, experiment),
    )
    if not known:
        raise MixtureError(f"experiment {experiment!r} has no proposal yet", hint="`mixture run`")
    rows = {row["proposal_id"]: row for row in known}
    name = known[0]["proposal_id"]
    if prefix:
        name = require_one(prefix, rows, noun="proposal", hint="`mixture history` lists them")
    time = rows[name]["created_at"]
    return rows[name] | {"created_at": None if time is None else time.isoformat() + "Z"}


def _weight(ask: Ask, proposal_id: str, domain: str) -> Row:
    rows = _rows(ask, "SELECT * FROM proposal_weight WHERE proposal_id = ?", proposal_id)
    by_domain = {row["domain"]: row for row in rows}
    if domain not in by_domain:
        raise MixtureError(
            f"proposal {proposal_id} has no domain {domain!r}{nearest(domain, by_domain)}",
            hint=f"its domains are {', '.join(sorted(by_domain))}",
        )
    return by_domain[domain]


def _fits(ask: Ask, proposal_id: str, domain: str) -> list[Row]:
    """The domain's curves, each with its runs; `x` and `objective` are the points."""
    objective, losses = _objective(ask, proposal_id), _losses(ask, proposal_id)
    weight = f"{proposal_id}:{domain}"
    runs = _rows(ask, _RUNS, domain, weight)
    fits = []
    for fit in _rows(ask, _FITS, weight):
        mine = [
            run
            | losses.get((run["run_id"], domain), _NO_LOSS)
            # In a group with frozen ratios a domain has no amount of its own.
            | {"x": _amount(run, fit) if fit["domain"] == domain else None}
            | {"objective": _value(objective, _of_run(losses, run["run_id"]))}
            for run in runs
            if run["fit_id"] == fit["fit_id"]
        ]
        fits.append(fit | {"runs": mine})
    return fits


def _amount(run: Row, fit: Row) -> float:
    """Multiples of the base amount; a run that lacks the domain has none of it."""
    return float((run["requested_tokens"] or 0) / fit["base_tokens"])


def _losses(ask: Ask, proposal_id: str) -> dict[tuple[str, str], Row]:
    """Loss and its standard error by run and domain."""
    rows = _rows(ask, _LOSSES, proposal_id)
    return {(r["run_id"], r["domain"]): {name: r[name] for name in _NO_LOSS} for r in rows}


def _of_run(losses: Mapping[tuple[str, str], Row], run_id: str) -> dict[str, float]:
    return {d: row["loss_nats"] for (name, d), row in losses.items() if name == run_id}


def _objective(ask: Ask, proposal_id: str) -> Objective | None:
    """What the proposal lowered, as it was recorded; None for one without inputs."""
    rows = _rows(
        ask,
        "SELECT name, value FROM input WHERE owner = ? AND kind = 'objective'",
        proposal_id,
    )
    said = {row["name"]: json.loads(row["value"]) for row in rows}
    weights = {k.removeprefix("weights."): v for k, v in said.items() if k.startswith("weights.")}
    return Objective(metric=said["metric"], weights=weights) if "metric" in said else None


def _value(objective: Objective | None, loss_nats: dict[str, float]) -> float | None:
    return None if objective is None else objective.known_value(loss_nats)


def _named(ask: Ask, ids: Sequence[str]) -> list[Row]:
    sql = "SELECT * FROM tokenizer WHERE tokenizer_id IN (SELECT unnest(?::VARCHAR[])) ORDER BY ALL"
    return _rows(ask, sql, list(ids))


def _code(ask: Ask, proposal_id: str) -> dict[str, str]:
    sql = "SELECT name, value FROM input WHERE owner = ? AND kind = 'code' ORDER BY name"
    return {row["name"]: row["value"] for row in _rows(ask, sql, proposal_id)}
