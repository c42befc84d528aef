"""Performance against compute, P(C): a curve that rises towards a ceiling.

    P(C) = (ceiling - zero) (1 - exp(-rate (C - start) / C_full)) + zero

C counts selection and training, C_full is training on the whole pool once.

Source:
    Yin and Rush, "Compute-Constrained Data Selection", ICLR 2025, arXiv:2410.16208, section 5
    and the README of the authors' repository (oseyosey/CCDS, commit deb28a3).

Units:
    Costs in multiples of C_full, so that `rate` has no unit. Performance in any unit in which
    more is better: accuracy in per cent, or a negative loss.

Differs from the source:
    `start` is 0 there: the curve begins before selection is paid for, and `zero` of a costly
    method is no performance of any model. With `start` at the cost of selection it is that of
    the model before training. Points are taken in the order of their costs, not of a file; where
    a performance is below 0 (a negative loss), `zero` has no lower bound.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import OptimizeWarning, curve_fit

from mixture_assets.core.errors import MixtureError
from mixture_assets.methods.swarm import Array

_TRIALS = 10_000  # the authors' maxfev
_SAME = 1e-3


@dataclass(frozen=True, kw_only=True)
class UtilityCurve:
    """One method's P(C)."""

    ceiling: float  # that no amount of compute exceeds
    zero: float  # at C = start
    rate: float  # >= 0, per C_full: how fast the ceiling is come near
    start: float = 0.0  # in multiples of C_full

    def value(self, cost: float) -> float:
        """Performance at a cost, in multiples of C_full."""
        return self.zero - (self.ceiling - self.zero) * math.expm1(-self.rate * (cost - self.start))

    def cost(self, performance: float) -> float:
        """The inverse: what a performance costs, infinite where no amount reaches it.

        At or below `zero` it is `start`: the method's least cost.
        """
        if performance <= self.zero:
            return self.start
        if performance >= self.ceiling or self.rate <= 0:
            return math.inf
        missing = (self.ceiling - performance) / (self.ceiling - self.zero)
        return self.start - math.log(missing) / self.rate

    def moved(self, start: float) -> "UtilityCurve":
        """The same learning from data, with selection at another cost."""
        return UtilityCurve(ceiling=self.ceiling, zero=self.zero, rate=self.rate, start=start)

    def to_json(self) -> dict[str, float]:
        """The three parameters of the source."""
        return {"ceiling": self.ceiling, "zero": self.zero, "rate": self.rate}


def fit_as_published(
    cost: Sequence[float], performance: Sequence[float], *, ceiling: float
) -> UtilityCurve:
    """Fit zero and rate as the authors did: bounded least squares from (first point, 1).

    The ceiling is held, at the best performance that is known; every point counts alike.

    Args:
        cost: Selection and training, in multiples of C_full.
        performance: Of each point.
        ceiling: The authors took that of the whole pool, or of twice the pool.
    """
    x, y, _ = checked_points(cost, performance, np.ones(len(cost)), least=2)
    if not math.isfinite(ceiling) or (y > ceiling).all():
        raise MixtureError(
            f"no point lies below the ceiling of {ceiling:.4g}: the lowest is {y.min():.4g}",
            hint="the ceiling is the best performance that is known, more is better",
        )
    lower = 0.0 if min(y.min(), ceiling) >= 0 else -np.inf

    def curve(c: Array, zero: float, rate: float) -> Array:
        return np.asarray((ceiling - zero) * (1 - np.exp(-rate * c)) + zero)

    with warnings.catch_warnings(action="ignore", category=OptimizeWarning):  # no covariance
        (zero, rate), _ = curve_fit(
            curve,
            x,
            y,
            p0=[min(float(y[0]), ceiling), 1.0],
            bounds=([lower, 0.0], [ceiling, np.inf]),
            maxfev=_TRIALS,
        )
    return UtilityCurve(ceiling=float(ceiling), zero=float(zero), rate=float(rate))


def checked_points(
    cost: Sequence[float],
    performance: Sequence[float],
    noise_sd: Sequence[float] | Array,
    *,
    least: int,
) -> tuple[Array, Array, Array]:
    """Costs, performances and weights as arrays, in the order of costs, then performances.

    Args:
        cost: (P,).
        performance: (P,).
        noise_sd: (P,), above 0.
        least: Different costs that there must be.

    Returns:
        Weights are 1 / noise_sd^2, with a mean of 1.
    """
    x, y = np.asarray(cost, dtype=float), np.asarray(performance, dtype=float)
    sd = np.asarray(noise_sd, dtype=float)
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise MixtureError("a cost or a performance is not finite", hint="leave failed runs out")
    if not (np.isfinite(sd) & (sd > 0)).all():
        raise MixtureError("the noise of a point is not above 0")
    n_costs = len(different(x))
    if n_costs < least:
        raise MixtureError(
            f"a curve of performance needs {least} different costs or more, got {n_costs}",
            hint="train on more shares of the pool",
        )
    order = np.lexsort((sd, y, x))
    weight = 1 / sd**2
    return x[order], y[order], weight[order] / weight.mean()


def different(cost: Array) -> Array:
    """Costs, ascending, of which none is within a thousandth of the largest of the one before.

    Seeds of one share can differ by a document.
    """
    kept: list[float] = []
    for value in np.unique(cost):
        if not kept or value - kept[-1] > _SAME * np.abs(cost).max():
            kept.append(float(value))
    return np.array(kept)
