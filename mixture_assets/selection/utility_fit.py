"""Performance against compute with zero, ceiling and rate all free, and how sure each is.

    P(C) = (ceiling - zero) (1 - exp(-rate (C - start) / C_full)) + zero

Source:
    The curve is that of Yin and Rush, arXiv:2410.16208 (see `utility`). The fit separates the two
    parameters in which the curve is linear from the one in which it is not, as in Golub and
    Pereyra, SIAM J. Numer. Anal. 10, 1973. Intervals are from the posterior under flat priors on
    log(rate), on the performances at the least and the greatest cost, and on log(noise): Box and
    Tiao, "Bayesian Inference in Statistical Analysis", 1973, chapter 2.

Shapes:
    G rates of a grid, B draws, P points.

Differs from the source:
    The authors hold the ceiling at the best point, weigh points alike and give no interval.
    Flat priors on performances that can be measured, not on zero and ceiling, because these two
    lie outside of what was measured and run to infinity where the rate is small. The curve may
    fall: a pool can be no help. Noise is normal and, its known ratios apart, alike in all points.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar

from mixture_assets.core.errors import MixtureError
from mixture_assets.methods.swarm import Array
from mixture_assets.selection.curve_draws import CurveDraws, UtilityFit, basis
from mixture_assets.selection.utility import checked_points, different

_GRID = 400
_LEAST_RATE = 0.05  # times the range of costs: straighter than noise can tell
_MOST_RATE = 5.0  # times the first gap: all is over at the second point
_NEGLIGIBLE = 14.0  # below the greatest log density, on the grid
_NO_NOISE = 1e-24  # of the squared performances: residuals of rounding
_CLEARLY = 0.95


@dataclass(frozen=True, kw_only=True)
class PooledNoise:
    """What repeats of other curves' points say about the noise of one point."""

    squares: float = 0.0  # about the means of their cells
    freedom: int = 0  # runs less cells


NO_REPEATS = PooledNoise()


def fit_utility(
    cost: Sequence[float],
    performance: Sequence[float],
    *,
    start: float = 0.0,
    noise_sd: Sequence[float] | None = None,
    pooled: PooledNoise = NO_REPEATS,
    draws: int = 2000,
    seed: int | Sequence[int] = 0,
) -> UtilityFit:
    """Fit zero, ceiling and rate, weighted by the noise, and draw what else is possible.

    Args:
        cost: (P,), selection and training, in multiples of C_full. Seeds are points of one cost.
        performance: (P,), in any unit in which more is better, negative ones included.
        start: Cost of selection, where `zero` is taken.
        noise_sd: (P,), in any unit: only ratios count, the level is estimated.
        pooled: Repeats of other curves, whose noise is taken to be the same.
        draws: From the posterior.
        seed: The same seed gives the same intervals. Curves that are to be compared need seeds of
            their own: what is drawn of each is independent then.

    Raises:
        MixtureError: Fewer than 3 different costs, or as many points as parameters and no
            repeats elsewhere.
    """
    sd = np.ones(len(cost)) if noise_sd is None else np.asarray(noise_sd, dtype=float)
    x, y, weight = checked_points(cost, performance, sd, least=3)
    freedom = len(y) - 3 + pooled.freedom
    if freedom < 1:
        raise MixtureError(
            "three points say nothing about their noise, so the curve has no interval",
            hint="train on a fourth share, or repeat one with another seed",
        )
    points = _Points(x=x, y=y, weight=weight, pooled=pooled)
    grid = points.grid()
    best, is_at_end = points.best(grid)
    drawn = points.draw(grid, draws, np.random.default_rng(seed), start)
    profile = points.profile(np.array([best]))
    sd_now = math.sqrt(float(profile.squares[0]) / freedom)
    left, right = float(profile.left[0]), float(profile.right[0])
    at_best = CurveDraws(
        rate=np.array([best]),
        left=np.array([left]),
        right=np.array([right]),
        lowest=float(x[0]),
        highest=float(x[-1]),
        start=start,
    )
    return UtilityFit(
        curve=at_best.curves(1)[0],
        noise_sd=sd_now,
        n_points=len(y),
        draws=drawn,
        notes=_notes(drawn, is_at_end),
    )


def _notes(drawn: CurveDraws, is_at_end: bool) -> tuple[str, ...]:
    notes = []
    rising = float((drawn.right > drawn.left).mean())
    if rising < _CLEARLY:
        notes.append("performance does not clearly rise with the share that is trained on")
    if is_at_end:
        notes.append("the rate is at the end of what these shares can tell")
    return tuple(notes)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Profile:
    """Least squares at each of G rates."""

    left: Array
    right: Array
    squares: Array  # weighted residuals and pooled repeats
    normal: Array  # (G, 2, 2)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Points:
    x: Array  # (P,), ascending
    y: Array
    weight: Array  # (P,), of mean 1
    pooled: PooledNoise

    @property
    def freedom(self) -> int:
        """Of the noise, at a given rate."""
        return len(self.y) - 2 + self.pooled.freedom

    def profile(self, rate: Array) -> _Profile:
        left_GP = basis(rate, self.x, self.x[0], self.x[-1])
        design = np.stack([left_GP, 1 - left_GP], axis=2)
        normal = np.einsum("gpi,p,gpj->gij", design, self.weight, design)
        moment = np.einsum("gpi,p->gi", design, self.weight * self.y)
        solved = np.linalg.solve(normal, moment[..., None])[..., 0]
        gap = self.y - np.einsum("gpi,gi->gp", design, solved)
        squares = (self.weight * gap**2).sum(axis=1) + self.pooled.squares
        floor = _NO_NOISE * float((self.weight * self.y**2).sum()) or _NO_NOISE
        return _Profile(
            left=solved[:, 0],
            right=solved[:, 1],
            squares=np.maximum(squares, floor),
            normal=normal,
        )

    def log_density(self, rate: Array) -> Array:
        """Of log(rate), all else integrated out, up to a constant."""
        found = self.profile(rate)
        _, log_det = np.linalg.slogdet(found.normal)
        return np.asarray(-0.5 * log_det - 0.5 * self.freedom * np.log(found.squares))

    def grid(self) -> Array:
        """Rates, evenly spaced in their logarithms, that hold all but a negligible density."""
        distinct = different(self.x)
        low = math.log(_LEAST_RATE / (distinct[-1] - distinct[0]))
        high = math.log(_MOST_RATE / (distinct[1] - distinct[0]))
        for _ in range(12):  # each look narrows the range tenfold where the points are exact
            log_rate = np.linspace(low, high, _GRID)
            density = self.log_density(np.exp(log_rate))
            near = np.flatnonzero(density > density.max() - _NEGLIGIBLE)
            if near[-1] - near[0] > _GRID // 4:
                break
            low = float(log_rate[max(near[0] - 1, 0)])
            high = float(log_rate[min(near[-1] + 1, _GRID - 1)])
        return np.exp(log_rate)

    def best(self, grid: Array) -> tuple[float, bool]:
        """The rate of least squares, and whether the grid ends there."""
        squares = self.profile(grid).squares
        i = int(squares.argmin())
        if i in (0, len(grid) - 1):
            return float(grid[i]), True
        found = minimize_scalar(
            lambda log_rate: float(self.profile(np.exp([log_rate])).squares[0]),
            bounds=(math.log(grid[i - 1]), math.log(grid[i + 1])),
            method="bounded",
            options={"xatol": 1e-12},
        )
        return math.exp(found.x), False

    def draw(self, grid: Array, n_draws: int, rng: np.random.Generator, start: float) -> CurveDraws:
        density = self.log_density(grid)
        share = np.exp(density - density.max())
        chosen = rng.choice(len(grid), size=n_draws, p=share / share.sum())
        step = math.log(grid[1] / grid[0])
        rate = grid[chosen] * np.exp(step * (rng.random(n_draws) - 0.5))
        found = self.profile(rate)
        sd = np.sqrt(found.squares / rng.chisquare(self.freedom, n_draws))
        root = np.linalg.cholesky(np.linalg.inv(found.normal))
        noise = np.einsum("gij,gj->gi", root, rng.standard_normal((n_draws, 2)))
        return CurveDraws(
            rate=rate,
            left=found.left + sd * noise[:, 0],
            right=found.right + sd * noise[:, 1],
            lowest=float(self.x[0]),
            highest=float(self.x[-1]),
            start=start,
        )
