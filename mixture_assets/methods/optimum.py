"""The least of a convex objective over a region of mixtures, for many objectives at once.

Source:
    Primal-dual interior point, Boyd and Vandenberghe, Convex Optimization (2004), section 11.7,
    with a slack for every bound. The start has the greatest room to all of them, from a linear
    programme, which also says whether there is any mixture at all.

Shapes:
    B = objectives solved side by side (draws of a bootstrap), M = exponential terms, D = domains,
    G = groups, K = 2 D + 2 G one-sided bounds.

Differs from the source:
    A fixed centring factor and no line search: a Newton step goes 99 % of the way to the wall.
    Bounds of groups give way by 1e-9, so that a group whose two bounds are equal has an inside.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

from mixture_assets.core.errors import MixtureError, shortlist
from mixture_assets.methods.region import Region
from mixture_assets.methods.swarm import Array

Mask = NDArray[np.bool_]

_CENTRING = 0.3  # smaller closes the gap before the slopes balance, and the path is lost
_TO_THE_WALL = 0.99
_MOST_STEPS = 100
_DONE = 1e-10  # residual, where the objective's slope is about 1
_GAP = 1e-14  # least slack x multiplier: further on, log w of the entropy moves as fast as w falls
_NOT_DONE = 1e-6  # of the residual: the path was lost
_GIVE = 1e-9  # of weight, by which groups' bounds give way: two that are equal leave no inside
_SNAP = 1e-8  # of weight: what is this near to a bound is at it
_LEAST = 1e-13  # curvature of a direction that has none
_LARGEST = 50.0  # of an exponent, as in the law
_TINY = 1e-300


@dataclass(frozen=True, kw_only=True)
class Convex:
    """sum_m amplitude_m exp(exponent_m . w) + kl sum_i w_i log(w_i / reference_i).

    Convex, because amplitudes and `kl` are at least 0. Constants are left out.
    """

    amplitude: Array  # (B, M), unit of the objective
    exponent: Array  # (B, M, D)
    kl: float | Array = 0.0  # unit of the objective per nat; one for all draws, or (B,)
    reference: Array | None = None  # (D,), above 0; needed where kl > 0

    @property
    def has_kl(self) -> bool:
        """Whether the entropy counts."""
        return bool(np.max(self.kl) > 0)

    @property
    def _kl(self) -> Array:
        return np.reshape(np.asarray(self.kl, dtype=float), (-1, 1))

    def terms(self, weights: Array) -> Array:
        """The exponential terms at (B, D) weights, (B, M)."""
        power = np.einsum("bmd,bd->bm", self.exponent, weights)
        return np.asarray(self.amplitude * np.exp(np.minimum(power, _LARGEST)))

    def slope(self, weights: Array) -> Array:
        """Derivatives at (B, D) weights, (B, D)."""
        slope = np.einsum("bm,bmd->bd", self.terms(weights), self.exponent)
        if self.has_kl and self.reference is not None:
            slope = slope + self._kl * (np.log(np.maximum(weights, _TINY) / self.reference) + 1)
        return np.asarray(slope)

    def curvature(self, weights: Array) -> Array:
        """Second derivatives at (B, D) weights, (B, D, D)."""
        root = np.sqrt(self.terms(weights))[..., None] * self.exponent
        curvature = np.asarray(np.swapaxes(root, 1, 2) @ root)
        if self.has_kl:
            diagonal = np.arange(weights.shape[1])
            curvature[:, diagonal, diagonal] += self._kl / np.maximum(weights, _TINY)
        return curvature

    def restricted(self, free: Mask, fixed: Array) -> "Convex":
        """The same as a function of the free domains, the others at the weights `fixed`."""
        power = np.minimum(self.exponent[:, :, ~free] @ fixed[~free], _LARGEST)
        return replace(
            self,
            amplitude=self.amplitude * np.exp(power),
            exponent=self.exponent[:, :, free],
            reference=None if self.reference is None else self.reference[free],
        )


@dataclass(frozen=True, kw_only=True)
class Optimum:
    """Where each objective is least, and by how much each bound holds it up there.

    A price is the fall of the objective per unit of weight by which the bound is moved outwards.
    """

    weights: Array  # (B, D)
    low_price: Array  # (B, D), of the least weights
    high_price: Array  # (B, D), of the largest weights
    row_low_price: Array  # (B, G)
    row_high_price: Array  # (B, G)


def minimise(objective: Convex, region: Region) -> Optimum:
    """The least of each objective over the region; bounds of the simplex itself have prices too.

    Raises:
        MixtureError: The region is empty.
    """
    region.check()
    _check_groups(region)
    n, n_draws = len(region.domains), len(objective.amplitude)
    free = region.high - region.low > _SNAP
    weights = np.tile(np.where(free, 0.0, (region.low + region.high) / 2), (n_draws, 1))
    multipliers = np.zeros((n_draws, 1 + 2 * len(region.rows)))
    if free.any():
        problem = objective.restricted(free, weights[0])
        weights[:, free], multipliers = _follow(problem, _without(region, free, weights[0]))
    sums, above, below = np.split(multipliers, [1, 1 + len(region.rows)], axis=1)
    reduced = objective.slope(np.maximum(weights, _SNAP * 1e-4)) + sums
    reduced = reduced + (below - above) @ region.rows
    at_low = weights - region.low <= _SNAP
    at_high = region.high - weights <= _SNAP
    return Optimum(
        weights=_snapped(weights, at_low, at_high, region),
        low_price=np.where(at_low, np.maximum(reduced, 0.0), 0.0).reshape(n_draws, n),
        high_price=np.where(at_high, np.maximum(-reduced, 0.0), 0.0).reshape(n_draws, n),
        row_low_price=np.maximum(above - below, 0.0),
        row_high_price=np.maximum(below - above, 0.0),
    )


@dataclass(frozen=True, kw_only=True)
class _Bounds:
    """G w <= h and sum(w) = total, for the domains that can move."""

    start: Array  # (D,), strictly within all bounds, of the right sum
    matrix: Array  # (K, D): least weights, largest weights, least and largest sums of groups
    limit: Array  # (K,)
    n_rows: int  # groups


def _without(region: Region, free: Mask, fixed: Array) -> _Bounds:
    """The region as bounds on the free domains alone."""
    low, high, rows = region.low[free], region.high[free], region.rows[:, free]
    eye = np.eye(len(low))
    taken = region.rows[:, ~free] @ fixed[~free]
    least, most = region.row_low - taken - _GIVE, region.row_high - taken + _GIVE
    alike = np.ptp(rows, axis=1) == 0  # all that can move, or nothing: no bound on these
    least, most = np.where(alike, -1.0, least), np.where(alike, 2.0, most)
    return _Bounds(
        start=_start(low, high, 1 - float(fixed[~free].sum()), (rows, least, most)),
        matrix=np.vstack([-eye, eye, -rows, rows]),
        limit=np.concatenate([-low, high, -least, most]),
        n_rows=len(rows),
    )


def _start(low: Array, high: Array, total: float, groups: tuple[Array, Array, Array]) -> Array:
    """The weights with the greatest share of each width of bounds on either side of them."""
    rows, least, most = groups
    width = high - low
    room = float(width.sum())
    share = (total - low.sum()) / room if room else 0.5
    share = min(max(float(share), 1e-9), 1 - 1e-9)  # a region of one point still has a middle
    middle = np.asarray(low + share * width)
    if not len(rows):
        return middle
    scaled, taken, span = rows * width, rows @ low, (most - least)[:, None]
    one = np.ones((len(low), 1))
    sides = [[-np.eye(len(low)), one], [np.eye(len(low)), one], [-scaled, span], [scaled, span]]
    found = linprog(  # w = low + width u; the least share t is to be large
        np.append(np.zeros(len(low)), -1.0),
        A_ub=np.block(sides),
        b_ub=np.concatenate([0 * low, 0 * low + 1, taken - least, most - taken]),
        A_eq=np.append(width, 0.0)[None],
        b_eq=[float((middle - low).sum())],
        bounds=[(0, 1)] * len(low) + [(0, 0.5)],
        options={"primal_feasibility_tolerance": 1e-10},
    )
    if found.status != 0:
        return middle
    return np.asarray(low + width * np.clip(found.x[:-1], 1e-9, 1 - 1e-9))


def _check_groups(region: Region) -> None:
    """Raise MixtureError where bounds of groups contradict the others."""
    if not len(region.rows):
        return
    found = linprog(
        np.zeros(len(region.domains)),
        A_ub=np.vstack([region.rows, -region.rows]),
        b_ub=np.concatenate([region.row_high, -region.row_low]),
        A_eq=np.ones((1, len(region.domains))),
        b_eq=[1.0],
        bounds=list(zip(region.low, np.maximum(region.low, region.high), strict=True)),
    )
    if found.status == 2:
        raise MixtureError(
            f"no mixture is within all bounds of domains and of groups "
            f"({shortlist(region.row_names)})",
            hint="relax a group, a floor or a cap",
        )


def _follow(objective: Convex, bounds: _Bounds) -> tuple[Array, Array]:
    """Weights, and multipliers of the sum and of the groups' least and largest sums."""
    n_draws = len(objective.amplitude)
    w = np.tile(bounds.start, (n_draws, 1))
    scale = np.maximum(np.abs(objective.slope(w)).max(axis=1, keepdims=True), _TINY)
    objective = replace(
        objective,
        amplitude=objective.amplitude / scale,
        kl=np.broadcast_to(objective.kl, (n_draws,)) / scale[:, 0],
    )
    total = bounds.start.sum()
    slack = np.maximum(bounds.limit - w @ bounds.matrix.T, _GIVE * 1e-3)
    z, y = np.minimum(0.1 / slack, 10.0), np.zeros((n_draws, 1))
    point = (w, y, slack, z)
    for _ in range(_MOST_STEPS):
        dual, primal, product = _residuals(objective, bounds, point)
        gap = product.mean(axis=1, keepdims=True)
        if max(float(np.abs(r).max()) for r in (dual, primal)) < _DONE and gap.max() < 2 * _GAP:
            break
        centre = product - np.maximum(_CENTRING * gap, _GAP)
        change = _newton(objective, bounds, point, (dual, primal, centre))
        step = _TO_THE_WALL * np.minimum(_room(point[2], change[2]), _room(point[3], change[3]))
        point = _moved(point, step, change)
    w, y, slack, z = point
    dual, primal, product = _residuals(objective, bounds, point)
    if max(float(np.abs(r).max()) for r in (dual, primal, product)) > _NOT_DONE:
        raise MixtureError("the optimum of a law was not found", hint="ask for wider bounds")
    w *= total / w.sum(axis=1, keepdims=True)
    of_groups = slice(slack.shape[1] - 2 * bounds.n_rows, None)
    return w, np.hstack([y, z[:, of_groups]]) * scale


_Point = tuple[Array, Array, Array, Array]  # weights, the sum's multiplier, slacks, multipliers


def _residuals(objective: Convex, bounds: _Bounds, point: _Point) -> tuple[Array, Array, Array]:
    """What is not 0 yet: slopes out of balance, slacks that do not add up, slack x multiplier."""
    w, y, slack, z = point
    dual = objective.slope(w) + z @ bounds.matrix + y
    return dual, w @ bounds.matrix.T + slack - bounds.limit, slack * z


def _newton(
    objective: Convex, bounds: _Bounds, point: _Point, residuals: tuple[Array, Array, Array]
) -> _Point:
    """The change that would bring all residuals to 0 if they were linear.

    Groups keep rows of their own, A dw - v / ratio = q / ratio: added to the curvature, a group
    with hardly any room would drown it.
    """
    (w, _, slack, z), (dual, primal, centre) = point, residuals
    n_draws, n = dual.shape
    g, ratio, d = bounds.matrix, z / slack, np.arange(n)
    pull = ratio * primal - centre / slack
    a, n_groups = g[2 * n + bounds.n_rows :], bounds.n_rows
    both = ratio[:, 2 * n : 2 * n + n_groups] + ratio[:, 2 * n + n_groups :]
    size = n + 1 + n_groups
    kkt, right = np.zeros((n_draws, size, size)), np.zeros((n_draws, size))
    kkt[:, :n, :n] = objective.curvature(w)
    kkt[:, d, d] += ratio[:, :n] + ratio[:, n : 2 * n] + _LEAST
    kkt[:, :n, n] = kkt[:, n, :n] = 1.0
    kkt[:, n + 1 :, :n], kkt[:, :n, n + 1 :] = a, a.T
    of_groups = np.arange(n + 1, size)
    kkt[:, of_groups, of_groups] = -1 / both
    right[:, :n] = -(dual + pull[:, : 2 * n] @ g[: 2 * n])
    right[:, n + 1 :] = (pull[:, 2 * n : 2 * n + n_groups] - pull[:, 2 * n + n_groups :]) / both
    change = np.linalg.solve(kkt, right[..., None])[..., 0]
    dw, dy = change[:, :n], change[:, n : n + 1]
    dslack = -primal - dw @ g.T
    return dw, dy, dslack, -(centre + z * dslack) / slack


def _moved(point: _Point, step: Array, change: _Point) -> _Point:
    w, y, slack, z = (x + step * dx for x, dx in zip(point, change, strict=True))
    return w, y, slack, z


def _room(value: Array, change: Array) -> Array:
    """The largest step, at most 1 / 0.99, that keeps values positive; one for each draw."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(change < 0, -value / change, np.inf)
    return np.asarray(np.minimum(ratio.min(axis=1, keepdims=True), 1 / _TO_THE_WALL))


def _snapped(weights: Array, at_low: Mask, at_high: Mask, region: Region) -> Array:
    """Weights that are a hair from a bound put on it; the largest free one takes the difference."""
    low, high = (
        np.broadcast_to(region.low, weights.shape),
        np.broadcast_to(region.high, weights.shape),
    )
    put = np.where(at_low, low, np.where(at_high, high, weights))
    inside = np.where(at_low | at_high, -1.0, np.minimum(weights - low, high - weights))
    widest = inside.argmax(axis=1)
    draws = np.arange(len(put))
    missing = 1 - put.sum(axis=1)
    can_move = inside[draws, widest] > np.abs(missing)
    put[draws, widest] += np.where(can_move, missing, 0.0)
    return np.where((can_move | (np.abs(missing) < 1e-12))[:, None], put, weights)
