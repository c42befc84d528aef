import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from mixture_assets.core.errors import MixtureError
from mixture_assets.selection.frontier import front_line, frontier_chances, non_dominated

PANELS = [(t, s) for t in ("MMLU", "BBH") for s in ("7B", "13B", "70B")]
FEW = st.integers(0, 6).map(float)  # small integers, so that there are ties


def panel(published, task, size, figure="fig2"):
    """Points of one panel: (method, share, FLOPs, accuracy)."""
    wanted = {"figure": figure, "task": task, "train_model_size": size}
    return [
        (
            r["method"],
            float(r["data_fraction"]),
            float(r["total_flops_plotted"]),
            float(r["accuracy_pct"]),
        )
        for r in published("accuracy_vs_flops")
        if all(r[k] == v for k, v in wanted.items())
    ]


def on_frontier(points):
    return [points[i] for i in non_dominated([p[2] for p in points], [p[3] for p in points])]


@pytest.mark.parametrize(("task", "size"), [*PANELS, ("IFEval", "7B")])
def test_finds_the_published_non_dominated_sets(published, task, size):
    figure = "fig5b" if task == "IFEval" else "fig2"
    theirs = [
        (r["method"], float(r["data_fraction"]))
        for r in published("nondominated_points")
        if (r["task"], r["train_model_size"]) == (task, size)
    ]
    ours = on_frontier(panel(published, task, size, figure))
    assert [(m, s) for m, s, _, _ in ours if s < 1] == theirs


def test_less_is_on_no_frontier_of_the_smaller_models(published):
    for task, size in PANELS:
        used = {m for m, s, _, _ in on_frontier(panel(published, task, size)) if s < 1}
        assert ("LESS" in used) == (size == "70B")


@pytest.mark.parametrize("name", ["MMLU-7B", "MMLU-13B", "BBH-7B", "BBH-70B"])
def test_finds_the_published_lines(published, name):
    """Through the frontier; the other two panels' lines use slightly different points."""
    task, size = name.split("-")
    (row,) = (r for r in published("pareto_lines") if (r["figure"], r["panel"]) == ("fig2", name))
    vertices = [float(v) for v in row["vertex_flops"].split(";")]
    points = panel(published, task, size)
    best = [max(y for *_, x, y in points if x == pytest.approx(v, rel=1e-3)) for v in vertices]
    exact = [
        next(x for *_, x, y in points if x == pytest.approx(v, rel=1e-3) and y == b)
        for v, b in zip(vertices, best, strict=True)
    ]
    line = front_line(exact, best)
    assert line.slope == pytest.approx(float(row["slope_per_log10_flop"]), abs=2e-5)
    middle = math.sqrt(vertices[0] * vertices[-1])
    theirs = float(row["slope_per_log10_flop"]) * math.log10(middle) + float(row["intercept"])
    assert line.value(middle) == pytest.approx(theirs, abs=1e-4)  # slope has 5 decimals, x 18


@given(st.lists(st.tuples(FEW, FEW), max_size=12))
def test_agrees_with_the_definition(points):
    def beats(a, b):
        return a[0] <= b[0] and a[1] >= b[1] and a != b

    expected = {i for i, p in enumerate(points) if not any(beats(other, p) for other in points)}
    found = non_dominated([x for x, _ in points], [y for _, y in points])
    assert set(found) == expected
    assert found == sorted(found, key=lambda i: points[i])


@given(st.lists(st.tuples(FEW, FEW), min_size=1, max_size=10), st.randoms())
def test_the_order_of_points_changes_nothing(points, random):
    mixed = random.sample(points, len(points))
    cost, values = zip(*points, strict=True)
    there = {points[i] for i in non_dominated(cost, values)}
    assert {mixed[i] for i in non_dominated(*zip(*mixed, strict=True))} == there
    sd = [0.5] * len(points)
    before = dict(zip(points, frontier_chances(cost, values, sd, draws=50), strict=True))
    after = dict(zip(mixed, frontier_chances(*zip(*mixed, strict=True), sd, draws=50), strict=True))
    if len(before) == len(points):  # equal points get draws of their own
        assert before == after


def test_chances_are_those_of_two_normal_variables():
    """The dearer of two points is on the frontier if it is better; the cheaper always is."""
    cheap, dear = frontier_chances([1, 2], [40.0, 40.5], [0.3, 0.4], draws=40_000)
    assert cheap == 1
    assert dear == pytest.approx(norm.cdf(0.5 / 0.5), abs=0.01)


def test_without_noise_the_chances_are_the_frontier():
    cost, values = [1.0, 1.0, 2.0, 3.0], [4.0, 4.0, 3.0, 5.0]
    assert frontier_chances(cost, values, [0.0] * 4, draws=3) == [1.0, 1.0, 0.0, 1.0]
    assert non_dominated(cost, values) == [0, 1, 3]


def test_the_line_goes_through_points_on_a_line():
    cost = np.geomspace(1e17, 1e19, 5)
    line = front_line(cost, 1.5 * np.log10(cost) + 20)
    assert (line.slope, line.intercept) == pytest.approx((1.5, 20))


def test_what_is_no_point_is_refused():
    with pytest.raises(MixtureError, match="finite cost and a finite performance"):
        non_dominated([1.0, math.nan], [1.0, 2.0])
    with pytest.raises(MixtureError, match="standard error of 0 or more"):
        frontier_chances([1.0], [1.0], [-1.0])
    with pytest.raises(MixtureError, match="2 different costs above 0"):
        front_line([0.0, 1.0], [1.0, 2.0])
