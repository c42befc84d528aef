"""Every dearer method beside every cheaper one: from which budget, and from which ratio, it pays.

Source:
    Yin and Rush, arXiv:2410.16208, sections 5 and 6; see `break_even`.

Units:
    FLOPs; ratios of trained to selector parameters.

Differs from the source:
    From measured points, with intervals: see `points.fits_of_utility`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mixture_assets.selection.break_even import break_even_ratio, overtaking_budget
from mixture_assets.selection.curve_draws import UtilityFit
from mixture_assets.selection.points import Point, by_method, fits_of_utility

_DRAWS = 200
_FREE = 1e-3  # of C_full: rounding
Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A dearer method and a cheaper one; infinite where the dearer never pays."""

    costly: str
    cheap: str
    budget_flops: float  # in all, from which the dearer method is as good
    budget_interval: Interval  # 90 %
    chance: float  # of the draws in which there is such a budget
    ratio: float | None  # least one at which the dearer method pays; None: the cheaper costs, too
    ratio_interval: Interval | None
    ratio_now: float | None  # of these points; None where sizes are not known, and 1 is taken


def break_even_pairs(
    points: Sequence[Point], *, budget: float | None = None, seed: int = 0
) -> list[Pair]:
    """All pairs of methods of which one costs more to select with.

    Args:
        points: Of models of one size.
        budget: For the ratios, in multiples of training on the whole pool; by default the one
            that suits the dearer method best.
        seed: The same seed gives the same intervals.
    """
    fits, groups = fits_of_utility(points, seed=seed), by_method(points)
    full = groups[next(iter(groups))][0].full_flops
    starts = {method: fit.curve.start for method, fit in fits.items()}
    return [
        _pair(
            (costly, cheap), (fits[costly], fits[cheap]), _ratio_now(groups[costly]), full, budget
        )
        for costly in fits
        for cheap in fits
        if starts[costly] > starts[cheap] + _FREE
    ]


def _pair(
    names: tuple[str, str],
    fits: tuple[UtilityFit, UtilityFit],
    ratio_now: float | None,
    full_flops: float,
    budget: float | None,
) -> Pair:
    costly, cheap = fits
    selection = costly.curve.start * (ratio_now or 1.0)
    drawn = list(zip(costly.draws.curves(_DRAWS), cheap.draws.curves(_DRAWS), strict=True))
    budgets = [overtaking_budget(a, b) * full_flops for a, b in drawn]
    ratio, ratio_interval = None, None
    if cheap.curve.start <= _FREE:
        ratio = break_even_ratio(costly.curve, cheap.curve, selection=selection, budget=budget)
        ratio_interval = _interval(
            [break_even_ratio(a, b, selection=selection, budget=budget) for a, b in drawn]
        )
    return Pair(
        costly=names[0],
        cheap=names[1],
        budget_flops=overtaking_budget(costly.curve, cheap.curve) * full_flops,
        budget_interval=_interval(budgets),
        chance=sum(map(math.isfinite, budgets)) / len(budgets),
        ratio=ratio,
        ratio_interval=ratio_interval,
        ratio_now=ratio_now,
    )


def _ratio_now(points: Sequence[Point]) -> float | None:
    """Of trained to selector parameters; None where points do not say, or disagree."""
    ratios = {
        p.train_params / p.selector_params if p.train_params and p.selector_params else None
        for p in points
    }
    return ratios.pop() if len(ratios) == 1 else None


def _interval(values: Sequence[float]) -> Interval:
    """The middle 90 %; numpy's percentiles cannot have infinite values in them."""
    ordered = sorted(values)
    last = len(ordered) - 1
    return ordered[math.floor(0.05 * last)], ordered[math.ceil(0.95 * last)]
