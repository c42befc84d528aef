"""What the figures show, without a pixel: plain data from the rows of a report.

Units: tokens; loss in nats per token; objectives in their own unit, lower is better; factors in
multiples of a domain's tokens in the base run.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from mixture_assets.report.pull import ReportData, Row
from mixture_assets.report.trend import WeightTrend, weights_over_proposals

Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class WeightBar:
    """One domain's share of the training tokens."""

    domain: str
    weight: float
    low: float | None  # 90 % interval
    high: float | None
    natural: float
    uniform: float


@dataclass(frozen=True)
class WeightBars:
    """Proposed weights beside natural and uniform, largest first."""

    bars: tuple[WeightBar, ...]


@dataclass(frozen=True)
class ScalePoint:
    """A weight at one budget."""

    tokens: float  # of the whole run
    weight: float
    is_measured: bool  # the optimum of proxy runs at this budget, not carried on to it


@dataclass(frozen=True)
class ScaleLine:
    """One domain's weight as the budget grows."""

    domain: str
    points: tuple[ScalePoint, ...]


@dataclass(frozen=True)
class WeightsOverScale:
    """Optimum by scale, then the proposal."""

    lines: tuple[ScaleLine, ...]
    measured_until_tokens: float


@dataclass(frozen=True)
class RunLines:
    """One mixture along training."""

    mixture: str
    seeds: tuple[Points, ...]  # (tokens, value) of each run
    mean: Points  # over seeds, where all of them were evaluated


@dataclass(frozen=True)
class LossPanel:
    """One domain's validation loss along training."""

    domain: str
    lines: tuple[RunLines, ...]


@dataclass(frozen=True)
class LossCurves:
    """A panel for each domain, the same mixtures in all."""

    panels: tuple[LossPanel, ...]
    mixtures: tuple[str, ...]


@dataclass(frozen=True)
class Target:
    """A baseline's final objective, and where the proposal gets there."""

    baseline: str
    value: float
    reached_tokens: float | None  # None: never
    speed_up: float | None


@dataclass(frozen=True)
class ObjectiveCurves:
    """The objective of the full runs along training."""

    name: str
    is_perplexity: bool
    lines: tuple[RunLines, ...]
    targets: tuple[Target, ...]


@dataclass(frozen=True)
class ScaleFit:
    """One domain's curve at one scale: y = (x + a)^-b + c."""

    scale: str
    points: Points  # (factor, objective over the base runs' mean) of every run, seeds apart
    curve: tuple[float, float, float] | None  # a, b, c; None where more did not help
    optimum: float

    def value(self, factor: float) -> float | None:
        """The curve at a factor, where it is defined."""
        if self.curve is None or factor + self.curve[0] <= 0:
            return None
        a, b, c = self.curve
        return float((factor + a) ** -b + c)

    def sample(self, low: float, high: float, n: int = 60) -> Points:
        """Points of the curve, evenly spread over log factor."""
        step = math.log(high / low) / (n - 1)
        xs = [low * math.exp(i * step) for i in range(n)]
        return tuple((x, y) for x in xs if (y := self.value(x)) is not None)


@dataclass(frozen=True)
class DDOPanel:
    """One domain's curves at all scales."""

    domain: str
    fits: tuple[ScaleFit, ...]


@dataclass(frozen=True)
class DDOCurves:
    """A panel for each domain, the same scales in all."""

    panels: tuple[DDOPanel, ...]
    scales: tuple[str, ...]  # smallest first


FigureData = WeightBars | WeightsOverScale | LossCurves | ObjectiveCurves | DDOCurves | WeightTrend


def weight_bars(data: ReportData) -> WeightBars | None:
    """Figure 'weights'."""
    bars = [
        WeightBar(
            domain=w["domain"],
            weight=w["weight"],
            low=w["weight_low"],
            high=w["weight_high"],
            natural=w["natural_weight"],
            uniform=w["uniform_weight"],
        )
        for w in data.weights
    ]
    return WeightBars(tuple(bars)) if bars else None


def weights_over_scale(data: ReportData) -> WeightsOverScale | None:
    """Figure 'weights_over_scale'; None for a proposal without fits."""
    optima: dict[str, dict[str, float]] = {}  # scale -> domain -> best tokens
    base_tokens: dict[str, float] = {}
    for fit in data.fits:
        optima.setdefault(fit["scale"], {})[fit["domain"]] = fit["optimum"] * fit["base_tokens"]
        base_tokens[fit["scale"]] = base_tokens.get(fit["scale"], 0.0) + fit["base_tokens"]
    if not optima:
        return None
    until, budget = max(base_tokens.values()), float(data.proposal["budget_tokens"])
    lines = []
    for w in data.weights:
        domain = w["domain"]
        points = [
            ScalePoint(base_tokens[scale], best[domain] / math.fsum(best.values()), True)
            for scale, best in optima.items()
            if domain in best
        ]
        # A budget that was measured still need not have the measured weights: caps apply.
        points.append(ScalePoint(budget, w["weight"], False))
        lines.append(ScaleLine(domain, tuple(sorted(points, key=lambda p: p.tokens))))
    return WeightsOverScale(tuple(lines), until)


def loss_curves(data: ReportData) -> LossCurves | None:
    """Figure 'loss_curves'; None while no full run is done."""
    losses: dict[str, dict[str, list[Points]]] = {}  # domain -> mixture -> seeds
    for run in data.full_runs:
        by_domain: dict[str, list[tuple[float, float]]] = {}
        for e in data.evaluations.get(run["run_id"], ()):
            by_domain.setdefault(e["domain"], []).append((float(e["tokens"]), e["loss_nats"]))
        for domain, points in by_domain.items():
            of_domain = losses.setdefault(domain, {})
            of_domain.setdefault(run["mixture_name"], []).append(tuple(points))
    if not losses:
        return None
    panels = [
        LossPanel(domain, tuple(run_lines(name, seeds) for name, seeds in losses[domain].items()))
        for domain in sorted(losses)
    ]
    return LossCurves(tuple(panels), tuple(data.curves))


def objective_curves(data: ReportData) -> ObjectiveCurves | None:
    """Figure 'objective_curves'; None while no full run is done."""
    if not data.curves:
        return None
    lines = [
        run_lines(name, [tuple((float(t), y) for t, y in curve) for curve in by_seed.values()])
        for name, by_seed in data.curves.items()
    ]
    targets = [
        Target(
            baseline=c.baseline,
            value=c.baseline_value,
            reached_tokens=_reached(c.speed_up, data),
            speed_up=c.speed_up,
        )
        for c in data.comparisons
    ]
    return ObjectiveCurves(
        name=data.objective.name,
        is_perplexity=data.objective.metric == "perplexity",
        lines=tuple(lines),
        targets=tuple(targets),
    )


def _reached(speed_up: float | None, data: ReportData) -> float | None:
    return None if speed_up is None else (1 - speed_up) * float(data.proposal["budget_tokens"])


def run_lines(mixture: str, seeds: Sequence[Points]) -> RunLines:
    """Runs of one mixture, with their mean at the token counts that all of them have."""
    by_tokens = [dict(points) for points in seeds]
    shared = sorted(set.intersection(*(set(each) for each in by_tokens)))
    mean = tuple((t, math.fsum(each[t] for each in by_tokens) / len(by_tokens)) for t in shared)
    return RunLines(mixture, tuple(seeds), mean)


def ddo_curves(data: ReportData) -> DDOCurves | None:
    """Figure 'ddo_curves'; None for a proposal without fits."""
    panels: dict[str, list[ScaleFit]] = {}
    for fit in data.fits:
        panels.setdefault(fit["domain"], []).append(_scale_fit(data, fit))
    if not panels:
        return None
    scales = dict.fromkeys(fit["scale"] for fit in data.fits)
    return DDOCurves(tuple(DDOPanel(d, tuple(panels[d])) for d in sorted(panels)), tuple(scales))


def _scale_fit(data: ReportData, fit: Row) -> ScaleFit:
    tokens = {run["run_id"]: run["tokens"] for run in data.proxy_runs}
    points = []
    for run_id in data.fit_runs.get(fit["fit_id"], ()):
        value = data.value(run_id)
        if value is not None and fit["domain"] in tokens.get(run_id, {}):
            points.append((tokens[run_id][fit["domain"]] / fit["base_tokens"], value))
    base = [y for x, y in points if math.isclose(x, 1.0, rel_tol=1e-6)]
    unit = math.fsum(base) / len(base) if base else math.nan
    known = None not in (fit["a"], fit["b"], fit["c"])
    return ScaleFit(
        scale=fit["scale"],
        points=tuple(sorted((x, y / unit) for x, y in points)) if base else (),
        curve=(fit["a"], fit["b"], fit["c"]) if known else None,
        optimum=fit["optimum"],
    )


FIGURES: dict[str, Callable[[ReportData], FigureData | None]] = {
    "weights": weight_bars,
    "weights_over_scale": weights_over_scale,
    "weights_over_proposals": weights_over_proposals,
    "ddo_curves": ddo_curves,
    "objective_curves": objective_curves,
    "loss_curves": loss_curves,
}


def spread(positions: Iterable[float], gap: float) -> list[float]:
    """Move labels apart, as little as is needed, until neighbours are `gap` from each other.

    Labels that are too close form a group around the mean of where they belong; groups that
    then touch are joined, so the order never changes.
    """
    wanted = list(positions)
    order = sorted(range(len(wanted)), key=lambda i: (wanted[i], i))
    groups: list[tuple[float, list[int]]] = []  # (centre, members in order)
    for i in order:
        groups.append((wanted[i], [i]))
        while len(groups) > 1 and _touch(groups[-2], groups[-1], gap):
            members = groups[-2][1] + groups[-1][1]
            centre = math.fsum(wanted[m] for m in members) / len(members)
            groups[-2:] = [(centre, members)]
    placed = [0.0] * len(wanted)
    for centre, members in groups:
        for k, member in enumerate(members):
            placed[member] = centre + (k - (len(members) - 1) / 2) * gap
    return placed


def _touch(a: tuple[float, list[int]], b: tuple[float, list[int]], gap: float) -> bool:
    top, bottom = a[0] + (len(a[1]) - 1) / 2 * gap, b[0] - (len(b[1]) - 1) / 2 * gap
    return bottom - top < gap * (1 - 1e-9)
