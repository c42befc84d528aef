"""Curves that points allow: many draws of one, its least squares, and intervals from them.

Shapes:
    B draws, C costs.

Units:
    Costs in multiples of C_full, training on the whole pool once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from mixture_assets.methods.swarm import Array
from mixture_assets.methods.uncertainty import percentile_interval
from mixture_assets.selection.utility import UtilityCurve

Parameter = Literal["ceiling", "zero", "rate"]
_LARGEST = 100.0  # exponent


@dataclass(frozen=True, kw_only=True, eq=False)
class CurveDraws:
    """B curves that the points allow, by their performances at two costs."""

    rate: Array  # (B,), per C_full
    left: Array  # (B,), performance at `lowest`
    right: Array  # (B,), performance at `highest`
    lowest: float
    highest: float
    start: float

    def predict(self, cost: Sequence[float]) -> Array:
        """(B, C) mean performances at costs in multiples of C_full."""
        left_BC = basis(self.rate, np.asarray(cost, dtype=float), self.lowest, self.highest)
        return np.asarray(left_BC * self.left[:, None] + (1 - left_BC) * self.right[:, None])

    @property
    def zero(self) -> Array:
        """(B,), performance at `start`."""
        return np.asarray(self.predict([self.start])[:, 0])

    @property
    def ceiling(self) -> Array:
        """(B,), performance at an infinite cost."""
        fall = -np.expm1(-self.rate * (self.highest - self.lowest))
        return np.asarray(self.right + (self.right - self.left) * (1 / fall - 1))

    def curves(self, n: int) -> list[UtilityCurve]:
        """The first n draws as curves."""
        triples = zip(self.ceiling[:n], self.zero[:n], self.rate[:n], strict=True)
        return [
            UtilityCurve(ceiling=float(h), zero=float(z), rate=float(r), start=self.start)
            for h, z, r in triples
        ]


@dataclass(frozen=True, kw_only=True)
class UtilityFit:
    """One method's curve, and the curves that its points allow."""

    curve: UtilityCurve  # of least squares
    noise_sd: float  # of one point
    n_points: int
    draws: CurveDraws = field(repr=False)
    notes: tuple[str, ...] = ()

    def interval(self, parameter: Parameter) -> tuple[float, float]:
        """90 % interval of a parameter."""
        return percentile_interval(getattr(self.draws, parameter))

    def median(self, parameter: Parameter) -> float:
        """Of the draws: inside of its interval, where least squares may end at a bound."""
        return float(np.median(getattr(self.draws, parameter)))

    def predict(self, cost: float) -> tuple[float, float, float]:
        """Mean performance at a cost in multiples of C_full, and its 90 % interval."""
        low, high = percentile_interval(self.draws.predict([cost])[:, 0].tolist())
        return self.curve.value(cost), low, high

    def to_json(self) -> dict[str, object]:
        """Parameters with intervals, noise and notes."""
        names: tuple[Parameter, ...] = ("ceiling", "zero", "rate")
        return {
            **self.curve.to_json(),
            **{f"{name}_interval": list(self.interval(name)) for name in names},
            "start": self.curve.start,
            "noise_sd": self.noise_sd,
            "n_points": self.n_points,
            "notes": list(self.notes),
        }


def basis(rate: Array, x: Array, lowest: float, highest: float) -> Array:
    """(B, C): 1 at the lowest cost, 0 at the highest, exponential between and beyond."""
    r = np.asarray(rate)[:, None]
    # far below the lowest cost a fast curve is anything: keep it a number
    fall = np.exp(np.minimum(-r * (x - lowest), _LARGEST)) * np.expm1(-r * (highest - x))
    return np.asarray(fall / np.expm1(-r * (highest - lowest)))
