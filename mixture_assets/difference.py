"""Two runs, or two proposals, side by side: which inputs differ, and what came of it."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mixture_assets.core.errors import MixtureError
from mixture_assets.core.names import require_one
from mixture_assets.store.query import Ask, snapshot

Row = dict[str, Any]
Measured = tuple[str, str, int]  # domain, validation set, version of the metric
Losses = dict[Measured, float]  # nats per token

_HINT = "`mixture status --json` lists the runs, `mixture history` the proposals"
_NORMAL_90 = 1.645  # of a 90 % interval, standard deviations each way

# Spread over seeds of runs that are the same but for their seed.
_NOISE = """
    SELECT domain, validation_id, metric_version, count(*) AS n_seeds,
        var_samp(loss_nats) AS variance
    FROM (
        SELECT e.domain, e.validation_id, e.metric_version, run.seed, avg(e.loss_nats) AS loss_nats
        FROM run AS named JOIN run ON json_merge_patch(run.spec, '{"seed": null}')::VARCHAR
            = json_merge_patch(named.spec, '{"seed": null}')::VARCHAR AND run.status = 'done'
        JOIN evaluation AS e ON e.run_id = run.run_id AND e.is_final
        WHERE named.run_id = ? GROUP BY ALL)
    GROUP BY ALL HAVING count(*) > 1
"""
# The documents that an experiment measures on now come last: a run may be measured on several.
_FINAL = """
    SELECT domain, validation_id, metric_version, loss_nats FROM evaluation
    WHERE is_final AND run_id = ?
    ORDER BY metric_version, validation_id IN (
        SELECT value FROM input WHERE kind = 'validation_set' AND owner LIKE 'experiment:%'),
        validation_id
"""


def difference(store: Path, one: str, other: str) -> Row:
    """What differs between two runs or two proposals, by id or a unique beginning of it.

    Returns:
        kind ('run' or 'proposal'), a, b, inputs (name, a, b), and results by domain or baseline.
    """
    with snapshot(store) as ask:
        kind_of = {r["run_id"]: "run" for r in ask("SELECT run_id FROM run").to_dicts()}
        proposals = ask("SELECT proposal_id FROM proposal").to_dicts()
        kind_of |= {r["proposal_id"]: "proposal" for r in proposals}
        a, b = (require_one(n, kind_of, noun="run or proposal", hint=_HINT) for n in (one, other))
        if kind_of[a] != kind_of[b]:
            raise MixtureError(
                f"{a} is a {kind_of[a]} and {b} is a {kind_of[b]}",
                hint="name two runs (`mixture status --json`) or two proposals (`mixture history`)",
            )
        compare = _runs if kind_of[a] == "run" else _proposals
        return {"kind": kind_of[a], "a": a, "b": b} | compare(ask, a, b)


def _runs(ask: Ask, a: str, b: str) -> Row:
    losses = [_final_losses(ask, run_id) for run_id in (a, b)]
    inputs = [_spec(ask, x) | _measured_on(found) for x, found in zip((a, b), losses, strict=True)]
    noise = _noise(ask, a, b)
    domains = sorted({domain for found in losses for domain, _, _ in found})
    return {
        "labels": [_label(ask, x) for x in (a, b)],
        "inputs": _changes(*inputs),
        "results": [_result(domain, losses[0], losses[1], noise) for domain in domains],
    }


def _result(domain: str, a: Losses, b: Losses, noise: Losses) -> Row:
    """A domain's losses on the newest documents that both were measured on."""
    mine, theirs = ([key for key in found if key[0] == domain] for found in (a, b))
    shared = [key for key in mine if key in b]
    name = f"{domain} (nats)"
    if mine and theirs and not shared:
        apart = _with_noise(a[mine[-1]], b[theirs[-1]], None)
        return {"name": f"{name}, other documents"} | apart | {"difference": None}
    key = (shared or mine or theirs)[-1]
    return {"name": name} | _with_noise(a.get(key), b.get(key), noise.get(key))


def _measured_on(losses: Losses) -> dict[str, str]:
    """The validation sets of each domain, and the versions of the metric, as inputs."""
    sets: dict[str, list[str]] = {}
    for domain, validation_id, _ in losses:
        sets.setdefault(f"validation_set.{domain}", []).append(validation_id)
    versions = {str(version) for _, _, version in losses}
    found = {name: ", ".join(sorted(set(several))) for name, several in sets.items()}
    return found | ({"metric_version": ", ".join(sorted(versions))} if versions else {})


def _with_noise(a: float | None, b: float | None, noise_sd: float | None) -> Row:
    """Two values, b - a, and whether noise alone would often do that to two single runs."""
    gap = None if a is None or b is None else b - a
    is_within = None
    if gap is not None and noise_sd is not None:
        is_within = abs(gap) <= _NORMAL_90 * math.sqrt(2) * noise_sd
    return {"a": a, "b": b, "difference": gap, "noise_sd": noise_sd, "is_within_noise": is_within}


def _label(ask: Ask, run_id: str) -> str:
    return str(ask("SELECT label FROM run WHERE run_id = ?", [run_id]).rows[0][0])


def _spec(ask: Ask, run_id: str) -> dict[str, str]:
    text = ask("SELECT spec::VARCHAR FROM run WHERE run_id = ?", [run_id]).rows[0][0]
    return _flat(json.loads(text))


def _flat(value: Any, name: str = "") -> dict[str, str]:
    """Nested tables as 'training.learning_rate' -> JSON."""
    if not isinstance(value, dict):
        return {name: json.dumps(value)}
    found: dict[str, str] = {}
    for key, inner in value.items():
        found |= _flat(inner, f"{name}.{key}" if name else key)
    return found


def _changes(a: Mapping[str, str], b: Mapping[str, str]) -> list[Row]:
    names = sorted({*a, *b})
    return [{"name": n, "a": a.get(n), "b": b.get(n)} for n in names if a.get(n) != b.get(n)]


def _final_losses(ask: Ask, run_id: str) -> Losses:
    """The loss of every domain on all documents that it was measured on, the newest last."""
    return {tuple(key): loss for *key, loss in ask(_FINAL, [run_id]).rows}


def _noise(ask: Ask, a: str, b: str) -> Losses:
    """Standard deviation of one run's loss over seeds, pooled over both settings."""
    sums: dict[Measured, list[float]] = {}
    for run_id in (a, b):
        for *key, n_seeds, variance in ask(_NOISE, [run_id]).rows:
            total = sums.setdefault(tuple(key), [0.0, 0])
            total[0] += (n_seeds - 1) * variance
            total[1] += n_seeds - 1
    return {key: math.sqrt(square / freedom) for key, (square, freedom) in sums.items()}


def _proposals(ask: Ask, a: str, b: str) -> Row:
    inputs = [_inputs(ask, proposal_id) for proposal_id in (a, b)]
    weights = [_weights(ask, proposal_id) for proposal_id in (a, b)]
    found = [
        {"name": f"weight of {d}"} | _with_noise(weights[0].get(d), weights[1].get(d), None)
        for d in sorted({*weights[0], *weights[1]})
    ]
    changes = _changes(*inputs)
    is_alike = weights[0].keys() == weights[1].keys() and not _is_other_question(changes)
    found += _verdicts(ask, a, b, is_alike=is_alike)
    return {"labels": [], "inputs": changes, "results": found}


def _is_other_question(changes: Sequence[Row]) -> bool:
    """Whether two proposals were tested at other budgets, objectives or documents."""
    return any(row["name"].startswith(("budget", "objective", "validation_set")) for row in changes)


def _inputs(ask: Ask, proposal_id: str) -> dict[str, str]:
    rows = ask("SELECT kind, name, value FROM input WHERE owner = ?", [proposal_id]).rows
    known = {f"{kind}.{name}": str(value) for kind, name, value in rows}
    head = ask(
        "SELECT method, objective, budget_tokens FROM proposal WHERE proposal_id = ?",
        [proposal_id],
    ).to_dicts()[0]
    return known | {name: str(value) for name, value in head.items()}


def _weights(ask: Ask, proposal_id: str) -> dict[str, float]:
    sql = "SELECT domain, weight FROM proposal_weight WHERE proposal_id = ?"
    return dict(ask(sql, [proposal_id]).rows)


def _verdicts(ask: Ask, a: str, b: str, *, is_alike: bool) -> list[Row]:
    """Each proposal's own test against its baselines, with the noise that it was judged by."""
    sql = (
        "SELECT baseline, objective, arg_max(difference, n_seeds) AS difference, "
        "arg_max(noise_sd, n_seeds) AS noise_sd FROM comparison WHERE proposal_id = ? GROUP BY ALL"
    )
    found = [{r[0]: r for r in ask(sql, [proposal_id]).rows} for proposal_id in (a, b)]
    rows = []
    for baseline in sorted({*found[0], *found[1]}):
        pair = [rows_of.get(baseline) for rows_of in found]
        objective = next(row[1] for row in pair if row)
        # The noise of one budget, or of other documents, says nothing about another.
        sds = [] if not is_alike else [row[3] for row in pair if row and row[3] is not None]
        gap_a, gap_b = (row[2] if row else None for row in pair)
        name = f"{objective} against {baseline}"
        rows.append({"name": name} | _with_noise(gap_a, gap_b, max(sds, default=None)))
    return rows
