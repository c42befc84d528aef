"""Curves and optimum of one scale, from runs that each changed one domain's amount.

Source:
    Kang et al., arXiv:2407.20177; see `ddo`.

Units:
    Factors and optima are multiples of a domain's tokens in the base run.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from mixture_assets.core.mixture import Mixture
from mixture_assets.core.problem import CurveFit
from mixture_assets.methods.allocate import allocate
from mixture_assets.methods.blocks import fit_blocks
from mixture_assets.methods.curves import STARTS, Curve, fit_curve, improves


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One finished run of the design: a domain's amount, and the objective it gave."""

    domain: str | None  # None: the base run
    factor: float
    objective: float
    run_digest: str = ""
    seed: str = ""  # runs of one seed are a block; empty: not known


@dataclass(frozen=True, kw_only=True)
class DDOFit:
    """Curves and optimum of one scale."""

    curves: Sequence[CurveFit]  # by domain, in sorted order
    noise_sd: float | None  # of one run's objective, from repeats, the seed's effect taken out
    base_objective: float  # mean over seeds

    @property
    def optimum(self) -> dict[str, float]:
        """Best amount by domain, in multiples of its base amount."""
        return {curve.domain: curve.optimum for curve in self.curves}

    @property
    def tokens(self) -> dict[str, float]:
        """Best tokens by domain."""
        return {curve.domain: curve.optimum * curve.base_tokens for curve in self.curves}

    @property
    def weights(self) -> Mixture:
        """The optimum as sampling weights."""
        return Mixture.proportional_to(self.optimum)

    @property
    def at_floor(self) -> list[str]:
        """Domains that the least amount holds up."""
        return [curve.domain for curve in self.curves if curve.is_at_floor]

    @property
    def not_improving(self) -> list[str]:
        """Domains whose growth did not lower the objective."""
        return [curve.domain for curve in self.curves if not curve.is_improving]

    @property
    def starts(self) -> dict[str, tuple[Curve]]:
        """The curves found: where to begin when the same runs are fitted again."""
        return {
            f.domain: (Curve(a=f.a, b=f.b, c=f.c),)
            for f in self.curves
            if f.a is not None and f.b is not None and f.c is not None
        }

    def to_json(self) -> dict[str, object]:
        """What `mixture ddo --json` prints; a, b and c are null where growth does not help."""
        return {
            "fits": {f.domain: {"a": f.a, "b": f.b, "c": f.c} for f in self.curves},
            "optimum": self.optimum,
            "weights": dict(self.weights),
            "at_floor": self.at_floor,
            "not_improving": self.not_improving,
            "degrees_of_freedom": {f.domain: f.degrees_of_freedom for f in self.curves},
            "noise_sd": self.noise_sd,
        }


def fit_trials(
    trials: Sequence[Trial],
    *,
    floor: float,
    scale: str = "small",
    base_tokens: float = 1.0,
    starts: Mapping[str, Sequence[Curve]] | None = None,
    alone: Collection[str] = (),
) -> DDOFit:
    """Fit a curve for each domain through its runs and every base run, and allocate.

    Noise is Gaussian, alike in all runs, and runs of one seed may share an effect, which is taken
    out where the design repeats enough to tell it (see `blocks`); least squares then has the
    greatest likelihood.

    Args:
        trials: In any order. Base runs (domain None) are shared by all domains.
        floor: Least amount of any domain, in multiples of its base amount.
        scale: Name of the scale, for the fits.
        base_tokens: Tokens of each domain in the base run.
        starts: Where the search for a curve begins, by domain.
        alone: Domains that the base runs lack, so that no base run stands for their factor 1.
    """
    level, noise_sd = without_seeds(trials)
    ordered = sorted(level, key=lambda t: (t.domain or "", t.factor, t.objective))
    base = [t for t in ordered if t.domain is None]
    base_objective = math.fsum(t.objective for t in base) / len(base)
    own: dict[str, list[Trial]] = {}
    for t in ordered:
        if t.domain is not None:
            own.setdefault(t.domain, []).append(t)
    through = {d: runs if d in alone else [*base, *runs] for d, runs in own.items()}
    points = {
        domain: [(t.factor, t.objective / base_objective) for t in runs]
        for domain, runs in through.items()
    }
    curves = {
        domain: _curve(xy, (starts or {}).get(domain, STARTS)) for domain, xy in points.items()
    }
    optimum = allocate(
        {d: (c.a, c.b) if c else None for d, c in curves.items()}, total=len(own), floor=floor
    )
    return DDOFit(
        curves=[
            _described(
                domain,
                curves[domain],
                points[domain],
                scale=scale,
                base_tokens=base_tokens,
                optimum=optimum[domain],
                run_digests=[t.run_digest for t in through[domain] if t.run_digest],
                is_at_floor=optimum[domain] <= floor * (1 + 1e-9),
            )
            for domain in sorted(own)
        ],
        noise_sd=noise_sd,
        base_objective=base_objective,
    )


def without_seeds(trials: Sequence[Trial]) -> tuple[list[Trial], float | None]:
    """Trials with the effect of their seed taken out, and the noise that is left in one run.

    A run that stands for several trials counts once.
    """
    ordered = sorted(
        trials, key=lambda t: (t.domain or "", t.factor, t.seed, t.objective, t.run_digest)
    )
    seen: dict[str | int, Trial] = {}
    for i, trial in enumerate(ordered):
        seen.setdefault(trial.run_digest or i, trial)
    once = list(seen.values())
    blocks = fit_blocks(
        [(t.domain, t.factor) for t in once],
        [t.seed for t in once],
        [t.objective for t in once],
    )
    level = [replace(t, objective=t.objective - blocks.effect.get(t.seed, 0.0)) for t in trials]
    return level, blocks.noise_sd


def _curve(points: Sequence[tuple[float, float]], starts: Sequence[Curve]) -> Curve | None:
    x, y = zip(*points, strict=True)
    return fit_curve(x, y, starts=starts) if improves(x, y) else None


def _described(
    domain: str,
    curve: Curve | None,
    points: Sequence[tuple[float, float]],
    *,
    scale: str,
    base_tokens: float,
    optimum: float,
    run_digests: Sequence[str],
    is_at_floor: bool,
) -> CurveFit:
    degrees = len(points) - 3
    squares = [(curve.value(x) - y) ** 2 for x, y in points] if curve else []
    return CurveFit(
        domain=domain,
        scale=scale,
        base_tokens=base_tokens,
        a=curve.a if curve else None,
        b=curve.b if curve else None,
        c=curve.c if curve else None,
        optimum=optimum,
        degrees_of_freedom=degrees,
        residual_sd=math.sqrt(math.fsum(squares) / degrees) if curve and degrees > 0 else None,
        points=tuple(points),
        run_digests=tuple(run_digests),
        is_improving=curve is not None,
        is_at_floor=is_at_floor,
    )
