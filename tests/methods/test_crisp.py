"""CRISP's weights, importance weights and errors against closed forms and simulation."""

import math
from dataclasses import replace

import numpy as np
import pytest

from mixture_assets.core.errors import MixtureError
from mixture_assets.core.problem import Constraints
from mixture_assets.methods.crisp import (
    Crisp,
    effective_share,
    importance_weights,
    specialist_mixture,
    standard_errors,
)

COUNTS = {"web": 60, "code": 40, "books": 0}
TOKENS = {"web": 6_000_000, "code": 2_000_000, "books": 2_000_000}


def test_weights_are_shares_of_the_specialist_set():
    assert dict(specialist_mixture(COUNTS)) == {"books": 0, "code": 0.4, "web": 0.6}


def test_a_pseudo_count_pulls_towards_uniform():
    smooth = specialist_mixture(COUNTS, pseudo_count=10)
    assert dict(smooth) == pytest.approx({"books": 10 / 130, "code": 50 / 130, "web": 70 / 130})


def test_importance_weights_average_to_one_over_the_generic_set():
    ratio = importance_weights(specialist_mixture(COUNTS), TOKENS)
    assert ratio == pytest.approx({"books": 0, "code": 2, "web": 1})
    total = sum(TOKENS.values())
    assert math.fsum(TOKENS[n] / total * u for n, u in ratio.items()) == pytest.approx(1)


def test_the_effective_share_is_kishs():
    """(sum u)^2 / sum u^2 over single tokens of the generic set."""
    ratio = importance_weights(specialist_mixture(COUNTS), TOKENS)
    u = np.concatenate([np.full(TOKENS[n] // 1_000_000, ratio[n]) for n in TOKENS])
    kish = u.sum() ** 2 / (u**2).sum() / len(u)
    assert effective_share(specialist_mixture(COUNTS), TOKENS) == pytest.approx(kish)


def test_natural_weights_use_all_the_data_and_one_cluster_only_its_own():
    assert effective_share({"web": 0.6, "code": 0.2, "books": 0.2}, TOKENS) == pytest.approx(1)
    assert effective_share({"web": 0, "code": 1, "books": 0}, TOKENS) == pytest.approx(0.2)


@pytest.mark.parametrize("pseudo_count", [0.0, 5.0])
def test_standard_errors_are_the_spread_over_specialist_sets(pseudo_count):
    rng, n, shares = np.random.default_rng(0), 200, {"a": 0.5, "b": 0.3, "c": 0.2}
    draws = rng.multinomial(n, list(shares.values()), size=20_000)
    smoothed = (draws + pseudo_count) / (n + 3 * pseudo_count)
    expected = standard_errors({k: n * p for k, p in shares.items()}, pseudo_count=pseudo_count)
    assert list(expected.values()) == pytest.approx(smoothed.std(axis=0).tolist(), rel=0.03)


def test_intervals_hold_the_true_share_as_often_as_they_say(problem):
    free = replace(problem, constraints=Constraints(max_epochs=math.inf))
    rng, truth, held = np.random.default_rng(1), np.array([0.5, 0.3, 0.2]), 0
    for _ in range(100):
        drawn = dict(zip(free.domains, rng.multinomial(300, truth).tolist(), strict=True))
        low, high = Crisp(counts=drawn).propose(free, []).interval["books"]
        held += low <= truth[0] <= high
    assert 82 <= held <= 97  # 90 % of 100, three standard deviations either way, and rounding


def test_a_cluster_without_tokens_is_named():
    with pytest.raises(MixtureError, match="documents in 'code', which have no tokens"):
        importance_weights({"web": 0.5, "code": 0.5}, {"web": 10, "code": 0})


def test_counts_of_other_domains_are_named(problem):
    with pytest.raises(MixtureError, match="'books', 'wiki' in only one"):
        Crisp(counts={"web": 1, "code": 1, "wiki": 1}).propose(problem, [])


@pytest.mark.parametrize(
    ("counts", "pseudo_count", "message"),
    [
        ({"a": 0, "b": 0}, 0.0, "no documents"),
        ({"a": -1, "b": 2}, 0.0, "not so for 'a'"),
        ({"a": 1, "b": 2}, -1.0, "pseudo-count is finite and >= 0, got -1"),
    ],
)
def test_impossible_counts_are_refused(counts, pseudo_count, message):
    with pytest.raises(MixtureError, match=message):
        specialist_mixture(counts, pseudo_count=pseudo_count)
