"""Take the effect of the seed out of repeated runs, by restricted maximum likelihood.

Source:
    Harville, "Maximum likelihood approaches to variance component estimation and to related
    problems", JASA 1977; Henderson's mixed model equations for the effects.

Shapes:
    N = runs, C = cells (runs that differ in their seed only), S = seeds.

Differs from the source:
    Nothing known. One ratio of variances is searched for, on a line.
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

FloatArray = NDArray[np.float64]
_LOG_RATIOS = (-10.0, 14.0)  # of the seeds' variance to the noise's: none, and all of it
_NO_NOISE = 1e-24  # of the values' squared mean: residuals of rounding


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """What repeats say: the noise of one run, and what its seed did to it."""

    noise_sd: float | None  # of one run, the seed's effect taken out; None without repeats
    effect: dict[str, float]  # by seed, in the unit of the values; 0 where it cannot be told


def fit_blocks(cells: Sequence[Hashable], seeds: Sequence[str], values: Sequence[float]) -> Blocks:
    """Noise and seed effects of value = mean of the cell + effect of the seed + noise.

    Effects and noise are normal, each with a variance of its own, both estimated: without an
    effect in the data the effects shrink to 0 and every repeat counts in full. Where the design
    cannot tell effect from noise (only one cell is repeated) all is noise and no effect is known.

    Args:
        cells: What each run is, its seed apart.
        seeds: Of each run; runs with an empty one share nothing.
        values: Of each run.
    """
    known = sorted({seed for seed in seeds if seed})
    cell_NC, seed_NS = _indicators(cells), _indicators(_labelled(seeds))
    y_N = np.asarray(values, dtype=float)
    if cell_NC.shape[1] == len(y_N):
        return Blocks(noise_sd=None, effect=dict.fromkeys(known, 0.0))
    is_told = np.linalg.matrix_rank(np.hstack([cell_NC, seed_NS])) < len(y_N)
    ratio = _best_ratio(cell_NC, seed_NS, y_N) if is_told else 0.0
    solved = _solve(cell_NC, seed_NS, y_N, ratio)
    effect = dict(zip(dict.fromkeys(_labelled(seeds)), solved.effect_S.tolist(), strict=True))
    return Blocks(noise_sd=math.sqrt(solved.variance), effect={s: effect[s, 0] for s in known})


def _labelled(seeds: Sequence[str]) -> list[tuple[str, int]]:
    """Seeds as blocks: a run without one is a block by itself."""
    return [(seed, 0 if seed else i) for i, seed in enumerate(seeds)]


def _indicators(labels: Sequence[Hashable]) -> FloatArray:
    """A column for each label, in the order of first appearance."""
    column = {label: i for i, label in enumerate(dict.fromkeys(labels))}
    indicator_NL = np.zeros((len(labels), len(column)))
    indicator_NL[np.arange(len(labels)), [column[label] for label in labels]] = 1.0
    return indicator_NL


@dataclass(frozen=True, kw_only=True)
class _Solved:
    variance: float  # of the noise
    effect_S: FloatArray
    log_likelihood: float  # of the contrasts between cells, up to a constant


def _solve(cell_NC: FloatArray, seed_NS: FloatArray, y_N: FloatArray, ratio: float) -> _Solved:
    """Generalised least squares at one ratio of the seeds' variance to the noise's."""
    n_free = len(y_N) - cell_NC.shape[1]
    inverse_NN = np.linalg.inv(np.eye(len(y_N)) + ratio * seed_NS @ seed_NS.T)
    normal_CC = cell_NC.T @ inverse_NN @ cell_NC
    mean_C = np.linalg.solve(normal_CC, cell_NC.T @ inverse_NN @ y_N)
    gap_N = y_N - cell_NC @ mean_C
    variance, least = float(gap_N @ inverse_NN @ gap_N) / n_free, _NO_NOISE * float(y_N @ y_N)
    return _Solved(
        variance=variance if variance > least else 0.0,
        effect_S=ratio * seed_NS.T @ inverse_NN @ gap_N,
        log_likelihood=0.5
        * float(
            np.linalg.slogdet(inverse_NN)[1]
            - np.linalg.slogdet(normal_CC)[1]
            - n_free * math.log(max(variance, least) or 1.0)
        ),
    )


def _best_ratio(cell_NC: FloatArray, seed_NS: FloatArray, y_N: FloatArray) -> float:
    """The ratio of greatest likelihood; 0 unless another is more likely than none at all."""

    def loss(log_ratio: float) -> float:
        return -_solve(cell_NC, seed_NS, y_N, math.exp(log_ratio)).log_likelihood

    found = minimize_scalar(loss, bounds=_LOG_RATIOS, method="bounded", options={"xatol": 1e-3})
    none = _solve(cell_NC, seed_NS, y_N, 0.0)
    return math.exp(found.x) if -float(found.fun) > none.log_likelihood else 0.0
