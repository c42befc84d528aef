"""How far a mixture lies outside those that were run, and the mixture that nobody should train."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linprog

from mixture_assets.core.errors import MixtureError
from mixture_assets.methods.region import Region
from mixture_assets.methods.resample import Laws
from mixture_assets.methods.swarm import Array, Swarm

_STARTS = 8
_MOST_STEPS = 50


@dataclass(frozen=True, kw_only=True)
class Trust:
    """Where a mixture lies among the runs."""

    outside: float  # weight to be moved to reach an average of runs; 0 inside their hull
    nearest_run: str
    nearest_distance: float  # weight to be moved to reach that run
    prediction_sd_ratio: float  # sd of the prediction there over the median of those at the runs


def trust(swarm: Swarm, mixture: Array, draws: Laws) -> Trust:
    """Place (D,) weights among the runs of a swarm.

    Distances are half the L1 distance: the share of tokens that would come from elsewhere.
    """
    distances = np.abs(swarm.weights - mixture).sum(axis=1) / 2
    nearest = int(distances.argmin())
    at_runs = draws.value(swarm.weights).std(axis=0)
    there = float(draws.value(mixture[None]).std())
    typical = float(np.median(at_runs))
    return Trust(
        outside=outside_hull(swarm.weights, mixture),
        nearest_run=swarm.runs[nearest],
        nearest_distance=float(distances[nearest]),
        prediction_sd_ratio=there / typical if typical > 0 else 1.0,
    )


def outside_hull(weights: Array, mixture: Array) -> float:
    """Half the L1 distance of (D,) weights to the convex hull of (R, D) weights, exactly.

    The linear programme: least sum of u with -u <= sum_r l_r w_r - w <= u, l on the simplex.
    """
    n_runs, n = weights.shape
    cost = np.concatenate([np.zeros(n_runs), np.full(n, 0.5)])
    eye = np.eye(n)
    bounds = np.vstack([np.hstack([weights.T, -eye]), np.hstack([-weights.T, -eye])])
    sums = np.concatenate([np.ones(n_runs), np.zeros(n)])[None]
    found = linprog(
        cost, A_ub=bounds, b_ub=np.concatenate([mixture, -mixture]), A_eq=sums, b_eq=[1.0]
    )
    if found.status != 0:
        raise MixtureError(f"the distance to the runs was not found: {found.message}")
    return max(0.0, float(found.fun))


def worst(laws: Laws, region: Region, starts: Array) -> Array:
    """The mixture of the region with the greatest predicted objective, (D,).

    A convex function is greatest at a corner. From each start the corner that its tangent points
    at is taken, again and again, until the prediction rises no more: exact for one metric, whose
    law rises along one direction only, and the best of several climbs for a mean of metrics.

    Args:
        laws: A batch of one.
        region: Where to look.
        starts: (n, D) mixtures; those with the greatest predictions are climbed from.
    """
    predicted = laws.value(starts)[0]
    found = [
        _climb(laws, region, starts[i]) for i in np.argsort(-predicted, kind="stable")[:_STARTS]
    ]
    values = laws.value(np.stack(found))[0]
    return found[int(values.argmax())]


def _climb(laws: Laws, region: Region, start: Array) -> Array:
    here = _corner(laws.convex().slope(start[None])[0], region)
    for _ in range(_MOST_STEPS):
        corner = _corner(laws.convex().slope(here[None])[0], region)
        if laws.value(corner[None])[0, 0] <= laws.value(here[None])[0, 0] + 1e-12:
            break
        here = corner
    return here


def _corner(slope: Array, region: Region) -> Array:
    """Where a linear function is greatest over the region."""
    found = linprog(
        -slope / max(float(np.abs(slope).max()), 1e-300),
        A_ub=np.vstack([region.rows, -region.rows]) if len(region.rows) else None,
        b_ub=np.concatenate([region.row_high, -region.row_low]) if len(region.rows) else None,
        A_eq=np.ones((1, len(slope))),
        b_eq=[1.0],
        bounds=list(zip(region.low, region.high, strict=True)),
    )
    if found.status != 0:
        raise MixtureError(f"the worst mixture was not found: {found.message}")
    return np.asarray(found.x)
