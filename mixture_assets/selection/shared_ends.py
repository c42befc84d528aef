"""Curves of several methods that begin and end alike: before training, and on the whole pool.

    P_m(s) = P(0) + (P(1) - P(0)) (1 - exp(-rate_m s)) / (1 - exp(-rate_m))

At a share of 0 every method has the same untrained model, at 1 it has trained on the same
documents. So a few shares of each method are enough, one if need be, and what a method does
beyond them is far better known than from a curve of its own.

Source:
    The exponential curve is that of Yin and Rush, arXiv:2410.16208; in their tables, too, all
    methods end at one accuracy. Sampling: griddy Gibbs, Ritter and Tanner, JASA 87, 1992; P(0),
    P(1) and the noise are integrated out as in Box and Tiao (see `utility_fit`).

Shapes:
    B draws, C chains, G rates of a grid, M methods, P points of one method, 5 sums: those of the
    normal equations of P(0) and P(1).

Differs from the source:
    The ends are shared. Besides one rate at a time, all rates are moved together, because they
    trade off against P(1). Priors are flat in log(rate), P(0), P(1) and log(noise).
    Without noise a rate far beyond the points is known to a per cent or two, by the grid's step.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mixture_assets.core.errors import MixtureError
from mixture_assets.methods.swarm import Array
from mixture_assets.selection.curve_draws import CurveDraws, basis
from mixture_assets.selection.utility import different

_GRID = 96
_CHAINS = 20
_BURN = 24
_HOT = 0.05  # of the log density, at first: chains leave poor places while it rises to 1
_LOOKS = 6  # at ever narrower ranges of rates
_NARROWER = 0.5  # of a range, to be worth another look
_RATES = (0.05, 5.0)  # least, and most in multiples of 1 / first gap
_NO_NOISE = 1e-13  # of the squared performances: rounding of their sums

Points = Mapping[str, tuple[Sequence[float], Sequence[float]]]  # method -> shares, performances


@dataclass(frozen=True, kw_only=True, eq=False)
class SharedEnds:
    """Draws of every method's curve, of the same P(0) and P(1) in each draw."""

    draws: Mapping[str, CurveDraws]
    squares: float  # least residuals that were met
    freedom: int  # points less parameters

    @property
    def noise_sd(self) -> float:
        """Of one point."""
        return math.sqrt(self.squares / self.freedom)


def fit_shared_ends(points: Points, *, draws: int = 2100, seed: int = 0) -> SharedEnds:
    """Draw what the points of several methods allow.

    Args:
        points: Shares of the pool, and performances of any unit in which more is better.
        draws: So many.
        seed: The same seed gives the same draws.

    Raises:
        MixtureError: Fewer than two methods or three shares, or no more points than parameters.
    """
    names = sorted(points)
    shares = np.concatenate([np.asarray(points[n][0], dtype=float) for n in names])
    distinct = different(shares)
    freedom = len(shares) - 2 - len(names)
    if len(names) < 2 or len(distinct) < 3 or freedom < 1:
        raise MixtureError(
            f"{len(shares)} points of {len(names)} methods at {len(distinct)} shares do not "
            f"determine {len(names) + 2} parameters and the noise",
            hint="train on further shares",
        )
    centre = float(np.mean(np.concatenate([np.asarray(points[n][1]) for n in names])))
    rng = np.random.default_rng(seed)
    low = np.full(len(names), math.log(_RATES[0]))
    high = np.full(len(names), math.log(_RATES[1] / (distinct[1] - distinct[0])))
    for look in range(_LOOKS):
        chains = _Chains.begin(points, names, centre, low, high)
        visited = chains.run(_BURN, 0, rng)
        low, high, is_done = _narrowed(chains, visited[len(visited) // 2 :], low, high)
        if is_done or look == _LOOKS - 1:
            break
    kept = chains.run(_BURN, math.ceil(draws / _CHAINS), rng)
    return chains.finish(kept, names, centre, freedom, draws, rng)


def _narrowed(
    chains: "_Chains", visited: NDArray[np.int64], low: Array, high: Array
) -> tuple[Array, Array, bool]:
    """Where the chains have been, and a quarter of that on each side."""
    seen = visited.reshape(-1, visited.shape[-1])
    first, last = seen.min(axis=0), seen.max(axis=0)
    margin = np.maximum((last - first) / 1.5, 1.0)
    step = (high - low) / (_GRID - 1)
    new_low = np.maximum(low, low + (first - margin) * step)
    new_high = np.minimum(high, low + (last + margin) * step)
    is_done = bool(((new_high - new_low) > _NARROWER * (high - low)).all())
    return new_low, new_high, is_done


@dataclass(kw_only=True, eq=False)
class _Chains:
    """C chains over the rates of M methods, each on its grid."""

    log_rate: Array  # (M, G)
    sums: Array  # (M, G, 5)
    squares: float  # of the centred performances
    n_points: int
    at: NDArray[np.int64]  # (C, M), places on the grids

    @classmethod
    def begin(
        cls, points: Points, names: Sequence[str], centre: float, low: Array, high: Array
    ) -> "_Chains":
        log_rate = np.linspace(low, high, _GRID, axis=1)
        sums, squares, n_points = [], 0.0, 0
        for name, own in zip(names, log_rate, strict=True):
            share = np.asarray(points[name][0], dtype=float)
            y = np.asarray(points[name][1], dtype=float) - centre
            left = basis(np.exp(own), share, 0.0, 1.0)
            right = 1 - left
            pairs = (left * left, left * right, right * right, left * y, right * y)
            sums.append(np.stack([p.sum(axis=1) for p in pairs], axis=1))
            squares += float(y @ y)
            n_points += len(y)
        spread = np.linspace(0, _GRID - 1, _CHAINS).astype(np.int64)
        at = np.repeat(spread[:, None], len(names), axis=1)
        return cls(
            log_rate=log_rate, sums=np.stack(sums), squares=squares, n_points=n_points, at=at
        )

    def residuals(self, sums: Array) -> Array:
        """Least squares of P(0) and P(1) at sums (..., 5)."""
        a, b, c, u, v = np.moveaxis(sums, -1, 0)
        explained = (c * u * u - 2 * b * u * v + a * v * v) / (a * c - b * b)
        return np.asarray(np.maximum(self.squares - explained, self._floor))

    @property
    def _floor(self) -> float:
        return _NO_NOISE * self.squares or _NO_NOISE

    def log_density(self, sums: Array) -> Array:
        a, b, c = sums[..., 0], sums[..., 1], sums[..., 2]
        freedom = self.n_points - 2
        residuals = self.residuals(sums)
        return np.asarray(-0.5 * np.log(a * c - b * b) - 0.5 * freedom * np.log(residuals))

    def totals(self) -> Array:
        """(C, 5) at the present places."""
        methods = np.arange(self.at.shape[1])
        return np.asarray(self.sums[methods, self.at].sum(axis=1))

    def run(self, burn: int, keep: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """(sweeps, C, M) places: of the sweeps to keep, or of all where none is."""
        visited = []
        warmth = np.geomspace(_HOT, 1.0, burn // 2 + 1)
        for sweep in range(burn + keep):
            power = float(warmth[min(sweep, len(warmth) - 1)])
            for m in range(self.at.shape[1]):
                self._move_one(m, power, rng)
            self._move_all(power, rng)
            visited.append(self.at.copy())
        return np.stack(visited[burn:] if keep else visited)

    def _move_one(self, m: int, power: float, rng: np.random.Generator) -> None:
        others = self.totals() - self.sums[m, self.at[:, m]]
        density = power * self.log_density(others[:, None, :] + self.sums[m])
        self.at[:, m] = _drawn(density, rng)

    def _move_all(self, power: float, rng: np.random.Generator) -> None:
        """Along the line on which every rate moves by as many places."""
        shift = np.arange(-_GRID // 2, _GRID // 2 + 1)
        places = self.at[:, None, :] + shift[:, None]
        is_inside = ((places >= 0) & (places < _GRID)).all(axis=2)
        inside = np.clip(places, 0, _GRID - 1)
        sums = self.sums[np.arange(self.at.shape[1]), inside].sum(axis=2)
        density = np.where(is_inside, power * self.log_density(sums), -np.inf)
        self.at = self.at + shift[_drawn(density, rng)][:, None]

    def finish(
        self,
        kept: NDArray[np.int64],
        names: Sequence[str],
        centre: float,
        freedom: int,
        n_draws: int,
        rng: np.random.Generator,
    ) -> SharedEnds:
        at = kept.reshape(-1, len(names))[:n_draws]
        methods = np.arange(len(names))
        sums = self.sums[methods, at].sum(axis=1)
        normal = sums[:, [[0, 1], [1, 2]]]
        inverse = np.linalg.inv(normal)
        mean = np.einsum("bij,bj->bi", inverse, sums[:, 3:])
        squares = self.residuals(sums)
        sd = np.sqrt(squares / rng.chisquare(self.n_points - 2, len(at)))
        noise = np.einsum(
            "bij,bj->bi", np.linalg.cholesky(inverse), rng.standard_normal((len(at), 2))
        )
        ends = centre + mean + sd[:, None] * noise
        rate = np.exp(self.log_rate[methods, at])
        drawn = {
            name: CurveDraws(
                rate=rate[:, m],
                left=ends[:, 0],
                right=ends[:, 1],
                lowest=0.0,
                highest=1.0,
                start=0.0,
            )
            for m, name in enumerate(names)
        }
        return SharedEnds(draws=drawn, squares=float(squares.min()), freedom=freedom)


def _drawn(log_density: Array, rng: np.random.Generator) -> NDArray[np.int64]:
    """(C,) places, each as likely as its density (C, G): the Gumbel trick."""
    return np.asarray((log_density + rng.gumbel(size=log_density.shape)).argmax(axis=1))
