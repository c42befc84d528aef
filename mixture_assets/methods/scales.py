"""Laws compared across scales: fitted to smaller runs, scored on the largest.

A law that knows about size or length (the additive law, BiMix) says how low the loss will be. One
that knows mixtures only says which is best at the scale that it saw, and its ranks are hoped to
carry over. Both are scored on the same held-out runs, those of the largest scale.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mixture_assets.core.errors import MixtureError, shortlist
from mixture_assets.core.units import tokens_text
from mixture_assets.methods.additive_law import fit_additive_law
from mixture_assets.methods.bimix import fit_bimix
from mixture_assets.methods.laws import LAWS, MIN_RUNS, Score, fit_each
from mixture_assets.methods.surrogate import Surrogate
from mixture_assets.methods.swarm import Array, Swarm

Scale = tuple[float, float]  # parameters, tokens
Forecast = Callable[[Array, Array, Array], Array]  # weights (n, D), params, tokens -> (n,)
Objective = Mapping[str, float] | Sequence[str]

ADDITIVE, BIMIX = "additive", "bimix"
_OFFSET = 1e-3  # added to BiMix's weights where a run has none of a domain


@dataclass(frozen=True, kw_only=True)
class ScaledSwarm:
    """A swarm whose runs have a model size and a length."""

    swarm: Swarm
    params: Array  # (R,), in the order of the swarm's runs
    tokens: Array  # (R,)

    def __post_init__(self) -> None:
        n = len(self.swarm.runs)
        for what, values in (("params", self.params), ("tokens", self.tokens)):
            if values.shape != (n,) or not (np.isfinite(values) & (values > 0)).all():
                raise MixtureError(f"{what} are finite and above 0 for each of {n} runs")

    @property
    def scales(self) -> list[Scale]:
        """Distinct (params, tokens), by their product and so by FLOPs, the largest last."""
        pairs = set(zip(self.params.tolist(), self.tokens.tolist(), strict=True))
        return sorted(pairs, key=lambda scale: (scale[0] * scale[1], scale))

    def at(self, scales: Sequence[Scale]) -> "ScaledSwarm":
        """The runs at some scales."""
        keep = np.zeros(len(self.params), dtype=bool)
        for params, tokens in scales:
            keep |= (self.params == params) & (self.tokens == tokens)
        return self.only(keep)

    def only(self, keep: NDArray[np.bool_]) -> "ScaledSwarm":
        """Some of the runs."""
        swarm = self.swarm.subset(np.flatnonzero(keep))
        return ScaledSwarm(swarm=swarm, params=self.params[keep], tokens=self.tokens[keep])


class ScaleLaw(Protocol):
    """What can be fitted to runs of several scales."""

    def fit(self, runs: ScaledSwarm, objective: Objective) -> Forecast:
        """Learn the objective; MixtureError says why these runs will not do."""
        ...


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """A law of mixtures alone: one scale's ranks are taken for another's."""

    law: Surrogate

    def fit(self, runs: ScaledSwarm, objective: Objective) -> Forecast:
        """See ScaleLaw.fit."""
        if len(runs.params) < MIN_RUNS:
            raise MixtureError(f"{len(runs.params)} runs, at least {MIN_RUNS} are needed")
        predict = fit_each(self.law, runs.swarm.weights, *runs.swarm.parts(objective))
        return lambda weights, params, tokens: predict(weights)


@dataclass(frozen=True, kw_only=True)
class Additive:
    """The additive law, of the objective as a whole."""

    def fit(self, runs: ScaledSwarm, objective: Objective) -> Forecast:
        """See ScaleLaw.fit."""
        law = fit_additive_law(
            runs.swarm.domains,
            runs.swarm.weights,
            runs.params,
            runs.tokens,
            runs.swarm.objective(objective),
        )
        domains = runs.swarm.domains
        return lambda weights, params, tokens: law.losses(domains, weights, params, tokens)


@dataclass(frozen=True, kw_only=True)
class PerDomain:
    """BiMix: a law of each domain's own metric, summed as the objective sums them."""

    metrics: Mapping[str, str] = field(default_factory=dict)  # domain -> metric; else its own name

    def fit(self, runs: ScaledSwarm, objective: Objective) -> Forecast:
        """See ScaleLaw.fit."""
        swarm = runs.swarm
        owner = {self.metrics.get(d, d): d for d in swarm.domains}
        shares = dict(objective) if isinstance(objective, Mapping) else dict.fromkeys(objective, 1)
        missing = [m for m in owner if m not in swarm.metrics]
        foreign = [m for m in shares if m not in owner]
        if missing or foreign:
            raise MixtureError(
                f"no metric for {shortlist(owner[m] for m in missing)}"
                if missing
                else f"the objective has {shortlist(foreign)}, which is the loss of no domain"
            )
        offset = 0.0 if (swarm.weights > 0).all() else _OFFSET
        losses = {d: swarm.metrics[m] for m, d in owner.items()}
        model = fit_bimix(swarm.domains, swarm.weights, runs.tokens, losses, offset=offset)
        total = sum(shares.values())

        def forecast(weights: Array, params: Array, tokens: Array) -> Array:
            columns = dict(zip(swarm.domains, weights.T, strict=True))
            parts = [
                share / total * model.laws[owner[m]].loss(columns[owner[m]], tokens)
                for m, share in sorted(shares.items())
            ]
            return np.asarray(np.sum(parts, axis=0))

        return forecast


@dataclass(frozen=True, kw_only=True)
class ScaleScore:
    """One law, fitted at some scales, on the runs of the largest."""

    law: str
    fitted_at: tuple[Scale, ...]
    n_runs: int  # that it was fitted to
    score: Score
    seconds: float


@dataclass(frozen=True, kw_only=True)
class AcrossScales:
    """How well small runs foretell large ones."""

    held_out: Scale
    n_held_out: int
    scores: Sequence[ScaleScore]  # the best rank correlation first
    not_fitted: Mapping[str, str]  # law and scale -> reason


def score_across_scales(
    runs: ScaledSwarm,
    objective: Objective,
    *,
    laws: Sequence[str] = (ADDITIVE, BIMIX, *LAWS),
    domain_metrics: Mapping[str, str] | None = None,
) -> AcrossScales:
    """Fit every law to the smaller scales and score it on the largest, which none has seen.

    The additive law gets all smaller runs; BiMix those of one model size, the held-out one if it is
    there, else the one with most runs; a law of mixtures alone is fitted to each smaller scale by
    itself. Errors of the latter are of level: only its ranks and its regret mean anything.

    Args:
        runs: Of two scales or more.
        objective: Metrics, or metric -> share, as in `Swarm.objective`.
        laws: "additive", "bimix", and names in LAWS.
        domain_metrics: Domain -> the metric that is its loss, for BiMix; else one of its own name.
    """
    *smaller, largest = runs.scales
    test = runs.at([largest])
    if not smaller or len(test.params) < 2:
        raise MixtureError(
            f"across scales needs two scales, and two runs at the largest: got {len(runs.scales)} "
            f"scales, {len(test.params)} runs at {_scale_text(largest)}"
        )
    unknown = set(laws) - {ADDITIVE, BIMIX, *LAWS}
    if unknown:
        raise MixtureError(
            f"there is no law {shortlist(unknown)}",
            hint=f"laws: {', '.join((ADDITIVE, BIMIX, *LAWS))}",
        )
    scores, reasons = [], {}
    for name in laws:
        for law, scales in _plans(name, runs, smaller, largest, domain_metrics or {}):
            try:
                scores.append(_scored(name, law, runs.at(scales), test, objective))
            except MixtureError as error:
                reasons[f"{name} at {', '.join(map(_scale_text, scales))}"] = str(error)
    return AcrossScales(
        held_out=largest,
        n_held_out=len(test.params),
        scores=sorted(scores, key=_rank),
        not_fitted=reasons,
    )


def _plans(
    name: str,
    runs: ScaledSwarm,
    smaller: list[Scale],
    largest: Scale,
    domain_metrics: Mapping[str, str],
) -> list[tuple[ScaleLaw, list[Scale]]]:
    """What a name stands for, and the scales that it is fitted to."""
    if name == ADDITIVE:
        return [(Additive(), smaller)]
    if name == BIMIX:
        size = _size_for_bimix(runs, smaller, largest)
        return [(PerDomain(metrics=domain_metrics), [s for s in smaller if s[0] == size])]
    return [(Transfer(law=LAWS[name]), [scale]) for scale in smaller]


def _size_for_bimix(runs: ScaledSwarm, smaller: list[Scale], largest: Scale) -> float:
    sizes = {params for params, _ in smaller}
    if largest[0] in sizes:
        return largest[0]
    fitting = runs.at(smaller).params
    return max(sizes, key=lambda size: (int((fitting == size).sum()), size))


def _scored(
    name: str, law: ScaleLaw, train: ScaledSwarm, test: ScaledSwarm, objective: Objective
) -> ScaleScore:
    measured = test.swarm.objective(objective)
    begun = time.perf_counter()
    forecast = law.fit(train, objective)
    predicted = forecast(test.swarm.weights, test.params, test.tokens)
    if not np.isfinite(predicted).all():
        raise MixtureError(f"{int((~np.isfinite(predicted)).sum())} predictions are infinite")
    return ScaleScore(
        law=name,
        fitted_at=tuple(train.scales),
        n_runs=len(train.params),
        score=Score.of(predicted, measured),
        seconds=time.perf_counter() - begun,
    )


def _rank(score: ScaleScore) -> tuple[float, str, tuple[Scale, ...]]:
    found = score.score.spearman
    return (1.0 if found is None else -found, score.law, score.fitted_at)


def _scale_text(scale: Scale) -> str:
    return f"{scale[0]:.3g} parameters x {tokens_text(scale[1])} tokens"
