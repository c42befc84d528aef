"""Exact allocation beside scipy's SLSQP, on the same budgets in the same process.

Both minimise sum_i (n_i + a_i)^-b_i with sum_i n_i fixed and n_i at or above a floor; SLSQP gets
the analytic gradient, the uniform start and a tolerance at which its amounts can be compared.
Their amounts must agree to 1e-4 of a domain's base amount, and SLSQP's objective must not be lower
by more than 1e-10. Prints one JSON line; ratios are of median times.

    .venv/bin/python benchmarks/solvers.py
"""

import json
import statistics
import time

import numpy as np
from scipy.optimize import minimize

from mixture_assets.methods.allocate import allocate

FLOOR, APART, LOWER = 0.2, 1e-4, 1e-10
REPEATS = {7: 31, 30: 21, 100: 11, 300: 5}  # by number of domains; SLSQP takes seconds at 300


def make_curves(n_domains, seed):
    """Curves like those that DDO fits to domains of text."""
    rng = np.random.default_rng(seed)
    return rng.uniform(0.5, 6.0, n_domains), rng.uniform(0.3, 2.0, n_domains)


def slsqp(a, b):
    """The general solver's amounts."""
    n = len(a)
    found = minimize(
        lambda x: ((x + a) ** -b).sum(),
        np.ones(n),
        jac=lambda x: -b * (x + a) ** (-b - 1),
        bounds=[(FLOOR, n)] * n,
        constraints={"type": "eq", "fun": lambda x: x.sum() - n, "jac": lambda x: np.ones(n)},
        method="SLSQP",
        options={"ftol": 1e-12, "maxiter": 1000},
    )
    assert found.success, found.message
    return found.x


def exact(a, b):
    """Ours, names and checks included."""
    curves = {f"d{i:03}": (a[i], b[i]) for i in range(len(a))}
    return np.array(list(allocate(curves, total=len(a), floor=FLOOR).values()))


def timed(solve, a, b):
    """Seconds and answer."""
    start = time.perf_counter()
    answer = solve(a, b)
    return time.perf_counter() - start, answer


def compare(n_domains):
    """Median seconds of both over problems of one size; AssertionError where they disagree."""
    seconds = {"exact": [], "slsqp": []}
    for seed in range(REPEATS[n_domains]):
        a, b = make_curves(n_domains, seed)
        ours, theirs = timed(exact, a, b), timed(slsqp, a, b)
        assert np.abs(ours[1] - theirs[1]).max() < APART
        lower = ((ours[1] + a) ** -b).sum() - ((theirs[1] + a) ** -b).sum()
        assert lower < LOWER
        seconds["exact"].append(ours[0])
        seconds["slsqp"].append(theirs[0])
    median = {name: statistics.median(found) for name, found in seconds.items()}
    return {
        "exact_us": round(1e6 * median["exact"], 1),
        "slsqp_us": round(1e6 * median["slsqp"], 1),
        "ratio": round(median["slsqp"] / median["exact"], 1),
    }


def main():
    """Every size, smallest first."""
    timed(exact, *make_curves(7, 0))  # imports and caches
    print(json.dumps({"benchmark": "solvers", "n_domains": {n: compare(n) for n in REPEATS}}))


if __name__ == "__main__":
    main()
