"""Power laws and their nesting against laws that made the runs."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from mixture_assets.core.errors import MixtureError
from mixture_assets.methods.nested_law import NestedLaw
from mixture_assets.methods.power_law import PowerLaw, _derivatives, _residuals, fit_power_law

# --- power laws -------------------------------------------------------------------------------

laws = st.builds(PowerLaw, e=st.floats(0.5, 5), b=st.floats(0.5, 50), beta=st.floats(0.1, 1.2))


@settings(max_examples=40, deadline=None)
@given(laws, st.floats(1, 1e9))
def test_the_law_that_made_the_points_is_found_in_any_unit(law, unit):
    x = np.geomspace(1, 300, 8)
    found = fit_power_law(x * unit, np.array([law.value(a) for a in x]))
    assert found.beta == pytest.approx(law.beta, rel=1e-3)
    assert found.e == pytest.approx(law.e, rel=1e-3, abs=1e-3)
    assert found.value(1e3 * unit) == pytest.approx(law.value(1e3), rel=1e-4)


def test_three_points_are_gone_through():
    x, y = np.array([1.0, 2.0, 4.0]), np.array([4.0, 3.0, 2.5])
    found = fit_power_law(x, y)  # differences halve from step to step: beta = 1
    assert (found.e, found.b, found.beta) == pytest.approx((2, 2, 1), rel=1e-6)


def test_noise_leaves_the_floor_within_its_error():
    """50 points with 0.2 % noise: E, read off from 300 to infinity, within 2 %."""
    law, rng = PowerLaw(e=2.0, b=3.0, beta=0.6), np.random.default_rng(0)
    x = np.geomspace(1, 300, 50)
    y = np.array([law.value(a) for a in x])
    found = [fit_power_law(x, y * (1 + 0.002 * rng.standard_normal(50))).e for _ in range(20)]
    assert found == pytest.approx([2.0] * 20, rel=0.02)


def test_a_curve_that_rises_is_level():
    """No negative fall: the best that the law can say is the mean."""
    found = fit_power_law(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 3.0]))
    assert found.value(1e9) == pytest.approx(2, abs=0.02)


@given(st.floats(0, 3), st.floats(0, 3), st.floats(-2, 1), st.integers(0, 10**6))
def test_the_derivatives_are_those_of_the_residuals(e, b, log_beta, seed):
    rng = np.random.default_rng(seed)
    data, q = (rng.normal(size=6), rng.normal(size=6)), np.array([e, b, log_beta])
    found = _derivatives(q, *data)
    for i, step in enumerate(1e-6 * np.eye(3)):
        slope = (_residuals(q + step, *data) - _residuals(q - step, *data)) / 2e-6
        np.testing.assert_allclose(found[:, i], slope, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("x", [[1.0, 2.0, 2.0], [0.0, 1.0, 2.0], [1.0, 2.0, np.inf]])
def test_too_few_points_are_named(x):
    with pytest.raises(MixtureError, match="this one needs 3 different points"):
        fit_power_law(np.array(x), np.ones(3), what="this one")


# --- nesting ----------------------------------------------------------------------------------

T = {"books": -0.5, "code": 0.4, "web": -1.0}
SIZES, STEPS = (7e7, 1.6e8, 3e8, 4.1e8), (1e3, 2e3, 5e3, 1e4, 3e4)


def truth(mixture, params, step):
    floor = 1.5 + np.exp(sum(w * T[n] for n, w in mixture.items()))
    return floor + 60 * params**-0.3 + 20 * step**-0.5


def table(n=24, noise=0.0, seed=0):
    rng = np.random.default_rng(seed)
    rows = rng.dirichlet(np.ones(3), n)
    mixtures = {f"m{i}": dict(zip(T, row.tolist(), strict=True)) for i, row in enumerate(rows)}
    losses = {
        (name, size, step): truth(w, size, step) * (1 + noise * rng.standard_normal())
        for name, w in mixtures.items()
        for size in SIZES
        for step in STEPS
    }
    return mixtures, losses


def test_small_brief_runs_predict_the_large_long_one():
    mixtures, losses = table()
    found = NestedLaw(params=1e9, steps=1e5).fit(mixtures, losses)
    for name, weights in mixtures.items():
        assert found.predicted[name] == pytest.approx(truth(weights, 1e9, 1e5), rel=1e-4)
        expected = truth(weights, 3e8, 1e5)
        assert found.at_steps[name, 3e8] == pytest.approx(expected, rel=1e-4)
    unseen = {"books": 0.2, "code": 0.7, "web": 0.1}
    assert found.loss(unseen) == pytest.approx(truth(unseen, 1e9, 1e5), rel=2e-3)


def test_noise_leaves_the_prediction_within_two_per_cent():
    """0.1 % noise; a floor from 4 sizes carries most of the error."""
    mixtures, losses = table(noise=0.001)
    found = NestedLaw(params=1e9, steps=1e5).fit(mixtures, losses)
    unseen = {"books": 0.3, "code": 0.3, "web": 0.4}
    assert found.loss(unseen) == pytest.approx(truth(unseen, 1e9, 1e5), rel=0.02)


def test_order_changes_no_bit():
    mixtures, losses = table(n=6, noise=0.01)
    backwards = {n: dict(reversed(w.items())) for n, w in reversed(mixtures.items())}
    one = NestedLaw(params=1e9, steps=1e5).fit(mixtures, losses)
    other = NestedLaw(params=1e9, steps=1e5).fit(backwards, dict(reversed(losses.items())))
    assert one.predicted == other.predicted
    assert one.loss(mixtures["m0"]) == other.loss(backwards["m0"])


def test_what_is_missing_is_named():
    mixtures, losses = table(n=3)
    law = NestedLaw(params=1e9, steps=1e5)
    few_steps = {k: v for k, v in losses.items() if k[:2] != ("m1", 7e7) or k[2] < 5e3}
    with pytest.raises(MixtureError, match=r"of steps of 'm1' at 7e\+07 parameters needs 3"):
        law.fit(mixtures, few_steps)
    few_sizes = {k: v for k, v in losses.items() if k[0] != "m2" or k[1] < 2e8}
    with pytest.raises(MixtureError, match="law of sizes of 'm2' needs 3"):
        law.fit(mixtures, few_sizes)
    with pytest.raises(MixtureError, match="'m3' in only one"):
        law.fit(mixtures | {"m3": mixtures["m0"]}, losses)
    with pytest.raises(MixtureError, match="'m1' have other domains than 'm0'"):
        law.fit(mixtures | {"m1": {"web": 1.0}}, losses)
    one = {k: v for k, v in losses.items() if k[0] == "m0"}
    with pytest.raises(MixtureError, match="two mixtures or more"):
        law.fit({"m0": mixtures["m0"]}, one)
