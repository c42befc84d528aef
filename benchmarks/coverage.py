"""How often do 90 % intervals of weights and of the gain hold the truth, and is noise seen as such?

Swarms are drawn from known laws, c + exp(t . w) with t ~ N(0, 1) by domain, with noise of a fifth
of the objective's spread. The truth is the optimum of the true law over the same region and at the
same price of relative entropy, 0.3 of the spread, where most weights are within their bounds; the
true gain is that of the mixture that was chosen. A weight counts as free where the true one is
within its bounds. Sparse mixtures are Dirichlet around natural with a concentration of 0.2 x
domains, dense ones of 1 x domains.

    .venv/bin/python benchmarks/coverage.py [--repetitions 20] [--domains 5 20 60] [--noise-only]
"""

import argparse
import json
import time
import zlib

import numpy as np

from mixture_assets.core.mixture import Mixture
from mixture_assets.methods.decision import Case, Settings, is_better_than_mean
from mixture_assets.methods.optimum import minimise
from mixture_assets.methods.resample import Laws
from mixture_assets.methods.swarm import Swarm

RUNS = {5: 40, 20: 140, 60: 420}  # by domains
CONCENTRATION = {"sparse": 0.2, "dense": 1.0}
NOISE, KL = 0.2, 0.3  # of the objective's spread
DRAWS = 200
FREE = 1e-6  # of weight: within the bounds
ROUNDING = 1e-7


def swarm_of(rng, n_domains, mixtures, n_metrics, signal=1.0):
    """A swarm, natural, and the true law of the mean of its metrics."""
    n_runs = RUNS[n_domains]
    natural = rng.dirichlet(np.full(n_domains, 2.0))
    weights = rng.dirichlet(CONCENTRATION[mixtures] * n_domains * natural + 1e-3, n_runs)
    exponent = rng.normal(size=(n_metrics, n_domains))
    constant = rng.uniform(1, 3, n_metrics)
    values = constant[:, None] + signal * np.exp(exponent @ weights.T)
    sd = NOISE * values.std(axis=1, keepdims=True) if signal else 1.0
    values = values + sd * rng.standard_normal(values.shape)
    domains = tuple(f"d{i:02}" for i in range(n_domains))
    swarm = Swarm(
        runs=tuple(f"r{i:03}" for i in range(n_runs)),
        domains=domains,
        weights=weights,
        metrics={f"m{m}": row for m, row in enumerate(values)},
    )
    truth = Laws(
        constant=np.array([constant.mean()]),
        amplitude=np.full((1, n_metrics), 1 / n_metrics),
        exponent=exponent[None],
    )
    return swarm, Mixture(dict(zip(domains, natural.tolist(), strict=True))), truth


def case_of(swarm, natural, seed):
    """What decide() works with, without its cross-validation."""
    return Case(swarm, dict.fromkeys(swarm.metrics, 1.0), natural, Settings(draws=DRAWS, seed=seed))


def covered(rng, n_domains, mixtures, n_metrics, seed):
    """Held or not: free weights, all weights, the gain; and (estimate - truth) of the gain."""
    swarm, natural, truth = swarm_of(rng, n_domains, mixtures, n_metrics)
    case = case_of(swarm, natural, seed)
    kl, region = KL * case.spread, case.region
    right = minimise(case._convex(truth, kl), region).weights[0]
    chosen = minimise(case._convex(case.fit, kl), region).weights[0]
    drawn = minimise(case._convex(case.draws, kl), region).weights
    low, high = np.array(list(case._intervals(chosen, drawn).values())).T
    is_free = (right > region.low + FREE) & (right < region.high - FREE)
    holds = (low - ROUNDING <= right) & (right <= high + ROUNDING)
    gain, true_gain = case.gain(chosen, drawn), case._gain_of(truth, chosen[None])[0]
    return {
        "free": holds[is_free].tolist(),
        "all": holds.tolist(),
        "gain": [bool(gain.low <= true_gain <= gain.high)],
        "gain_bias": [float((gain.value - true_gain) / case.spread)],
        "gain_half": [float((gain.high - gain.low) / 2 / case.spread)],
    }


def coverage(n_domains, mixtures, n_metrics, repetitions):
    """One line of the table."""
    name, begun = f"{n_domains} domains, {mixtures}, {n_metrics} metrics", time.perf_counter()
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    found = [covered(rng, n_domains, mixtures, n_metrics, seed) for seed in range(repetitions)]
    pooled = {key: [x for one in found for x in one[key]] for key in found[0]}
    shares = {key: round(float(np.mean(values)), 3) for key, values in pooled.items() if values}
    seconds = round(time.perf_counter() - begun, 1)
    return {"cell": name, **shares, "repetitions": repetitions, "seconds": seconds}


def seen_as_noise(n_domains, repetitions):
    """How often pure noise is said to be not identifiable."""
    rng, begun = np.random.default_rng(n_domains), time.perf_counter()
    known = []
    for seed in range(repetitions):
        swarm, natural, _ = swarm_of(rng, n_domains, "dense", 1, signal=0.0)
        case = case_of(swarm, natural, seed)
        known.append(
            is_better_than_mean(case.swarm.weights, case._held_out(), case.objective, seed)
        )
    share = round(1 - float(np.mean(known)), 3)
    name, seconds = f"{n_domains} domains, noise alone", round(time.perf_counter() - begun, 1)
    return {"cell": name, "not identifiable": share, "repetitions": repetitions, "seconds": seconds}


def main():
    """Print one JSON line for each cell."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument("--domains", type=int, nargs="+", default=sorted(RUNS))
    parser.add_argument("--noise-only", action="store_true")
    asked = parser.parse_args()
    for n in asked.domains:
        for mixtures in () if asked.noise_only else CONCENTRATION:
            for n_metrics in (1, 3):
                print(json.dumps(coverage(n, mixtures, n_metrics, asked.repetitions)), flush=True)
    for n in asked.domains:
        if n <= 20:
            print(json.dumps(seen_as_noise(n, asked.repetitions)), flush=True)


if __name__ == "__main__":
    main()
