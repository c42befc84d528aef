import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from mixture_assets.evaluation.calibration import Score, binomial_interval, coverage, coverage_line


def score(measured, half=1.0):
    low_high = {} if half is None else {"low": -half, "high": half}
    return Score(**({"predicted": 0.0, "low": None, "high": None} | low_high), measured=measured)


@given(st.integers(1, 60), st.data())
def test_the_interval_of_a_share_is_the_exact_one(n, data):
    k = data.draw(st.integers(0, n))
    exact = binomtest(k, n).proportion_ci(0.90, "exact")
    assert binomial_interval(k, n) == pytest.approx((exact.low, exact.high), abs=1e-7)


def test_counts_errors_and_coverage():
    found = coverage([score(0.5), score(2.0), score(-1.0), score(0.5, half=None)])
    assert (found.n_scored, found.n_with_interval) == (4, 3)
    assert found.covered_share == pytest.approx(2 / 3)  # an end counts as inside
    assert found.mean_error == pytest.approx(0.5)
    assert "too few to judge: 3 predictions" in found.verdict
    assert "2 of 3 covered (67 %" in coverage_line("natural", found).replace("%", " %").replace(
        "  ", " "
    )


def test_nothing_scored_is_said_too():
    found = coverage([])
    assert (found.covered_share, found.share_low, found.mean_error) == (None, None, None)
    assert "too few to judge: 0 predictions" in coverage_line("natural", found)


@pytest.mark.parametrize(
    ("inside", "outside", "verdict"),
    [(18, 2, "as often as they promise"), (5, 15, "too narrow"), (60, 0, "too wide")],
)
def test_says_what_the_share_means(inside, outside, verdict):
    assert verdict in coverage([score(0.0)] * inside + [score(9.0)] * outside).verdict
