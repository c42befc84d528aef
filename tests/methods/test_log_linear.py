"""Olmix's log-linear law against laws that made the runs, and under outliers."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from mixture_assets.methods.laws import Score
from mixture_assets.methods.log_linear import LogLinear, _derivatives, _residuals
from mixture_assets.methods.mixing_law import ExponentialLaw
from tests.methods.test_laws import mixtures, needs_regmix, read

T = np.array([1.0, -2.0, 0.5, -1.0])


def law(weights, t=T):
    return 2.5 + np.exp(weights @ t)


def test_the_law_that_made_the_runs_is_found():
    weights, asked = mixtures(60, 4), mixtures(50, 4, seed=1)
    predict = LogLinear().fit(weights, law(weights))
    np.testing.assert_allclose(predict(asked), law(asked), rtol=1e-5)


def test_noise_leaves_predictions_within_it():
    """60 runs for 5 parameters: errors at new mixtures below the noise of one run."""
    weights, asked = mixtures(60, 4), mixtures(50, 4, seed=1)
    noise = np.random.default_rng(2).normal(0, 0.02, 60)
    predict = LogLinear().fit(weights, law(weights) + noise)
    assert np.sqrt(np.mean((predict(asked) - law(asked)) ** 2)) < 0.02


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("shift", [3.0, -3.0])
def test_one_wild_run_moves_it_less_than_the_least_squares_law(seed, shift):
    weights, asked = mixtures(60, 4, seed=seed), mixtures(50, 4, seed=100)
    values = law(weights) + np.random.default_rng(seed).normal(0, 0.01, 60)
    spoiled = values + shift * (np.arange(60) == 7)
    moved = {}
    for one in (LogLinear(), ExponentialLaw()):
        before, after = one.fit(weights, values)(asked), one.fit(weights, spoiled)(asked)
        moved[type(one)] = np.abs(after - before).max()
    assert moved[LogLinear] < 0.2 * moved[ExponentialLaw]


@settings(max_examples=30)
@given(st.integers(0, 1000), st.integers(2, 7))
def test_the_derivatives_are_those_of_the_residuals(seed, m):
    rng = np.random.default_rng(seed)
    weights, values, q = mixtures(9, m, seed), rng.normal(size=9), rng.normal(size=m + 1)
    found = _derivatives(q, weights, values)
    for i, step in enumerate(1e-6 * np.eye(m + 1)):
        slope = _residuals(q + step, weights, values) - _residuals(q - step, weights, values)
        np.testing.assert_allclose(found[:, i], slope / 2e-6, atol=1e-6)


def test_order_of_domains_changes_nothing():
    weights = mixtures(60, 4)
    values = law(weights) + np.random.default_rng(2).normal(0, 0.02, 60)
    one = LogLinear().fit(weights, values)(weights)
    other = LogLinear().fit(weights[:, ::-1], values)(weights[:, ::-1])
    np.testing.assert_allclose(one, other, rtol=1e-5)


@needs_regmix
def test_it_finds_the_best_of_the_1b_runs_of_regmix():
    predict = LogLinear().fit(*read("train_{}_1m.csv"))
    weights, values = read("test_{}_1B.csv")
    score = Score.of(predict(weights), values)
    assert score.regret == 0
    assert score.spearman >= 0.98
