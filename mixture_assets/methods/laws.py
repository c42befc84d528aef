"""Surrogates by the name that a table or a command line gives them, and how well each predicts.

Shapes:
    R runs, D domains, M metrics: an objective is their mean by shares, and each has a law of its
    own, because the mean of exponential laws is none.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import spearmanr

from mixture_assets.core.errors import MixtureError
from mixture_assets.methods.boosted_trees import BoostedTrees
from mixture_assets.methods.gaussian_process import GaussianProcess
from mixture_assets.methods.linear import Linear, LogRidge
from mixture_assets.methods.log_linear import LogLinear
from mixture_assets.methods.mixing_law import ExponentialLaw
from mixture_assets.methods.surrogate import Predict, Surrogate
from mixture_assets.methods.swarm import Array, mixtures_of

LAWS: Mapping[str, Surrogate] = {
    "linear": Linear(),
    "log_ridge": LogRidge(),
    "exponential": ExponentialLaw(),
    "log_linear": LogLinear(),
    "lightgbm": BoostedTrees(),
    "gaussian_process": GaussianProcess(),
}
MIN_RUNS = 8
_ONE = np.ones(1)


@dataclass(frozen=True, kw_only=True)
class Score:
    """How predictions compare with what was measured.

    All four together: ranks say which mixture to take, errors how far to trust the numbers, and
    regret what a wrong choice costs.
    """

    spearman: float | None  # None where predictions or values are all alike
    r2: float | None  # below 0: worse than the mean of the measured values
    mae: float  # mean absolute error, in the unit of the objective
    regret: float  # the predicted best's value above the true best's, in that unit

    @classmethod
    def of(cls, predicted: Array, measured: Array) -> "Score":
        """Of two arrays of one order."""
        square = float(np.square(measured - measured.mean()).sum())
        alike = np.ptp(predicted) == 0 or np.ptp(measured) == 0
        return cls(
            spearman=None if alike else float(spearmanr(predicted, measured).statistic),
            r2=1 - float(np.square(predicted - measured).sum()) / square if square else None,
            mae=float(np.abs(predicted - measured).mean()),
            regret=float(measured[np.argmin(predicted)] - measured.min()),
        )


@dataclass(frozen=True, kw_only=True)
class LawScore:
    """One law on one swarm."""

    law: str
    cross_validated: Score  # ranks and errors over all held-out runs; regret: mean over folds
    test: Score | None
    seconds: float


def folds_of(weights: Array, *, n_folds: int, seed: int) -> Array:
    """The fold of each run, the same for every law; runs of one mixture are in one fold.

    A mixture that was run twice, once on each side, would be predicted by itself.
    """
    mixtures = mixtures_of(weights)
    n_mixtures = int(mixtures.max()) + 1
    if n_mixtures < MIN_RUNS:
        raise MixtureError(
            f"{n_mixtures} mixtures ({len(weights)} runs) are too few to hold some out",
            hint=f"at least {MIN_RUNS} different ones are needed",
        )
    folds = np.random.default_rng(seed).permutation(
        np.arange(n_mixtures) % min(n_folds, n_mixtures)
    )
    return np.asarray(folds[mixtures])


def fit_each(law: Surrogate, weights: Array, values: Array, shares: Array) -> Predict:
    """The law fitted to each metric; the answer is the mean of their predictions.

    Args:
        law: Fitted anew to each metric.
        weights: (R, D).
        values: (M, R), or (R,) of one metric.
        shares: (M,), in any unit.
    """
    fits = [law.fit(weights, own) for own in np.atleast_2d(values)]
    return lambda asked: _mean(np.array([predict(asked) for predict in fits]), shares)


def held_out(
    law: Surrogate, weights: Array, values: Array, folds: Array, shares: Array = _ONE
) -> Array:
    """Each run's objective as predicted from the runs of the other folds, (R,)."""
    predicted = np.empty(len(weights))
    for fold in np.unique(folds):
        others = folds != fold
        predict = fit_each(law, weights[others], values[..., others], shares)
        predicted[~others] = predict(weights[~others])
    return predicted


def cross_validated(
    law: Surrogate, weights: Array, values: Array, folds: Array, shares: Array = _ONE
) -> Score:
    """Held-out runs, scored together; the regret is the mean over folds."""
    predicted = held_out(law, weights, values, folds, shares)
    values = _mean(values, shares)
    score = Score.of(predicted, values)
    regrets = [
        Score.of(predicted[folds == fold], values[folds == fold]).regret
        for fold in np.unique(folds)
    ]
    return Score(
        spearman=score.spearman, r2=score.r2, mae=score.mae, regret=float(np.mean(regrets))
    )


def score_laws(
    weights: Array,
    values: Array,
    *,
    shares: Array = _ONE,
    test: tuple[Array, Array] | None = None,
    laws: Sequence[str] = tuple(LAWS),
    n_folds: int = 5,
    seed: int = 0,
) -> list[LawScore]:
    """Every law on the same folds, the best first by its error on held-out runs.

    Args:
        weights: (R, D).
        values: (M, R) metrics of the objective, or (R,) of one.
        shares: (M,) of the metrics in the objective, in any unit.
        test: Weights and values of further runs, for which each law is fitted to all of the first.
        laws: Names in LAWS.
        n_folds: Parts that are held out in turn.
        seed: Of the parts.
    """
    folds = folds_of(weights, n_folds=n_folds, seed=seed)
    scores = []
    for name in laws:
        begun = time.perf_counter()
        score = cross_validated(LAWS[name], weights, values, folds, shares)
        tested = None
        if test is not None:
            predict = fit_each(LAWS[name], weights, values, shares)
            tested = Score.of(predict(test[0]), _mean(test[1], shares))
        seconds = time.perf_counter() - begun
        scores.append(LawScore(law=name, cross_validated=score, test=tested, seconds=seconds))
    return sorted(scores, key=lambda s: (s.cross_validated.mae, s.law))


def _mean(values: Array, shares: Array) -> Array:
    """(R,) mean by shares of (M, R)."""
    return np.asarray(shares / shares.sum() @ np.atleast_2d(values))
