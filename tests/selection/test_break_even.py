import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mixture_assets.core.errors import MixtureError
from mixture_assets.selection.break_even import (
    break_even_budget,
    break_even_ratio,
    crossings,
    overtaking_budget,
)
from mixture_assets.selection.utility import UtilityCurve

RATE = st.floats(0.3, 20)


def figure_1(published, panel):
    """Method -> (rate per FLOP of training, FLOPs of selection)."""
    return {
        r["method"]: (
            float(r["lambda_per_token"]) / float(r["train_flops_per_token_c"]),
            float(r["fixed_selection_flops"]),
        )
        for r in published("fig1_simulation_constants")
        if r["panel"] == panel
    }


@pytest.mark.parametrize("panel", ["small", "medium", "large"])
def test_finds_the_crossings_of_figure_1(published, panel):
    """2.0e18 and 7.5e18 whatever a token costs: only the ratio of rates counts."""
    methods = figure_1(published, panel)
    perplexity, gradient = methods["Perplexity"], methods["Gradient"]
    assert break_even_budget(*perplexity, *methods["Lexicon"]) == pytest.approx(2.0e18)
    assert break_even_budget(*gradient, *perplexity) == pytest.approx(7.5e18)


def test_finds_the_crossings_of_figure_1_by_curves_too(published):
    """In units of a pool that costs 1e20 to train on."""
    unit = 1e20
    curves = {
        method: UtilityCurve(ceiling=100, zero=0, rate=rate * unit, start=fixed / unit)
        for method, (rate, fixed) in figure_1(published, "medium").items()
    }
    for costly, cheap, flops in (
        ("Perplexity", "Lexicon", 2.0e18),
        ("Gradient", "Perplexity", 7.5e18),
    ):
        (found,) = crossings(curves[costly], curves[cheap])
        assert found.budget * unit == pytest.approx(flops, rel=1e-9)
        assert found.performance == pytest.approx(curves[costly].value(found.budget))
        assert found.is_within_pool


@given(RATE, RATE, st.floats(0, 0.5))
def test_at_the_break_even_both_methods_perform_alike(rate, cheap_rate, selection):
    assume(rate > 1.05 * cheap_rate)
    budget = break_even_budget(rate, selection, cheap_rate)
    costly = UtilityCurve(ceiling=50, zero=40, rate=rate, start=selection)
    cheap = UtilityCurve(ceiling=50, zero=40, rate=cheap_rate)
    assert costly.value(budget) == pytest.approx(cheap.value(budget))
    assert costly.value(1.1 * budget + 0.01) > cheap.value(1.1 * budget + 0.01) - 1e-9


def test_a_slower_method_never_pays():
    assert break_even_budget(1.0, 0.5, 2.0) == math.inf
    assert break_even_budget(2.0, 0.5, 2.0) == math.inf
    costly = UtilityCurve(ceiling=50, zero=40, rate=1, start=0.3)
    assert crossings(costly, UtilityCurve(ceiling=50, zero=40, rate=2)) == []


CURVE = st.builds(
    lambda zero, rise, rate, start: UtilityCurve(
        ceiling=zero + rise, zero=zero, rate=rate, start=start
    ),
    st.floats(38, 42),
    st.floats(1, 10),
    RATE,
    st.floats(0, 0.9),
)


@given(CURVE, CURVE)
def test_crossings_agree_with_a_fine_grid(costly, cheap):
    cheap = cheap.moved(0.0)
    grid = np.linspace(costly.start, 1, 20_001)
    gap = np.array([costly.value(c) - cheap.value(c) for c in grid])
    assume((np.abs(gap[[0, -1]]) > 1e-6).all())
    upwards = grid[1:][(gap[:-1] < 0) & (gap[1:] >= 0)]
    found = [c.budget for c in crossings(costly, cheap)]
    assert len(found) <= 2
    assert found == pytest.approx(list(upwards), abs=1e-4)


@given(RATE, RATE, st.floats(0.1, 2), st.floats(0.1, 1))
def test_the_ratio_is_that_of_the_closed_form(rate, cheap_rate, selection, budget):
    """Equal zero and ceiling: r (C - S / ratio) = r_b C."""
    assume(rate > 1.05 * cheap_rate)
    costly = UtilityCurve(ceiling=50, zero=40, rate=rate)
    cheap = UtilityCurve(ceiling=50, zero=40, rate=cheap_rate)
    assume(cheap.value(budget) < 50 - 1e-4)
    found = break_even_ratio(costly, cheap, selection=selection, budget=budget)
    assert found == pytest.approx(selection / budget * rate / (rate - cheap_rate), rel=1e-6)
    start = selection / found
    assert costly.moved(start).value(budget) == pytest.approx(cheap.value(budget))


@given(CURVE, CURVE, st.floats(0.1, 2))
def test_the_best_budget_asks_for_no_larger_ratio_than_any_other(costly, cheap, selection):
    best = break_even_ratio(costly, cheap, selection=selection)
    for budget in (0.1, 0.5, 1.0):
        assert best <= break_even_ratio(costly, cheap, selection=selection, budget=budget) + 1e-9


def test_a_method_with_a_lower_ceiling_needs_a_small_budget():
    costly = UtilityCurve(ceiling=45, zero=40, rate=20)
    cheap = UtilityCurve(ceiling=50, zero=40, rate=2)
    assert break_even_ratio(costly, cheap, selection=1 / 3, budget=1.0) == math.inf
    assert break_even_ratio(costly, cheap, selection=1 / 3) < 3


@given(CURVE, st.floats(0.1, 1), st.floats(0.01, 2))
def test_the_same_learning_pays_at_no_ratio(curve, budget, selection):
    """What is left for selection is rounding, or a difference that nobody could use."""
    assert break_even_ratio(curve, curve, selection=selection, budget=budget) == math.inf
    faster = replace(curve, rate=curve.rate * (1 + 9e-4))
    assert break_even_ratio(faster, curve, selection=selection, budget=budget) == math.inf


def test_the_share_that_is_needed_is_the_inverse_of_the_curve():
    """At budget 0.6 the costly method needs the share s with P(s) = cheap P(0.6)."""
    costly = UtilityCurve(ceiling=52, zero=41, rate=6)
    cheap = UtilityCurve(ceiling=50, zero=40, rate=3)
    share = costly.cost(cheap.value(0.6))
    found = break_even_ratio(costly, cheap, selection=1.8, budget=0.6)
    assert found == pytest.approx(1.8 / (0.6 - share))


def test_the_least_budget_is_the_first_crossing_or_the_cost_of_selection():
    cheap = UtilityCurve(ceiling=50, zero=40, rate=2)
    costly = UtilityCurve(ceiling=50, zero=40, rate=8, start=0.2)
    expected = break_even_budget(8, 0.2, 2)
    assert overtaking_budget(costly, cheap) == pytest.approx(expected)
    ahead = UtilityCurve(ceiling=50, zero=49, rate=8, start=0.2)
    assert overtaking_budget(ahead, cheap) == 0.2
    assert overtaking_budget(costly.moved(1.8), cheap) == math.inf
    slow = UtilityCurve(ceiling=50, zero=40, rate=1, start=0.2)
    assert overtaking_budget(slow, cheap) == math.inf


def test_what_makes_no_sense_is_refused():
    curve = UtilityCurve(ceiling=50, zero=40, rate=2)
    with pytest.raises(MixtureError, match="must be 0 or more"):
        break_even_budget(-1.0, 0.0, 1.0)
    with pytest.raises(MixtureError, match="less than"):
        break_even_budget(2.0, 0.1, 1.0, 0.2)
    with pytest.raises(MixtureError, match="above 0 and at most 1"):
        break_even_ratio(curve, curve, selection=1.0, budget=1.5)
