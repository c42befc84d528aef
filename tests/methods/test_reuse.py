"""Frozen ratios among unchanged domains, fitted as one beside what is new."""

import math
import random
from dataclasses import replace

import pytest

from mixture_assets.core.errors import MixtureError
from mixture_assets.core.problem import Constraints
from mixture_assets.methods.ddo import DDO
from mixture_assets.methods.reuse import Reuse
from tests.methods.test_extend import laws, question, results, searched, value

INNER = DDO(base_tokens=400_000, base_seeds=(1,), bootstrap=30)


def reuse(frozen, inner=INNER):
    return Reuse(frozen=frozen, inner=inner)


def test_the_number_of_runs_does_not_depend_on_how_many_domains_are_unchanged():
    for n in (2, 20):
        old = [f"d{i}" for i in range(n)]
        plan = reuse(dict.fromkeys(old, 1 / n)).plan(question(*old, "new"))
        assert len(plan) == 2 * 2 + 1 + 1


def test_every_run_and_the_answer_keep_the_frozen_ratios():
    problem = question("a", "b", "new")
    method = reuse({"a": 0.6, "b": 0.2, "gone": 0.2})
    for run in method.plan(problem):
        assert run.tokens["a"] == pytest.approx(3 * run.tokens["b"], abs=3)
    losses = laws(random.Random(5), problem.domains)
    proposal = method.propose(problem, results(method, problem, losses))
    assert proposal.mixture["a"] == pytest.approx(3 * proposal.mixture["b"])
    assert math.fsum(proposal.mixture.values()) == pytest.approx(1)
    assert set(proposal.interval) == {"a", "b", "new"}


def test_the_groups_share_is_the_best_one_for_these_ratios():
    problem = question("a", "b", "new")
    frozen = {"a": 0.75, "b": 0.25}
    losses = laws(random.Random(6), problem.domains)
    method = reuse(frozen, DDO(base_tokens=300_000, bootstrap=0))
    mixture = method.propose(problem, results(method, problem, losses)).mixture

    def with_share(new):
        return {"new": new, "a": 0.75 * (1 - new), "b": 0.25 * (1 - new)}

    best = min(value(losses, problem, with_share(i / 1000)) for i in range(50, 950))
    uniform = value(losses, problem, problem.uniform)
    assert value(losses, problem, mixture) - best < 0.1 * (uniform - searched(losses, problem))


def test_nothing_new_needs_no_run():
    problem = question("a", "b")
    method = reuse({"a": 0.3, "b": 0.1, "gone": 0.6})
    assert method.plan(problem) == []
    assert dict(method.propose(problem, []).mixture) == pytest.approx({"a": 0.75, "b": 0.25})


def test_the_epoch_cap_holds_for_each_real_domain():
    problem = question("a", "b", "new")
    available = {"a": 20_000, "b": 10**9, "new": 10**9}
    capped = replace(problem, available_tokens=available, constraints=Constraints(max_epochs=2.0))
    losses = laws(random.Random(7), problem.domains)
    method = reuse({"a": 0.5, "b": 0.5})
    proposal = method.propose(capped, results(method, capped, losses))
    assert proposal.capped == ["a"]
    assert proposal.epochs["a"] == pytest.approx(2)


def test_nothing_left_to_freeze_is_an_error():
    with pytest.raises(MixtureError, match="no earlier weight can be kept") as caught:
        reuse({"gone": 1.0}).plan(question("a", "b"))
    assert caught.value.hint == "mixture refit --way full"
