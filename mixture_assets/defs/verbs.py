"""Every verb of the desk: the library calls of the command line, on the same records.

Put verbs here that ask. Steps that make something are assets; `gc` is the one that removes.
"""

from pathlib import Path

import dagster as dg
from pydantic import Field

from mixture_assets import calibration as predicted
from mixture_assets import (
    clusters,
    estimate,
    garbage,
    handover,
    pipeline,
    prices,
    reasons,
    summaries,
)
from mixture_assets import doctor as examination
from mixture_assets.core.units import bytes_text
from mixture_assets.corpus import build_corpus
from mixture_assets.defs.desk import desk, listed, named_file
from mixture_assets.defs.metadata import Metadata, bullets, table
from mixture_assets.defs.resources import Lab
from mixture_assets.difference import difference
from mixture_assets.evaluation.calibration import coverage_line
from mixture_assets.exports import FORMATS
from mixture_assets.history import weight_history
from mixture_assets.store import status as standing
from mixture_assets.store.limits import MAX_MEMORY_BYTES
from mixture_assets.store.query import query as ask
from mixture_assets.validity import run_validity

# --- about the experiment ---------------------------------------------------------------------


class Query(dg.Config):
    """What `mixture query` is told."""

    sql: str = Field(
        default="SELECT * FROM leaderboard",
        description="One SELECT over the tables and views of docs/store.md. It cannot write.",
    )
    max_rows: int = Field(default=200, ge=1, le=2000, description="Rows to show.")
    timeout_seconds: float = Field(default=60.0, gt=0, description="How long it may take.")


@desk
def query(config: Query, lab: Lab) -> Metadata:
    """Answer one read-only SQL query over the records. As `mixture query`."""
    found = ask(
        lab.open().store, config.sql, seconds=config.timeout_seconds, cap_bytes=MAX_MEMORY_BYTES
    )
    shown = found.rows[: config.max_rows]
    return {
        "n_rows": len(found.rows),
        "n_rows_shown": len(shown),
        "answer": table(found.columns, [["-" if v is None else v for v in row] for row in shown]),
    }


@desk
def status(lab: Lab) -> Metadata:
    """Count runs by state, and name the domains in quarantine. As `mixture status`."""
    workspace = lab.open()
    rows = standing.run_table(workspace.store)
    bad = standing.quarantine_table(workspace.store, workspace.experiment.name)
    failures = [(r["run_id"], r["label"], r["reason"]) for r in rows if r["status"] == "failed"]
    return {
        "n_runs": len(rows),
        "n_failed": len(failures),
        "runs": table(*standing.status_table(rows)),
        "failures": table(("run", "label", "reason"), failures),
        "quarantined": listed(bad),
    }


@desk
def plan(lab: Lab) -> Metadata:
    """Say what the experiment takes in runs, tokens, FLOPs, hours and disk. As `mixture plan`."""
    rows = estimate.estimate(lab.open())
    return {
        "n_runs": sum(row.runs for row in rows),
        "flops": sum(row.flops for row in rows),
        "hours": sum(row.hours for row in rows),
        "plan": table(*estimate.plan_table(rows)),
    }


@desk
def propose(lab: Lab) -> Metadata:
    """Weights from the proxy runs that are done; train nothing. As `mixture propose`."""
    workspace = lab.open()
    proposal_id, proposal = pipeline.propose(workspace, build_corpus(workspace))
    pipeline.refresh_database(workspace)
    return {
        "proposal_id": proposal_id,
        "weights": table(*summaries.weight_table(proposal)),
        "notes": bullets(proposal.notes),
    }


@desk
def refit_prices(lab: Lab) -> Metadata:
    """Price the ways to new weights; start nothing. As `mixture refit`.

    To go one, materialize `proxy_plan` with `way` in its launchpad, or start `refit_mixture`.
    """
    workspace = lab.open()
    corpus = build_corpus(workspace)
    options = prices.price(workspace, corpus)
    validity = run_validity(workspace, corpus, options)
    lines = [f"- {prices.option_line(option, is_chosen=False)}" for option in options]
    return {
        "n_ways": sum(option.problem is None for option in options),
        "ways": dg.MetadataValue.md("\n".join(lines)),
        "earlier_runs": table(*summaries.fate_table(validity)),
    }


# --- why weights are what they are ------------------------------------------------------------


class History(dg.Config):
    """What `mixture history` is told."""

    domain: str = Field(default="", description="Only this one; empty for all.")


@desk
def history(config: History, lab: Lab) -> Metadata:
    """Weights over proposals, with the change to the one before. As `mixture history`."""
    workspace = lab.open()
    rows = weight_history(workspace.store, workspace.experiment.name, config.domain)
    columns = (
        *("created_at", "proposal_id", "domain", "weight", "weight_low", "weight_high"),
        *("change", "natural_weight", "is_latest"),
    )
    return {"n_rows": len(rows), "history": listed(rows, *columns)}


@desk
def calibration(lab: Lab) -> Metadata:
    """What proposals predicted of their full runs, and whether it held. As `mixture calibration`.

    Numbers are logs of the proposal's objective over the baseline's: below 0 is better.
    """
    workspace = lab.open()
    found = predicted.calibration(workspace.store, workspace.experiment.name)
    lines = [f"- {coverage_line(n, each)}" for n, each in found.by_baseline.items()]
    return {
        "n_predictions": len(found.rows),
        "n_scored": sum(row["state"] == "scored" for row in found.rows),
        "coverage": dg.MetadataValue.md("\n".join(lines) or "no prediction yet"),
        "predictions": table(*predicted.calibration_table(found.rows)),
    }


class Why(dg.Config):
    """What `mixture why` is told."""

    domain: str = Field(description="Whose weight is to be explained.")
    proposal: str = Field(default="", description="Its id or the beginning; empty for the latest.")


@desk
def why(config: Why, lab: Lab) -> Metadata:
    """Follow a weight to its fits, runs, tokens, shards, code and cost. As `mixture why`."""
    workspace = lab.open()
    name = workspace.experiment.name
    found = reasons.reasons(workspace.store, name, config.domain, config.proposal)
    runs = [{"scale": fit["scale"]} | run for fit in found["fits"] for run in fit["runs"]]
    curve = ("scale", "base_tokens", "optimum", "a", "b", "c", "residual_sd")
    return {
        "weight": listed([found["weight"]]),
        "proposal": listed([found["proposal"]], "proposal_id", "created_at", "method", "objective"),
        "fits": listed(found["fits"], *curve),
        "runs": listed(runs, "scale", "run_id", "label", "x", "objective", "loss_nats", "flops"),
        "token_sets": listed(found["token_sets"]),
        "shards": listed(found["shards"]),
        "tokenizers": listed(found["tokenizers"]),
        "reused": listed(found["reused"]),
        "code": listed([found["code"]] if found["code"] else []),
        "cost": listed(found["cost"]),
        "stale": listed(found["stale"]),
    }


class Diff(dg.Config):
    """What `mixture diff` is told."""

    a: str = Field(description="A run or a proposal: its id, or the beginning of it.")
    b: str = Field(description="Another one of the same kind.")


@desk
def diff(config: Diff, lab: Lab) -> Metadata:
    """Which inputs of two runs or proposals differ, and their results. As `mixture diff`."""
    found = difference(lab.open().store, config.a, config.b)
    labels = found["labels"] or ("", "")
    return {
        "kind": found["kind"],
        **{
            side: f"{found[side]} {label}".strip() for side, label in zip("ab", labels, strict=True)
        },
        "inputs": listed(found["inputs"]),
        "results": listed(found["results"]),
    }


class Export(dg.Config):
    """What `mixture export` is told."""

    file: str = Field(default="", description="JSON of a proposal on this machine; or empty.")
    format: str = Field(default="json", description=f"One of {', '.join(FORMATS)}.")
    paths: str = Field(default="", description="Where a domain's tokens lie: tokens/{}.")
    proposal: str = Field(default="", description="Its id or the beginning; empty for the latest.")


@desk
def export(config: Export, lab: Lab) -> Metadata:
    """Weights for another trainer, as text. As `mixture export`."""
    if config.file:
        weights = handover.weights_in(named_file(config.file))
    else:
        _, weights = summaries.recorded_weights(lab.open(), config.proposal)
    made = handover.handed_over(weights, config.format, config.paths)
    return {
        "text": dg.MetadataValue.text(made.text),
        "notes": dg.MetadataValue.md("\n".join(f"- {n}" for n in made.notes) or "none"),
    }


# --- the store and this machine ---------------------------------------------------------------


@desk
def doctor(lab: Lab) -> Metadata:
    """Check device, memory, disk, versions, tokenizer engine and store. As `mixture doctor`."""
    findings = examination.examine(lab.open().store)
    return {
        "n_to_fix": sum(not finding.is_ok for finding in findings),
        "findings": table(*examination.findings_table(findings)),
        "fixes": table(("check", "fix"), [(f.check, f.fix) for f in findings if f.fix]),
    }


class Cluster(dg.Config):
    """What `mixture cluster` is told."""

    root: str = Field(description="Raw text: a folder or URL with one folder per domain.")
    out: str = Field(description="Gets one folder per cluster: the [data] root of an experiment.")
    clusters: int = Field(ge=1, description="At most so many.")
    embedding: str = Field(
        default="tfidf",
        description="Or proxy:RUN, model2vec:FOLDER, sentence-transformers:FOLDER.",
    )
    least: int = Field(
        default=20, ge=1, description="Documents; a smaller cluster goes to the nearest other one."
    )
    text_field: str = Field(default="text", description="Field that holds the text.")
    seed: int = Field(default=0, ge=0, description="Of the embedding and the clusters.")


@desk
def cluster(config: Cluster) -> Metadata:
    """Make domains of documents that are alike, in a folder. As `mixture cluster`."""
    options = clusters.ClusterOptions(
        n_clusters=config.clusters,
        least_documents=config.least,
        seed=config.seed,
        text_field=config.text_field,
    )
    manifest = clusters.write_clusters(
        config.root, Path(config.out).expanduser(), options, embedding=config.embedding
    )
    return {
        "n_clusters": len(manifest["clusters"]),
        "clusters": table(*clusters.cluster_table(manifest)),
        "notes": bullets(manifest["notes"]),
    }


class Gc(dg.Config):
    """What `mixture gc` is told."""

    delete: bool = Field(
        default=False, description="Remove what is listed; without it nothing changes."
    )
    older_than_days: float = Field(default=7.0, ge=0, description="Days since the last change.")
    models: bool = Field(default=False, description="Also models of finished proxy runs.")


@desk
def gc(config: Gc, lab: Lab) -> Metadata:
    """List what nothing in the store refers to, or remove it. As `mixture gc`."""
    store = lab.open().store
    found = garbage.find_garbage(
        store, older_than_days=config.older_than_days, models=config.models
    )
    freed = garbage.remove(store, found) if config.delete else 0
    rows = [
        (g.kind, str(g.path.relative_to(store)), bytes_text(g.n_bytes), g.reason) for g in found
    ]
    return {
        "n_things": len(found),
        "n_bytes": sum(g.n_bytes for g in found),
        "freed_bytes": freed,
        "garbage": table(("kind", "path below the store", "size", "why"), rows),
    }


verbs = [
    *(query, status, plan, propose, refit_prices),
    *(history, calibration, why, diff, export),
    *(doctor, cluster, gc),
]
