import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mixture_assets.core.errors import MixtureError
from mixture_assets.selection.utility import UtilityCurve, fit_as_published
from tests.selection.conftest import FULL_FLOPS

SHARES = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
PANELS = [
    *((task, size, "fig3") for task in ("MMLU", "BBH") for size in ("7B", "13B", "70B")),
    ("IFEval", "7B", "fig5b"),
]
METHODS = ("Random", "BM25", "Embed", "PPL", "LESS")
CURVES = [(*panel, method) for panel in PANELS for method in METHODS]


def plotted(published, task, size, figure, method):
    """(share, cost in full trainings, accuracy) of one curve's points."""
    wanted = {"task": task, "train_model_size": size, "figure": figure, "method": method}
    return [
        (
            float(r["data_fraction"]),
            float(r["total_flops_plotted"]) / FULL_FLOPS[size],
            float(r["accuracy_pct"]),
        )
        for r in published("accuracy_vs_flops")
        if all(r[k] == v for k, v in wanted.items())
    ]


def recovered(published, task, size, method):
    (row,) = (
        r
        for r in published("parametric_fit_recovered")
        if (r["task"], r["train_model_size"], r["method"]) == (task, size, method)
    )
    return {k: float(row[k]) for k in ("Pbar", "P0", "lambda_norm_full_train_flops")}


def fitted(points, ceiling):
    _, cost, accuracy = zip(*points, strict=True)
    return fit_as_published(cost, accuracy, ceiling=ceiling)


@pytest.mark.parametrize(("task", "size", "figure", "method"), CURVES)
def test_finds_every_published_fit(published, task, size, figure, method):
    theirs = recovered(published, task, size, method)
    ours = fitted(plotted(published, task, size, figure, method), theirs["Pbar"])
    assert ours.rate == pytest.approx(theirs["lambda_norm_full_train_flops"], rel=2e-4)
    assert ours.zero == pytest.approx(theirs["P0"], abs=0.02)


def test_all_35_curves_are_compared(published):
    assert len(CURVES) == len(published("parametric_fit_recovered")) == 35


@pytest.mark.parametrize("task", ["MMLU", "BBH"])
def test_a_point_drawn_at_the_wrong_cost_went_into_the_published_fit(published, task):
    """LESS at 2.5 % of 13B stands at the 7B model's cost, 8.384e18 instead of 8.485e18."""
    theirs = recovered(published, task, "13B", "LESS")
    points = plotted(published, task, "13B", "fig3", "LESS")
    share, cost, accuracy = points[0]
    at_7b = share * FULL_FLOPS["7B"] + 1.8 * FULL_FLOPS["7B"]
    right = share * FULL_FLOPS["13B"] + 1.8 * FULL_FLOPS["7B"]
    assert cost * FULL_FLOPS["13B"] == pytest.approx(at_7b, rel=1e-3)
    assert right / at_7b > 1.01
    corrected = [(share, right / FULL_FLOPS["13B"], accuracy), *points[1:]]
    off = fitted(corrected, theirs["Pbar"]).rate / theirs["lambda_norm_full_train_flops"] - 1
    assert abs(off) > 2e-4  # so it is the wrong point that reproduces what was published


def test_the_whole_pool_of_one_method_is_below_that_of_the_others(published):
    """BBH 13B: PPL has 52.27 at 100 %, the same training as 52.78, which is the ceiling."""
    whole = {m: plotted(published, "BBH", "13B", "fig3", m)[-1] for m in METHODS}
    assert {m: y for m, (_, _, y) in whole.items() if y != 52.78} == {"PPL": 52.27}
    theirs = recovered(published, "BBH", "13B", "PPL")
    assert theirs["Pbar"] == 52.78
    points = plotted(published, "BBH", "13B", "fig3", "PPL")
    own = fitted(points, 52.27)
    assert own.rate != pytest.approx(theirs["lambda_norm_full_train_flops"], rel=0.1)


@pytest.mark.parametrize(("method", "accuracy"), [("Random", 45.64), ("BM25", 45.84)])
def test_two_figures_disagree_on_points_and_the_fits_are_of_the_second(published, method, accuracy):
    """MMLU 7B: figure 3 has a seventh point at twice the data, and another 5 % point."""
    second = plotted(published, "MMLU", "7B", "fig2", method)
    third = plotted(published, "MMLU", "7B", "fig3", method)
    assert [s for s, _, _ in third] == [*SHARES, 2.0]
    assert third[-1][2] == 47.42
    assert second[1][2] == accuracy
    assert third[1][2] == pytest.approx(accuracy, abs=0.2)
    assert third[1][2] != accuracy
    theirs = recovered(published, "MMLU", "7B", method)
    off = fitted(second, theirs["Pbar"]).rate / theirs["lambda_norm_full_train_flops"] - 1
    assert abs(off) > 1e-3


def test_zero_of_a_costly_method_is_no_performance_of_a_model(published):
    """Cost that includes selection drives P0 to its bound for the costly methods of 7B models."""
    for task in ("MMLU", "BBH"):
        for method in ("PPL", "LESS"):
            theirs = recovered(published, task, "7B", method)
            points = plotted(published, task, "7B", "fig3", method)
            assert fitted(points, theirs["Pbar"]).zero < 1e-3


RATE, LEVEL = st.floats(0.3, 20), st.floats(-50, 50)


@given(LEVEL, st.floats(0.5, 30), RATE)
def test_finds_the_curve_behind_points_without_noise(zero, rise, rate):
    truth = UtilityCurve(ceiling=zero + rise, zero=zero, rate=rate)
    values = [truth.value(s) for s in SHARES]
    assume(zero >= 0 or min(values) < 0)  # a zero below 0 needs a point below 0 to be allowed
    found = fit_as_published(SHARES, values, ceiling=truth.ceiling)
    assert found.rate == pytest.approx(rate, rel=1e-3)
    assert found.zero == pytest.approx(zero, abs=1e-2)


@given(st.permutations(list(zip(SHARES, (44.0, 45.2, 45.9, 47.1, 47.6, 48.0), strict=True))))
def test_the_order_of_rows_changes_nothing(points):
    cost, values = zip(*points, strict=True)
    straight = fit_as_published(SHARES, (44.0, 45.2, 45.9, 47.1, 47.6, 48.0), ceiling=48.0)
    assert fit_as_published(cost, values, ceiling=48.0) == straight


@given(LEVEL, st.floats(0.5, 30), RATE, st.floats(0, 2), st.floats(0, 3))
def test_cost_is_the_inverse_of_value(zero, rise, rate, start, beyond):
    curve = UtilityCurve(ceiling=zero + rise, zero=zero, rate=rate, start=start)
    cost = start + beyond / rate
    assert curve.cost(curve.value(cost)) == pytest.approx(cost, abs=1e-6)
    assert curve.value(start) == zero
    assert curve.value(cost) <= curve.ceiling
    moved = curve.moved(start + 1)
    assert moved.value(cost + 1) == pytest.approx(curve.value(cost))


def test_what_cannot_be_reached_costs_infinitely_much():
    curve = UtilityCurve(ceiling=50, zero=40, rate=2, start=0.5)
    assert curve.cost(50) == math.inf
    assert curve.cost(39) == 0.5
    assert UtilityCurve(ceiling=50, zero=40, rate=0).cost(41) == math.inf


def test_the_closed_form():
    curve = UtilityCurve(ceiling=100, zero=20, rate=math.log(2))
    assert curve.value(1) == pytest.approx(60)
    assert curve.value(2) == pytest.approx(80)
    assert curve.cost(90) == pytest.approx(3)


@pytest.mark.parametrize(
    ("cost", "values", "ceiling", "problem"),
    [
        ([0.1, 0.1], [40, 41], 50, "needs 2 different costs or more, got 1"),
        ([0.1, 0.2], [40, math.nan], 50, "is not finite"),
        ([0.1, math.inf], [40, 41], 50, "is not finite"),
        ([0.1, 0.2], [51, 52], 50, "no point lies below the ceiling of 50"),
    ],
)
def test_points_without_a_curve_are_refused(cost, values, ceiling, problem):
    with pytest.raises(MixtureError, match=problem):
        fit_as_published(cost, values, ceiling=ceiling)
