"""How far weights move when the runs they rest on are moved by their noise."""

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from mixture_assets.core.errors import MixtureError
from mixture_assets.core.mixture import Mixture

T = TypeVar("T")

_LEVEL = 90.0  # per cent of the draws inside an interval
_LEAST_DRAWS = 20  # fewer say nothing about a 5th percentile


def jittered(
    objective_R: Sequence[float], noise_sd: float, rng: np.random.Generator
) -> list[float]:
    """Objectives of R runs, each moved by independent noise; they stay positive."""
    y_R = np.asarray(objective_R)
    # log-normal, the same as normal for noise that is small beside the objective
    moved: list[float] = (y_R * np.exp(noise_sd / y_R * rng.standard_normal(y_R.size))).tolist()
    return moved


def bootstrap_intervals(
    draw: Callable[[np.random.Generator], Mixture], *, draws: int, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """90 % interval of each weight over a parametric bootstrap.

    Args:
        draw: Moves the runs by their noise, fits again and answers.
        draws: How often. A draw that has no answer (MixtureError) is left out.
        seed: The same seed gives the same intervals.

    Returns:
        (low, high) by domain; empty if fewer than 20 draws or half of them have an answer.
    """
    return weight_intervals(bootstrap_draws(draw, draws=draws, seed=seed))


def bootstrap_draws(
    draw: Callable[[np.random.Generator], T], *, draws: int, seed: int = 0
) -> list[T]:
    """The answers themselves, so that several intervals can rest on the same draws.

    Empty where `bootstrap_intervals` would be; its arguments.
    """
    rng = np.random.default_rng(seed)
    answers: list[T] = []
    for _ in range(draws):
        try:
            answers.append(draw(rng))
        except MixtureError:
            continue
    return answers if len(answers) >= max(_LEAST_DRAWS, math.ceil(draws / 2)) else []


def weight_intervals(drawn: Sequence[Mixture]) -> dict[str, tuple[float, float]]:
    """90 % interval of each weight over draws; empty without draws."""
    if not drawn:
        return {}
    return {name: percentile_interval([m[name] for m in drawn]) for name in drawn[0]}


def percentile_interval(values: Sequence[float]) -> tuple[float, float]:
    """What the middle 90 % of the values lie in."""
    tail = (100 - _LEVEL) / 2
    low, high = np.percentile(values, [tail, 100 - tail]).tolist()
    return low, high
