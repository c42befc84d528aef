"""What the figures about somebody's own runs show, without a pixel.

All of it is read from the answer of `mixture propose`, the JSON that `--out` writes.

Units: weights of 1; the objective and the metrics in their own unit, lower is better.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Answer = Mapping[str, Any]


@dataclass(frozen=True)
class RunPoint:
    """One run's objective, as measured and as predicted from other runs alone."""

    run: str
    measured: float
    predicted: float


@dataclass(frozen=True)
class PredictedRuns:
    """Predictions beside what was measured."""

    held_out: tuple[RunPoint, ...]
    objective: str
    spearman: float | None
    r2: float | None
    noise_sd: float  # of one run


@dataclass(frozen=True)
class WeightRange:
    """One domain's proposed weight with what it is compared with."""

    domain: str
    weight: float
    low: float  # 90 % interval
    high: float
    natural: float
    bare: float  # the fit's own optimum under the same bounds


@dataclass(frozen=True)
class WeightRanges:
    """Proposed weights, largest first."""

    rows: tuple[WeightRange, ...]


@dataclass(frozen=True)
class Effects:
    """What moving 0.01 of weight from natural to a domain does to each metric."""

    domains: tuple[str, ...]  # what lowers the objective most comes first
    metrics: tuple[str, ...]
    change: tuple[tuple[float, ...], ...]  # (domains, metrics), below 0: better


@dataclass(frozen=True)
class PriceBar:
    """What one bound costs."""

    domain: str  # "" for a group
    bound: str  # ': cap, at 30 %', or the group's name, which says its bound itself
    per_percent: float  # the objective, for 0.01 of weight


@dataclass(frozen=True)
class PriceBars:
    """What the bounds cost, the dearest first."""

    bars: tuple[PriceBar, ...]
    objective: str


SwarmFigure = PredictedRuns | WeightRanges | Effects | PriceBars


def predicted_runs(answer: Answer) -> PredictedRuns:
    """Figure 'predicted': every run as predicted without it."""
    points = [
        RunPoint(run, found["measured"], found["predicted"])
        for run, found in sorted(answer["runs"].items())
    ]
    score = answer["held_out"]
    return PredictedRuns(
        held_out=tuple(points),
        objective=objective_name(answer),
        spearman=score["spearman"],
        r2=score["r2"],
        noise_sd=answer["noise_sd"],
    )


def weight_ranges(answer: Answer) -> WeightRanges:
    """Figure 'weights'."""
    natural, bare = answer["mixtures"]["natural"], answer["mixtures"]["bare"]
    by_weight = sorted(answer["weights"].items(), key=lambda item: (-item[1], item[0]))
    rows = []
    for domain, weight in by_weight:
        low, high = answer["interval"][domain]
        rows.append(WeightRange(domain, weight, low, high, natural[domain], bare[domain]))
    return WeightRanges(tuple(rows))


def effects(answer: Answer) -> Effects | None:
    """Figure 'effects'; None where no law sees any effect.

    A metric without an effect keeps its column: that nothing moves it is an answer too.
    """
    by_metric, shares = answer["effects"], answer["objective"]
    metrics = tuple(sorted(by_metric))
    on_objective = {
        domain: math.fsum(shares[m] * by_metric[m][domain] for m in metrics)
        for domain in answer["weights"]
    }
    domains = tuple(sorted(on_objective, key=lambda name: (on_objective[name], name)))
    change = tuple(tuple(by_metric[m][domain] for m in metrics) for domain in domains)
    if not any(x for row in change for x in row):
        return None
    return Effects(domains, metrics, change)


def price_bars(answer: Answer) -> PriceBars | None:
    """Figure 'prices'; None where no bound holds the weights back."""
    bars = [
        PriceBar(price["domain"], _bound(price), price["per_percent"])
        for price in sorted(
            answer["prices"], key=lambda p: (-p["per_percent"], p["what"], p["domain"])
        )
    ]
    return PriceBars(tuple(bars), objective_name(answer)) if bars else None


def _bound(price: Mapping[str, Any]) -> str:
    if not price["domain"]:
        return str(price["what"])
    bound = price["bound"]
    share = "under 0.1 %" if 0 < bound < 0.001 else f"{100 * bound:.3g} %"
    return f": {price['what']}, at {share}"


def objective_name(answer: Answer) -> str:
    """The metric, or how many are weighed together."""
    names = [name for name, share in answer["objective"].items() if share > 0]
    return names[0] if len(names) == 1 else f"weighted mean of {len(names)} metrics"


SWARM_FIGURES: dict[str, Callable[[Answer], SwarmFigure | None]] = {
    "predicted": predicted_runs,
    "weights": weight_ranges,
    "effects": effects,
    "prices": price_bars,
}

NOTHING_TO_SHOW = {
    "effects": "the laws see no effect of any domain",
    "prices": "no bound holds the weights back",
}
