"""How far weights move when the runs they rest on are moved by their noise."""

import math
from collections.abc import Callable, Sequence

import numpy as np

from mixture_assets.core.errors import MixtureError
from mixture_assets.core.mixture import Mixture

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
    rng = np.random.default_rng(seed)
    answers = []
    for _ in range(draws):
        try:
            answers.append(draw(rng))
        except MixtureError:
            continue
    if len(answers) < max(_LEAST_DRAWS, math.ceil(draws / 2)):
        return {}
    tail = (100 - _LEVEL) / 2
    return {
        name: tuple(np.percentile([m[name] for m in answers], [tail, 100 - tail]).tolist())
        for name in answers[0]
    }
