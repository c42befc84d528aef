"""What was measured: one trained share of a pool each, with what it cost in all.

Units: FLOPs; performance in any unit in which more is better; shares of the pool's tokens.
"""

import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from scipy.stats import chi2
from scipy.stats import t as student

from mixture_assets.core.errors import MixtureError
from mixture_assets.methods.blocks import fit_blocks
from mixture_assets.selection.curve_draws import UtilityFit
from mixture_assets.selection.utility import UtilityCurve, fit_as_published
from mixture_assets.selection.utility_fit import PooledNoise, fit_utility

_SAME = 1e-3  # relative: costs that were rounded, or read off a figure
_LEAST_CELLS = 4  # one more than a curve has parameters
_CHANCE = 0.01  # of calling a curve wrong that is not
_ENOUGH = 6  # repeats of a method's own beyond its cells: its noise is then known to a third


class _Noise(NamedTuple):
    """Of one point."""

    sd: float | None
    freedom: float
    method: str  # whose repeats it is from; empty: of all


@dataclass(frozen=True, kw_only=True)
class Point:
    """One model that was trained on a selected share of the pool, and judged."""

    method: str  # that selected
    total_flops: float  # selection and training
    full_flops: float  # training this model on the whole pool once
    performance: float  # more is better
    share: float | None = None  # of the pool's tokens that was asked for, alike in all seeds
    ceiling: float | None = None  # best performance that is known, for the authors' fit
    seed: str = ""  # of training; points of one seed may share an effect
    train_params: float | None = None  # of the trained model
    selector_params: float | None = None
    selection_flops: float | None = None  # part of total_flops
    noise_sd: float | None = None  # of this performance beside that of others: evaluation noise

    @property
    def start(self) -> float:
        """Cost of selection in multiples of C_full; 0 where it is not known."""
        if self.selection_flops is not None:
            return self.selection_flops / self.full_flops
        if self.share is None:
            return 0.0
        return max(0.0, self.total_flops / self.full_flops - self.share)

    @property
    def cost(self) -> float:
        """Selection and training in multiples of C_full."""
        return self.total_flops / self.full_flops

    @property
    def asked_cost(self) -> float:
        """As `cost`, of the share that was asked for: a subset ends with a whole document."""
        return self.cost if self.share is None else self.share + self.start

    @property
    def trained_share(self) -> float:
        """What was trained on, in multiples of the pool; all that was paid, if nothing is known."""
        return self.share if self.share is not None else self.cost - self.start

    @property
    def cell(self) -> tuple[object, ...]:
        """What it shares with the points that differ from it in their seed only.

        A point without a seed stands for itself: two of one method and cost may differ in what
        the table does not say.
        """
        share = f"{self.total_flops:.5g}" if self.share is None else f"{self.share:.5g}"
        alone = () if self.seed else (self.total_flops, self.performance)
        return self.method, share, self.train_params, self.selector_params, *alone


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Points that differ in their seed only."""

    point: Point  # their mean
    n_seeds: int
    standard_error: float | None  # of its performance; None without repeats anywhere
    freedom: float = 0.0  # of the noise that the error is computed from
    noise_of: str = ""  # the method whose repeats tell that noise; empty: those of all

    @property
    def half(self) -> float | None:
        """Half of the 90 % interval of its performance; None without repeats."""
        if self.standard_error is None:
            return None
        return self.standard_error * float(student.ppf(0.95, self.freedom))


def by_method(points: Sequence[Point]) -> dict[str, list[Point]]:
    """Points of each method, of one size of trained model each.

    Raises:
        MixtureError: There is no point, or those of a method are of models of several sizes.
    """
    if not points:
        raise MixtureError("there is no point to fit a curve to")
    found: dict[str, list[Point]] = {}
    for point in points:
        found.setdefault(point.method, []).append(point)
    for method, own in found.items():
        full = [point.full_flops for point in own]
        if max(full) > min(full) * (1 + _SAME):
            raise MixtureError(
                f"{method!r} has points of models of several sizes: training on the whole pool "
                f"costs {min(full):.4g} to {max(full):.4g} FLOPs",
                hint="one size at a time: --train-params N, as in that column",
            )
    return {method: found[method] for method in sorted(found)}


def fits_as_published(points: Sequence[Point]) -> dict[str, UtilityCurve]:
    """Each method's curve as the authors fitted theirs; see `utility.fit_as_published`.

    A method without a ceiling gets the best performance of any point, as the authors took it.
    """
    best = max((point.performance for point in points), default=math.nan)
    fits = {}
    for method, own in by_method(at_one_cost(points)).items():
        ceilings = sorted({point.ceiling for point in own if point.ceiling is not None})
        if len(ceilings) > 1:
            raise MixtureError(
                f"{method!r} has {len(ceilings)} ceilings, {ceilings[0]:.4g} to {ceilings[-1]:.4g}",
                hint="a curve has one: the best performance that is known",
            )
        cost, performance = [p.cost for p in own], [p.performance for p in own]
        try:
            ceiling = ceilings[0] if ceilings else best
            fits[method] = fit_as_published(cost, performance, ceiling=ceiling)
        except MixtureError as error:
            raise MixtureError(f"{method!r}: {error}", hint=error.hint) from error
    return fits


def fits_of_utility(
    points: Sequence[Point],
    *,
    draws: int = 2000,
    seed: int = 0,
    refuse: Callable[[str, MixtureError], None] | None = None,
) -> dict[str, UtilityFit]:
    """Each method's curve with all parameters free, and what else its points allow.

    What a seed does to all its points alike is taken out first (see `methods.blocks`), and seeds
    of one share cost their mean. A method with too few repeats of its own borrows the noise of the
    others'. Draws of different methods are independent.

    Args:
        points: Of any number of methods.
        draws: For each method.
        seed: The same seed gives the same intervals.
        refuse: Told of each method with too few shares, which is then left out; without it,
            that is an error.
    """
    level, found = at_one_cost(without_seeds(points)[0]), cells(points)
    fits = {}
    for method, own in by_method(level).items():
        others = [p for p in level if p.method != method]
        try:
            fit = _fit(own, others, draws, [seed, zlib.crc32(method.encode())])
            off = _misfit([c for c in found if c.point.method == method], fit)
            fits[method] = replace(fit, notes=(*fit.notes, *off))
        except MixtureError as error:
            named = MixtureError(f"{method!r}: {error}", hint=error.hint)
            if refuse is None:
                raise named from error
            refuse(method, named)
    return fits


def _misfit(own: Sequence[Cell], fit: UtilityFit) -> list[str]:
    """A sentence where cells lie farther from their curve than noise takes them; else none.

    Chi-square of the means over seeds, at 1 in 100: three parameters, one cell a share.
    """
    known = [(c.point, c.standard_error) for c in own if c.standard_error]
    if len(known) < _LEAST_CELLS:
        return []
    gaps = [(p.performance - fit.curve.value(p.cost)) / e for p, e in known if e]
    if chi2.sf(sum(g * g for g in gaps), len(gaps) - 3) > _CHANCE:
        return []
    most = max(map(abs, gaps))
    return [f"points lie up to {most:.0f} standard errors off: no such curve, read the points"]


def _fit(
    own: Sequence[Point], others: Sequence[Point], draws: int, seed: Sequence[int]
) -> UtilityFit:
    known = [p.noise_sd for p in own if p.noise_sd is not None]
    if 0 < len(known) < len(own):
        raise MixtureError(
            f"{len(own) - len(known)} of {len(own)} points have no noise_sd",
            hint="state it for all points of a method, or for none",
        )
    return fit_utility(
        [p.cost for p in own],
        [p.performance for p in own],
        start=min(p.start for p in own),
        noise_sd=known or None,
        pooled=PooledNoise() if known or _repeats(own).freedom >= _ENOUGH else _repeats(others),
        draws=draws,
        seed=seed,
    )


def cells(points: Sequence[Point]) -> list[Cell]:
    """Means over seeds, with standard errors from repeats, in order of cost.

    What a seed does to all its points alike is taken out first, so that a cell that lacks a seed
    is compared fairly. Noise is that of the method's own repeats where there are enough: random
    subsets differ from seed to seed, and chosen ones do not. Else it is that of all repeats.
    Points without a seed stand for themselves.
    """
    level, noise_sd = without_seeds(points)
    noise = _noises(level, noise_sd)
    found = [_mean(group, noise[_noise_of(group[0])]) for group in _grouped(level).values()]
    return sorted(found, key=lambda c: (c.point.total_flops, c.point.performance, c.point.method))


def without_seeds(points: Sequence[Point]) -> tuple[list[Point], float | None]:
    """Points in one order, the effect of their seed taken out, and the noise of one of them."""
    ordered = sorted(points, key=lambda p: (repr(p.cell), p.seed, p.performance, p.total_flops))
    own = _distinct(ordered)
    blocks = fit_blocks([p.cell for p in own], [p.seed for p in own], [p.performance for p in own])
    level = [
        replace(p, performance=p.performance - blocks.effect.get(p.seed, 0.0)) for p in ordered
    ]
    return level, blocks.noise_sd


def _distinct(points: Sequence[Point]) -> list[Point]:
    """Points of different runs: the whole pool is one subset, and its runs are all methods'."""
    found: dict[object, Point] = {}
    for i, p in enumerate(points):
        is_whole = p.share is not None and p.share >= 1
        key = (p.train_params, p.share, p.seed, p.performance) if is_whole and p.seed else i
        found.setdefault(key, p)
    return list(found.values())


def at_one_cost(points: Sequence[Point]) -> list[Point]:
    """Points of one cell at the mean of their costs, where they have a share.

    Random subsets of two seeds differ by a document or more: they are one share all the same.
    """
    groups = _grouped(points)
    cost = {cell: math.fsum(p.cost for p in own) / len(own) for cell, own in groups.items()}
    return [
        p if p.share is None else replace(p, total_flops=cost[p.cell] * p.full_flops)
        for p in points
    ]


def _grouped(points: Sequence[Point]) -> dict[tuple[object, ...], list[Point]]:
    groups: dict[tuple[object, ...], list[Point]] = {}
    for p in points:
        groups.setdefault(p.cell, []).append(p)
    return groups


def _repeats(points: Sequence[Point]) -> PooledNoise:
    """Squares about the means of cells."""
    squares, freedom = 0.0, 0
    for group in _grouped(points).values():
        mean = math.fsum(p.performance for p in group) / len(group)
        squares += math.fsum((p.performance - mean) ** 2 for p in group)
        freedom += len(group) - 1
    return PooledNoise(squares=squares, freedom=freedom)


def _noise_of(point: Point) -> str:
    """Whose repeats tell a point's noise: those of all for the whole pool, which all have."""
    return "" if point.share is not None and point.share >= 1 else point.method


def _noises(level: Sequence[Point], noise_sd: float | None) -> dict[str, _Noise]:
    """Of one point, by method: from its own repeats, or from all where these are too few."""
    every = _repeats(_distinct(level))
    n_effects = max(0, len({p.seed for p in level if p.seed}) - 1)
    # What the seeds' effects took is lost to the repeats of each method as to all.
    kept = max(every.freedom - n_effects, 1) / max(every.freedom, 1)
    found = {"": _Noise(noise_sd, every.freedom * kept, "")}
    for method in {p.method for p in level}:
        own = _repeats([p for p in level if p.method == method])
        if noise_sd and every.squares and own.freedom >= _ENOUGH:
            part = own.squares / own.freedom / (every.squares / every.freedom)
            found[method] = _Noise(noise_sd * math.sqrt(part), own.freedom * kept, method)
        else:
            found[method] = found[""]
    return found


def _mean(group: Sequence[Point], noise: _Noise) -> Cell:
    n = len(group)
    mean = replace(
        group[0],
        performance=math.fsum(p.performance for p in group) / n,
        total_flops=math.fsum(p.total_flops for p in group) / n,
        seed="",
    )
    error = None if noise.sd is None else noise.sd / math.sqrt(n)
    return Cell(
        point=mean, n_seeds=n, standard_error=error, freedom=noise.freedom, noise_of=noise.method
    )
