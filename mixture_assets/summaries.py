"""Tables and JSON of what the pipeline found: one wording for terminal, Dagster and scripts."""

import dataclasses
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from mixture_assets.core.errors import MixtureError
from mixture_assets.core.mixture import Mixture
from mixture_assets.core.names import RESERVED, SPECIALIST
from mixture_assets.core.problem import Proposal
from mixture_assets.core.units import flops_text, seconds_text, tokens_text
from mixture_assets.corpus import Workspace
from mixture_assets.exports import Weights
from mixture_assets.pipeline import Summary, latest_proposal, proposal_named
from mixture_assets.plans import PlannedRun
from mixture_assets.running import result_of
from mixture_assets.search import Search
from mixture_assets.store.records import read_record

Table = tuple[tuple[str, ...], list[tuple[str, ...]]]


def weight_table(proposal: Proposal) -> Table:
    """Weights beside natural, with intervals, epochs and what the reader must know of each."""
    header = ("domain", "weight", "90 % interval", "natural", "epochs", "remarks")
    rows: list[tuple[str, ...]] = []
    for name, weight in sorted(proposal.mixture.items(), key=lambda item: -item[1]):
        low_high = proposal.interval.get(name)
        rows.append(
            (
                name,
                f"{weight:.3f}",
                f"{low_high[0]:.3f} .. {low_high[1]:.3f}" if low_high else "-",
                f"{proposal.natural[name]:.3f}",
                f"{proposal.epochs.get(name, 0.0):.2f}",
                ", ".join(_remarks(proposal, name)),
            )
        )
    return header, rows


def _remarks(proposal: Proposal, domain: str) -> list[str]:
    known = {
        "at floor": proposal.at_floor,
        "held": proposal.held,
        "capped": proposal.capped,
        "does not help": proposal.not_improving,
    }
    return [remark for remark, domains in known.items() if domain in domains]


def evaluation_table(workspace: Workspace, planned: Sequence[PlannedRun]) -> Table:
    """Objective, and the loss of every domain with its standard error, one row a full run."""
    objective = workspace.experiment.objective
    done = [(run, r) for run in planned if (r := result_of(workspace, run)) is not None]
    domains = sorted({d for _, result in done for d in result["losses"]})
    header = ("mixture", "seed", objective.name, *(f"{d} (nats)" for d in domains))
    rows = []
    for run, result in done:
        losses = {d: row["loss_nats"] for d, row in result["losses"].items()}
        cells = [_with_error(result["losses"][d]) for d in domains]
        value = f"{objective.value(losses):.3f}"
        rows.append((run.mixture_name, str(run.spec.seed), value, *cells))
    return header, rows


def _with_error(row: dict[str, Any]) -> str:
    error = row["loss_se_nats"]
    return f"{row['loss_nats']:.3f}" + ("" if error is None else f" ±{error:.3f}")


def comparison_lines(workspace: Workspace, summary: Summary) -> list[str]:
    """One sentence a baseline, and one about the cost of the search."""
    lines = []
    for c in summary.comparisons:
        interval = "" if c.low is None else f" (90 % interval {c.low:+.3f} .. {c.high:+.3f})"
        reached = (
            "is never reached" if c.speed_up is None else f"is reached {c.speed_up:.0%} sooner"
        )
        lines.append(
            f"against {c.baseline}: {workspace.experiment.objective.name} {c.difference:+.3f}"
            f"{interval}: {c.verdict}; its final value {reached}"
        )
    search, full = flops_of(workspace, summary.proxies), flops_of(workspace, summary.full_runs)
    one_full = full / max(1, len(summary.full_runs))
    tokens = sum(run.spec.budget_tokens for run in summary.proxies)
    lines.append(
        f"the search cost {len(summary.proxies)} proxy runs, {tokens_text(tokens)} tokens, "
        f"{flops_text(search)}: {search / one_full:.1f} times one full run"
    )
    return lines


def flops_of(workspace: Workspace, planned: Sequence[PlannedRun]) -> float:
    """FLOPs that the finished runs among these took, evaluation included."""
    results = [r for run in planned if (r := result_of(workspace, run)) is not None]
    return float(sum(r["flops_train"] + r["flops_eval"] for r in results))


def run_line(workspace: Workspace, run: PlannedRun) -> str:
    """One finished run: label, objective, tokens, seconds."""
    result = result_of(workspace, run)
    if result is None:
        return f"  {run.label}: no result"
    objective = workspace.experiment.objective
    losses = {domain: row["loss_nats"] for domain, row in result["losses"].items()}
    tokens = tokens_text(run.spec.budget_tokens)
    if all(
        name in RESERVED for name in losses
    ):  # a run of a selection is measured on the specialist set alone
        shown = f"{losses[SPECIALIST]:8.3f} nats on the specialist set"
        return f"  {run.label:<32} {shown}  {tokens:>6} tokens in {result['seconds']:.0f} s"
    value = objective.known_value(losses)
    shown = f"{'-':>8}" if value is None else f"{value:8.3f}"
    return (
        f"  {run.label:<32} {objective.name} over {objective.n_weighed(losses)} domains {shown}  "
        f"{tokens:>6} tokens in {result['seconds']:.0f} s"
    )


def refit_tables(workspace: Workspace, search: Search) -> tuple[Table, Table]:
    """The priced ways of the decision behind a search, and the fate of earlier runs, if any."""
    rows = (search.refit_id and read_record(workspace.store, "refit", search.refit_id)) or {}
    options = [_priced(o) for o in rows.get("refit_option", [])]
    header = ("way", "to train", "to measure", "to keep", "tokens", "FLOPs", "time of one process")
    return (header, options), fate_table(rows.get("run_validity", []))


def _priced(option: Mapping[str, Any]) -> tuple[str, ...]:
    if option.get("problem"):
        return (option["way"], f"not open: {option['problem']}", *[""] * 5)
    return (
        f"{option['way']} (chosen)" if option["is_chosen"] else option["way"],
        *(str(option[key]) for key in ("n_to_train", "n_to_measure", "n_to_keep")),
        tokens_text(option["tokens"]),
        flops_text(option["flops"]),
        seconds_text(option["device_seconds"]),
    )


def fate_table(validity: Sequence[Mapping[str, Any]]) -> Table:
    """How many earlier runs each way keeps, measures or leaves, and why."""
    counts = Counter((row["way"], row["fate"], row["reason"]) for row in validity)
    body: list[tuple[str, ...]] = [
        (way, fate, str(n), reason) for (way, fate, reason), n in sorted(counts.items())
    ]
    return ("way", "earlier runs are", "runs", "because"), body


def proposal_json(proposal_id: str, proposal: Proposal) -> dict[str, Any]:
    """Everything that a proposal carries."""
    value = dataclasses.asdict(dataclasses.replace(proposal, fits=()))
    value["fits"] = [dataclasses.asdict(fit) for fit in proposal.fits]
    for key in ("mixture", "natural", "uniform"):
        value[key] = dict(getattr(proposal, key))
    return {"proposal_id": proposal_id, "weights": dict(proposal.mixture)} | value


def recorded_weights(workspace: Workspace, proposal: str = "") -> tuple[str, Weights]:
    """Id and weights of a proposal of the experiment.

    Args:
        workspace: The experiment with its store.
        proposal: Its id, or the beginning of it; by default the latest.
    """
    if proposal:
        proposal_id = proposal_named(workspace, proposal)
    else:
        proposal_id = latest_proposal(workspace)
    rows = read_record(workspace.store, "proposal", proposal_id)
    if rows is None:
        raise MixtureError(
            f"the record of proposal {proposal_id} is gone", hint="`mixture propose` writes it"
        )
    domains = {row["domain"]: row for row in rows["proposal_weight"]}
    return proposal_id, Weights(
        mixture=Mixture({name: row["weight"] for name, row in domains.items()}),
        budget_tokens=rows["proposal"][0]["budget_tokens"],
        epochs={name: row["epochs"] for name, row in domains.items()},
    )


def summary_json(workspace: Workspace, summary: Summary) -> dict[str, Any]:
    """What `mixture run --json` prints."""
    runs = {}
    for run in summary.full_runs:
        result = result_of(workspace, run)
        if result is not None:
            runs[run.label] = {"run_id": run.run_id, "losses": result["losses"]}
    return {
        "proposal": proposal_json(summary.proposal_id, summary.proposal),
        "full_runs": runs,
        "comparisons": [dataclasses.asdict(c) for c in summary.comparisons],
        "search_flops": flops_of(workspace, summary.proxies),
        "full_flops": flops_of(workspace, summary.full_runs),
        "report": str(summary.report.html),
        "n_trained": summary.n_trained,
    }


def non_finite_losses(workspace: Workspace, planned: Sequence[PlannedRun]) -> dict[str, list[str]]:
    """Label of a run -> domains whose loss is missing, NaN or infinite; {} if all is well."""
    bad = {}
    for run in planned:
        result = result_of(workspace, run)
        losses = {} if result is None else result["losses"]
        domains = [d for d in run.measurement.validation_sets if not _is_finite(losses.get(d))]
        if domains:
            bad[run.label] = sorted(domains)
    return bad


def _is_finite(row: dict[str, Any] | None) -> bool:
    value = None if row is None else row["loss_nats"]
    return isinstance(value, float | int) and math.isfinite(value)
