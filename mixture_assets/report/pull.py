"""Every row that a report rests on: the only SQL of this package.

Rows come back in a fixed order, so that the same database gives the same page, byte by byte.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mixture_assets.core.errors import MixtureError
from mixture_assets.core.names import RESERVED, nearest
from mixture_assets.core.problem import Objective
from mixture_assets.evaluation.comparison import Comparison, Curve, compare
from mixture_assets.store.query import snapshot

Row = Mapping[str, Any]
Ask = Callable[[str], list[dict[str, Any]]]  # one SELECT, its rows
Losses = dict[str, float]  # domain -> nats per token

_MIXTURE_ORDER = ("natural", "uniform", "custom", "proposal")


@dataclass(frozen=True)
class ReportData:
    """A proposal with everything that it rests on and that came of it."""

    objective: Objective
    proposal: Row
    weights: Sequence[Row]  # proposal_weight, largest first
    fits: Sequence[Row]  # fit with its parameters a, b, c; by base_tokens, domain
    fit_runs: Mapping[str, Sequence[str]]  # fit_id -> proxy run ids
    proxy_runs: Sequence[Row]  # run, with `tokens` requested by domain
    full_runs: Sequence[Row]  # likewise; baselines first, by seed
    evaluations: Mapping[str, Sequence[Row]]  # run id -> evaluation rows, by tokens, domain
    costs: Sequence[Row]  # by role
    domains: Sequence[Row]  # of the token sets that the runs were trained on
    tokenizers: Sequence[Row]
    history: Sequence[Row]  # weight_history of the experiment up to this proposal, oldest first

    @property
    def proposal_id(self) -> str:
        """Names the proposal."""
        return str(self.proposal["proposal_id"])

    def final(self, run_id: str) -> dict[str, Row]:
        """The evaluation that counts, by domain; empty if there is none."""
        return {e["domain"]: e for e in self.evaluations.get(run_id, ()) if e["is_final"]}

    def value(self, run_id: str) -> float | None:
        """The objective of a finished run."""
        losses = {domain: e["loss_nats"] for domain, e in self.final(run_id).items()}
        return self.objective.known_value(losses)

    @cached_property
    def curves(self) -> dict[str, dict[int, Curve]]:
        """Mixture name -> seed -> objective along training, of the full runs."""
        curves: dict[str, dict[int, Curve]] = {}
        for run in self.full_runs:
            by_tokens: dict[int, Losses] = {}
            for e in self.evaluations.get(run["run_id"], ()):
                by_tokens.setdefault(e["tokens"], {})[e["domain"]] = e["loss_nats"]
            values = {tokens: self.objective.known_value(by) for tokens, by in by_tokens.items()}
            curve = [(tokens, value) for tokens, value in values.items() if value is not None]
            if curve:
                curves.setdefault(run["mixture_name"], {})[run["seed"]] = curve
        return curves

    @cached_property
    def comparisons(self) -> list[Comparison]:
        """The proposal beside each baseline that shares a seed with it."""
        mine = self.curves.get("proposal", {})
        return [
            compare(self.curves, proposal="proposal", baseline=name)
            for name, theirs in self.curves.items()
            if name != "proposal" and mine.keys() & theirs.keys()
        ]


def pull(store: Path, proposal_id: str, objective: Objective) -> ReportData:
    """Read everything about one proposal. MixtureError if the database does not have it."""
    with snapshot(store) as ask:
        return _pull(lambda sql: ask(sql).to_dicts(), proposal_id, objective)


def _pull(ask: Ask, proposal_id: str, objective: Objective) -> ReportData:
    proposal = _proposal(ask, proposal_id)
    which = f"proposal_id = {_text(proposal_id)}"
    weights = ask(f"SELECT * FROM proposal_weight WHERE {which} ORDER BY weight DESC, domain")
    fit_edges = ask(
        "SELECT child, parent FROM edge WHERE role = 'proxy_run' AND child IN "
        f"(SELECT fit_id FROM fit WHERE {which}) ORDER BY ALL",
    )
    fit_runs: dict[str, list[str]] = {}
    for edge in fit_edges:
        fit_runs.setdefault(edge["child"], []).append(edge["parent"])
    proxy_ids = sorted({edge["parent"] for edge in fit_edges})
    proxy_runs = _runs(ask, f"run_id IN ({_texts(proxy_ids)})")
    full_runs = _full_runs(ask, proposal, weights)
    run_ids = [run["run_id"] for run in (*proxy_runs, *full_runs)]
    return ReportData(
        objective=objective,
        proposal=proposal,
        weights=weights,
        fits=_fits(ask, which),
        fit_runs=fit_runs,
        proxy_runs=proxy_runs,
        full_runs=full_runs,
        evaluations=_evaluations(ask, run_ids, proposal_id),
        costs=ask(
            "SELECT role, n_runs, flops, device_seconds, devices FROM cost_by_decision "
            f"WHERE decision_id = {_text(proposal_id)} ORDER BY role = 'full', role",
        ),
        domains=_domains(ask, run_ids),
        tokenizers=_tokenizers(ask, run_ids),
        history=_history(ask, proposal),
    )


def _text(value: str) -> str:
    """A SQL string."""
    return "'" + value.replace("'", "''") + "'"


def _texts(values: Sequence[str]) -> str:
    return ", ".join(map(_text, values)) or "NULL"


def _proposal(ask: Ask, proposal_id: str) -> Row:
    known = ask("SELECT * FROM proposal ORDER BY created_at DESC, proposal_id")
    for row in known:
        if row["proposal_id"] == proposal_id:
            return row
    names = [str(row["proposal_id"]) for row in known]
    raise MixtureError(
        f"there is no proposal {proposal_id!r}{nearest(proposal_id, names)}",
        hint=f"the newest one is {names[0]}" if names else "`mixture run` makes one",
    )


def _fits(ask: Ask, which: str) -> list[dict[str, Any]]:
    return ask(
        "SELECT fit.*, p.a, p.b, p.c FROM fit LEFT JOIN (SELECT fit_id, "
        "max(value) FILTER (name = 'a') AS a, max(value) FILTER (name = 'b') AS b, "
        "max(value) FILTER (name = 'c') AS c FROM fit_parameter GROUP BY fit_id) AS p "
        f"USING (fit_id) WHERE {which} AND optimum IS NOT NULL "
        "ORDER BY base_tokens, scale, domain",
    )


def _runs(ask: Ask, where: str) -> list[dict[str, Any]]:
    """Finished runs with the tokens that they asked for."""
    runs = ask(
        "SELECT * REPLACE (spec::VARCHAR AS spec) FROM run "
        f"WHERE status = 'done' AND {where} ORDER BY budget_tokens, label, run_id",
    )
    tokens: dict[str, dict[str, int]] = {}
    ids = [run["run_id"] for run in runs]
    for row in ask(f"SELECT * FROM run_domain_tokens WHERE run_id IN ({_texts(ids)}) ORDER BY ALL"):
        tokens.setdefault(row["run_id"], {})[row["domain"]] = row["requested_tokens"]
    return [run | {"tokens": tokens.get(run["run_id"], {})} for run in runs]


def _full_runs(ask: Ask, proposal: Row, weights: Sequence[Row]) -> list[dict[str, Any]]:
    """The full runs that the decision was charged for: the latest plan's, baselines included."""
    runs = _runs(
        ask,
        "run_id IN (SELECT run_id FROM cost WHERE role = 'full' "
        f"AND decision_id = {_text(proposal['proposal_id'])})",
    )
    tested = [r for r in runs if r["mixture_name"] == "proposal" and _is_trained_on(r, weights)]
    kept = [r for r in runs if r["mixture_name"] != "proposal"] + tested if tested else []
    return sorted(kept, key=lambda r: (_order(r["mixture_name"]), r["seed"], r["run_id"]))


def _is_trained_on(run: Row, weights: Sequence[Row]) -> bool:
    """Whether a run asked for these weights, to within a whole token."""
    tokens = run["tokens"]
    asked = {w["domain"]: w["weight"] * run["budget_tokens"] for w in weights}
    return asked.keys() == tokens.keys() and all(abs(asked[d] - tokens[d]) <= 1 for d in asked)


def _order(mixture_name: str) -> tuple[int, str]:
    known = mixture_name in _MIXTURE_ORDER
    return (_MIXTURE_ORDER.index(mixture_name) if known else len(_MIXTURE_ORDER)), mixture_name


def _evaluations(ask: Ask, run_ids: Sequence[str], proposal_id: str) -> dict[str, list[Row]]:
    """Evaluations by run, on the documents of the proposal and by one version of the metric.

    A run may be measured on other documents later. Of a proposal without inputs, made before
    they were recorded, one set of documents is taken. Specialist sets are not the proposal's unless
    its inputs name them.
    """
    which = f"run_id IN ({_texts(run_ids)})"
    found: dict[str, list[Row]] = {}
    for row in ask(
        f"SELECT e.* FROM evaluation AS e LEFT JOIN input ON owner = {_text(proposal_id)} "
        "AND kind = 'validation_set' AND name = e.domain "
        f"WHERE {which} AND coalesce(value = validation_id, e.domain NOT IN ({_texts(RESERVED)})) "
        "AND metric_version = "
        f"(SELECT max(metric_version) FROM evaluation WHERE {which}) "
        "QUALIFY row_number() OVER (PARTITION BY run_id, step, domain ORDER BY validation_id) = 1 "
        "ORDER BY run_id, tokens, step, domain",
    ):
        found.setdefault(row["run_id"], []).append(row)
    return found


def _domains(ask: Ask, run_ids: Sequence[str]) -> list[dict[str, Any]]:
    return ask(
        "SELECT d.*, count(DISTINCT s.token_shard_id) AS n_shards, sum(s.n_bytes) AS n_bytes, "
        "sum(s.n_documents) AS n_raw_documents FROM domain AS d "
        "LEFT JOIN edge AS e ON e.child = d.token_set_id AND e.role = 'shard' "
        "LEFT JOIN token_shard AS s ON s.token_shard_id = e.parent AND s.domain = d.domain "
        "WHERE d.token_set_id IN (SELECT parent FROM edge WHERE role = 'training_tokens' "
        f"AND child IN ({_texts(run_ids)})) GROUP BY ALL ORDER BY d.domain, d.token_set_id",
    )


def _tokenizers(ask: Ask, run_ids: Sequence[str]) -> list[dict[str, Any]]:
    return ask(
        "SELECT * FROM tokenizer WHERE tokenizer_id IN (SELECT spec->>'tokenizer' FROM run "
        f"WHERE run_id IN ({_texts(run_ids)})) ORDER BY tokenizer_id",
    )


def _history(ask: Ask, proposal: Row) -> list[dict[str, Any]]:
    """Weights of this and all earlier proposals of the experiment."""
    rows = ask(
        "SELECT proposal_id, created_at, domain, weight FROM weight_history "
        f"WHERE experiment = {_text(proposal['experiment'])} "
        "ORDER BY created_at NULLS FIRST, proposal_id, domain",
    )
    names = [row["proposal_id"] for row in rows]
    last = max((i for i, n in enumerate(names) if n == proposal["proposal_id"]), default=-1)
    return rows[: last + 1]
