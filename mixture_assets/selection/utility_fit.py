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
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from scipy.optimize import minimize_scalar

from mixture_assets.core.errors import MixtureError
from mixture_assets.methods.swarm import Array
from mixture_assets.methods.uncertainty import percentile_interval
from mixture_assets.selection.utility import UtilityCurve, checked_points

Parameter = Literal["ceiling", "zero", "rate"]

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


@dataclass(frozen=True, kw_only=True, eq=False)
class CurveDraws:
    """B curves that the points allow, by their performances at two costs."""

    rate: Array  # (B,), per C_full
    left: Array  # (B,), performance at `lowest`
    right: Array  # (B,), performance at `highest`
    lowest: float
    highest: float
    start: float

    def predict(self, cost: Sequence[float]) -> Array:
        """(B, C) mean performances at costs in multiples of C_full."""
        left_BC = _basis(self.rate, np.asarray(cost, dtype=float), self.lowest, self.highest)
        return np.asarray(left_BC * self.left[:, None] + (1 - left_BC) * self.right[:, None])

    @property
    def zero(self) -> Array:
        """(B,), performance at `start`."""
        return np.asarray(self.predict([self.start])[:, 0])

    @property
    def ceiling(self) -> Array:
        """(B,), performance at an infinite cost."""
        fall = -np.expm1(-self.rate * (self.highest - self.lowest))
        return np.asarray(self.right + (self.right - self.left) * (1 / fall - 1))

    def curves(self, n: int) -> list[UtilityCurve]:
        """The first n draws as curves."""
        triples = zip(self.ceiling[:n], self.zero[:n], self.rate[:n], strict=True)
        return [
            UtilityCurve(ceiling=float(h), zero=float(z), rate=float(r), start=self.start)
            for h, z, r in triples
        ]


@dataclass(frozen=True, kw_only=True)
class UtilityFit:
    """One method's curve, and the curves that its points allow."""

    curve: UtilityCurve  # of least squares
    noise_sd: float  # of one point
    n_points: int
    draws: CurveDraws = field(repr=False)
    notes: tuple[str, ...] = ()

    def interval(self, parameter: Parameter) -> tuple[float, float]:
        """90 % interval of a parameter."""
        return percentile_interval(getattr(self.draws, parameter))

    def predict(self, cost: float) -> tuple[float, float, float]:
        """Mean performance at a cost in multiples of C_full, and its 90 % interval."""
        low, high = percentile_interval(self.draws.predict([cost])[:, 0].tolist())
        return self.curve.value(cost), low, high

    def to_json(self) -> dict[str, object]:
        """Parameters with intervals, noise and notes."""
        names: tuple[Parameter, ...] = ("ceiling", "zero", "rate")
        return {
            **self.curve.to_json(),
            **{f"{name}_interval": list(self.interval(name)) for name in names},
            "start": self.curve.start,
            "noise_sd": self.noise_sd,
            "n_points": self.n_points,
            "notes": list(self.notes),
        }


def fit_utility(
    cost: Sequence[float],
    performance: Sequence[float],
    *,
    start: float = 0.0,
    noise_sd: Sequence[float] | None = None,
    pooled: PooledNoise = NO_REPEATS,
    draws: int = 2000,
    seed: int = 0,
) -> UtilityFit:
    """Fit zero, ceiling and rate, weighted by the noise, and draw what else is possible.

    Args:
        cost: (P,), selection and training, in multiples of C_full. Seeds are points of one cost.
        performance: (P,), in any unit in which more is better, negative ones included.
        start: Cost of selection, where `zero` is taken.
        noise_sd: (P,), in any unit: only ratios count, the level is estimated.
        pooled: Repeats of other curves, whose noise is taken to be the same.
        draws: From the posterior.
        seed: The same seed gives the same intervals.

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


def _basis(rate: Array, x: Array, lowest: float, highest: float) -> Array:
    """(B, C): 1 at the lowest cost, 0 at the highest, exponential between and beyond."""
    r = np.asarray(rate)[:, None]
    fall = np.exp(-r * (x - lowest)) * np.expm1(-r * (highest - x))
    return np.asarray(fall / np.expm1(-r * (highest - lowest)))


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
        left_GP = _basis(rate, self.x, self.x[0], self.x[-1])
        design = np.stack([left_GP, 1 - left_GP], axis=2)
        normal = np.einsum("gpi,p,gpj->gij", design, self.weight, design)
        moment = np.einsum("gpi,p->gi", design, self.weight * self.y)
        solved = np.linalg.solve(normal, moment[..., None])[..., 0]
        gap = self.y - np.einsum("gpi,gi->gp", design, solved)
        squares = (self.weight * gap**2).sum(axis=1) + self.pooled.squares
        floor = _NO_NOISE * float((self.weight * self.y**2).sum())
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
        distinct = np.unique(self.x)
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
