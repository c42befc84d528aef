"""From a swarm to weights that can be trusted: an optimum, its error bars, and a verdict.

Source:
    The law is that of Data Mixing Laws (2403.16952). The mixture is by the one-standard-error rule
    (Breiman et al. 1984): of all mixtures that are predicted to be within one standard error of
    the best, the one closest to natural in relative entropy.

Units:
    Values and gains in the unit of the objective, which is to be lowered; weights of 1.

Differs from the source:
    RegMix and Data Mixing Laws take the mixture that the fit likes best. It is here too, as the
    bare optimum, and `kl` gives any point between the two.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mixture_assets.core.errors import MixtureError, shortlist
from mixture_assets.core.mixture import Mixture
from mixture_assets.methods.laws import LAWS, Score, folds_of, held_out
from mixture_assets.methods.optimum import Convex, Optimum, minimise
from mixture_assets.methods.region import Limits, Region, region_of
from mixture_assets.methods.resample import FittedLaws, Laws
from mixture_assets.methods.swarm import Array, Swarm, mixtures_of
from mixture_assets.methods.trust import Trust, trust, worst

Verdict = Literal["supported", "within noise", "not identifiable"]

DEFAULT_LAW = "exponential"
_Z = 1.6448536269514722  # 90 % of a normal lies within so many sd; 95 % lies below it
_LEAST_SHARE = 1e-6  # of natural, in relative entropy
_LEAST_PRICE = 1e-6  # of the objective's spread: less is rounding
_SAMPLED = "sampled range"
_OUTSIDE = 1e-3  # of weight: less is rounding
_LEAST_KL, _MOST_KL = 1e-6, 1e3  # of the objective's spread per nat: the optimum, and natural
_BISECTIONS = 30


@dataclass(frozen=True, kw_only=True)
class Value:
    """A number with its 90 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Price:
    """What one bound costs: how far the best prediction falls if it gives way by 0.01 of weight.

    The multiplier at the bare optimum, where nothing but the bounds holds the weights back.
    """

    what: str  # 'max_epochs = 4', 'cap', 'floor', 'sampled range', or the name of a group
    domain: str  # "" for a group
    bound: float  # weight
    per_percent: float


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Weights from somebody's runs, with what is needed to judge them."""

    mixture: Mixture
    interval: Mapping[str, tuple[float, float]]  # 90 %, of each weight
    verdict: Verdict
    gain: Value  # natural's objective less the proposal's
    gain_over_uniform: Value
    predicted: Mapping[str, Value]  # proposal, natural, uniform, bare, unconstrained, worst
    mixtures: Mapping[str, Mixture]  # the same names
    prices: tuple[Price, ...]  # the dearest first
    effects: Mapping[str, Mapping[str, float]]  # metric -> domain -> change by 0.01 of weight
    kl: float  # unit of the objective per nat
    trust: Trust
    noise_sd: float  # of one run's objective
    noise_from: Literal["replicates", "residuals"]
    score: Score  # of held-out runs
    held_out: Array  # (R,), each run's objective as predicted without it
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to decide."""

    limits: Limits = field(default_factory=Limits)
    kl: float | None = None  # None: the one-standard-error rule
    beyond_samples: bool = False  # weights may leave the range that the runs had
    draws: int = 1000
    seed: int = 0


def decide(
    swarm: Swarm,
    shares: Mapping[str, float],
    natural: Mixture | None = None,
    settings: Settings | None = None,
) -> Decision:
    """Choose weights that lower a weighted mean of metrics.

    Args:
        swarm: Runs, eight or more.
        shares: Metric -> share of the objective.
        natural: What the gain is measured against; the mean of the runs' mixtures by default.
        settings: Constraints and how to choose.
    """
    return Case(swarm, shares, natural, settings or Settings()).decision()


class Case:
    """One swarm, one objective: everything that the parts of a decision share."""

    def __init__(
        self,
        swarm: Swarm,
        shares: Mapping[str, float],
        natural: Mixture | None,
        settings: Settings,
    ) -> None:
        self.swarm, self.shares, self.settings = swarm, shares, settings
        self.natural = natural or _named(swarm, swarm.weights.mean(axis=0))
        self.nat = _array(swarm, self.natural)
        self.region = _region(swarm, self.natural, settings)
        self.fitted = FittedLaws.of(swarm, shares)
        self.fit = self.fitted.laws
        self.draws = self.fitted.draw(settings.draws, np.random.default_rng(settings.seed))
        self.objective = swarm.objective(shares)
        self.spread = max(float(self.objective.std()), 1e-12)

    def decision(self) -> Decision:
        """Everything, from the bare optimum on."""
        predicted = self._held_out()
        is_known = is_better_than_mean(
            self.swarm.weights, predicted, self.objective, self.settings.seed
        )
        best = minimise(self.fit.convex(), self.region)
        bare = best.weights[0]
        bare_drawn = self.optima()
        kl = self._kl(bare, bare_drawn, is_known)
        at = minimise(self._convex(self.fit, kl), self.region)
        drawn = self.optima(kl)
        chosen = at.weights[0]
        gain = self.gain(chosen, drawn)
        mixtures = self._mixtures(chosen, bare)
        noise_sd, source = self._noise()
        return Decision(
            mixture=_named(self.swarm, chosen),
            # where nothing is known, how far the optimum of the data's noise wanders
            interval=self._intervals(chosen, drawn if is_known else bare_drawn),
            verdict=_verdict(gain, is_known),
            gain=gain,
            gain_over_uniform=self.gain(chosen, drawn, np.full_like(chosen, 1 / len(chosen))),
            predicted={name: self._value(w) for name, w in mixtures.items()},
            mixtures={name: _named(self.swarm, w) for name, w in mixtures.items()},
            prices=self._prices(best) if is_known else (),
            effects=self._effects(),
            kl=kl,
            trust=trust(self.swarm, chosen, self.draws),
            noise_sd=noise_sd,
            noise_from=source,
            score=Score.of(predicted, self.objective),
            held_out=predicted,
            notes=tuple(self._notes(chosen)),
        )

    def _convex(self, laws: Laws, kl: float) -> Convex:
        return laws.convex(kl, np.maximum(self.nat, _LEAST_SHARE))

    def _gain_of(self, laws: Laws, weights: Array, over: Array | None = None) -> Array:
        """A baseline's value, natural's, less that of (B, D) weights, each draw at its own."""
        baseline = self.nat if over is None else over
        return np.asarray(laws.value(baseline[None])[:, 0] - laws.own_value(weights))

    def optima(self, kl: float = 0.0) -> Array:
        """Where each draw is least, (B, D)."""
        return minimise(self._convex(self.draws, kl), self.region).weights

    def optimism(self, drawn: Array, over: Array | None = None) -> Array:
        """What each draw says that its own (B, D) optimum gains, less what the fit says, (B,).

        A draw's optimum is as much too good in the draw's own eyes, compared with the fit that it
        was drawn from, as the fit's optimum is in the fit's, compared with the truth.
        """
        baseline = self.nat if over is None else over
        at_fit = self.fit.value(baseline[None])[0, 0] - self.fit.value(drawn)[0]
        return np.asarray(self._gain_of(self.draws, drawn, over) - at_fit)

    def gain(self, chosen: Array, drawn: Array, over: Array | None = None) -> Value:
        """The chosen mixture's gain without the optimism of having been chosen by the same fit."""
        optimism = self.optimism(drawn, over)
        value = float(self._gain_of(self.fit, chosen[None], over)[0] - optimism.mean())
        sd = float(optimism.std())
        return Value(value=value, low=value - _Z * sd, high=value + _Z * sd)

    def _kl(self, bare: Array, bare_drawn: Array, is_known: bool) -> float:
        """The penalty at which the proposal gives up one standard error of the bare gain.

        The gain over what of natural lies in the region: how far natural itself lies from what was
        run is an uncertainty that the proposal and the bare optimum share.
        """
        low, high = _LEAST_KL * self.spread, _MOST_KL * self.spread
        if not is_known:
            return high  # nothing speaks against natural
        if self.settings.kl is not None:
            return self.settings.kl
        natural = minimise(self._convex(self.fit, high), self.region).weights[0]
        gain = self.gain(bare, bare_drawn, natural)
        allowed = (gain.high - gain.low) / (2 * _Z)
        best = float(self.fit.value(bare[None])[0, 0])
        for _ in range(_BISECTIONS):
            kl = math.sqrt(low * high)
            weights = minimise(self._convex(self.fit, kl), self.region).weights
            is_close = float(self.fit.value(weights)[0, 0]) - best <= allowed
            low, high = (kl, high) if is_close else (low, kl)
        return low

    def _held_out(self) -> Array:
        """The objective of every run as predicted without it, metric by metric."""
        folds = folds_of(self.swarm.weights, n_folds=5, seed=self.settings.seed)
        law, weights = LAWS[DEFAULT_LAW], self.swarm.weights
        parts = [held_out(law, weights, values, folds) for values in self.fitted.values.T]
        return np.asarray(np.stack(parts, axis=1) @ self.fitted.shares)

    def _intervals(self, chosen: Array, drawn: Array) -> dict[str, tuple[float, float]]:
        low, high = np.percentile(drawn, [5, 95], axis=0)
        low, high = np.minimum(low, chosen), np.maximum(high, chosen)
        return {name: (float(low[i]), float(high[i])) for i, name in enumerate(self.swarm.domains)}

    def _mixtures(self, chosen: Array, bare: Array) -> dict[str, Array]:
        simplex = Region.simplex(self.swarm.domains)
        return {
            "proposal": chosen,
            "natural": self.nat,
            "uniform": np.full_like(chosen, 1 / len(chosen)),
            "bare": bare,
            "unconstrained": minimise(self.fit.convex(), simplex).weights[0],
            "worst": worst(self.fit, self.region, self.swarm.weights),
        }

    def _value(self, weights: Array) -> Value:
        value = float(self.fit.value(weights[None])[0, 0])
        sd = float(self.draws.value(weights[None])[:, 0].std())
        return Value(value=value, low=value - _Z * sd, high=value + _Z * sd)

    def _prices(self, at: Optimum) -> tuple[Price, ...]:
        region, found = self.region, []
        sides = [
            (region.low_why, region.low, at.low_price[0]),
            (region.high_why, region.high, at.high_price[0]),
        ]
        for why, bound, price in sides:
            for i, name in enumerate(region.domains):
                is_known = name not in self.swarm.constant or why[i] != _SAMPLED
                if why[i] and is_known:  # a weight that never varied has no price
                    found.append((why[i], name, float(bound[i]), float(price[i])))
        for bound, price in (
            (region.row_low, at.row_low_price[0]),
            (region.row_high, at.row_high_price[0]),
        ):
            for i, name in enumerate(region.row_names):
                found.append((name, "", float(bound[i]), float(price[i])))
        prices = [
            Price(what=what, domain=domain, bound=bound, per_percent=price / 100)
            for what, domain, bound, price in found
            if price > _LEAST_PRICE * self.spread
        ]
        return tuple(sorted(prices, key=lambda p: (-p.per_percent, p.what, p.domain)))

    def _effects(self) -> dict[str, dict[str, float]]:
        """What 0.01 of weight does to each metric if it moves from natural to a domain."""
        found = 0.01 * self.fitted.effects(self.nat)
        return {
            metric: dict(zip(self.swarm.domains, row, strict=True))
            for metric, row in zip(self.fitted.names, found.tolist(), strict=True)
        }

    def _noise(self) -> tuple[float, Literal["replicates", "residuals"]]:
        repeated = replicate_sd(self.swarm.groups, self.objective)
        if repeated is not None:
            return repeated, "replicates"
        return self.fitted.residual_sd, "residuals"

    def _notes(self, chosen: Array) -> list[str]:
        notes = []
        for what, weights in (("weights", chosen), ("natural", self.nat)):
            beyond = self._beyond(weights)
            if beyond:
                notes.append(
                    f"{what} outside what was run, so predictions there rest on the law alone: "
                    f"{', '.join(beyond)}"
                )
        return notes

    def _beyond(self, weights: Array) -> list[str]:
        """Domains whose weight lies outside the runs' range by more than rounding."""
        low, high = self.swarm.weights.min(axis=0), self.swarm.weights.max(axis=0)
        return [
            f"{name} ({weights[i]:.3f}, run at {low[i]:.3f} to {high[i]:.3f})"
            for i, name in enumerate(self.swarm.domains)
            if not low[i] - _OUTSIDE <= weights[i] <= high[i] + _OUTSIDE
        ]


def _verdict(gain: Value, is_known: bool) -> Verdict:
    if not is_known:
        return "not identifiable"
    return "supported" if gain.low > 0 else "within noise"


def sentence(decision: Decision) -> str:
    """The verdict, for people."""
    gain = decision.gain
    if decision.verdict == "not identifiable":
        return (
            "not identifiable: the law predicts held-out runs no better than their mean, so what "
            "is allowed nearest to natural is proposed; `mixture next` names runs that would help"
        )
    range_ = f"{gain.value:.4g} (90 % interval {gain.low:.4g} to {gain.high:.4g})"
    if decision.verdict == "within noise":
        return f"within noise: natural is as good; predicted gain {range_}"
    return f"supported: the objective is predicted to fall by {range_} against natural"


def is_better_than_mean(weights: Array, predicted: Array, measured: Array, seed: int) -> bool:
    """Whether held-out predictions beat the mean of the other folds' runs, at 95 %.

    A paired test over mixtures: of the squared error of that mean less that of the prediction,
    averaged over a mixture's runs. Where nothing can be learned its expectation is below 0.
    """
    folds, mixtures = folds_of(weights, n_folds=5, seed=seed), mixtures_of(weights)
    mean = np.array([measured[folds != fold].mean() for fold in folds])
    better = (measured - mean) ** 2 - (measured - predicted) ** 2
    by_mixture = np.bincount(mixtures, weights=better) / np.bincount(mixtures)
    sd = float(by_mixture.std(ddof=1))
    return bool(by_mixture.mean() > _Z * sd / math.sqrt(len(by_mixture))) if sd > 0 else False


def replicate_sd(groups: NDArray[np.intp], values: Array) -> float | None:
    """Pooled sd of values within groups of runs; None where every run is alone in its own."""
    counts = np.bincount(groups)
    means = np.bincount(groups, weights=values) / counts
    freedom = int((counts - 1).sum())
    if freedom == 0:
        return None
    return math.sqrt(float(((values - means[groups]) ** 2).sum()) / freedom)


def _region(swarm: Swarm, natural: Mixture, settings: Settings) -> Region:
    region = region_of(swarm.domains, settings.limits, natural)
    if settings.beyond_samples:
        return region
    least, most = swarm.weights.min(axis=0), swarm.weights.max(axis=0)
    region = region.floored(dict(zip(swarm.domains, least.tolist(), strict=True)), _SAMPLED)
    region = region.capped(dict(zip(swarm.domains, most.tolist(), strict=True)), _SAMPLED)
    try:
        region.check()
    except MixtureError as error:
        error.add_note("hint: --beyond-samples lets weights leave the range that the runs had")
        raise
    return region


def _array(swarm: Swarm, mixture: Mixture) -> Array:
    if set(mixture) != set(swarm.domains):
        odd = sorted(set(mixture) ^ set(swarm.domains))
        raise MixtureError(
            f"natural weights and runs disagree on domains: {shortlist(odd)} in only one of them",
            hint="--available or --natural names every domain of the runs, and no other",
        )
    return np.array([mixture[name] for name in swarm.domains])


def _named(swarm: Swarm, weights: Array) -> Mixture:
    kept = np.where(weights < 1e-12, 0.0, weights)
    return Mixture.proportional_to(dict(zip(swarm.domains, kept.tolist(), strict=True)))
