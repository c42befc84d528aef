"""A falling power law with a floor, y = E + B / x^beta: loss over steps, or over model size.

Source:
    Hoffmann et al., 2203.15556, one term of their law; Data Mixing Laws (Ye et al., 2403.16952)
    nests two of these.

Differs from the source:
    Least squares on the loss with analytic derivatives, begun from every exponent of a grid with
    the exact solution of its linear problem. E and B are not negative.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares, nnls

from mixture_assets.core.errors import MixtureError
from mixture_assets.methods.swarm import Array

_BETAS = np.geomspace(0.02, 3.0, 12)  # starts
_BEST = 3  # of them are followed
_RANGE = (1e-3, 5.0)  # of beta


@dataclass(frozen=True, kw_only=True)
class PowerLaw:
    """E + B / x^beta."""

    e: float  # >= 0, in the unit of y
    b: float  # >= 0; 0: no fall is seen
    beta: float  # > 0

    def value(self, x: float) -> float:
        """The law at x > 0."""
        return float(self.e + self.b * x**-self.beta)


def fit_power_law(x: Array, y: Array, *, what: str = "a power law") -> PowerLaw:
    """Least squares; three distinct points determine the three parameters.

    Args:
        x: (n,), above 0.
        y: (n,).
        what: Whose law it is, for messages.
    """
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if len(np.unique(x)) < 3 or not (np.isfinite(x) & (x > 0) & np.isfinite(y)).all():
        raise MixtureError(
            f"{what} needs 3 different points above 0 or more, all finite, got {len(np.unique(x))}"
        )
    unit, height = float(np.exp(np.log(x).mean())), float(np.abs(y).mean()) or 1.0
    log_x, scaled = np.log(x / unit), y / height
    starts = sorted((_linear(log_x, scaled, beta) for beta in _BETAS), key=lambda s: s[0])
    found = [_descended(start, log_x, scaled) for _, start in starts[:_BEST]]
    e, b, log_beta = min(found, key=lambda f: f[0])[1]
    beta = math.exp(log_beta)
    return PowerLaw(e=height * float(e), b=height * float(b) * unit**beta, beta=beta)


def _linear(log_x: Array, y: Array, beta: float) -> tuple[float, Array]:
    """With beta fixed the law is linear in E and B."""
    design = np.stack([np.ones_like(log_x), np.exp(-beta * log_x)], axis=1)
    (e, b), norm = nnls(design, y)
    return float(norm), np.array([e, b, math.log(beta)])


def _descended(start: Array, log_x: Array, y: Array) -> tuple[float, Array]:
    lower, upper = [0.0, 0.0, math.log(_RANGE[0])], [np.inf, np.inf, math.log(_RANGE[1])]
    answer = least_squares(
        _residuals,
        start,
        jac=_derivatives,
        args=(log_x, y),
        bounds=(lower, upper),
        x_scale="jac",
        ftol=1e-15,
        xtol=1e-15,
        gtol=1e-15,
        max_nfev=500,
    )
    return float(answer.cost), np.asarray(answer.x)


def _residuals(q: Array, log_x: Array, y: Array) -> Array:
    """Of q = (E, B, log beta)."""
    return np.asarray(q[0] + q[1] * np.exp(-np.exp(q[2]) * log_x) - y)


def _derivatives(q: Array, log_x: Array, y: Array) -> Array:
    beta = np.exp(q[2])
    power = np.exp(-beta * log_x)
    return np.stack([np.ones_like(log_x), power, -q[1] * power * beta * log_x], axis=1)
