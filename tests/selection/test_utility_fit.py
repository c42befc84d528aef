import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import curve_fit

from mixture_assets.core.errors import MixtureError
from mixture_assets.selection.utility import UtilityCurve
from mixture_assets.selection.utility_fit import PooledNoise, fit_utility

SHARES = np.array([0.025, 0.05, 0.1, 0.25, 0.5, 1.0])
TRUTH = UtilityCurve(ceiling=-2.0, zero=-4.0, rate=4.0)  # a negative loss


def noisy(truth, seeds, sd, rng):
    x = np.repeat(SHARES, seeds)
    return x, np.array([truth.value(c) for c in x]) + sd * rng.standard_normal(len(x))


@settings(max_examples=30)
@given(st.floats(-50, 50), st.floats(0.5, 30), st.floats(0.3, 20), st.floats(0, 2))
def test_finds_the_curve_behind_points_without_noise(zero, rise, rate, start):
    truth = UtilityCurve(ceiling=zero + rise, zero=zero, rate=rate, start=start)
    cost = SHARES + start
    fit = fit_utility(cost, [truth.value(c) for c in cost], start=start)
    assert fit.curve.rate == pytest.approx(rate, rel=1e-4)
    assert fit.curve.zero == pytest.approx(zero, abs=1e-4 * rise)
    assert fit.curve.ceiling == pytest.approx(zero + rise, abs=1e-3 * rise)
    assert fit.noise_sd < 1e-6 * (1 + abs(zero))
    low, high = fit.interval("rate")
    assert low == pytest.approx(rate, rel=1e-3)
    assert high == pytest.approx(rate, rel=1e-3)


@pytest.mark.parametrize("seed", range(5))
def test_the_estimate_is_that_of_least_squares(seed):
    x, y = noisy(TRUTH, 3, 0.1, np.random.default_rng(seed))
    theirs, _ = curve_fit(lambda c, h, z, r: h - (h - z) * np.exp(-r * c), x, y, [-2, -4, 4])
    ours = fit_utility(x, y).curve
    assert [ours.ceiling, ours.zero, ours.rate] == pytest.approx(theirs.tolist(), rel=1e-4)


def test_intervals_hold_the_truth_nine_times_in_ten():
    """120 sweeps of 6 shares x 3 seeds; 90 % +- 3 sd of a binomial is 82 to 98 %."""
    rng = np.random.default_rng(7)
    held = {"rate": 0, "zero": 0, "ceiling": 0, "prediction": 0}
    for i in range(120):
        fit = fit_utility(*noisy(TRUTH, 3, 0.1, rng), draws=500, seed=i)
        for name in ("rate", "zero", "ceiling"):
            low, high = fit.interval(name)
            held[name] += low <= getattr(TRUTH, name) <= high
        _, low, high = fit.predict(0.35)
        held["prediction"] += low <= TRUTH.value(0.35) <= high
    assert all(0.82 <= n / 120 <= 0.98 for n in held.values()), held


def test_the_noise_is_found():
    x, y = noisy(TRUTH, 200, 0.1, np.random.default_rng(0))
    assert fit_utility(x, y).noise_sd == pytest.approx(0.1, rel=0.05)


def test_repeats_elsewhere_narrow_the_interval_of_few_points():
    x, y = noisy(TRUTH, 1, 0.1, np.random.default_rng(3))
    alone = fit_utility(x, y).predict(0.5)
    known = fit_utility(x, y, pooled=PooledNoise(squares=0.01 * 60, freedom=60)).predict(0.5)
    assert alone[0] == pytest.approx(known[0])
    assert known[2] - known[1] < alone[2] - alone[1]


def test_a_point_with_less_noise_counts_as_so_many_more():
    """Of half the variance: like two points that agree."""
    x, y = noisy(TRUTH, 1, 0.1, np.random.default_rng(4))
    twice = fit_utility([*x, x[2]], [*y, y[2]]).curve
    sd = np.ones(6)
    sd[2] = 0.5**0.5
    weighted = fit_utility(x, y, noise_sd=sd).curve
    assert [weighted.zero, weighted.ceiling, weighted.rate] == pytest.approx(
        [twice.zero, twice.ceiling, twice.rate], rel=1e-5
    )


@given(st.permutations(range(6)), st.floats(-100, 100), st.floats(0.01, 100))
@settings(max_examples=20)
def test_order_and_unit_change_nothing(order, offset, unit):
    x, y = noisy(TRUTH, 1, 0.1, np.random.default_rng(5))
    plain = fit_utility(x, y, draws=300)
    moved = fit_utility(x[order], offset + unit * y[order], draws=300)
    assert moved.curve.rate == pytest.approx(plain.curve.rate, rel=1e-4)
    assert moved.interval("rate") == pytest.approx(plain.interval("rate"), rel=1e-4)
    expected = [offset + unit * v for v in plain.predict(0.4)]
    assert list(moved.predict(0.4)) == pytest.approx(expected, rel=1e-5, abs=1e-5 * unit)


def test_where_selection_is_paid_changes_zero_alone():
    x, y = noisy(TRUTH, 2, 0.1, np.random.default_rng(6))
    here, there = fit_utility(x, y), fit_utility(x + 0.5, y, start=0.5)
    assert there.curve.zero == pytest.approx(here.curve.zero, rel=1e-5)
    assert there.curve.rate == pytest.approx(here.curve.rate, rel=1e-5)
    late = fit_utility(x + 0.5, y)
    assert late.curve.value(0.5) == pytest.approx(here.curve.zero, rel=1e-5)


def test_data_that_are_no_help_are_said_to_be():
    flat = fit_utility(np.repeat(SHARES, 3), [1.0, 0.0, -1.0] * 6)
    assert any("does not clearly rise" in note for note in flat.notes)
    x, y = noisy(TRUTH, 3, 0.1, np.random.default_rng(8))
    assert fit_utility(x, y).notes == ()
    falls = fit_utility(x, -y)
    assert falls.curve.value(1.0) < falls.curve.value(0.1)
    assert any("does not clearly rise" in note for note in falls.notes)


def test_a_straight_line_says_that_the_rate_is_not_known():
    fit = fit_utility(SHARES, 40 + 3 * SHARES)
    assert "the rate is at the end of what these shares can tell" in fit.notes
    assert fit.curve.value(0.5) == pytest.approx(41.5, abs=0.05)


def test_draws_as_curves_predict_what_the_draws_predict():
    x, y = noisy(TRUTH, 3, 0.1, np.random.default_rng(9))
    drawn = fit_utility(x, y, draws=50).draws
    for curve, value in zip(drawn.curves(50), drawn.predict([0.3])[:, 0], strict=True):
        assert curve.value(0.3) == pytest.approx(float(value))


def test_seeds_that_differ_by_a_document_are_one_share():
    """Their costs differ by 1e-4; taken for shares of their own they would allow any rate."""
    x, y = noisy(TRUTH, 3, 0.05, np.random.default_rng(10))
    moved = x * (1 + 1e-4 * np.tile([-1, 0, 1], 6))
    fit, plain = fit_utility(moved, y), fit_utility(x, y)
    assert fit.curve.rate == pytest.approx(plain.curve.rate, rel=1e-2)
    assert fit.interval("rate") == pytest.approx(plain.interval("rate"), rel=0.05)
    with pytest.raises(MixtureError, match="needs 3 different costs or more, got 1"):
        fit_utility(moved[:3], y[:3])


@pytest.mark.parametrize("values", [np.zeros(6), np.full(6, 44.0), np.full(6, -1e-9)])
def test_performance_that_never_changes_is_a_flat_curve(values):
    fit = fit_utility(SHARES, values)
    assert fit.curve.value(0.3) == pytest.approx(values[0], abs=1e-9)
    mean, low, high = fit.predict(0.3)
    assert np.isfinite([mean, low, high]).all()


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=5, max_size=12),
    st.lists(st.floats(1e-6, 1e3), min_size=5, max_size=5, unique=True),
)
def test_any_points_give_finite_predictions_or_one_error(values, costs):
    x = [costs[i % 5] for i in range(len(values))]
    try:
        fit = fit_utility(x, values, draws=50)
    except MixtureError:
        return
    inside = [fit.predict(c) for c in (min(costs), max(costs), sum(costs) / 5)]
    assert np.isfinite(inside).all()
    assert all(low <= high for _, low, high in inside)


def test_too_few_points_are_refused():
    with pytest.raises(MixtureError, match="needs 3 different costs or more, got 2"):
        fit_utility([0.1, 0.1, 0.2, 0.2], [1.0, 1.1, 2.0, 2.1])
    with pytest.raises(MixtureError, match="three points say nothing about their noise"):
        fit_utility([0.1, 0.2, 0.4], [1.0, 2.0, 2.5])
    fit_utility([0.1, 0.2, 0.4], [1.0, 2.0, 2.5], pooled=PooledNoise(squares=0.1, freedom=5))
    with pytest.raises(MixtureError, match="the noise of a point is not above 0"):
        fit_utility(SHARES, SHARES, noise_sd=np.zeros(6))
