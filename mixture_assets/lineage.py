"""Rows for the store: what each thing is, and the edges to what it rests on.

A weight leads to its fits, a fit to its proxy runs, a run to its token sets (that edge is the
store's: it reads it from the run's specification), a token set to its shards.
"""

import dataclasses
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from mixture_assets.core.digest import digest
from mixture_assets.core.experiment import Experiment
from mixture_assets.core.problem import CurveFit, Proposal
from mixture_assets.core.run import RunSpec
from mixture_assets.data.token_store import DomainTokens
from mixture_assets.data.tokenize import TokenShard
from mixture_assets.inputs import (
    COMPARISON_KINDS,
    Inputs,
    input_rows,
    run_inputs,
    setting_inputs,
)
from mixture_assets.store.files import read_json_object

Rows = dict[str, list[dict[str, Any]]]


def domain_rows(tokens: DomainTokens, token_shards: Sequence[TokenShard]) -> Rows:
    """Rows of one domain's raw shards, token shards and token set, and the edges between."""
    raw = [
        {
            "shard_id": s.raw.digest,
            "domain": s.domain,
            "url": s.raw.url,
            "n_bytes": s.raw.n_bytes,
            "n_documents": s.n_documents,
            "n_empty_documents": s.n_empty_documents,
            "format": s.raw.format,
        }
        for s in token_shards
    ]
    tokenized = [
        {
            "token_shard_id": s.digest,
            "shard_id": s.raw.digest,
            "domain": s.domain,
            "tokenizer_id": s.tokenizer,
            "n_tokens": s.n_tokens,
            "n_documents": s.n_documents,
            "n_bytes": s.n_bytes,
            "engine": s.engine,
        }
        for s in token_shards
    ]
    domain = {
        "token_set_id": tokens.digest,
        "domain": tokens.domain,
        "available_tokens": tokens.available_tokens,
        "n_documents": tokens.n_train_documents,
        "validation_id": tokens.validation_digest,
        "validation_tokens": tokens.validation_tokens,
        "validation_documents": tokens.validation_documents,
    }
    edges = [_edge(tokens.digest, s.digest, "shard") for s in token_shards]
    edges += [_edge(s.digest, s.raw.digest, "raw") for s in token_shards]
    edges += [_edge(s.digest, s.tokenizer, "tokenizer") for s in token_shards]
    return {"shard": raw, "token_shard": tokenized, "domain": [domain], "edge": edges}


def cluster_edges(root: str, token_shards: Sequence[TokenShard]) -> list[dict[str, Any]]:
    """From each raw shard of a cluster to the shards that its documents were gathered from.

    None where the raw root holds no clusters that `mixture cluster` made.
    """
    manifest = read_json_object(Path(root) / "clusters.json") or {}
    edges = []
    for shard in token_shards:
        cluster = manifest.get("clusters", {}).get(shard.domain, {})
        for domain in sorted(cluster.get("from", {})):
            edges += [_edge(shard.raw.digest, s, "gathered") for s in manifest["source"][domain]]
    return edges


def _edge(child: str, parent: str, role: str) -> dict[str, Any]:
    return {"child": child, "parent": parent, "role": role}


def proposal_rows(
    proposal_id: str,
    proposal: Proposal,
    *,
    experiment: str,
    created_at: str,
    runs: Mapping[str, str],
    reused: Collection[str] = (),
    reused_from: str = "",
) -> Rows:
    """A proposal, its weights, its fits, and the edges from each weight to the runs.

    Args:
        proposal_id: Names the proposal.
        proposal: What to record.
        experiment: Its name.
        created_at: ISO 8601, UTC.
        runs: Run id of every ProxyRun digest.
        reused: Domains whose ratios were taken over from an earlier proposal, as one group.
        reused_from: That proposal.
    """
    head = {
        "proposal_id": proposal_id,
        "experiment": experiment,
        "method": proposal.method,
        "objective": proposal.objective.name,
        "budget_tokens": proposal.budget_tokens,
        "extrapolation_factor": proposal.extrapolation_factor,
        "noise_sd": proposal.noise_sd,
        "created_at": created_at,
        "notes": json.dumps(list(proposal.notes)),
    }
    rows: Rows = {
        "proposal": [head],
        "proposal_weight": [_weight_row(proposal_id, proposal, d) for d in proposal.mixture],
        "prediction": [
            {"proposal_id": proposal_id} | dataclasses.asdict(p) for p in proposal.predictions
        ],
        "fit": [],
        "fit_parameter": [],
        "edge": [_edge(proposal_id, f"{proposal_id}:{d}", "weight") for d in proposal.mixture],
    }
    for fit in proposal.fits:
        fit_id = digest([proposal_id, fit.scale, fit.domain])
        rows["fit"].append(_fit_row(fit_id, proposal_id, fit))
        values = {"a": fit.a, "b": fit.b, "c": fit.c}
        rows["fit_parameter"] += [
            {"fit_id": fit_id, "name": name, "value": value} for name, value in values.items()
        ]
        weights = [fit.domain] if fit.domain in proposal.mixture else sorted(reused)
        rows["edge"] += [_edge(f"{proposal_id}:{d}", fit_id, "fit") for d in weights]
        rows["edge"] += [_edge(fit_id, runs[r], "proxy_run") for r in sorted(set(fit.run_digests))]
    rows["edge"] += [
        _edge(f"{proposal_id}:{d}", f"{reused_from}:{d}", "reused") for d in sorted(reused)
    ]
    if not proposal.fits and runs:
        _add_law(rows, proposal_id, sorted(proposal.mixture), sorted(set(runs.values())))
    return rows


def _add_law(rows: Rows, proposal_id: str, domains: Sequence[str], runs: Sequence[str]) -> None:
    """One law through a whole swarm: every weight rests on it, and it on every run."""
    fit_id = digest([proposal_id, "law"])
    rows["fit"].append({"fit_id": fit_id, "proposal_id": proposal_id, "domain": "", "scale": "law"})
    rows["edge"] += [_edge(f"{proposal_id}:{d}", fit_id, "fit") for d in domains]
    rows["edge"] += [_edge(fit_id, run_id, "proxy_run") for run_id in runs]


def corpus_inputs(tokenizer: str, domains: Mapping[str, DomainTokens]) -> Inputs:
    """What an experiment's raw folders say now, as far as results depend on it."""
    return (
        {("tokenizer", "tokenizer"): tokenizer}
        | {("token_set", name): d.digest for name, d in domains.items()}
        | {("validation_set", name): d.validation_digest for name, d in domains.items()}
    )


def plan_rows(
    experiment: str, headers: Sequence[Mapping[str, Any]], specs: Sequence[RunSpec]
) -> Rows:
    """The runs of a plan under the names that the experiment gives them, and their inputs."""
    columns = ("run_id", "purpose", "label", "scale", "mixture_name")
    named = [{"experiment": experiment} | {c: h[c] for c in columns} for h in headers]
    full = {
        h["run_id"]: spec for h, spec in zip(headers, specs, strict=True) if h["purpose"] == "full"
    }
    rows = [r for run_id, s in sorted(full.items()) for r in input_rows(run_id, run_inputs(s))]
    return {"experiment_run": named, "input": rows}


def comparison_rows(
    experiment: Experiment, comparisons: Sequence[Mapping[str, Any]], run_ids: Sequence[str]
) -> Rows:
    """Comparisons, the edges to what they rest on, and the settings that they were made with."""
    rows: Rows = {"comparison": [dict(c) for c in comparisons], "edge": [], "input": []}
    inputs = setting_inputs(experiment)
    for name, proposal_id in ((c["comparison_id"], c["proposal_id"]) for c in comparisons):
        rows["edge"].append(_edge(name, proposal_id, "compared"))
        rows["edge"] += [_edge(name, run_id, "full_run") for run_id in sorted(set(run_ids))]
        rows["input"] += input_rows(name, inputs, COMPARISON_KINDS)
    return rows


def _weight_row(proposal_id: str, proposal: Proposal, domain: str) -> dict[str, Any]:
    low, high = proposal.interval.get(domain, (None, None))
    return {
        "proposal_id": proposal_id,
        "domain": domain,
        "weight": proposal.mixture[domain],
        "weight_low": low,
        "weight_high": high,
        "natural_weight": proposal.natural[domain],
        "uniform_weight": proposal.uniform[domain],
        "epochs": proposal.epochs.get(domain, 0.0),
        "is_at_floor": domain in proposal.at_floor,
        "is_held": domain in proposal.held,
        "is_capped": domain in proposal.capped,
        "is_improving": domain not in proposal.not_improving,
    }


def _fit_row(fit_id: str, proposal_id: str, fit: CurveFit) -> dict[str, Any]:
    return {
        "fit_id": fit_id,
        "proposal_id": proposal_id,
        "domain": fit.domain,
        "scale": fit.scale,
        "base_tokens": fit.base_tokens,
        "optimum": fit.optimum,
        "degrees_of_freedom": fit.degrees_of_freedom,
        "residual_sd": fit.residual_sd,
        "is_improving": fit.is_improving,
        "is_at_floor": fit.is_at_floor,
    }
