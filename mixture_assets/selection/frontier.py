"""Which points of (cost, performance) no other beats, and how sure that is.

Source:
    Yin and Rush, arXiv:2410.16208, figures 2 and 3.

Shapes:
    P points, B draws.

Differs from the source:
    The source calls a straight line through chosen points a Pareto front, without a definition.
    Here a point is on the frontier if no other costs at most as much and performs at least as
    well, better in one of the two; points that are equal in both stand or fall together. The
    line is there too. How often a point is on the frontier when all are moved by their noise is
    added.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mixture_assets.core.errors import MixtureError
from mixture_assets.methods.swarm import Array

_DRAWS = 2000  # a share of them is then known to 0.011 or better


@dataclass(frozen=True, kw_only=True)
class FrontLine:
    """performance = slope log10(FLOPs) + intercept, by ordinary least squares."""

    slope: float  # per tenfold compute
    intercept: float

    def value(self, flops: float) -> float:
        """The line at a cost above 0."""
        return float(self.slope * np.log10(flops) + self.intercept)


def non_dominated(cost: Sequence[float], performance: Sequence[float]) -> list[int]:
    """Which points are on the frontier, cheapest first.

    Args:
        cost: (P,), finite.
        performance: (P,), more is better.
    """
    x, y = _checked(cost, performance)
    if not len(x):
        return []
    chosen = np.flatnonzero(_on_frontier(x, y[None])[0])
    return [int(i) for i in chosen[np.lexsort((y[chosen], x[chosen]))]]


def frontier_chances(
    cost: Sequence[float],
    performance: Sequence[float],
    noise_sd: Sequence[float],
    *,
    draws: int = _DRAWS,
    seed: int = 0,
) -> list[float]:
    """How often each point is on the frontier when performances move by independent noise.

    Args:
        cost: (P,).
        performance: (P,).
        noise_sd: (P,), standard error of each performance.
        draws: Of the noise.
        seed: The same seed gives the same shares, in whatever order the points come.
    """
    x, y = _checked(cost, performance)
    sd = np.asarray(noise_sd, dtype=float)
    if sd.shape != x.shape or not (np.isfinite(sd) & (sd >= 0)).all():
        raise MixtureError("every point needs a standard error of 0 or more")
    order = np.lexsort((sd, y, x))
    noise = np.random.default_rng(seed).standard_normal((draws, len(x)))
    share = _on_frontier(x[order], y[order] + sd[order] * noise).mean(axis=0)
    found = np.empty(len(x))
    found[order] = share
    return [float(s) for s in found]


def front_line(cost: Sequence[float], performance: Sequence[float]) -> FrontLine:
    """The dashed line of the source's figures through points that one chooses."""
    x, y = _checked(cost, performance)
    if len(np.unique(x)) < 2 or (x <= 0).any():
        raise MixtureError("a line over log10 of compute needs 2 different costs above 0")
    slope, intercept = np.polyfit(np.log10(x), y, 1)
    return FrontLine(slope=float(slope), intercept=float(intercept))


def _on_frontier(x: Array, y_BP: Array) -> NDArray[np.bool_]:
    """(B, P): best of all that cost at most as much, and better than all that cost less."""
    order = np.argsort(x, kind="stable")
    best = np.maximum.accumulate(y_BP[:, order], axis=1)
    first = np.searchsorted(x[order], x, side="left")  # of those that cost as much
    last = np.searchsorted(x[order], x, side="right") - 1
    cheaper = np.where(first > 0, best[:, np.maximum(first - 1, 0)], -np.inf)
    return np.asarray((y_BP >= best[:, last]) & (y_BP > cheaper))


def _checked(cost: Sequence[float], performance: Sequence[float]) -> tuple[Array, Array]:
    x, y = np.asarray(cost, dtype=float), np.asarray(performance, dtype=float)
    if x.shape != y.shape or not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise MixtureError("every point needs a finite cost and a finite performance")
    return x, y
