"""How good are weights for a domain that came later, by each way, on simulated laws?

Every domain's loss is a power law of its own tokens and a little of the others'. The objective is
the mean perplexity of six domains, five of them known before. Regret: how far the objective at the
proposed weights is above the best there is, as a share of how far uniform is above it. `extend, all
losses as they are` is the way without its rule for text never seen: see methods/extend.py.

    .venv/bin/python benchmarks/refit_ways.py [LAWS]
"""

import json
import math
import random
import statistics
import sys

from scipy.optimize import minimize

from mixture_assets.core.problem import Objective, Problem, ProxyResult
from mixture_assets.methods.ddo import DDO
from mixture_assets.methods.extend import ExtendedDDO
from mixture_assets.methods.reuse import Reuse

SHARE = 100_000
OLD, NEW = ("a", "b", "c", "d", "e"), "new"


class AsTheyAre(ExtendedDDO):
    """Without the reference: every loss counts as it was measured."""

    def _reference(self, problem, losses):
        return {}


def make_law(rng):
    """Losses by domain from tokens by domain."""
    domains = (*OLD, NEW)
    least = {d: rng.uniform(1.5, 2.5) for d in domains}
    gain = {d: rng.uniform(0.25, 1.5) for d in domains}
    power = {d: rng.uniform(0.15, 0.7) for d in domains}
    known = {d: 10 ** rng.uniform(-3, -0.5) for d in domains}
    helps = {d: {o: 0.3 * 10 ** rng.uniform(-3, -1) for o in domains} for d in domains}

    def losses(tokens):
        x = {d: tokens.get(d, 0) / SHARE for d in domains}
        amount = {d: x[d] + sum(helps[d][o] * x[o] for o in domains) + known[d] for d in domains}
        return {d: least[d] + gain[d] * amount[d] ** -power[d] for d in domains}

    return losses


def question(*domains):
    """Weights for a run of one share a domain."""
    tokens = dict.fromkeys(domains, 10**9)
    return Problem(available_tokens=tokens, budget_tokens=SHARE * len(domains))


def answer(method, problem, law):
    """The method's weights; every run has every loss, and the method takes what it wants."""
    results = [
        ProxyResult(run=r, loss_nats=_of(law(r.tokens), problem)) for r in method.plan(problem)
    ]
    return method.propose(problem, results).mixture


def _of(losses, problem):
    return {d: losses[d] for d in problem.domains}


def value(law, problem, weights):
    """Mean perplexity at some weights."""
    tokens = {d: w * problem.budget_tokens for d, w in weights.items()}
    return Objective().value(_of(law(tokens), problem))


def least(law, problem):
    """The best mean perplexity that a direct search finds."""

    def of(z):
        total = math.fsum(map(math.exp, z))
        return value(
            law, problem, {d: math.exp(x) / total for d, x in zip(problem.domains, z, strict=True)}
        )

    options = {"maxiter": 5000, "maxfev": 5000}
    return minimize(of, [0.0] * len(problem.domains), method="Nelder-Mead", options=options).fun


def regrets(law):
    """Of every way, as a share of uniform's."""
    before, now = question(*OLD), question(*OLD, NEW)
    settings = {"base_tokens": SHARE * len(OLD), "base_seeds": (), "bootstrap": 0}
    full = DDO(**settings | {"base_tokens": SHARE * len(now.domains)})
    earlier = answer(DDO(**settings), before, law)
    ways = {
        "full": full,
        "extend": ExtendedDDO(**settings, around=OLD),
        "extend, all losses as they are": AsTheyAre(**settings, around=OLD),
        "reuse": Reuse(frozen=dict(earlier), inner=full),
    }
    best = least(law, now)
    uniform = value(law, now, now.uniform) - best
    return {n: (value(law, now, answer(m, now, law)) - best) / uniform for n, m in ways.items()}


def main():
    """Quantiles over laws."""
    n_laws = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    found = [regrets(make_law(random.Random(seed))) for seed in range(n_laws)]
    ways = {}
    for name in found[0]:
        values = sorted(f[name] for f in found)
        ways[name] = {
            "median": round(float(statistics.median(values)), 3),
            "p90": round(float(values[int(0.9 * len(values))]), 3),
            "worse_than_uniform": sum(bool(v > 1) for v in values),
        }
    print(json.dumps({"benchmark": "refit_ways", "n_laws": n_laws, "regret_over_uniform": ways}))


if __name__ == "__main__":
    main()
