"""What each method is expected to teach from a share of the pool: from points, or from priors.

Source:
    Rates of methods that were never measured here: see `priors`.

Shapes:
    B draws.

Differs from the source:
    Nothing is carried from one pool or model to another but the ratio of two methods' rates.
    Where no point was trained on half of the pool or more, a curve of its own says little of what
    a method does beyond its points: then all methods are taken to end alike (see `shared_ends`).
"""

import math
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mixture_assets.core.errors import MixtureError
from mixture_assets.methods.swarm import Array
from mixture_assets.selection.curve_draws import CurveDraws
from mixture_assets.selection.points import (
    Point,
    by_method,
    fits_of_utility,
    without_seeds,
)
from mixture_assets.selection.priors import RATES, draw_panels, learned_share, prior_rates
from mixture_assets.selection.shared_ends import fit_shared_ends

RANDOM = "random"
_NEGLIGIBLE = 1e-3
DRAWS = 2100  # a multiple of the panels
_PILOT = 0.5  # largest share of points that are a pilot, not a sweep
_SAME = 0.01  # relative, of two sizes of selector

Key = tuple[str, float | None]  # method, parameters of its selector


@dataclass(frozen=True, kw_only=True, eq=False)
class Learning:
    """A method's performance by share: B curves from `untrained` to `whole`, and what they are."""

    untrained: Array  # (B,), at a share of 0
    whole: Array  # (B,), at a share of 1
    rate: Array  # (B,)
    basis: str  # 'points', or what else
    largest_share: float = 1.0  # that a point was trained on

    def at(self, share: float) -> Array:
        """(B,) performances."""
        rise = self.whole - self.untrained
        return np.asarray(self.untrained + rise * learned_share(self.rate, share))


@dataclass(frozen=True, kw_only=True, eq=False)
class Outlook:
    """What is expected of every method."""

    fits: dict[Key, CurveDraws]
    points: Sequence[Point]
    unit: str  # of performances
    noise_sd: float = 0.0  # of one point at random
    notes: tuple[str, ...] = ()
    seed: int = 0

    @property
    def negligible(self) -> float:
        """A gain that is none: a thousandth of what there is to be learned.

        Draws of curves that begin and end alike differ by the last bits of their numbers.
        """
        if not self.fits:
            return _NEGLIGIBLE  # performances are shares of it
        values = [p.performance for p in self.points]
        return _NEGLIGIBLE * (max(values) - min(values))

    @classmethod
    def of(
        cls, points: Sequence[Point], *, apart: Collection[str] = (), seed: int = 0
    ) -> "Outlook":
        """From points of one size of trained model; without points, from priors alone.

        Args:
            points: What was measured.
            apart: Methods that are no selection, whose points are compared with random only.
            seed: The same seed gives the same intervals.
        """
        names = {_name(p): (p.method, p.selector_params) for p in points}
        learned = [
            replace(
                p,
                method=_name(p),
                total_flops=p.trained_share * p.full_flops,
                selection_flops=0.0,
            )
            for p in points
            if p.method not in apart
        ]
        found, noise_sd, notes = _fitted(learned, seed)
        return cls(
            fits={names[name]: fit for name, fit in found.items()},
            points=points,
            unit="performance" if found else "share of what the whole pool teaches",
            noise_sd=noise_sd,
            notes=tuple(notes),
            seed=seed,
        )

    def learning(self, method: str, selector_params: float | None = None) -> Learning | None:
        """By the method's own points, those with another selector, or priors; None without any."""
        own = {size: fit for (name, size), fit in self.fits.items() if name == method}
        for size, fit in own.items():
            if size is None or selector_params is None or _near(size, selector_params):
                return self._of_points(fit, method, size, "points")
        if own and selector_params is not None:
            size = min(own, key=lambda s: abs(math.log((s or 1) / selector_params)))
            basis = f"points with a selector of {size:.3g} parameters"
            return self._of_points(own[size], method, size, basis)
        return self._of_priors(method)

    def gain(self, method: str) -> Array | None:
        """(B,) recorded gains of a search over random selection of as large a share."""
        own = [p for p in self.points if p.method == method]
        random = self.fits.get((RANDOM, None))
        if not own or random is None:
            return None
        drawn = random.predict([p.trained_share for p in own])
        level = np.mean([p.performance for p in own]) - drawn.mean(axis=1)
        noise = np.random.default_rng([self.seed, zlib.crc32(method.encode())]).standard_normal(
            len(level)
        )
        return np.asarray(level + self.noise_sd / math.sqrt(len(own)) * noise)

    def _of_points(self, fit: CurveDraws, method: str, size: float | None, basis: str) -> Learning:
        shares = [
            p.trained_share for p in self.points if p.method == method and p.selector_params == size
        ]
        ends = fit.predict([0.0, 1.0])
        return Learning(
            untrained=ends[:, 0],
            whole=ends[:, 1],
            rate=fit.rate,
            basis=basis,
            largest_share=max(shares),
        )

    def _of_priors(self, method: str) -> Learning | None:
        panel = draw_panels(DRAWS, self.seed)
        rate = prior_rates(method, panel)
        if rate is None:
            return None
        anchors = sorted((name != RANDOM, name) for name, size in self.fits if name in RATES)
        if not anchors:
            return Learning(
                untrained=np.zeros(DRAWS), whole=np.ones(DRAWS), rate=rate, basis="prior: published"
            )
        anchor = anchors[0][1]
        known = self.learning(anchor)
        anchor_rate = prior_rates(anchor, panel)
        assert known is not None
        assert anchor_rate is not None
        return replace(
            known,
            rate=known.rate * rate / anchor_rate,
            basis=f"prior: published rates beside {anchor!r}, whose points are here",
        )


def _name(point: Point) -> str:
    size = point.selector_params
    return point.method if size is None else f"{point.method} {size:g}"


def _fitted(
    learned: Sequence[Point], seed: int
) -> tuple[Mapping[str, CurveDraws], float, list[str]]:
    """Curves by name, the noise of a point at random, and what is left to priors."""
    if not learned:
        return {}, 0.0, []
    if max(p.trained_share for p in learned) < _PILOT:
        groups = by_method(without_seeds(learned)[0])
        pilot = {
            name: ([p.trained_share for p in own], [p.performance for p in own])
            for name, own in groups.items()
        }
        try:
            shared = fit_shared_ends(pilot, draws=DRAWS, seed=seed)
        except MixtureError:
            pass  # too few points for it: each method by itself
        else:
            note = (
                "no point was trained on half of the pool: all methods are taken to do alike on "
                "the whole of it"
            )
            return shared.draws, shared.noise_sd, [note]
    notes: list[str] = []

    def refuse(_: str, error: MixtureError) -> None:
        notes.append(f"left to priors: {error}")

    fits = fits_of_utility(learned, draws=DRAWS, seed=seed, refuse=refuse)
    notes += [f"{name}: {note}" for name, fit in fits.items() for note in fit.notes]
    noise_sd = fits[RANDOM].noise_sd if RANDOM in fits else 0.0
    return {name: fit.draws for name, fit in fits.items()}, noise_sd, notes


def _near(a: float, b: float) -> bool:
    return abs(a - b) <= _SAME * max(a, b)
