"""The worth of repeated tokens against its closed forms."""

import math

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from mixture_assets.core.errors import MixtureError
from mixture_assets.methods.repetition import (
    R_STAR,
    effective_by_domain,
    effective_tokens,
    tokens_to_read,
    worth_of_next,
)

unique = st.floats(1, 1e12)
epochs = st.floats(0, 100)
FOUR_PASSES = 1 + 15.387756 * (1 - math.exp(-3 / 15.387756))


def test_one_pass_is_worth_itself():
    read = np.array([0.0, 3e5, 1e6])
    assert effective_tokens(read, np.array(1e6)).tolist() == read.tolist()


def test_the_published_equation():
    """Four passes are worth 3.73 fresh ones, which the source calls a negligible loss."""
    assert float(effective_tokens(np.array(4.0), np.array(1.0))) == pytest.approx(FOUR_PASSES)
    assert pytest.approx(3.7257, abs=1e-4) == FOUR_PASSES


def test_at_r_star_the_repeated_tokens_are_worth_63_per_cent():
    found = float(effective_tokens(np.array(1 + R_STAR), np.array(1.0)))
    assert (found - 1) / R_STAR == pytest.approx(1 - 1 / math.e)


def test_no_repetition_is_worth_more_than_its_limit():
    found = float(effective_tokens(np.array(1e12), np.array(1e3)))
    assert found == pytest.approx(1e3 * (1 + R_STAR))


@given(unique, epochs, epochs)
def test_it_rises_and_bends_down(u, one, other):
    low, high = sorted((one * u, other * u))
    middle = (low + high) / 2
    left, centre, right = effective_tokens(np.array([low, middle, high]), np.array(u))
    slack = 1e-9 * u
    assert left <= centre + slack
    assert centre <= right + slack
    assert centre >= (left + right) / 2 - slack


@given(unique, st.floats(0.01, 60))
def test_the_worth_of_the_next_token_is_the_derivative(u, passes):
    step = 1e-4 * u
    reads = np.array([passes * u - step, passes * u, passes * u + step])
    if abs(passes - 1) < 1e-3:  # the slope itself is continuous, its derivative is not
        return
    below, _, above = effective_tokens(reads, np.array(u))
    slope = float(worth_of_next(reads[1], np.array(u)))
    assert (above - below) / (2 * step) == pytest.approx(slope, abs=1e-6)


def test_the_slope_is_1_on_both_sides_of_the_first_pass():
    slopes = worth_of_next(np.array([1 - 1e-9, 1.0, 1 + 1e-9]), np.array(1.0))
    assert slopes.tolist() == pytest.approx([1, 1, 1])


@given(unique, st.floats(0, 80))
def test_the_inverse_undoes_it(u, passes):
    read = np.array(passes * u)
    back = tokens_to_read(effective_tokens(read, np.array(u)), np.array(u))
    assert float(back) == pytest.approx(float(read), rel=1e-9, abs=1e-9)


def test_what_no_repetition_reaches_takes_for_ever():
    found = tokens_to_read(np.array([16.0, 17.0]), np.array(1.0))
    assert np.isfinite(found[0])
    assert found[1] == math.inf


def test_a_mixture_has_effective_tokens_by_domain():
    found = effective_by_domain(
        {"wiki": 0.5, "web": 0.5},
        budget_tokens=8e6,
        available_tokens={"web": 1e9, "wiki": 1e6, "other": 5.0},
    )
    assert found == pytest.approx({"web": 4e6, "wiki": 1e6 * FOUR_PASSES})


def test_a_weight_without_tokens_is_named():
    with pytest.raises(MixtureError, match="weights for 'wiki', which have no tokens"):
        effective_by_domain({"wiki": 1.0}, budget_tokens=1.0, available_tokens={"wiki": 0})
    with pytest.raises(MixtureError, match="r_star is above 0"):
        effective_tokens(np.array(1.0), np.array(1.0), r_star=0)
