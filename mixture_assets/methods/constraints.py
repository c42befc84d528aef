"""Bring a mixture within epoch caps and a least weight, changing it as little as possible."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from mixture_assets.core.errors import MixtureError, shortlist
from mixture_assets.core.mixture import Mixture
from mixture_assets.core.problem import Problem
from mixture_assets.core.units import tokens_text

_ROUNDING = 1e-12
_TINY = 1e-15  # weights below it count as 0


def constrain(mixture: Mixture, problem: Problem) -> tuple[Mixture, list[str]]:
    """Apply the problem's epoch cap and floor; return the mixture and the capped domains."""
    return cap_epochs(
        mixture,
        available_tokens=problem.available_tokens,
        budget_tokens=problem.budget_tokens,
        max_epochs=problem.constraints.max_epochs,
        floor=problem.constraints.floor,
    )


def cap_epochs(
    mixture: Mixture,
    *,
    available_tokens: Mapping[str, float],
    budget_tokens: float,
    max_epochs: float,
    floor: float = 0.0,
) -> tuple[Mixture, list[str]]:
    """Lower every weight to max_epochs * available / budget or less, and spread the excess.

    What a capped domain gives up goes to the others in proportion to their weights, again and
    again until no cap is broken. That fixed point is w_i = clip(s * w_i, floor, cap_i) with the
    one factor s at which the weights sum to 1; s is solved for directly, because the sum is
    piecewise linear in s.

    Args:
        mixture: Weights as a method would choose them.
        available_tokens: One pass over each domain.
        budget_tokens: Length of the full run.
        max_epochs: Passes allowed over any domain.
        floor: Least weight of any domain.

    Returns:
        The mixture, untouched where nothing binds, and the domains that sit at their cap.
    """
    mixture.check_domains(available_tokens)
    names = list(mixture)
    weight_D = np.array([mixture[name] for name in names])
    cap_D = np.array([max_epochs * available_tokens[n] / budget_tokens for n in names])
    _check_room(names, cap_D, available_tokens, budget_tokens, max_epochs, floor)
    cap_D = np.minimum(cap_D, 1.0)
    if (weight_D < floor - _ROUNDING).any() or (weight_D > cap_D + _ROUNDING).any():
        weight_D = _clipped(weight_D, floor, cap_D)
        mixture = Mixture.proportional_to(dict(zip(names, weight_D.tolist(), strict=True)))
    at_cap_D = (cap_D < 1) & (weight_D >= cap_D * (1 - 1e-9)) & (weight_D > 0)
    return mixture, [name for name, is_capped in zip(names, at_cap_D, strict=True) if is_capped]


def _clipped(
    weight_D: NDArray[np.float64], floor: float, cap_D: NDArray[np.float64]
) -> NDArray[np.float64]:
    """clip(s * weight, floor, cap) with the s at which it sums to 1."""
    weight_D = np.where(weight_D < _TINY, 0.0, weight_D)
    full = np.where(weight_D > 0, cap_D, floor).sum()
    if full < 1:  # weight 0 takes part only when all others are full, by room
        weight_D = np.where(weight_D > 0, weight_D, _TINY * cap_D)
    positive = weight_D > 0
    breaks = np.sort(
        np.concatenate([floor / weight_D[positive], cap_D[positive] / weight_D[positive]])
    )
    totals = [float(np.clip(s * weight_D, floor, cap_D).sum()) for s in breaks]
    factor = np.interp(1.0, totals, breaks)
    clipped: NDArray[np.float64] = np.clip(factor * weight_D, floor, cap_D)
    return clipped


def _check_room(
    names: list[str],
    cap_D: NDArray[np.float64],
    available_tokens: Mapping[str, float],
    budget_tokens: float,
    max_epochs: float,
    floor: float,
) -> None:
    if cap_D.sum() < 1 - _ROUNDING:
        has = sum(available_tokens[name] for name in names)
        raise MixtureError(
            f"a budget of {tokens_text(budget_tokens)} tokens would read every domain more than "
            f"{max_epochs:g} times: all domains together have {tokens_text(has)}",
            hint="lower [full] budget_tokens, raise [constraints] max_epochs, or add data",
        )
    if floor * len(names) > 1 + _ROUNDING:
        raise MixtureError(
            f"a least weight of {floor:g} for {len(names)} domains needs {floor * len(names):.4g} "
            "of 1",
            hint="lower [constraints] floor",
        )
    scarce = [n for n, cap in zip(names, cap_D, strict=True) if cap < floor - _ROUNDING]
    if scarce:
        raise MixtureError(
            f"a least weight of {floor:g} would read {shortlist(scarce)} more than "
            f"{max_epochs:g} times at {tokens_text(budget_tokens)} tokens",
            hint="lower [constraints] floor or raise [constraints] max_epochs",
        )
