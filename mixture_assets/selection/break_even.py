"""From which budget, and from which model size on, does a costly selector pay for itself?

Source:
    Yin and Rush, arXiv:2410.16208, figure 1 and section 6: a method with a fixed cost S and a
    rate r per token overtakes a cheaper one at

        C = (r_m S_m - r_b S_b) / (r_m - r_b)

    where both have the same zero, ceiling and cost per token.

Units:
    Costs and budgets in any one unit in the closed form; in multiples of C_full (training on the
    whole pool once) for fitted curves. Ratios are parameters of the trained model over those of
    the selector.

Differs from the source:
    The source's ratios (5 for perplexity, 10 for gradients) are read off figures. Here they
    follow from two fitted curves: the least ratio at which the costly method does as well as the
    cheap one at some budget that the pool can still absorb.
"""

import itertools
import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq

from mixture_assets.core.errors import MixtureError
from mixture_assets.methods.swarm import Array
from mixture_assets.selection.utility import UtilityCurve

_BUDGETS = 1000  # looked at for a ratio
_LEAST_MARGIN = 1e-3  # of C_full left for selection; less is rounding, and no ratio is enough


@dataclass(frozen=True, kw_only=True)
class Crossing:
    """A budget at which two methods do equally well."""

    budget: float  # in multiples of C_full
    performance: float
    is_within_pool: bool  # whether the costly method still has documents left to train on


def break_even_budget(
    rate: float, selection: float, cheap_rate: float, cheap_selection: float = 0.0
) -> float:
    """The total budget beyond which the costlier method wins; infinite where it never does.

    Args:
        rate: Of the costlier method, per token or per FLOP.
        selection: What it costs before training.
        cheap_rate: Of the cheaper method, in the same unit.
        cheap_selection: What that costs.
    """
    if min(rate, cheap_rate, selection, cheap_selection) < 0:
        raise MixtureError("rates and costs of selection must be 0 or more")
    if selection < cheap_selection:
        raise MixtureError(
            f"the costlier method costs {selection:.4g}, less than {cheap_selection:.4g}",
            hint="name the costlier method first",
        )
    if rate <= cheap_rate:
        return math.inf
    return (rate * selection - cheap_rate * cheap_selection) / (rate - cheap_rate)


def crossings(costly: UtilityCurve, cheap: UtilityCurve) -> list[Crossing]:
    """Budgets from which on the costly method is the better one, cheapest first.

    Two such curves differ by a function with one turning point, so there are two crossings at
    most, and one at most upwards on each side of it. Budgets below the cost of either selection
    are left out, and those at which the cheap method has trained on the whole pool.
    """
    lowest, highest = max(costly.start, cheap.start), cheap.start + 1.0
    if lowest >= highest:
        return []

    def gap(budget: float) -> float:
        return costly.value(budget) - cheap.value(budget)

    turn = _turning_point(costly, cheap)
    ends = [lowest, *([turn] if lowest < turn < highest else []), highest]
    found = []
    for a, b in itertools.pairwise(ends):
        if gap(a) < 0 <= gap(b):
            budget = float(brentq(gap, a, b, xtol=1e-14, rtol=1e-12))
            is_within = budget <= costly.start + 1.0
            found.append(
                Crossing(budget=budget, performance=cheap.value(budget), is_within_pool=is_within)
            )
    return found


def overtaking_budget(costly: UtilityCurve, cheap: UtilityCurve) -> float:
    """The least budget, in multiples of C_full, at which the costly method is as good.

    Infinite where it never is before the cheap one has trained on the whole pool.
    """
    lowest = max(costly.start, cheap.start)
    if lowest >= cheap.start + 1.0:
        return math.inf
    if costly.value(lowest) >= cheap.value(lowest):
        return lowest
    found = crossings(costly, cheap)
    return found[0].budget if found else math.inf


def _turning_point(costly: UtilityCurve, cheap: UtilityCurve) -> float:
    """Where the slopes are equal; NaN where they never are."""
    slopes = [(c.ceiling - c.zero) * c.rate for c in (costly, cheap)]
    if min(slopes) <= 0 or costly.rate == cheap.rate:
        return math.nan
    offset = math.log(slopes[0] / slopes[1]) + costly.rate * costly.start - cheap.rate * cheap.start
    return offset / (costly.rate - cheap.rate)


def break_even_ratio(
    costly: UtilityCurve, cheap: UtilityCurve, *, selection: float, budget: float | None = None
) -> float:
    """The least ratio of trained to selector parameters at which the costly method pays.

    Curves of what is learned from data: they begin where selection is paid for, so their own
    `start` does not matter. The costly method needs the share s of the pool at which it does as
    well as the cheap one with the whole budget C; what is left over, C - s, may be spent on
    selection, which costs `selection` at a ratio of 1 and falls in proportion.

    Args:
        costly: Of the method whose selection costs.
        cheap: Of one whose selection is free.
        selection: Of the costly method in multiples of C_full, were the selector as large as the
            trained model: 1/3 for perplexity, 1.8 for LESS as measured.
        budget: In multiples of C_full; by default the best one for the costly method.

    Returns:
        Infinite where no ratio is enough: less than a thousandth of C_full is left.
    """
    if selection < 0 or (budget is not None and not 0 < budget <= 1):
        raise MixtureError(
            "selection must cost 0 or more, and a budget be above 0 and at most 1",
            hint="both are multiples of training on the whole pool",
        )
    budgets = np.linspace(0, 1, _BUDGETS + 1)[1:] if budget is None else np.array([budget])
    best = float(np.max(budgets - _shares(costly, _performance(cheap, budgets))))
    return selection / best if best >= _LEAST_MARGIN else math.inf


def _performance(curve: UtilityCurve, share: Array) -> Array:
    rise = curve.ceiling - curve.zero
    return np.asarray(curve.zero - rise * np.expm1(-curve.rate * share))


def _shares(curve: UtilityCurve, performance: Array) -> Array:
    """What share of the pool a performance takes; infinite where none is enough."""
    if curve.rate <= 0 or curve.ceiling <= curve.zero:
        return np.where(performance <= curve.zero, 0.0, np.inf)
    missing = (curve.ceiling - performance) / (curve.ceiling - curve.zero)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(missing > 0, -np.log(missing) / curve.rate, np.inf)
    return np.asarray(np.maximum(share, 0.0))
