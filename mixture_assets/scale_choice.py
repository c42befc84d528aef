"""Which of somebody's runs are compared: those of one model size and one length."""

import math
from collections.abc import Mapping

import numpy as np

from mixture_assets.core.errors import MixtureError
from mixture_assets.core.units import tokens_text
from mixture_assets.methods.laws import MIN_RUNS
from mixture_assets.methods.scales import ScaledSwarm
from mixture_assets.methods.swarm import Swarm


def one_scale(swarm: Swarm) -> tuple[Swarm, list[str]]:
    """The runs of the largest size and length that was run often enough, and what is left out."""
    if swarm.params is None and swarm.tokens is None:
        return swarm, []
    ones = np.ones(len(swarm.runs))
    params = ones if swarm.params is None else swarm.params
    tokens = ones if swarm.tokens is None else swarm.tokens
    scales = sorted(set(zip(params.tolist(), tokens.tolist(), strict=True)), key=math.prod)
    counts = {s: int(((params == s[0]) & (tokens == s[1])).sum()) for s in scales}
    enough = [s for s in scales if counts[s] >= MIN_RUNS]
    if len(scales) == 1 or not enough:
        return (swarm, []) if len(scales) == 1 else _no_scale(counts)
    chosen = enough[-1]
    keep = np.flatnonzero((params == chosen[0]) & (tokens == chosen[1]))
    others = len(swarm.runs) - len(keep)
    return swarm.subset(keep), [
        f"weights rest on the {len(keep)} runs of the largest scale, {_scale(chosen)}; "
        f"{others} at other scales are left out (`mixture laws` compares across scales)"
    ]


def _no_scale(counts: Mapping[tuple[float, float], int]) -> tuple[Swarm, list[str]]:
    found = ", ".join(f"{n} at {_scale(s)}" for s, n in list(counts.items())[:4])
    raise MixtureError(
        f"no scale has {MIN_RUNS} runs or more: {found}",
        hint="runs of different sizes are not compared: run more at one of them",
    )


def _scale(scale: tuple[float, float]) -> str:
    params, tokens = (tokens_text(x) for x in scale)
    return f"{params} parameters and {tokens} tokens"


def scaled(swarm: Swarm) -> ScaledSwarm | None:
    """The runs with their sizes, where they have them and there are two scales or more."""
    if swarm.params is None or swarm.tokens is None:
        return None
    runs = ScaledSwarm(swarm=swarm, params=swarm.params, tokens=swarm.tokens)
    return runs if len(runs.scales) > 1 else None
