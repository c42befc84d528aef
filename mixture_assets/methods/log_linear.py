"""Olmix's log-linear law: c + exp(t . w) for each metric, by a Huber loss without a penalty.

Source:
    Olmix (Ai2; allenai/olmix, olmix/fit/law.py), after the code of Data Mixing Laws
    (Ye et al., 2403.16952): torch's Huber loss with delta = 0.01, by L-BFGS from random starts,
    one law for each metric; the objective is the weighted sum of the laws.

Differs from the source:
    delta is in robust spreads of the objective, so that a metric's unit changes no weight: 0.1 of
    them is 0.01 where the spread is 0.1. The starts are a few values of c, each with the exact
    solution of its linear problem, not random ones; derivatives are analytic. A trust region
    replaces L-BFGS: what no run can tell keeps its value from the start.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares

from mixture_assets.methods.surrogate import Predict
from mixture_assets.methods.swarm import Array

_DEPTHS = (0.1, 1.0, 5.0)  # starts of c: so many robust spreads below the low values
_LARGEST = 50.0  # of an exponent
_NORMAL = 1.4826  # sd of a normal distribution over its median absolute deviation


@dataclass(frozen=True, kw_only=True)
class LogLinear:
    """c + exp(t . w) by a Huber loss (Olmix).

    Differs from the source:
        See the module.
    """

    delta: float = 0.1  # errors beyond it count linearly; in robust spreads of the objective

    def fit(self, weights: Array, values: Array) -> Predict:
        """See Surrogate.fit."""
        centre = float(np.median(values))
        spread = _NORMAL * float(np.median(np.abs(values - centre))) or float(values.std())
        if spread == 0:
            return lambda asked: np.full(len(asked), centre)
        parameters = _fitted(weights, (values - centre) / spread, self.delta)
        return lambda asked: centre + spread * _law(parameters, asked)


def _law(parameters: Array, weights: Array) -> Array:
    return np.asarray(parameters[0] + np.exp(np.minimum(weights @ parameters[1:], _LARGEST)))


def _fitted(weights: Array, scaled: Array, delta: float) -> Array:
    """C and t with the least Huber loss over all starts."""
    found = []
    for depth in _DEPTHS:
        answer = least_squares(
            _residuals,
            _start(weights, scaled, depth),
            jac=_derivatives,
            args=(weights, scaled),
            loss="huber",
            f_scale=delta,
            x_scale="jac",
            max_nfev=200,
        )
        found.append((float(answer.cost), depth, answer.x))
    return np.asarray(min(found, key=lambda f: (f[0], f[1]))[2])


def _start(weights: Array, scaled: Array, depth: float) -> Array:
    """With c fixed, log(y - c) is linear in t; c is below all but a few low values."""
    c = float(np.quantile(scaled, 0.05)) - depth
    above = np.log(np.maximum(scaled - c, 0.1 * depth))
    n = weights.shape[1]
    level = np.full(n, 1e-3 * float(above.mean()))
    rows = np.vstack([weights, 1e-3 * np.eye(n)])
    t = np.linalg.lstsq(rows, np.concatenate([above, level]), rcond=None)[0]
    return np.concatenate([[c], t])


def _residuals(parameters: Array, weights: Array, scaled: Array) -> Array:
    return np.asarray(_law(parameters, weights) - scaled)


def _derivatives(parameters: Array, weights: Array, scaled: Array) -> Array:
    exponent = weights @ parameters[1:]
    grown = np.where(exponent < _LARGEST, np.exp(np.minimum(exponent, _LARGEST)), 0.0)
    return np.hstack([np.ones((len(scaled), 1)), grown[:, None] * weights])
