"""Hand out a whole over domains whose marginal gain is a falling power of their share, exactly.

Source:
    Water-filling (Boyd and Vandenberghe, Convex Optimization, section 5.5.3): a convex, separable
    objective under one sum has one multiplier, and a root search finds it.

Shapes:
    D = domains, in the order of the names given.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq

from mixture_assets.core.errors import MixtureError, shortlist
from mixture_assets.core.mixture import Mixture
from mixture_assets.methods.swarm import Array

Bound = float | Mapping[str, float]  # one for all domains, or by domain

_TINY = 1e-300
_LOG_HUGE = 700.0  # exp of it is the largest double, about


@dataclass(frozen=True, kw_only=True)
class PowerGain:
    """Marginal gain k (w + a)^-p of each domain's weight w: what one more unit lowers."""

    k: Array  # (D,), >= 0; 0: nothing is gained
    p: Array  # (D,), > 0
    a: Array  # (D,), >= 0


def fill(names: Sequence[str], gain: PowerGain, *, floor: Bound = 0.0, cap: Bound = 1.0) -> Mixture:
    """The mixture at which no weight is better moved, within floors and caps.

    Every domain strictly between its bounds has the same marginal gain g:

        k (w + a)^-p = g,  hence  w(g) = clip((k / g)^(1 / p) - a, floor, cap),

    with the g at which the weights sum to 1. A domain that gains nothing sits at its floor, and
    takes part, by its room, only when all others are full.
    """
    floor_D, cap_D = _bounds(names, floor, cap)
    rising_D = gain.k > 0
    weight_D = np.where(rising_D, cap_D, floor_D)
    rest = 1 - float(floor_D[~rising_D].sum())
    if weight_D.sum() < 1:  # those that gain are full, the rest shares what is left
        room_D = np.where(rising_D, 0.0, cap_D - floor_D)
        weight_D += room_D * (1 - weight_D.sum()) / room_D.sum() if room_D.any() else 0.0
    else:
        part = PowerGain(k=gain.k[rising_D], p=gain.p[rising_D], a=gain.a[rising_D])
        weight_D[rising_D] = level(part, floor_D[rising_D], cap_D[rising_D], rest)
    return Mixture(dict(zip(names, weight_D.tolist(), strict=True)))


def level(gain: PowerGain, floor_D: Array, cap_D: Array, total: float) -> Array:
    """Amounts with one marginal gain k (n + a)^-p, between their bounds, that sum to `total`."""
    log_k_D = np.log(gain.k)

    def log_gain(weight_D: Array) -> Array:
        return np.asarray(log_k_D - gain.p * np.log(np.maximum(weight_D + gain.a, _TINY)))

    def weights(log_g: float) -> Array:
        log_w_D = np.clip((log_k_D - log_g) / gain.p, -_LOG_HUGE, _LOG_HUGE)
        return np.asarray(np.clip(np.exp(log_w_D) - gain.a, floor_D, cap_D))

    def surplus(log_g: float) -> float:
        return float(weights(log_g).sum()) - total

    # below the least gain all are full, above the greatest none is
    low, high = float(log_gain(cap_D).min()) - 1, float(log_gain(floor_D).max()) + 1
    if surplus(low) <= 0:
        return cap_D
    if surplus(high) >= 0:
        return floor_D
    return weights(brentq(surplus, low, high, xtol=1e-14, rtol=1e-15, maxiter=500))


def _bounds(names: Sequence[str], floor: Bound, cap: Bound) -> tuple[Array, Array]:
    """Floors and caps by domain, or MixtureError where no mixture is between them."""
    floor_D, cap_D = _by_domain("floor", floor, names), _by_domain("cap", cap, names)
    cap_D = np.minimum(cap_D, 1.0)
    crossed = [n for n, lo, hi in zip(names, floor_D, cap_D, strict=True) if not 0 <= lo <= hi]
    if crossed:
        raise MixtureError(
            f"the floor is below 0 or above the cap for {shortlist(crossed)}",
            hint="lower `floor` or raise `cap`",
        )
    for what, total, is_wrong, hint in (
        ("floors", floor_D.sum(), floor_D.sum() > 1 + 1e-9, "lower `floor`"),
        ("caps", cap_D.sum(), cap_D.sum() < 1 - 1e-9, "raise `cap`"),
    ):
        if is_wrong:
            raise MixtureError(f"the {what} of {len(names)} domains sum to {total:.4g}", hint=hint)
    return floor_D, cap_D


def _by_domain(what: str, bound: Bound, names: Sequence[str]) -> Array:
    if not isinstance(bound, Mapping):
        return np.full(len(names), float(bound))
    if set(bound) != set(names):
        raise MixtureError(
            f"the {what}s and the law disagree on domains: "
            f"{shortlist(set(bound) ^ set(names))} in only one of them"
        )
    return np.array([float(bound[name]) for name in names])
