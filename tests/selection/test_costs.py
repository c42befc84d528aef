import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixture_assets.core.errors import MixtureError
from mixture_assets.selection.costs import (
    SelectionCost,
    embedding_cost,
    forward_flops,
    free_cost,
    gradient_cost,
    less_as_measured,
    lexical_cost,
    perplexity_cost,
    train_flops,
)
from tests.selection.conftest import FULL_FLOPS

AMOUNT = st.floats(1.0, 1e13)
PARAMS = 7e9
TOKENS = FULL_FLOPS["7B"] / (6 * PARAMS)  # 1.094e8: what 270,679 examples were charged for


def plotted_selection(published, method, size="7B"):
    """Selection FLOPs that figure 2 adds to training, over its panels of one model size."""
    rows = published("accuracy_vs_flops")
    found = [
        float(r["total_flops_plotted"]) - float(r["data_fraction"]) * FULL_FLOPS[size]
        for r in rows
        if (r["figure"], r["train_model_size"], r["method"]) == ("fig2", size, method)
    ]
    assert found
    return found


def test_a_forward_pass_is_a_third_of_training():
    assert forward_flops(7e9, 1e8) == 1.4e18
    assert train_flops(7e9, 1e8) == 4.2e18


@pytest.mark.parametrize("size", ["7B", "13B", "70B"])
def test_perplexity_costs_what_the_figures_add(published, size):
    """A third of a 7B training, whatever model is trained afterwards."""
    ours = perplexity_cost(PARAMS, TOKENS).flops
    assert ours == pytest.approx(FULL_FLOPS["7B"] / 3, rel=1e-9)
    for plotted in plotted_selection(published, "PPL", size):
        assert plotted == pytest.approx(ours, rel=1e-3, abs=2e-4 * FULL_FLOPS[size])


def test_gradients_cost_what_the_figures_add(published):
    ours = less_as_measured(PARAMS, TOKENS).flops
    assert ours == pytest.approx(1.8 * FULL_FLOPS["7B"], rel=1e-9)
    for plotted in plotted_selection(published, "LESS"):
        assert plotted == pytest.approx(ours, rel=1e-3)


def test_cheap_methods_are_plotted_at_no_cost(published):
    assert free_cost().flops == lexical_cost().flops == 0
    for method in ("Random", "BM25", "Embed"):
        for plotted in plotted_selection(published, method):
            assert abs(plotted) < 1e-4 * FULL_FLOPS["7B"]


def test_figure_1_charges_gradients_three_forward_passes(published):
    rows = published("fig1_simulation_constants")
    fixed = {r["method"]: float(r["fixed_selection_flops"]) for r in rows}
    assert fixed["Gradient"] == 3 * fixed["Perplexity"]
    theory = gradient_cost(PARAMS, TOKENS).flops / perplexity_cost(PARAMS, TOKENS).flops
    assert theory == pytest.approx(3)


def test_four_snapshots_cost_four_times_in_theory_and_less_as_measured():
    theory = gradient_cost(PARAMS, TOKENS, snapshots=4).scoring_flops
    assert theory == pytest.approx(4 * FULL_FLOPS["7B"])
    assert less_as_measured(PARAMS, TOKENS).scoring_flops == pytest.approx(1.6 * FULL_FLOPS["7B"])


def test_figure_4_divides_gradients_by_the_number_of_tasks(published):
    cost = less_as_measured(PARAMS, TOKENS)
    for row in published("breakeven_less_7b_mmlu"):
        n_tasks, share = int(row["n_tasks"]), float(row["data_fraction"])
        ours = cost.per_task(n_tasks) + share * FULL_FLOPS["7B"]
        assert float(row["total_flops"]) == pytest.approx(ours, rel=1e-3)


def test_a_selector_that_was_tuned_for_a_task_serves_no_other():
    cost = perplexity_cost(PARAMS, TOKENS, tuning_tokens=1e6)
    assert cost.per_task(10) == cost.flops
    assert cost.preparation_flops == train_flops(PARAMS, 1e6)


def test_seconds_are_converted_at_the_stated_rate():
    cost = lexical_cost(cpu_seconds=90, flops_per_second=2e10)
    assert cost.flops == 1.8e12
    both = embedding_cost(1e8, 1e6, cpu_seconds=1, flops_per_second=1e9)
    assert both.flops == 2e14 + 1e9


def test_seconds_without_a_rate_are_no_flops():
    with pytest.raises(MixtureError, match="90 s of CPU time have no price"):
        lexical_cost(cpu_seconds=90)


@given(AMOUNT, AMOUNT, st.integers(1, 100))
def test_costs_grow_in_proportion_and_tasks_add_up(params, tokens, n_tasks):
    cost = less_as_measured(params, tokens)
    assert less_as_measured(2 * params, tokens).flops == pytest.approx(2 * cost.flops)
    assert n_tasks * cost.per_task(n_tasks) == pytest.approx(cost.flops)


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf])
def test_amounts_that_cannot_be_are_refused(bad):
    with pytest.raises(MixtureError, match="must be 0 or more and finite"):
        forward_flops(bad, 1.0)
    with pytest.raises(MixtureError, match="must be 0 or more and finite"):
        train_flops(1.0, bad)


def test_seconds_below_zero_are_refused():
    with pytest.raises(MixtureError, match="number of cpu seconds must be 0 or more"):
        lexical_cost(cpu_seconds=-1, flops_per_second=1e9)


def test_no_task_is_no_price():
    with pytest.raises(MixtureError, match="number of tasks must be 1 or more, got 0"):
        SelectionCost().per_task(0)
