"""What every offline method owes its users: a new one is added to SETTINGS and nowhere else."""

import math
import re
from dataclasses import replace

import pytest

from mixture_assets.core.errors import MixtureError
from mixture_assets.core.mixture import Mixture
from mixture_assets.methods.ddo import DDO
from mixture_assets.methods.registry import METHODS, method_class
from tests.methods.conftest import toy_loss

SETTINGS = {
    "natural": {},
    "uniform": {},
    "ddo": {"base_tokens": 300_000, "base_seeds": (1, 2), "bootstrap": 20},
    "autoscale": {
        "small": DDO(base_tokens=60_000, base_seeds=(1, 2)),
        "large": DDO(base_tokens=240_000, base_seeds=(1, 2)),
        "bootstrap": 20,
    },
    "extended_ddo": {
        "base_tokens": 300_000,
        "base_seeds": (1, 2),
        "bootstrap": 20,
        "around": ("books@before", "gone", "web"),
        "replaced": {"books": "books@before"},
    },
    "reuse": {
        "frozen": {"gone": 0.5, "web": 0.3, "books": 0.2},
        "inner": DDO(base_tokens=300_000, base_seeds=(1, 2), bootstrap=20),
    },
    "swarm": {"base_tokens": 300_000, "n_runs": 20, "base_seeds": (1, 2), "draws": 100},
    "temperature": {"temperature": 3.0},
    "unimax": {"epochs": 0.5},
    "crisp": {"counts": {"web": 40, "code": 9, "books": 1}, "bootstrap": 20},
}
NO_SEARCH = {"uniform", "temperature", "unimax", "crisp"}  # they never see a loss


@pytest.fixture(params=sorted(METHODS))
def method(request):
    return method_class(request.param)(**SETTINGS[request.param])


@pytest.fixture
def propose(method, train):
    def answer(problem):
        return method.propose(problem, train(method, problem, disturb=lambda r: 1e-5 * r.seed))

    return answer


def test_weighs_every_domain_on_the_simplex(propose, problem):
    mixture = propose(problem).mixture
    assert isinstance(mixture, Mixture)
    assert list(mixture) == problem.domains
    assert math.fsum(mixture.values()) == pytest.approx(1)
    assert all(w >= 0 for w in mixture.values())


def test_order_of_domains_and_of_results_does_not_matter(method, problem, train, propose):
    backwards = replace(problem, available_tokens=dict(reversed(problem.available_tokens.items())))
    results = train(method, backwards, disturb=lambda r: 1e-5 * r.seed)[::-1]
    assert method.propose(backwards, results) == propose(problem)


def test_repeats_itself(method, problem, propose):
    assert [r.digest for r in method.plan(problem)] == [r.digest for r in method.plan(problem)]
    assert propose(problem) == propose(problem)


def test_plans_each_run_once_and_names_it(method, problem):
    digests = [run.digest for run in method.plan(problem)]
    assert len(digests) == len(set(digests))
    labels = method.labels(problem)
    assert labels.keys() == set(digests)
    assert len(set(labels.values())) == len(labels)


def test_extra_results_are_passed_over(method, problem, train, propose):
    extra = train(DDO(base_tokens=9_000), problem)
    results = train(method, problem, disturb=lambda r: 1e-5 * r.seed)
    assert method.propose(problem, [*extra, *results]) == propose(problem)


def test_is_no_worse_than_natural_on_the_full_run(method, propose, problem):
    def full_run_loss(mixture):
        return toy_loss({n: w * problem.budget_tokens for n, w in mixture.items()})

    answer = propose(problem)
    if answer.method in NO_SEARCH:
        pytest.skip(f"{answer.method} is a baseline, not a promise")
    if getattr(method, "around", ()):
        pytest.skip("approximate by design: test_extend.py measures its regret over random laws")
    assert full_run_loss(answer.mixture) <= full_run_loss(problem.natural) + 1e-12


def test_respects_the_constraints(propose, problem):
    scarce = replace(
        problem,
        available_tokens={"web": 900_000, "code": 100_000, "books": 20_000},
        constraints=replace(problem.constraints, max_epochs=2.0, floor=0.03),
    )
    proposal = propose(scarce)
    assert all(e <= 2 * (1 + 1e-9) for e in proposal.epochs.values())
    assert all(w >= 0.03 * (1 - 1e-9) for w in proposal.mixture.values())
    impossible = replace(scarce, budget_tokens=3_000_000)
    with pytest.raises(MixtureError, match=r"would read every domain more than 2 times"):
        propose(impossible)


def test_names_the_runs_it_still_needs(method, problem, train):
    results = train(method, problem)
    if not results:
        pytest.skip("needs no proxy runs")
    missing = results.pop(3).run
    label = f"{method.labels(problem)[missing.digest]} ({missing.digest})"
    expected = rf"1 of them without a result: '{re.escape(label)}'"
    with pytest.raises(MixtureError, match=expected) as caught:
        method.propose(problem, results)
    assert caught.value.hint


def test_every_registered_method_is_tested():
    assert SETTINGS.keys() == METHODS.keys()


def test_an_unknown_method_is_named_with_the_nearest():
    with pytest.raises(MixtureError, match=r"'autoscal' \(did you mean 'autoscale'\?\)"):
        method_class("autoscal")
