"""The proxy runs that would help most, from somebody's own runs: plain data, lines, and a table."""

import csv
import io
import re
from collections.abc import Collection, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from mixture_assets.core.mixture import Mixture
from mixture_assets.core.units import flops_text, tokens_text
from mixture_assets.decision_table import DecisionOptions
from mixture_assets.methods.decision import replicate_sd
from mixture_assets.methods.laws import MIN_RUNS, Score
from mixture_assets.methods.next_runs import NextRuns, next_runs
from mixture_assets.methods.resample import FittedLaws
from mixture_assets.methods.swarm import Swarm
from mixture_assets.scale_choice import one_scale
from mixture_assets.swarms import SwarmOptions
from mixture_assets.tables import Table

_FLOPS = 6.0  # per parameter and token of training


def plan_next(
    swarm: SwarmOptions, options: DecisionOptions, *, n_runs: int = 8, precision: float = 0.25
) -> dict[str, Any]:
    """The runs that would narrow the gain's interval most, and whether they are worth it.

    Args:
        swarm: The runs that there are, and the objective.
        options: What the weights must respect, and so do the runs.
        n_runs: How many to name.
        precision: Half-width of the gain's interval that is enough, as a share of the gain.

    Returns:
        runs (run, mixture, half_width after it, and params, tokens and flops where they are known),
        half_width and gain of today, is_enough, reason, n_needed, verdict, noise_sd, noise_from,
        excluded and notes.
    """
    table = swarm.read()
    runs, notes = one_scale(table.swarm)
    found = next_runs(
        runs,
        swarm.objective,
        options.natural,
        options.settings,
        n_runs=n_runs,
        precision=precision,
    )
    taken = {*table.swarm.runs, *table.excluded}
    return {
        "runs": _runs(found, runs, _first_free(taken)),
        "gain": asdict(found.gain),
        "half_width": (found.gain.high - found.gain.low) / 2,
        "is_enough": found.is_enough,
        "reason": found.reason,
        "n_needed": found.n_needed,
        "verdict": found.decision.verdict,
        "noise_sd": found.decision.noise_sd,
        "noise_from": found.decision.noise_from,
        "n_runs": len(runs.runs),
        "n_domains": len(runs.domains),
        "excluded": dict(table.excluded),
        "notes": [
            *table.notes,
            *notes,
            *_notes(found, options),
            *other_scales(table.swarm, runs, swarm.objective),
        ],
    }


def _runs(found: NextRuns, swarm: Swarm, first: int) -> list[dict[str, Any]]:
    scale = _scale(swarm)
    return [
        {"run": f"next-{first + i:03d}", "mixture": dict(mixture), "half_width": width} | scale
        for i, (mixture, width) in enumerate(zip(found.mixtures, found.half_widths, strict=True))
    ]


def _scale(swarm: Swarm) -> dict[str, float]:
    """How the runs were made, which is the same for all of them."""
    known = {
        name: float(values[0])
        for name, values in (("params", swarm.params), ("tokens", swarm.tokens))
        if values is not None
    }
    return known | (
        {"flops": _FLOPS * known["params"] * known["tokens"]} if len(known) == 2 else {}
    )


def _first_free(taken: Collection[str]) -> int:
    numbers = [int(m[1]) for name in taken if (m := re.fullmatch(r"next-(\d{1,9})", name))]
    return max(numbers, default=0) + 1


def _notes(found: NextRuns, options: DecisionOptions) -> list[str]:
    notes = []
    if options.natural is None:
        notes.append(
            "natural is not known: the gain is over the mean of the runs' mixtures "
            "(--available or --natural says what it is)"
        )
    if len(set(found.mixtures)) < len(found.mixtures):
        notes.append("a mixture that is named more than once is meant: each from its own seed")
    return notes


# --- runs of other sizes ----------------------------------------------------------------------


def other_scales(swarm: Swarm, runs: Swarm, shares: Mapping[str, float]) -> list[str]:
    """What a run of another size and length would tell per FLOP, if ranks carry over.

    A run tells as much as its noise is small beside the spread between runs: per FLOP
    (spread / noise)^2 / flops, compared with the runs that weights rest on.
    """
    if swarm.params is None or swarm.tokens is None or runs.params is None or runs.tokens is None:
        return []
    here = (runs.params[0], runs.tokens[0])
    known, notes = _told_per_flop(runs, shares), []
    for params, tokens in sorted(set(zip(swarm.params, swarm.tokens, strict=True)) - {here}):
        keep = np.flatnonzero((swarm.params == params) & (swarm.tokens == tokens))
        if len(keep) < MIN_RUNS:
            continue
        other = swarm.subset(keep)
        ratio = _told_per_flop(other, shares) / known
        law = FittedLaws.of(other, shares).laws
        rank = Score.of(law.value(runs.weights)[0], runs.objective(shares)).spearman
        notes.append(
            f"a run of {tokens_text(params)} parameters and {tokens_text(tokens)} tokens would "
            f"tell {ratio:.2g} times as much per FLOP if ranks carry across sizes; the law of the "
            f"{len(keep)} runs there ranks those here with Spearman {rank:.2f}. Weights rest on "
            "one size: run enough there and give its runs alone"
        )
    return notes


def _told_per_flop(swarm: Swarm, shares: Mapping[str, float]) -> float:
    objective = swarm.objective(shares)
    noise = replicate_sd(swarm.groups, objective) or FittedLaws.of(swarm, shares).residual_sd
    return float(objective.var() / max(noise**2, 1e-300)) / _scale(swarm)["flops"]


# --- for people, and for the trainer ----------------------------------------------------------


def mixture_table(answer: Mapping[str, Any]) -> Table:
    """Header and rows of the mixtures: a row for each domain, a column for each mixture."""
    columns = _distinct(answer)
    header = ("domain", *(f"{runs[0]} x{len(runs)}" for runs in columns.values()))
    domains = sorted(answer["runs"][0]["mixture"])
    return header, [[d, *(f"{mixture[d]:.4f}" for mixture in columns)] for d in domains]


def run_table(answer: Mapping[str, Any]) -> Table:
    """Header and rows of the runs, in the order in which they help."""
    first = {run: runs[0] for runs in _distinct(answer).values() for run in runs}
    header = ("run", "mixture of", "interval after it", "FLOPs so far")
    rows = []
    for i, run in enumerate(answer["runs"]):
        cost = flops_text(run["flops"] * (i + 1)) if "flops" in run else "-"
        rows.append([run["run"], first[run["run"]], f"+- {run['half_width']:.4g}", cost])
    return header, rows


def lines(answer: Mapping[str, Any]) -> list[str]:
    """What is to be known besides the tables."""
    run = answer["runs"][0]
    at = [f"{tokens_text(run[n])} {noun}" for n, noun in _SCALE if n in run]
    return [
        answer["reason"],
        f"verdict: {answer['verdict']}; {answer['n_runs']} runs, {answer['n_domains']} domains; "
        f"noise of one run {answer['noise_sd']:.4g} (from {answer['noise_from']})",
        f"runs as those that there are{': ' if at else ''}{', '.join(at)}",
    ]


_SCALE = (("params", "parameters"), ("tokens", "tokens"))


def ratios_csv(answer: Mapping[str, Any], weight_pattern: str = "") -> str:
    """The runs as --ratios reads them, with the columns' names as in the runs that there are."""
    runs = answer["runs"]
    domains = sorted(runs[0]["mixture"])
    settings = [name for name, _ in _SCALE if name in runs[0]]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = [weight_pattern.replace("{}", d) if weight_pattern else d for d in domains]
    writer.writerow(["run", *columns, *settings])
    for run in runs:
        weights = [repr(float(run["mixture"][d])) for d in domains]
        writer.writerow([run["run"], *weights, *(f"{run[s]:.15g}" for s in settings)])
    return text.getvalue()


def _distinct(answer: Mapping[str, Any]) -> dict[Mixture, list[str]]:
    """Mixture -> its runs, in order."""
    found: dict[Mixture, list[str]] = {}
    for run in answer["runs"]:
        found.setdefault(Mixture(run["mixture"]), []).append(run["run"])
    return found
