"""Do the runs that `mixture next` names help more than random ones, on laws that are known?

A swarm of n runs follows c + exp(t . w) with noise; 8 runs are added, named or random, with the
same noise. Half-width: of the 90 % interval of the best mixture's gain. Regret: how far the true
objective at the proposal is above the least within the region. Both are means over repetitions, in
units of the noise.

    .venv/bin/python benchmarks/next_runs.py [REPETITIONS]
"""

import sys

import numpy as np

from mixture_assets.methods.decision import Case, Settings
from mixture_assets.methods.next_runs import next_runs
from mixture_assets.methods.optimum import Convex, minimise
from mixture_assets.methods.swarm import Swarm

CASES = ((5, 16, 0.8), (6, 24, 0.4), (8, 28, 0.4), (12, 40, 0.3))  # domains, runs, noise / spread
N_NEW = 8


def swarm_of(weights, values):
    """A swarm of domains and runs named by number."""
    runs = [f"r{i:04d}" for i in range(len(weights))]
    domains = [f"d{i:02d}" for i in range(weights.shape[1])]
    return Swarm.of(
        {
            r: dict(zip(domains, row, strict=True))
            for r, row in zip(runs, weights.tolist(), strict=True)
        },
        {r: {"loss": y} for r, y in zip(runs, values.tolist(), strict=True)},
    )


def compare(seed, n_domains, n_runs, noise):
    """(named, random) x (half-width, regret), and the half-width that was expected."""
    rng = np.random.default_rng(seed)
    slope = 1.2 * rng.normal(size=n_domains)
    weights, fresh = (rng.dirichlet(np.ones(n_domains), n) for n in (n_runs, N_NEW))
    spread = truth(rng.dirichlet(np.ones(n_domains), 2000), slope).std()
    sd = noise * spread
    values = truth(weights, slope) + sd * rng.normal(size=n_runs)
    new_noise, settings = sd * rng.normal(size=N_NEW), Settings(draws=200, seed=seed)
    found = next_runs(swarm_of(weights, values), {"loss": 1.0}, settings=settings)
    named = np.array([list(m.values()) for m in found.mixtures])
    rows = []
    for new in (named, fresh):
        both = np.vstack([weights, new])
        measured = np.concatenate([values, truth(new, slope) + new_noise])
        case = Case(swarm_of(both, measured), {"loss": 1.0}, None, settings)
        decision = case.decision()
        bare = np.array([decision.mixtures["bare"][d] for d in case.swarm.domains])
        gain = case.gain(bare, case.optima())
        law = Convex(amplitude=np.array([[0.5]]), exponent=slope[None, None])
        least = truth(minimise(law, case.region).weights, slope)[0]
        at = truth(np.array([[decision.mixture[d] for d in case.swarm.domains]]), slope)[0]
        rows.append(((gain.high - gain.low) / 2 / sd, (at - least) / sd))
    return np.array(rows), found.half_widths[-1] / sd


def truth(weights, slope):
    """The objective without noise."""
    return 2 + 0.5 * np.exp(weights @ slope)


def main():
    """Print a row for each case."""
    repetitions = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    head = ("domains", "runs", "noise / spread", "half-width", "random", "ratio")
    print("|", " | ".join((*head, "regret", "random", "ratio")), "|")
    print("|---|---|---|---|---|---|---|---|---|")
    for case in CASES:
        found = [compare(seed, *case) for seed in range(repetitions)]
        (named, named_regret), (fresh, fresh_regret) = np.mean([rows for rows, _ in found], axis=0)
        expected = np.mean([x for _, x in found])
        cells = [
            *map(str, case),
            *(f"{named:.2f} ({expected:.2f} expected)", f"{fresh:.2f}", f"{named / fresh:.2f}"),
            *(f"{named_regret:.2f}", f"{fresh_regret:.2f}", f"{named_regret / fresh_regret:.2f}"),
        ]
        print("|", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()
