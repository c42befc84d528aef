"""How good are weights carried from two scales to a full budget, by each rule, on simulated laws?

Five domains; proxy scales of 0.25 and 1 share a domain, a full budget of 4. A domain's loss is a
power law of its own tokens, of the others' (`weak`: 0.03 to 3 % of a token each, `strong`: 3 to
30 %) and of a head start. The objective is the mean loss. Regret: how far the objective at the
proposed weights is above the best there is, as a share of how far uniform is above it; 1 is
uniform. Laws are split by whether a domain is at its floor at a scale.

    large       weights of the large scale's optimum, not extrapolated
    paper, safe the rules of `extrapolate`
    curves      the large scale's curves, asked for the full budget
    unclamped   optima without a floor, n + a extrapolated geometrically, a of the large scale
    additive    one law for each loss over the runs of both scales

    .venv/bin/python benchmarks/extrapolation.py [LAWS]
"""

import json
import math
import random
import statistics
import sys
from dataclasses import replace

import numpy as np
from scipy.optimize import brentq, minimize

from mixture_assets.core.problem import Objective, Problem, ProxyResult
from mixture_assets.methods.allocate import allocate
from mixture_assets.methods.autoscale import AutoScale
from mixture_assets.methods.ddo import DDO

DOMAINS = ("a", "b", "c", "d", "e")
SHARE, SMALL, BUDGET = 100_000, 25_000, 400_000  # tokens a domain: large scale, small, full run
FLOOR = 0.2
HELP = {"weak": (-3.5, -1.5), "strong": (-1.5, -0.5)}  # powers of ten
NOISES_NATS = (0.0, 0.01)
RULES = ("large", "paper", "safe", "curves", "unclamped", "additive")


def make_law(rng, helps):
    """Losses by domain from tokens by domain."""
    least = {d: rng.uniform(1.5, 2.5) for d in DOMAINS}
    gain = {d: rng.uniform(0.25, 1.5) for d in DOMAINS}
    power = {d: rng.uniform(0.15, 0.7) for d in DOMAINS}
    known = {d: 10 ** rng.uniform(-3, -0.5) for d in DOMAINS}
    of = {d: {o: 10 ** rng.uniform(*HELP[helps]) for o in DOMAINS if o != d} for d in DOMAINS}

    def losses(tokens):
        x = {d: tokens[d] / SHARE for d in DOMAINS}
        amount = {d: x[d] + sum(h * x[o] for o, h in of[d].items()) + known[d] for d in DOMAINS}
        return {d: least[d] + gain[d] * amount[d] ** -power[d] for d in DOMAINS}

    return losses


def value(law, weights):
    """Mean loss of a full run."""
    total = math.fsum(weights.values())
    tokens = {d: weights[d] / total * BUDGET * len(DOMAINS) for d in DOMAINS}
    return statistics.mean(law(tokens).values())


def least(law):
    """The best mean loss that a direct search finds."""
    answers = [
        minimize(
            lambda z: value(law, dict(zip(DOMAINS, np.exp(z - z.max()), strict=True))),
            start,
            options={"gtol": 1e-9},
        ).fun
        for start in (np.zeros(len(DOMAINS)), np.linspace(-1, 1, len(DOMAINS)))
    ]
    return min(answers)


def curves(large):
    """The large scale's curves, asked for the full budget."""
    more = BUDGET / SHARE
    known = {c.domain: None if c.a is None else (c.a, c.b) for c in large.curves}
    return allocate(known, total=more * len(DOMAINS), floor=more * FLOOR)


def unclamped(small, large):
    """Optima without a floor, in tokens that count as the domain's own, carried on."""
    if small.not_improving or large.not_improving:
        return dict(large.tokens)
    effective = []
    for fit, share in ((small, SMALL), (large, SHARE)):
        ab = {c.domain: (c.a, c.b) for c in fit.curves}
        below = {d: 1e-6 - a for d, (a, _) in ab.items()}
        best = allocate(ab, total=len(ab), floor=below)
        effective.append({d: share * (n + ab[d][0]) for d, n in best.items()})
    offset = {c.domain: SHARE * c.a for c in large.curves}

    def tokens(t):
        grown = {d: effective[0][d] * (effective[1][d] / effective[0][d]) ** t for d in DOMAINS}
        return {d: max(n - offset[d], FLOOR * BUDGET) for d, n in grown.items()}

    total = BUDGET * len(DOMAINS)
    try:
        return tokens(brentq(lambda t: math.fsum(tokens(t).values()) - total, 0, 60))
    except ValueError:  # shrinks for ever
        return dict(large.tokens)


def answers(law, noise_nats, rng):
    """Weights by rule, and whether a domain is at its floor at a scale."""
    n = len(DOMAINS)
    problem = Problem(
        available_tokens=dict.fromkeys(DOMAINS, 10**9),
        budget_tokens=BUDGET * n,
        objective=Objective(metric="loss"),
    )
    scales = [DDO(base_tokens=s * n, floor=FLOOR, bootstrap=0) for s in (SMALL, SHARE)]
    method = AutoScale(small=scales[0], large=scales[1], bootstrap=0)
    results = [
        ProxyResult(
            run=run,
            loss_nats={d: y + rng.gauss(0, noise_nats) for d, y in law(run.tokens).items()},
        )
        for run in method.plan(problem)
    ]
    small, large = method.fits(problem, results).values()
    found = {"large": dict(large.weights), "curves": curves(large)}
    found["unclamped"] = unclamped(small, large)
    for rule in ("paper", "safe", "additive"):
        found[rule] = dict(replace(method, rule=rule).propose(problem, results).mixture)
    return found, bool(small.at_floor or large.at_floor)


def regrets(helps, noise_nats, seed):
    """Of every rule, as a share of uniform's, and whether a floor was touched."""
    rng = random.Random(seed)
    law = make_law(rng, helps)
    found, at_floor = answers(law, noise_nats, rng)
    best = least(law)
    uniform = value(law, dict.fromkeys(DOMAINS, 1.0)) - best
    return {r: (value(law, found[r]) - best) / uniform for r in RULES}, at_floor


def described(found):
    """Quantiles over laws, by rule."""
    table = {}
    for rule in RULES:
        values = sorted(f[rule] for f in found)
        table[rule] = {
            "median": round(float(statistics.median(values)), 3),
            "p90": round(float(values[int(0.9 * len(values))]), 3),
            "worse_than_uniform": sum(bool(v > 1) for v in values),
        }
    return table


def compare(n_laws):
    """By kind of law, noise, and whether a domain is at a floor."""
    rows = []
    for helps in HELP:
        for noise in NOISES_NATS:
            found = [regrets(helps, noise, seed) for seed in range(n_laws)]
            for at_floor in (False, True):
                some = [f for f, touched in found if touched is at_floor]
                if some:
                    rows.append(
                        {
                            "helps": helps,
                            "noise_nats": noise,
                            "at_floor": at_floor,
                            "n_laws": len(some),
                            "regret_over_uniform": described(some),
                        }
                    )
    return rows


def main():
    """One JSON line."""
    n_laws = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    print(json.dumps({"benchmark": "extrapolation", "rows": compare(n_laws)}))


if __name__ == "__main__":
    main()
