"""Two runs for a domain that came later, around base runs that were there."""

import math
import random
from dataclasses import replace

import pytest

from mixture_assets.core.errors import MixtureError
from mixture_assets.core.problem import Objective, Problem, ProxyResult
from mixture_assets.methods.autoscale import AutoScale
from mixture_assets.methods.ddo import DDO
from mixture_assets.methods.extend import ExtendedDDO

SHARE = 100_000


def extended(around, **settings):
    settings = {"base_tokens": SHARE * len(around), "base_seeds": (1,), "bootstrap": 0} | settings
    return ExtendedDDO(around=tuple(around), **settings)


def question(*domains):
    return Problem(
        available_tokens=dict.fromkeys(domains, 10**9),
        budget_tokens=SHARE * len(domains),
        objective=Objective(metric="loss"),
    )


def laws(rng, domains):
    """Every domain's own power law, with a little transfer from the others."""
    gain = {d: rng.uniform(0.3, 1.5) for d in domains}
    power = {d: rng.uniform(0.15, 0.7) for d in domains}
    known = {d: 10 ** rng.uniform(-3, -0.5) for d in domains}
    transfer = {d: {o: 10 ** rng.uniform(-3, -1.5) for o in domains} for d in domains}

    def losses(tokens):
        x = {d: tokens.get(d, 0) + tokens.get(f"{d}@before", 0) for d in domains}
        amount = {
            d: (x[d] + math.fsum(transfer[d][o] * x[o] for o in domains)) / SHARE + known[d]
            for d in domains
        }
        return {d: 2 + gain[d] * amount[d] ** -power[d] for d in domains}

    return losses


def results(method, problem, losses):
    """Every planned run, with those losses that the method asks for and no other."""
    return [
        ProxyResult(
            run=run,
            loss_nats={d: losses(run.tokens)[d] for d in run.measured or problem.domains},
        )
        for run in method.plan(problem)
    ]


def test_around_the_same_domains_it_is_ddo():
    problem = question("a", "b", "c")
    settings = {"base_tokens": 300_000, "base_seeds": (1, 2)}
    method, ddo = extended(problem.domains, **settings), DDO(**settings)
    assert {r.digest for r in method.plan(problem)} == {r.digest for r in ddo.plan(problem)}
    losses = laws(random.Random(1), problem.domains)
    again = method.propose(problem, results(method, problem, losses))
    assert again.mixture == ddo.propose(problem, results(ddo, problem, losses)).mixture


def test_a_new_domain_costs_two_runs_and_the_others_are_those_of_before():
    method = extended(("a", "b"))
    before = {run.digest for run in method.plan(question("a", "b"))}
    now = {run.digest: run for run in method.plan(question("a", "b", "new"))}
    fresh = [now[d].tokens for d in now.keys() - before]
    assert before <= now.keys()
    assert sorted(t["new"] for t in fresh) == [SHARE, 3 * SHARE]
    assert all(t["a"] == t["b"] == SHARE for t in fresh)


def test_earlier_runs_need_no_loss_on_a_new_domain_but_for_the_base():
    runs = extended(("a", "b")).plan(question("a", "b", "new"))
    for run in runs:
        is_base = set(run.tokens.values()) == {SHARE} and "new" not in run.tokens
        knows_it = "new" in run.tokens or is_base
        assert (run.measured is None or "new" in run.measured) == knows_it


def test_new_text_of_the_same_kind_leaves_the_weights_where_they_were():
    problem = question("a", "b", "c")
    losses = laws(random.Random(2), problem.domains)
    method = extended(("a@before", "b", "c"), replaced={"a": "a@before"})
    fresh = [r.tokens for r in method.plan(problem) if "a" in r.tokens]
    assert sorted(t["a"] for t in fresh) == [SHARE // 5, 3 * SHARE]
    assert not any("a@before" in t for t in fresh)
    ddo = DDO(base_tokens=3 * SHARE, base_seeds=(1,), bootstrap=0)
    found = method.propose(problem, results(method, problem, losses)).mixture
    expected = ddo.propose(problem, results(ddo, problem, losses)).mixture
    assert dict(found) == pytest.approx(dict(expected))


def test_a_domain_that_went_stays_in_the_base_and_gets_nothing():
    method, problem = extended(("a", "b", "gone")), question("a", "b")
    plan = method.plan(problem)
    assert len(plan) == 2 * 2 + 1 + 1
    assert all(run.tokens["gone"] == SHARE for run in plan)
    losses = laws(random.Random(3), ["a", "b", "gone"])
    assert set(method.propose(problem, results(method, problem, losses)).mixture) == {"a", "b"}


def test_weights_for_a_new_domain_are_far_better_than_uniform():
    """Regret beside that of uniform, over random laws; the best weights by fine search."""
    domains, ratios = ("a", "b", "c", "d", "new"), []
    for seed in range(25):
        losses = laws(random.Random(seed), domains)
        problem = question(*domains)
        method = extended(domains[:-1])
        mixture = method.propose(problem, results(method, problem, losses)).mixture
        best = searched(losses, problem)
        regret = value(losses, problem, mixture) - best
        ratios.append(regret / (value(losses, problem, problem.uniform) - best))
    ratios.sort()
    assert ratios[len(ratios) // 2] < 0.2
    assert sum(r < 1 for r in ratios) >= 23


def value(losses, problem, weights):
    found = losses({d: w * problem.budget_tokens for d, w in weights.items()})
    return math.fsum(found[d] for d in problem.domains) / len(problem.domains)


def searched(losses, problem):
    from scipy.optimize import minimize

    def of(z):
        total = math.fsum(map(math.exp, z))
        shares = {d: math.exp(x) / total for d, x in zip(problem.domains, z, strict=True)}
        return value(losses, problem, shares)

    options = {"maxiter": 4000, "maxfev": 4000}
    return minimize(of, [0.0] * len(problem.domains), method="Nelder-Mead", options=options).fun


def test_two_scales_are_carried_on_as_by_autoscale():
    problem = replace(question("a", "b", "new"), budget_tokens=3_000_000)
    losses = laws(random.Random(4), problem.domains)
    small, large = extended(("a", "b")), extended(("a", "b"), base_tokens=800_000)
    method = AutoScale(small=small, large=large, bootstrap=20)
    proposal = method.propose(problem, results(method, problem, losses))
    assert set(proposal.mixture) == {"a", "b", "new"}
    assert len(method.plan(problem)) == 2 * (2 * 2 + 1 + 1 + 2)
    with_all = {fit.domain: len(fit.points) for fit in proposal.fits if fit.scale == "small"}
    assert with_all == {"a": 4, "b": 4, "new": 4}  # two base seeds: two points at 0


def test_nothing_left_of_the_base_is_an_error():
    with pytest.raises(MixtureError, match="no earlier run can be built on") as caught:
        extended(("a", "b")).plan(question("c", "d"))
    assert caught.value.hint == "mixture refit --way full"
