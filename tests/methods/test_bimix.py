"""BiMix against laws that made the runs, and its optimum against a general solver."""

import math

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from scipy.optimize import minimize

from mixture_assets.core.errors import MixtureError
from mixture_assets.methods.bimix import BiMix, DomainLaw, _derivatives, _residuals, fit_bimix

TRUTH = {
    "web": DomainLaw(alpha=0.05, b=40.0, beta=0.2, c=1.9),
    "code": DomainLaw(alpha=0.12, b=300.0, beta=0.3, c=0.8),
    "books": DomainLaw(alpha=0.02, b=9.0, beta=0.1, c=1.2),
}
NAMES = list(TRUTH)


def runs(n=60, lengths=(1e8, 3e8, 1e9, 3e9), noise=0.0, seed=0):
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.ones(3), n)
    tokens = np.resize(lengths, n)
    losses = {
        name: TRUTH[name].loss(weights[:, i], tokens) * np.exp(noise * rng.standard_normal(n))
        for i, name in enumerate(NAMES)
    }
    return weights, tokens, losses


def test_the_law_that_made_the_runs_is_found():
    weights, tokens, losses = runs()
    found = fit_bimix(NAMES, weights, tokens, losses)
    for name, law in TRUTH.items():
        assert found.laws[name].alpha == pytest.approx(law.alpha, rel=1e-6)
        assert found.laws[name].beta == pytest.approx(law.beta, rel=1e-4)
        assert found.laws[name].b == pytest.approx(law.b, rel=1e-3)
        assert found.laws[name].c == pytest.approx(law.c, rel=1e-4)


def test_noise_moves_alpha_by_about_its_standard_error():
    """Log losses are linear in alpha: its standard error is noise / (sd of log r * sqrt n)."""
    noise, found = 0.005, []
    for seed in range(20):
        weights, tokens, losses = runs(noise=noise, seed=seed)
        law = fit_bimix(NAMES, weights, tokens, losses).laws["code"]
        error = noise / (np.log(weights[:, 1]).std() * math.sqrt(len(tokens)))
        found.append((law.alpha - TRUTH["code"].alpha) / error)
    assert np.sqrt(np.mean(np.square(found))) < 1.6  # 1 if nothing else were fitted
    assert abs(np.mean(found)) < 0.8


def test_noise_leaves_a_prediction_at_ten_times_the_length_within_a_per_cent():
    weights, tokens, losses = runs(n=200, noise=0.003)
    found = fit_bimix(NAMES, weights, tokens, losses)
    mixture = {"web": 0.5, "code": 0.3, "books": 0.2}
    predicted = found.losses(mixture, 3e10)
    for name, law in TRUTH.items():
        assert predicted[name] == pytest.approx(float(law.loss(mixture[name], 3e10)), rel=0.01)


def test_order_of_domains_changes_no_bit():
    weights, tokens, losses = runs(noise=0.01)
    backwards = dict(reversed(losses.items()))
    one = fit_bimix(NAMES, weights, tokens, losses)
    other = fit_bimix(NAMES[::-1], weights[:, ::-1], tokens, backwards)
    assert one == other
    assert one.best(1e9) == other.best(1e9)


@settings(max_examples=40)
@given(st.floats(0, 2), st.floats(-3, 3), st.floats(-3, 1), st.floats(-3, 3), st.integers(0, 10**6))
def test_the_derivatives_are_those_of_the_residuals(alpha, log_b, log_beta, log_c, seed):
    rng = np.random.default_rng(seed)
    data = (rng.normal(size=7), rng.normal(size=7), rng.normal(size=7))
    q = np.array([alpha, log_b, log_beta, log_c])
    found = _derivatives(q, *data)
    for i, step in enumerate(1e-6 * np.eye(4)):
        slope = (_residuals(q + step, *data) - _residuals(q - step, *data)) / 2e-6
        np.testing.assert_allclose(found[:, i], slope, atol=1e-6, rtol=1e-5)


def test_one_length_gives_a_law_of_the_weight_alone():
    weights, tokens, losses = runs(lengths=(1e9,))
    found = fit_bimix(NAMES, weights, tokens, losses)
    for name, law in TRUTH.items():
        assert found.laws[name].alpha == pytest.approx(law.alpha, rel=1e-6)
        assert found.laws[name].b == 0
        assert found.laws[name].c == pytest.approx(float(law.level(1e9)), rel=1e-6)


def test_two_lengths_are_gone_through_with_the_exponent_of_others():
    weights, tokens, losses = runs(lengths=(1e8, 1e9))
    found = fit_bimix(NAMES, weights, tokens, losses)
    assert found.n_lengths == 2
    assert [law.beta for law in found.laws.values()] == pytest.approx([0.28] * 3)
    np.testing.assert_allclose(found.laws["web"].loss(weights[:, 0], tokens), losses["web"])


# --- the optimum ------------------------------------------------------------------------------


@st.composite
def requests(draw):
    n = draw(st.integers(2, 7))
    names = [f"d{i}" for i in range(n)]
    law = st.builds(
        DomainLaw,
        alpha=st.floats(0.01, 1.5),
        b=st.floats(0, 5),
        beta=st.just(0.3),
        c=st.floats(0.1, 5),
        offset=st.sampled_from([0.0, 1e-3]),
    )
    laws = {name: draw(law) for name in names}
    floor = {name: draw(st.floats(0, 0.8 / n)) for name in names}
    cap = {name: draw(st.floats(1.2 / n, 1)) for name in names}
    importance = {name: draw(st.floats(0.05, 3)) for name in names}
    return BiMix(laws=laws, n_lengths=3), importance, floor, cap


def value(model, mixture, importance):
    losses = model.losses(mixture, 10.0)
    return math.fsum(importance[n] * x for n, x in losses.items())


@settings(max_examples=100, deadline=None)
@given(requests())
def test_no_small_transfer_between_domains_helps(request_):
    model, importance, floor, cap = request_
    best = model.best(10.0, importance=importance, floor=floor, cap=cap)
    assert math.fsum(best.values()) == pytest.approx(1, abs=1e-11)
    assert all(floor[n] - 1e-12 <= w <= cap[n] + 1e-12 for n, w in best.items())
    least, step = value(model, best, importance), 1e-5
    for giver in best:
        for taker in best:
            moved = dict(best)
            moved[giver] -= step
            moved[taker] += step
            if moved[giver] < floor[giver] or moved[taker] > cap[taker] or giver == taker:
                continue
            assert value(model, moved, importance) >= least * (1 - 1e-12)


@settings(max_examples=25, deadline=None)
@given(requests())
def test_is_no_worse_than_a_general_solver(request_):
    model, importance, floor, cap = request_
    names = sorted(model.laws)
    low = np.array([max(floor[n], 1e-6) for n in names])
    best = model.best(10.0, importance=importance, floor=floor, cap=cap)
    found = minimize(
        lambda x: value(model, dict(zip(names, x / x.sum(), strict=True)), importance),
        np.full(len(names), 1 / len(names)),
        bounds=[(lo, cap[n]) for lo, n in zip(low, names, strict=True)],
        constraints={"type": "eq", "fun": lambda x: x.sum() - 1},
        method="SLSQP",
        options={"ftol": 1e-13, "maxiter": 300},
    )
    if found.success and abs(found.x.sum() - 1) < 1e-9:
        assert value(model, best, importance) <= found.fun * (1 + 1e-7)


def test_alike_domains_share_by_the_closed_form():
    """Equal alpha: r is proportional to (v K)^(1 / (alpha + 1))."""
    laws = {n: DomainLaw(alpha=0.5, b=0.0, beta=0.3, c=k) for n, k in (("a", 1.0), ("b", 8.0))}
    assert dict(BiMix(laws=laws, n_lengths=1).best(1e9)) == pytest.approx({"a": 0.2, "b": 0.8})


def test_a_domain_that_is_not_helped_sits_at_its_floor_until_the_others_are_full():
    laws = TRUTH | {"flat": DomainLaw(alpha=0.0, b=0.0, beta=0.3, c=9.0)}
    model = BiMix(laws=laws, n_lengths=4)
    assert model.best(1e9, floor=0.01)["flat"] == 0.01
    assert model.best(1e9, cap={"web": 0.2, "code": 0.2, "books": 0.2, "flat": 1.0})[
        "flat"
    ] == pytest.approx(0.4)


# --- refusals ---------------------------------------------------------------------------------


def test_a_weight_of_0_needs_an_offset():
    weights, tokens, losses = runs()
    weights[3] = [0.0, 0.5, 0.5]
    losses = {n: np.where(np.isfinite(x), x, 3.0) for n, x in losses.items()}
    with pytest.raises(MixtureError, match="'web' have weight 0 in some runs"):
        fit_bimix(NAMES, weights, tokens, losses)
    law = fit_bimix(NAMES, weights, tokens, losses, offset=1e-3).laws["web"]
    assert np.isfinite(law.loss(np.zeros(1), np.array([1e9]))).all()


def test_what_cannot_be_fitted_is_named():
    weights, tokens, losses = runs()
    with pytest.raises(MixtureError, match="'books', 'wiki' in only one"):
        fit_bimix(["web", "code", "wiki"], weights, tokens, losses)
    with pytest.raises(MixtureError, match="not so for 'code'"):
        fit_bimix(NAMES, weights, tokens, losses | {"code": losses["code"] - 99})
    with pytest.raises(MixtureError, match="4 runs or more"):
        fit_bimix(NAMES, weights[:3], tokens[:3], {n: x[:3] for n, x in losses.items()})


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ({"floor": 0.4}, r"floors of 3 domains sum to 1\.2"),
        ({"cap": 0.3}, r"caps of 3 domains sum to 0\.9"),
        ({"floor": {"web": 0.5, "code": 0, "books": 0}, "cap": 0.4}, "above the cap for 'web'"),
        ({"cap": {"web": 1.0}}, "disagree on domains: 'books', 'code'"),
        ({"importance": {"web": 1.0}}, "importance is >= 0 for each of"),
    ],
)
def test_bounds_that_leave_no_mixture_are_named(bounds, message):
    with pytest.raises(MixtureError, match=message):
        BiMix(laws=TRUTH, n_lengths=4).best(1e9, **bounds)
