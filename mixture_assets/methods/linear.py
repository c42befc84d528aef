"""Linear surrogates: of the weights, and of the weights with their logarithms.

Source:
    RegMix (Liu et al., 2407.01492), section 3.2: linear regression of the loss on the weights.
    Ridge regression on [w, log(w + 0.001)] is ours, as a plain baseline that can bend.

Differs from the source:
    The linear fit has a small ridge penalty, chosen by leave-one-out error: with fewer runs than
    domains least squares has no answer.
"""

from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import RidgeCV
from sklearn.preprocessing import StandardScaler

from mixture_assets.methods.surrogate import Predict
from mixture_assets.methods.swarm import Array

_STRENGTHS = np.logspace(-6, 4, 21)


@dataclass(frozen=True, kw_only=True)
class Linear:
    """Linear in the weights (RegMix, section 3.2)."""

    def fit(self, weights: Array, values: Array) -> Predict:
        """See Surrogate.fit."""
        return _ridge(weights, values, np.copy)


@dataclass(frozen=True, kw_only=True)
class LogRidge:
    """Linear in the weights and in their logarithms: diminishing returns, one domain at a time."""

    offset: float = 1e-3  # added to a weight before its logarithm; a weight of 0 has none

    def fit(self, weights: Array, values: Array) -> Predict:
        """See Surrogate.fit."""
        return _ridge(weights, values, lambda w: np.hstack([w, np.log(w + self.offset)]))


def _ridge(weights: Array, values: Array, features: Predict) -> Predict:
    scaler = StandardScaler().fit(features(weights))
    model = RidgeCV(alphas=_STRENGTHS).fit(scaler.transform(features(weights)), values)

    def predict(asked: Array) -> Array:
        return np.asarray(model.predict(scaler.transform(features(asked))))

    return predict
