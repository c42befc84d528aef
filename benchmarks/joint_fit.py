"""DDO's weights from the three-point fit and from the joint one, on simulated laws with noise.

The laws are those of `refit_ways`: six domains, each loss a power law of its own tokens and a
little of the others', objective the mean perplexity. One run of each of DDO's 13. Regret: how far
the objective at the proposed weights is above the best there is, as a share of how far uniform is
above it.

    .venv/bin/python benchmarks/joint_fit.py [LAWS]
"""

import json
import math
import random
import statistics
import sys

from refit_ways import NEW, OLD, least, make_law, question, value

from mixture_assets.methods.ddo import DDO, ddo_from_table
from mixture_assets.methods.joint import joint_from_table

NOISES_NATS = (0.0, 0.01, 0.03)
FLOOR = 0.05


def measured(law, problem, noise_nats, rng):
    """(domain, factor, perplexities, seed) of DDO's runs."""
    share = problem.budget_tokens // len(problem.domains)
    rows = []
    for run in DDO(base_tokens=problem.budget_tokens).plan(problem):
        changed = [d for d, n in run.tokens.items() if n != share]
        factor = run.tokens[changed[0]] / share if changed else 1.0
        ppl = {d: math.exp(y + rng.gauss(0, noise_nats)) for d, y in law(run.tokens).items()}
        rows.append((changed[0] if changed else "", factor, ppl, ""))
    return rows


def regrets(noise_nats, seed):
    """Of both fits, as a share of uniform's."""
    rng = random.Random(seed)
    law, problem = make_law(rng), question(*OLD, NEW)
    rows = measured(law, problem, noise_nats, rng)
    mean = [(d, x, statistics.mean(ppl.values())) for d, x, ppl, _ in rows]
    found = {
        "three_point": ddo_from_table(mean, floor=FLOOR).weights,
        "joint": joint_from_table(rows, floor=FLOOR).weights,
    }
    best = least(law, problem)
    uniform = value(law, problem, problem.uniform) - best
    return {fit: (value(law, problem, w) - best) / uniform for fit, w in found.items()}


def described(found):
    """Quantiles over laws, by fit."""
    table = {}
    for fit in found[0]:
        values = sorted(f[fit] for f in found)
        table[fit] = {
            "median": round(float(statistics.median(values)), 3),
            "p90": round(float(values[int(0.9 * len(values))]), 3),
            "worse_than_uniform": sum(bool(v > 1) for v in values),
        }
    return table


def main():
    """One JSON line."""
    n_laws = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    rows = [
        {
            "noise_nats": sd,
            "regret_over_uniform": described([regrets(sd, s) for s in range(n_laws)]),
        }
        for sd in NOISES_NATS
    ]
    print(json.dumps({"benchmark": "joint_fit", "n_laws": n_laws, "rows": rows}))


if __name__ == "__main__":
    main()
