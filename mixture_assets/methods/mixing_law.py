"""The exponential mixing law: the objective is c + exp(t . w).

Source:
    Data Mixing Laws (Ye et al., 2403.16952), equation 1: L(w) = c + k exp(sum_j t_j w_j). Since
    the weights sum to 1, k is part of t. Olmix's log-linear law has the same form: `log_linear`.

Differs from the source:
    The authors minimise a Huber loss from random starts. Here least squares from a few values of
    c, each with the exact solution of its linear problem as the start, with analytic derivatives;
    and the spread of t is penalised, by a strength that held-out runs of the fit choose, so that a
    sparse swarm does not explode beyond its runs. The nested laws over steps and model size are
    `nested_law`.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares

from mixture_assets.methods.surrogate import Predict
from mixture_assets.methods.swarm import Array

_DEPTHS = (0.02, 0.2, 1.0, 5.0)  # starts of c: so many spreads of the objective below its least
_STRENGTHS = (1e-6, 1e-4, 1e-3, 1e-2)  # penalty on t's spread, in units of the objective's
_LARGEST = 50.0  # of an exponent
_FOLDS = 5


@dataclass(frozen=True, kw_only=True)
class ExponentialLaw:
    """c + exp(t . w) by penalised least squares (Data Mixing Laws, equation 1).

    Differs from the source:
        See the module.
    """

    def fit(self, weights: Array, values: Array) -> Predict:
        """See Surrogate.fit."""
        centre, spread = float(values.mean()), float(values.std())
        if spread == 0:
            return lambda asked: np.full(len(asked), centre)
        scaled = (values - centre) / spread
        strength = _best_strength(weights, scaled)
        parameters = _fitted(weights, scaled, strength)
        return lambda asked: centre + spread * _law(parameters, asked)


def _law(parameters: Array, weights: Array) -> Array:
    """The law at (n, domains) weights; parameters are c and t."""
    return np.asarray(parameters[0] + np.exp(np.minimum(weights @ parameters[1:], _LARGEST)))


def _best_strength(weights: Array, scaled: Array) -> float:
    """The penalty with the least error on held-out runs, the larger of two that are alike."""
    n_folds = min(_FOLDS, len(scaled))
    folds = np.arange(len(scaled)) % n_folds
    errors = []
    for strength in _STRENGTHS:
        squares = 0.0
        for fold in range(n_folds):
            parameters = _fitted(weights[folds != fold], scaled[folds != fold], strength)
            gap = _law(parameters, weights[folds == fold]) - scaled[folds == fold]
            squares += float(gap @ gap)
        errors.append(squares)
    least = min(errors)
    return max(s for s, e in zip(_STRENGTHS, errors, strict=True) if e <= least * 1.001)


def _fitted(weights: Array, scaled: Array, strength: float) -> Array:
    """C and t with the least penalised square error over all starts."""
    penalty = math.sqrt(strength * len(scaled)) * _centring(weights.shape[1])
    found = []
    for depth in _DEPTHS:
        start = _start(weights, scaled, depth)
        answer = least_squares(
            _residuals,
            start,
            jac=_derivatives,
            args=(weights, scaled, penalty),
            max_nfev=60,
            x_scale="jac",
        )
        found.append((float(answer.cost), depth, answer.x))
    return np.asarray(min(found, key=lambda f: (f[0], f[1]))[2])


def _centring(n: int) -> Array:
    """Takes the mean of t away: its level is the objective's, its spread the domains' effects."""
    return np.asarray(np.eye(n) - 1 / n)


def _start(weights: Array, scaled: Array, depth: float) -> Array:
    """With c fixed, log(y - c) is linear in t."""
    c = float(scaled.min()) - depth
    n = weights.shape[1]
    above, target = np.log(scaled - c), 1e-3 * np.eye(n)
    mean = float(above.mean())
    t = np.linalg.lstsq(
        np.vstack([weights, target]), np.concatenate([above, np.full(n, 1e-3 * mean)]), rcond=None
    )[0]
    return np.concatenate([[c], t])


def _residuals(parameters: Array, weights: Array, scaled: Array, penalty: Array) -> Array:
    gap = _law(parameters, weights) - scaled
    return np.concatenate([gap, penalty @ parameters[1:]])


def _derivatives(parameters: Array, weights: Array, scaled: Array, penalty: Array) -> Array:
    exponent = weights @ parameters[1:]
    grown = np.where(exponent < _LARGEST, np.exp(np.minimum(exponent, _LARGEST)), 0.0)
    of_runs = np.hstack([np.ones((len(scaled), 1)), grown[:, None] * weights])
    of_penalty = np.hstack([np.zeros((len(penalty), 1)), penalty])
    return np.vstack([of_runs, of_penalty])
