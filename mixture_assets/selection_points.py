"""What each cell of a sweep came to: points of cost and performance, and what they are made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixture_assets.core.names import SPECIALIST
from mixture_assets.plans import PlannedRun
from mixture_assets.pools import Selection
from mixture_assets.running import result_of
from mixture_assets.scoring import SelectorRuns
from mixture_assets.selection.points import Point
from mixture_assets.selection.scores import ScoreSet

ScoreSets = Mapping[tuple[str, int], ScoreSet]  # by method and seed
WITHOUT = "none"  # the method of a model that is not trained on


@dataclass(frozen=True, eq=False)
class Cell:
    """One method, share, model and seed, and the run that trains it."""

    method: str
    share: float
    model: str
    seed: int
    run: PlannedRun
    documents: NDArray[np.uint64]  # hashes of their contents, ascending


def measured_cells(
    selection: Selection,
    cells: Sequence[Cell],
    sets: ScoreSets,
    runs: SelectorRuns,
    base: Mapping[str, PlannedRun],
) -> list[tuple[Cell, Point]]:
    """The cells whose runs are done, each with its point.

    Performance is minus the loss on the documents that judge, in nats: more is better.
    """
    # Of runs that are done before any cell is: a forecast does not change when cells are added.
    rate = flops_per_second(selection, [*base.values(), *runs.planned])
    pilot = [c.run for c in cells if c.share in selection.spec.pilot_shares]
    rate = rate or flops_per_second(selection, pilot)
    found = []
    for cell in cells:
        result = result_of(selection.workspace, cell.run)
        if result is None:
            continue
        cost = selection_flops(selection, cell.method, cell.seed, sets, runs, rate)
        point = Point(
            method=cell.method,
            total_flops=result["flops_train"] + cost,
            full_flops=_full_flops(selection, result),
            performance=-result["losses"][SPECIALIST]["loss_nats"],
            share=cell.share,
            seed=str(cell.seed),
            train_params=result["n_params"],
            selector_params=_selector_params(selection, cells, cell.method, base),
            selection_flops=cost,
        )
        found.append((cell, point))
    return found


def selection_flops(
    selection: Selection,
    method: str,
    seed: int,
    sets: ScoreSets,
    runs: SelectorRuns,
    rate: float,
) -> float:
    """What scoring the whole pool cost for one specialist set, what was trained for it included.

    Seconds of a selector that has no matrix products are converted at `rate`, FLOPs per second.
    """
    if method == "random":
        return 0.0
    scores = sets[method, seed]
    cost = scores.flops or scores.seconds * rate
    run = {"perplexity": runs.reference, "gradient": runs.warmup}.get(method)
    if run is not None:
        result = result_of(selection.workspace, run)
        cost += result["flops_train"] if result else 0.0
    return cost


def flops_per_second(selection: Selection, runs: Sequence[PlannedRun]) -> float:
    """What this machine does in training: FLOPs over seconds of the runs that are done."""
    results = [r for run in runs if (r := result_of(selection.workspace, run)) is not None]
    seconds = sum(r["seconds"] for r in results)
    return sum(r["flops_train"] for r in results) / seconds if seconds else 0.0


def untrained(selection: Selection, base: Mapping[str, PlannedRun]) -> dict[str, float]:
    """Performance of each model before it goes on, where its base run was measured."""
    found = {}
    for name, run in base.items():
        result = result_of(selection.workspace, run)
        if result is not None:
            found[name] = -result["losses"][SPECIALIST]["loss_nats"]
    return found


def overlap(cells: Sequence[Cell], share: float, methods: Sequence[str]) -> list[list[float]]:
    """Share of the documents of one method's subset that another's has too, first seed each."""
    chosen: dict[str, NDArray[np.uint64]] = {}
    for cell in cells:
        if cell.share == share:
            chosen.setdefault(cell.method, cell.documents)
    return [
        [np.isin(chosen[a], chosen[b], assume_unique=True).mean().item() for b in methods]
        for a in methods
    ]


def _full_flops(selection: Selection, result: Mapping[str, Any]) -> float:
    """Training a model on the whole pool once: per token, times the pool's tokens."""
    per_token = result["flops_train"] / max(1, sum(result["realised_tokens"].values()))
    return float(per_token * (selection.pool.n_tokens + selection.pool.n_documents))


def _selector_params(
    selection: Selection, cells: Sequence[Cell], method: str, base: Mapping[str, PlannedRun]
) -> float | None:
    if method not in ("perplexity", "gradient"):
        return None
    for run in [*base.values(), *(c.run for c in cells if c.model == selection.selector)]:
        if run.scale == selection.selector:
            result = result_of(selection.workspace, run)
            if result is not None:
                return float(result["n_params"])
    return None
