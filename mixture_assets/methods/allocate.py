"""Hand out a token budget over domains whose loss curves are known, exactly.

Source:
    Kang et al., arXiv:2407.20177, the surrogate of DDO (the authors' DDO_example.ipynb).

Shapes:
    D = domains, sorted by name.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from mixture_assets.core.errors import MixtureError, shortlist
from mixture_assets.methods.waterfill import PowerGain, level

FloatArray = NDArray[np.float64]
_ROUNDING = 1e-12  # of the total


def allocate(
    curves: Mapping[str, tuple[float, float] | None],
    *,
    total: float,
    floor: float | Mapping[str, float] = 0.0,
    cap: float | Mapping[str, float] = float("inf"),
) -> dict[str, float]:
    """Split `total` so that sum_i (n_i + a_i)^-b_i is least, floor_i <= n_i <= cap_i.

    The problem is convex and separable, so at the optimum every domain strictly between its
    bounds has the same marginal gain g (water-filling):

        b (n + a)^-(b + 1) = g,  hence  n(g) = clip((b / g)^(1 / (b + 1)) - a, floor, cap),

    and one root search for the g at which the amounts add up to `total` solves it.

    Args:
        curves: (a, b) by domain, a > -floor; None for a domain that does not gain by growing.
            Those sit at their floor, and share what is left only when all others are full.
        total: Amount to hand out, in the unit of the curves' x.
        floor: Least amount, one for all domains or by domain, same unit.
        cap: Largest amount, likewise.

    Returns:
        Amounts by domain, in the same unit, summing to `total`.

    Differs from the source:
        The notebook takes 10,000 gradient steps and pins a domain to its floor by hand when it
        goes below. This returns the point that those steps approach (they agree to 5e-9).
    """
    names = sorted(curves)
    floor_D, cap_D = _by_domain("floor", floor, names), _by_domain("cap", cap, names)
    _check_bounds(names, floor_D, cap_D, total)
    cap_D = np.minimum(cap_D, total)
    found = [curves[name] for name in names]
    rising_D = np.array([curve is not None for curve in found])
    ab_D2 = np.array([curve or (1.0, 1.0) for curve in found])
    amount_D = np.array(floor_D)
    reach = float(floor_D[~rising_D].sum() + cap_D[rising_D].sum())
    if reach < total:  # the curves' domains are full (or there are none): the rest shares
        amount_D[rising_D] = cap_D[rising_D]
        rest = total - float(amount_D[rising_D].sum())
        amount_D[~rising_D] = _level(floor_D[~rising_D], cap_D[~rising_D], rest)
    else:
        rest = total - float(floor_D[~rising_D].sum())
        a_D, b_D = ab_D2[rising_D].T
        gain = PowerGain(k=b_D, p=b_D + 1, a=a_D)  # what a curve (n + a)^-b falls by
        amount_D[rising_D] = level(gain, floor_D[rising_D], cap_D[rising_D], rest)
    return dict(zip(names, amount_D.tolist(), strict=True))


def _level(floor_D: FloatArray, cap_D: FloatArray, total: float) -> FloatArray:
    """One amount for all, clipped to the bounds, so that the sum is `total`."""
    breaks = np.sort(np.concatenate([floor_D, cap_D]))
    totals = [float(np.clip(level, floor_D, cap_D).sum()) for level in breaks]
    amount_D: FloatArray = np.clip(np.interp(total, totals, breaks), floor_D, cap_D)
    return amount_D


def _by_domain(what: str, bound: float | Mapping[str, float], names: list[str]) -> FloatArray:
    if not isinstance(bound, Mapping):
        return np.full(len(names), float(bound))
    if set(bound) != set(names):
        raise MixtureError(
            f"the {what}s and the curves disagree on domains: "
            f"{shortlist(set(bound) ^ set(names))} in only one of them"
        )
    return np.array([float(bound[name]) for name in names])


def _check_bounds(names: list[str], floor_D: FloatArray, cap_D: FloatArray, total: float) -> None:
    crossed = [n for n, lo, hi in zip(names, floor_D, cap_D, strict=True) if not lo <= hi]
    if crossed:
        raise MixtureError(
            f"the floor is above the cap for {shortlist(crossed)}",
            hint="lower `floor` or raise `cap`",
        )
    if floor_D.sum() > total * (1 + _ROUNDING):
        raise MixtureError(
            f"the floors of {len(names)} domains need {floor_D.sum():.4g}, "
            f"more than the total of {total:.4g}",
            hint="lower `floor`",
        )
    if cap_D.sum() < total * (1 - _ROUNDING):
        raise MixtureError(
            f"the caps of {len(names)} domains leave room for {cap_D.sum():.4g}, "
            f"less than the total of {total:.4g}",
            hint="raise `cap`",
        )
