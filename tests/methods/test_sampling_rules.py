"""Temperature and UniMax against closed forms, a published example and a brute force."""

import math
from dataclasses import replace

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from mixture_assets.core.errors import MixtureError
from mixture_assets.core.problem import Constraints, Problem
from mixture_assets.methods.temperature import Temperature
from mixture_assets.methods.unimax import UniMax, unimax

FREE = Problem(
    available_tokens={"en": 8_000_000, "fr": 1_000_000, "yo": 1_000},
    budget_tokens=100,
    constraints=Constraints(max_epochs=math.inf),
)
amounts = st.dictionaries(st.text("abcdef", min_size=1), st.floats(1, 1e12), min_size=1, max_size=9)


def weights(method, problem=FREE):
    return dict(method.propose(problem, []).mixture)


# --- temperature ------------------------------------------------------------------------------


def test_temperature_3_takes_cube_roots():
    assert weights(Temperature(temperature=3.0)) == pytest.approx(
        {"en": 200 / 310, "fr": 100 / 310, "yo": 10 / 310}
    )


def test_temperature_1_is_natural_and_infinity_is_uniform():
    assert weights(Temperature(temperature=1.0)) == pytest.approx(dict(FREE.natural))
    assert weights(Temperature(temperature=math.inf)) == pytest.approx(dict(FREE.uniform))


def test_a_low_temperature_does_not_overflow():
    assert weights(Temperature(temperature=0.001))["en"] == 1


def test_a_temperature_of_0_is_refused():
    with pytest.raises(MixtureError, match="above 0, got 0"):
        Temperature(temperature=0.0).propose(FREE, [])


@given(amounts, st.floats(1, 50), st.floats(1, 50))
def test_a_higher_temperature_is_nearer_to_uniform(available, one, other):
    problem = replace(FREE, available_tokens={n: int(x) for n, x in available.items()})
    low, high = (weights(Temperature(temperature=t), problem) for t in sorted((one, other)))
    assert max(high.values()) <= max(low.values()) * (1 + 1e-12)
    assert min(high.values()) >= min(low.values()) * (1 - 1e-12)


# --- UniMax -----------------------------------------------------------------------------------


def test_unimax_gives_the_published_example():
    """The example of the page of unimax-sampling on PyPI, an implementation by others."""
    counts = {
        "swe": 179955884499,
        "fas": 184595788282,
        "ekk": 42541080893,
        "isl": 10027573389,
        "fao": 549707867,
    }
    expected = {
        "fao": 0.008795325872,
        "isl": 0.160441174224,
        "ekk": 0.2769211666346667,
        "swe": 0.27692116663466665,
        "fas": 0.27692116663466665,
    }
    found = unimax(counts, budget_tokens=250e9, epochs=4)
    assert dict(found) == pytest.approx(expected, rel=1e-11)


def level_by_bisection(available, budget, epochs):
    """One level for all, cut at each domain's cap: found by halving, not by sorting."""
    low, high = 0.0, budget
    for _ in range(200):
        level = (low + high) / 2
        spent = math.fsum(min(level, epochs * a) for a in available.values())
        low, high = (low, level) if spent > budget else (level, high)
    return {n: min(low, epochs * a) / budget for n, a in available.items()}


@settings(max_examples=200)
@given(amounts, st.floats(0.1, 20), st.floats(0.001, 0.999))
def test_unimax_is_the_level_that_spends_the_budget(available, epochs, share):
    budget = share * epochs * math.fsum(available.values())
    found = unimax(available, budget_tokens=budget, epochs=epochs)
    assert dict(found) == pytest.approx(level_by_bisection(available, budget, epochs), rel=1e-9)


@settings(max_examples=200)
@given(amounts, st.floats(0.1, 20), st.floats(0.001, 0.999))
def test_unimax_reads_nothing_too_often_and_levels_the_rest(available, epochs, share):
    budget = share * epochs * math.fsum(available.values())
    found = unimax(available, budget_tokens=budget, epochs=epochs)
    passes = {n: w * budget / available[n] for n, w in found.items()}
    assert max(passes.values()) <= epochs * (1 + 1e-9)
    free = [found[n] for n in found if passes[n] < epochs * (1 - 1e-9)]
    assert not free or min(free) >= max(found.values()) * (1 - 1e-9)


def test_a_budget_beyond_all_epochs_is_natural_and_says_so():
    available = {"a": 100, "b": 300}
    assert dict(unimax(available, budget_tokens=1e6, epochs=2)) == {"a": 0.25, "b": 0.75}
    problem = replace(FREE, available_tokens=available, budget_tokens=1_000_000)
    assert "more than 1 epochs of all data" in UniMax().propose(problem, []).notes[0]


def test_epochs_below_0_are_refused():
    with pytest.raises(MixtureError, match="above 0"):
        unimax({"a": 1.0}, budget_tokens=1.0, epochs=-1.0)
