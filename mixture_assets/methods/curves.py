"""Fit the objective against one domain's amount x, the others fixed: y = (x + a)^-b + c.

Source:
    Kang et al., "AutoScale: Scale-Aware Data Mixing for Pre-Training LLMs", COLM 2025,
    arXiv:2407.20177, and the authors' `algorithms/DDO_example.ipynb`.

Units:
    x in multiples of the domain's tokens in the base run, y in multiples of the base run's
    objective. `a` is the data of the other domains that counts as this domain's own.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import leastsq

FloatArray = NDArray[np.float64]
_LEAST_FALL = 1e-9  # of the base objective, over the fitted range; less is flat to rounding
_EXACT = 1e-20  # squared error of a curve that goes through its points


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A decreasing, convex power law."""

    a: float
    b: float  # > 0
    c: float

    def value(self, x: float) -> float:
        """Objective, in multiples of the base run's, at amount x."""
        return float((x + self.a) ** -self.b + self.c)


NOTEBOOK_START = Curve(a=1.0, b=1.0, c=1.0)  # scipy's default, which the authors used
STARTS = (NOTEBOOK_START, Curve(a=0.3, b=0.3, c=1.0))
_CLEARLY = 0.99  # of the squared error: by rounding alone the authors' curve is not replaced


def fit_curve(
    x: Sequence[float], y: Sequence[float], *, starts: Sequence[Curve] = STARTS
) -> Curve | None:
    """Least squares by Levenberg-Marquardt; None where no falling curve is found.

    Three distinct points determine the three parameters, and then the curve goes through
    them. Points that bend the wrong way get the nearest curve that still falls.

    Differs from the source:
        The notebook fits a, b and c unbounded, by numerical derivatives. Here log(a + min x)
        and log b are fitted, by analytic ones, so that a > -min x and b > 0 hold by
        construction; the same minimum is found (tests compare them). Through three points
        there can be two such curves, and the notebook's is taken. For more points there can
        be two minima, and then the lower one is taken, which the notebook's start may miss.
    """
    x_P, y_P = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    best, least = None, math.inf
    for start in starts:
        curve = _descend(x_P, y_P, start)
        if not _falls(curve, float(x_P.min()), float(x_P.max())):
            continue
        squares = float((((x_P + curve.a) ** -curve.b + curve.c - y_P) ** 2).sum())
        if best is None or squares < _CLEARLY * least - _EXACT:
            best, least = curve, squares
        if least <= _EXACT:
            break
    return best


def _descend(x_P: FloatArray, y_P: FloatArray, start: Curve) -> Curve:
    """The minimum next to `start`; not finite where there is none."""
    lowest = float(x_P.min())

    def residual(q: FloatArray) -> FloatArray:
        value: FloatArray = (x_P - lowest + np.exp(q[0])) ** -np.exp(q[1]) + q[2] - y_P
        return value

    def slopes(q: FloatArray) -> FloatArray:
        shift, b = np.exp(q[0]), np.exp(q[1])
        z_P = x_P - lowest + shift
        power_P = z_P**-b
        return np.stack(
            [-b * power_P / z_P * shift, -np.log(z_P) * power_P * b, np.ones_like(x_P)], axis=1
        )

    first = (math.log(start.a + lowest), math.log(start.b), start.c)
    with np.errstate(all="ignore"):  # a step too far overflows, is seen to be bad, and undone
        q, *_ = leastsq(
            residual, first, Dfun=slopes, ftol=1e-15, xtol=1e-15, maxfev=2000, full_output=True
        )
        return Curve(a=float(np.exp(q[0])) - lowest, b=float(np.exp(q[1])), c=float(q[2]))


def _falls(curve: Curve, lowest: float, highest: float) -> bool:
    if not all(map(math.isfinite, (curve.a, curve.b, curve.c))) or curve.a + lowest <= 0:
        return False
    return curve.value(lowest) - curve.value(highest) > _LEAST_FALL


def improves(x: Sequence[float], y: Sequence[float]) -> bool:
    """Whether, on means, less data than the base run's is worse and more is better."""
    groups = [
        [v for u, v in zip(x, y, strict=True) if u < 1],
        [v for u, v in zip(x, y, strict=True) if u == 1],
        [v for u, v in zip(x, y, strict=True) if u > 1],
    ]
    means = [math.fsum(group) / len(group) for group in groups if group]
    return all(worse > better for worse, better in itertools.pairwise(means))
