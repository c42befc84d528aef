"""Every dearer method beside every cheaper one: from which budget, and from which ratio, it pays.

Source:
    Yin and Rush, arXiv:2410.16208, sections 5 and 6; see `break_even`.

Units:
    FLOPs; ratios of trained to selector parameters.

Differs from the source:
    From measured points, with intervals: from draws of curves by share that begin and end alike
    (see `shared_ends`). Curves of each method by itself differ before training, where all are one
    model, and a ratio can be had from that alone.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mixture_assets.selection.break_even import break_even_ratio, overtaking_budget
from mixture_assets.selection.points import Point, at_one_cost, by_method, without_seeds
from mixture_assets.selection.shared_ends import fit_shared_ends
from mixture_assets.selection.utility import UtilityCurve

RATIO_BUDGET = 0.5  # of training on the whole pool: the ratios' budget, unless another is asked
_DRAWS = 2100
_EVERY = 7  # draw is taken; without a factor of the 20 chains that draw in turn
_FREE = 1e-3  # of C_full: rounding
_SAME = 1e-3
Interval = tuple[float, float]
Curves = Sequence[UtilityCurve]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A dearer method and a cheaper one; infinite where the dearer never pays."""

    costly: str
    cheap: str
    budget_flops: float  # in all, from which the dearer method is as good: median
    budget_interval: Interval  # 90 %
    chance: float  # of the draws in which there is such a budget
    ratio: float | None  # least one at which the dearer method pays; None: the cheaper costs, too
    ratio_interval: Interval | None
    ratio_chance: float | None  # of the draws in which there is such a ratio
    ratio_budget: float  # at which it pays, in multiples of C_full
    ratio_now: float | None  # of these points; None where sizes are not known, and 1 is taken


def break_even_pairs(
    points: Sequence[Point], *, budget: float = RATIO_BUDGET, seed: int = 0
) -> list[Pair]:
    """All pairs of methods of which one costs more to select with.

    Args:
        points: Of models of one size.
        budget: For the ratios, in multiples of training on the whole pool.
        seed: The same seed gives the same intervals.
    """
    groups = by_method(points)
    starts = {method: min(p.start for p in own) for method, own in groups.items()}
    pairs = [(a, b) for a in groups for b in groups if starts[a] > starts[b] + _FREE]
    if not pairs:
        return []
    curves = _curves(points, seed)
    full = groups[next(iter(groups))][0].full_flops
    return [
        _pair(
            (a, b),
            (curves[a], curves[b]),
            (starts[a], starts[b]),
            _ratio_now(groups[a]),
            full,
            budget,
        )
        for a, b in pairs
    ]


def _curves(points: Sequence[Point], seed: int) -> dict[str, Curves]:
    """Draws of each method's performance by share, together."""
    by_share: dict[str, tuple[list[float], list[float]]] = {p.method: ([], []) for p in points}
    for p in _once(at_one_cost(without_seeds(points)[0])):
        by_share[p.method][0].append(p.trained_share)
        by_share[p.method][1].append(p.performance)
    found = fit_shared_ends(by_share, draws=_DRAWS, seed=seed)
    return {method: d.curves(_DRAWS)[::_EVERY] for method, d in found.draws.items()}


def _once(points: Sequence[Point]) -> list[Point]:
    """Training on the whole pool is one run, whatever methods it is listed under.

    Counted for each it would be taken for repeats, and the common end for better known.
    """
    found: dict[object, Point] = {}
    for i, p in enumerate(points):
        is_whole = abs(p.trained_share - 1) <= _SAME
        found.setdefault((p.seed, p.performance) if is_whole else i, p)
    return list(found.values())


def _pair(
    names: tuple[str, str],
    curves: tuple[Curves, Curves],
    starts: tuple[float, float],
    ratio_now: float | None,
    full_flops: float,
    budget: float,
) -> Pair:
    drawn = list(zip(*curves, strict=True))
    budgets = [
        overtaking_budget(a.moved(starts[0]), b.moved(starts[1])) * full_flops for a, b in drawn
    ]
    ratios = None
    if starts[1] <= _FREE:
        selection = starts[0] * (ratio_now or 1.0)
        ratios = [break_even_ratio(a, b, selection=selection, budget=budget) for a, b in drawn]
    return Pair(
        costly=names[0],
        cheap=names[1],
        budget_flops=_median(budgets),
        budget_interval=_interval(budgets),
        chance=_finite(budgets),
        ratio=None if ratios is None else _median(ratios),
        ratio_interval=None if ratios is None else _interval(ratios),
        ratio_chance=None if ratios is None else _finite(ratios),
        ratio_budget=budget,
        ratio_now=ratio_now,
    )


def _ratio_now(points: Sequence[Point]) -> float | None:
    """Of trained to selector parameters; None where points do not say, or disagree."""
    ratios = {
        p.train_params / p.selector_params if p.train_params and p.selector_params else None
        for p in points
    }
    return ratios.pop() if len(ratios) == 1 else None


def _finite(values: Sequence[float]) -> float:
    return sum(map(math.isfinite, values)) / len(values)


def _median(values: Sequence[float]) -> float:
    """Of an even number the larger of the middle two: it may be infinite."""
    return sorted(values)[len(values) // 2]


def _interval(values: Sequence[float]) -> Interval:
    """The middle 90 %; numpy's percentiles cannot have infinite values in them."""
    ordered = sorted(values)
    last = len(ordered) - 1
    return ordered[math.floor(0.05 * last)], ordered[math.ceil(0.95 * last)]
