"""What an online method remembers, what it is told, and the step that all of them share.

Source:
    Kivinen and Warmuth, "Exponentiated Gradient versus Gradient Descent for Linear Predictors",
    Information and Computation 132, 1997: the multiplicative step on the simplex. The floor is
    Herbster and Warmuth's fixed share in spirit ("Tracking the Best Expert", 1998).

Shapes:
    D = groups: domains, or members of a basis; sorted by name.

Differs from the source:
    The floor is a projection and not a share handed out at every step, so that a constant
    exponent changes nothing.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

import numpy as np

from mixture_assets.core.errors import MixtureError, quoted, shortlist
from mixture_assets.core.mixture import Mixture
from mixture_assets.core.names import nearest
from mixture_assets.methods.swarm import Array
from mixture_assets.methods.waterfill import PowerGain, fill

_LEAST = 1e-300  # of a weight: exp underflows to 0 at -745, and a 0 never recovers


@dataclass(frozen=True)
class OnlineState:
    """All that an online method carries from one update to the next."""

    weights: Mixture  # the iterate
    average: Mixture  # its exponential moving average: what batches are sampled from
    n_updates: int = 0
    extra: Mapping[str, float] = field(default_factory=dict)  # of the method's own, by group

    def to_json(self) -> dict[str, Any]:
        """Plain numbers and names; `from_json` of it is equal, bit for bit."""
        return {
            "weights": dict(self.weights),
            "average": dict(self.average),
            "n_updates": self.n_updates,
            "extra": dict(self.extra),
        }

    @classmethod
    def from_json(cls, said: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote."""
        return cls(
            weights=Mixture(said["weights"]),
            average=Mixture(said["average"]),
            n_updates=int(said["n_updates"]),
            extra={name: float(x) for name, x in said["extra"].items()},
        )


@dataclass(frozen=True)
class Feedback:
    """What one update step measured.

    A group without an alignment was not measured, because all its data is read, for example: it
    keeps its weight.
    """

    alignment: Mapping[str, float]  # by group: <its gradient, specialist gradient>, both clipped
    standard_error: Mapping[str, float]  # of the alignments; recorded, no method here uses it
    learning_rate: float  # of the step
    specialist_norm: float  # of the specialist gradient before it was clipped
    clip_norm: float = math.inf  # that it was clipped to

    def __post_init__(self) -> None:
        numbers = {
            **{f"the alignment of {name!r}": x for name, x in self.alignment.items()},
            "the learning rate": self.learning_rate,
            "the norm of the specialist gradient": self.specialist_norm,
        }
        wrong = [what for what, x in numbers.items() if not math.isfinite(x)]
        if wrong:
            raise MixtureError(
                f"{wrong[0]} is {numbers[wrong[0]]} ({len(wrong)} such numbers in this update)",
                hint="the run has diverged: lower [training] learning_rate",
            )
        if not self.alignment:
            raise MixtureError("an update without the alignment of any group")


class OnlineMethod(Protocol):
    """What every online method offers: pure numbers, no model and no data."""

    @property
    def update_steps(self) -> int:
        """Training steps from one update to the next."""
        ...

    def start(self, mixture: Mixture) -> OnlineState:
        """The state before the first step."""
        ...

    def update(self, state: OnlineState, feedback: Feedback) -> OnlineState:
        """The state after one update step."""
        ...

    def sampled(self, state: OnlineState) -> Mixture:
        """What the next period's batches are drawn from, before epoch caps."""
        ...

    def mean_weights(self, state: OnlineState) -> Mixture | None:
        """What the method answers for a run of its own; None where it answers nothing."""
        ...


def started(mixture: Mixture, *, floor: float) -> OnlineState:
    """The state at a mixture; a weight below the least one is lifted to it."""
    weights = _lifted(list(mixture), np.array(list(mixture.values())), floor)
    return OnlineState(weights=weights, average=weights)


def stepped(
    state: OnlineState, exponent: Mapping[str, float], *, ema: float, floor: float
) -> OnlineState:
    """The next iterate and its moving average.

    weights' = exponentiated(weights, exponent);  average' = (1 - ema) average + ema weights'
    """
    weights = exponentiated(state.weights, exponent, floor=floor)
    average = {n: (1 - ema) * state.average[n] + ema * w for n, w in weights.items()}
    return OnlineState(
        weights=weights,
        average=Mixture.proportional_to(average),
        n_updates=state.n_updates + 1,
        extra=state.extra,
    )


def exponentiated(weights: Mixture, exponent: Mapping[str, float], *, floor: float) -> Mixture:
    """w_i' = w_i exp(x_i) / sum_j w_j exp(x_j), then no weight below floor / D.

    Computed on logarithms. Groups without an exponent keep their weights, and the sum is over the
    others, which share what those leave.
    """
    names = list(weights)
    unknown = set(exponent) - set(names)
    if unknown:
        first = min(unknown)
        raise MixtureError(f"there is no group {shortlist(unknown)}{nearest(first, names)}")
    is_measured_D = np.array([name in exponent for name in names])
    weight_D = np.array(list(weights.values()))
    part = np.maximum(weight_D[is_measured_D], _LEAST)
    log_part = np.log(part) + np.array([exponent[n] for n in names if n in exponent])
    grown = np.exp(log_part - log_part.max())
    weight_D[is_measured_D] = grown * (part.sum() / grown.sum())
    return _lifted(names, weight_D, floor)


def with_floor(mixture: Mixture, floor: float) -> Mixture:
    """(1 - floor) w + floor / D: a share `floor` of all tokens is drawn uniformly."""
    return Mixture({n: (1 - floor) * w + floor / len(mixture) for n, w in mixture.items()})


def _lifted(names: list[str], weight_D: Array, floor: float) -> Mixture:
    """max(s w_i, floor / D) with the s at which it sums to 1: nearest in relative entropy."""
    least = max(floor / len(names), _LEAST)
    if (weight_D >= least).all():
        return Mixture(dict(zip(names, weight_D.tolist(), strict=True)))
    ones = np.ones(len(names))
    return fill(names, PowerGain(k=weight_D, p=ones, a=0 * ones), floor=least)


def check_setting(name: str, value: object, holds: bool, expected: str) -> None:
    """Raise MixtureError unless a setting is a number, and the rule for it holds."""
    if not holds:
        raise MixtureError(f"{name} must be {expected}, got {quoted(value)}")


def is_number(value: object, low: float, high: float) -> bool:
    """Whether it is a finite number, not a truth value, from low to high."""
    is_real = isinstance(value, int | float) and not isinstance(value, bool)
    return is_real and math.isfinite(value) and low <= value <= high  # type: ignore[operator,arg-type]
