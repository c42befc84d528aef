"""The additive law against laws that made the runs, and its optimum against closed forms."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from mixture_assets.core.errors import MixtureError
from mixture_assets.methods.additive_law import (
    AdditiveLaw,
    _derivatives,
    _residuals,
    _Runs,
    fit_additive_law,
)

TRUTH = AdditiveLaw(
    e=1.2,
    a=40.0,
    alpha=0.3,
    b=300.0,
    beta=0.33,
    c={"books": 0.6, "code": 1.5, "web": 2.5},
    gamma={"books": 0.3, "code": 0.6, "web": 0.4},
)
NAMES = sorted(TRUTH.c)
SIZES, LENGTHS = (1e7, 5e7, 2e8, 4e8), (3e8, 1e9, 4e9, 8e9)


def runs(n=160, sizes=SIZES, lengths=LENGTHS, noise=0.0, seed=0, concentration=1.0):
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.full(3, concentration), n)
    params, tokens = rng.choice(sizes, n), rng.choice(lengths, n)
    losses = TRUTH.losses(NAMES, weights, params, tokens) * np.exp(noise * rng.standard_normal(n))
    return weights, params, tokens, losses


def test_the_law_that_made_the_runs_is_found():
    found = fit_additive_law(NAMES, *runs())
    assert found.notes == ()
    assert found.e == pytest.approx(TRUTH.e, rel=1e-3)
    assert (found.a, found.alpha) == pytest.approx((TRUTH.a, TRUTH.alpha), rel=1e-3)
    assert (found.b, found.beta) == pytest.approx((TRUTH.b, TRUTH.beta), rel=1e-3)
    assert dict(found.c) == pytest.approx(dict(TRUTH.c), rel=1e-3)
    assert dict(found.gamma) == pytest.approx(dict(TRUTH.gamma), rel=1e-3)
    weights = np.random.default_rng(9).dirichlet(np.ones(3), 50)
    far = (weights, np.full(50, 7e9), np.full(50, 1e12))
    np.testing.assert_allclose(found.losses(NAMES, *far), TRUTH.losses(NAMES, *far), rtol=1e-5)


def test_noise_leaves_the_far_prediction_and_the_best_mixture_near():
    """0.3 % noise on 160 runs: 1 % at 17 times the size, 0.05 on a weight, 0.001 of the loss."""
    for seed in range(3):
        found = fit_additive_law(NAMES, *runs(noise=0.003, seed=seed))
        far = {"params": 7e9, "tokens": 1e11}
        mixture = {"books": 0.2, "code": 0.3, "web": 0.5}
        assert found.loss(mixture, **far) == pytest.approx(TRUTH.loss(mixture, **far), rel=0.01)
        best, truth = found.best(), TRUTH.best()
        assert dict(best) == pytest.approx(dict(truth), abs=0.05)
        assert TRUTH.loss(best, **far) <= TRUTH.loss(truth, **far) * 1.001


def test_outliers_move_it_less_than_squares_would():
    weights, params, tokens, losses = runs()
    losses = losses.copy()
    losses[:5] *= 1.5
    asked = (weights, params, tokens)
    robust = fit_additive_law(NAMES, weights, params, tokens, losses).losses(NAMES, *asked)
    squares = fit_additive_law(NAMES, weights, params, tokens, losses, huber=1e3).losses(
        NAMES, *asked
    )
    truth = TRUTH.losses(NAMES, *asked)
    assert np.abs(robust - truth).max() < 0.1 * np.abs(squares - truth).max()


def test_order_of_domains_changes_no_bit():
    weights, params, tokens, losses = runs(n=60, noise=0.01)
    one = fit_additive_law(NAMES, weights, params, tokens, losses)
    other = fit_additive_law(NAMES[::-1], weights[:, ::-1], params, tokens, losses)
    assert one == other


def test_losses_go_by_names_not_by_columns():
    weights, params, tokens, losses = runs(n=20)
    found = TRUTH.losses(NAMES[::-1], weights[:, ::-1], params, tokens)
    np.testing.assert_allclose(found, losses, rtol=1e-14)
    with pytest.raises(MixtureError, match="'books', 'wiki' in only one"):
        TRUTH.losses(["wiki", "code", "web"], weights, params, tokens)


def test_sparse_mixtures_are_fitted_as_well():
    weights, params, tokens, losses = runs(concentration=0.3)
    weights = np.where(weights < 0.02, 0.0, weights)
    weights /= weights.sum(axis=1, keepdims=True)
    losses = TRUTH.losses(NAMES, weights, params, tokens)
    assert (weights == 0).any()
    found = fit_additive_law(NAMES, weights, params, tokens, losses)
    np.testing.assert_allclose(found.losses(NAMES, weights, params, tokens), losses, rtol=1e-5)


def test_one_size_and_one_length_are_part_of_e():
    found = fit_additive_law(NAMES, *runs(sizes=(1e8,), lengths=(1e9,)))
    assert (found.a, found.b) == (0, 0)
    assert len(found.notes) == 2
    expected = TRUTH.e + TRUTH.a * 1e8**-TRUTH.alpha + TRUTH.b * 1e9**-TRUTH.beta
    assert found.e == pytest.approx(expected, rel=1e-3)
    assert dict(found.best()) == pytest.approx(dict(TRUTH.best()), abs=1e-3)


def test_two_sizes_take_the_exponent_of_others_and_rank_the_same():
    found = fit_additive_law(NAMES, *runs(sizes=(1e8, 2e8)))
    assert found.alpha == pytest.approx(0.34)
    assert "two sizes leave the exponent undetermined" in found.notes[0]
    assert dict(found.best()) == pytest.approx(dict(TRUTH.best()), abs=1e-3)


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.integers(2, 6))
def test_the_derivatives_are_those_of_the_residuals(seed, k):
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.ones(k), 9)
    weights[0] = np.eye(k)[0]
    data = _Runs(
        log_h=np.log(np.where(weights > 0, weights, 1.0)),
        is_in=weights > 0,
        log_n=rng.normal(size=9),
        log_d=rng.normal(size=9),
        log_y=rng.normal(size=9),
    )
    q = np.concatenate([rng.normal(size=5), rng.normal(size=k), rng.uniform(0.1, 0.9, k)])
    found = _derivatives(q, data)
    for i, step in enumerate(1e-6 * np.eye(5 + 2 * k)):
        slope = (_residuals(q + step, data) - _residuals(q - step, data)) / 2e-6
        np.testing.assert_allclose(found[:, i], slope, atol=1e-6, rtol=1e-4)


# --- the optimum ------------------------------------------------------------------------------


def law(c, gamma):
    names = [f"d{i}" for i in range(len(c))]
    c, gamma = dict(zip(names, c, strict=True)), dict(zip(names, gamma, strict=True))
    return AdditiveLaw(e=1.0, a=0.0, alpha=0.3, b=0.0, beta=0.3, c=c, gamma=gamma)


def test_with_one_gamma_the_optimum_has_a_closed_form():
    """h is proportional to C^(1 / (1 - gamma))."""
    assert dict(law([1.0, 3.0], [0.5, 0.5]).best()) == pytest.approx({"d0": 0.1, "d1": 0.9})


positive = st.lists(st.tuples(st.floats(0.01, 5), st.floats(0.05, 0.95)), min_size=2, max_size=5)


@settings(max_examples=60, deadline=None)
@given(positive, st.integers(0, 10**6))
def test_no_mixture_drawn_at_random_is_better(pairs, seed):
    found = law(*zip(*pairs, strict=True))
    cap = {n: 0.7 for n in found.c}
    best = found.best(floor=0.02, cap=cap)
    least = found.loss(best, params=1e8, tokens=1e9)
    drawn = np.random.default_rng(seed).dirichlet(np.ones(len(pairs)), 4000)
    drawn = drawn[(drawn >= 0.02).all(axis=1) & (drawn <= 0.7).all(axis=1)]
    ones = np.ones(len(drawn))
    assert (found.losses(list(found.c), drawn, 1e8 * ones, 1e9 * ones) >= least * (1 - 1e-12)).all()
    assert min(best.values()) >= 0.02 - 1e-12
    assert max(best.values()) <= 0.7 + 1e-12


# --- refusals ---------------------------------------------------------------------------------


def test_what_cannot_be_fitted_is_named():
    weights, params, tokens, losses = runs(n=20)
    with pytest.raises(MixtureError, match="needs 8 runs, got 7"):
        fit_additive_law(NAMES, weights[:7], params[:7], tokens[:7], losses[:7])
    for i, what in enumerate(("params", "tokens", "losses")):
        wrong = [params, tokens, losses]
        wrong[i] = wrong[i] * np.where(np.arange(20) == 3, -1, 1)
        with pytest.raises(MixtureError, match=f"{what} are finite and above 0"):
            fit_additive_law(NAMES, weights, *wrong)
