import dataclasses
import datetime
import math
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixture_assets.core.errors import MixtureError
from mixture_assets.core.problem import Objective
from mixture_assets.report import images
from mixture_assets.report.draw import draw
from mixture_assets.report.figures import (
    FIGURES,
    DDOCurves,
    ObjectiveCurves,
    WeightsOverScale,
    ddo_curves,
    loss_curves,
    objective_curves,
    run_lines,
    spread,
    weight_bars,
    weights_over_scale,
)
from mixture_assets.report.images import page_images, small_png
from mixture_assets.report.page import figure_png
from mixture_assets.report.pull import ReportData, pull
from mixture_assets.report.style import PAPER, shortened
from mixture_assets.report.trend import weights_over_proposals
from mixture_assets.store.query import query
from tests.report.conftest import BUDGET, DOMAINS, Example

HISTORY = [  # code shrinks, law comes with the third proposal
    {
        "proposal_id": f"{i}00000000000000{i}",
        "created_at": datetime.datetime(2026, 1, 1 + i, 12),
        "domain": domain,
        "weight": weight,
    }
    for i, weights in enumerate(
        [{"code": 0.7, "prose": 0.3}, {"code": 0.6, "prose": 0.4}, {"code": 0.5, "law": 0.5}]
    )
    for domain, weight in weights.items()
]


@pytest.fixture(scope="module")
def data(example: Example) -> ReportData:
    return pull(example.store, example.proposal_id, example.objective)


def test_bars_are_the_proposal_largest_first(data: ReportData, example: Example) -> None:
    figure = weight_bars(data)
    assert figure is not None
    rows = query(
        example.store,
        "SELECT domain, weight, weight_low, weight_high, natural_weight, uniform_weight "
        "FROM proposal_weight ORDER BY weight DESC",
    ).rows
    bars = [(b.domain, b.weight, b.low, b.high, b.natural, b.uniform) for b in figure.bars]
    assert bars == rows


def test_measured_weights_are_the_optima_and_only_they_are_filled(
    data: ReportData, example: Example
) -> None:
    figure = weights_over_scale(data)
    assert isinstance(figure, WeightsOverScale)
    large = pytest.approx(BUDGET // 3, abs=len(DOMAINS))
    assert figure.measured_until_tokens == large
    for line in figure.lines:
        assert [p.is_measured for p in line.points] == [True, True, False]
        assert [p.tokens for p in line.points][1:] == [large, BUDGET]
        optimum = example.proposal.optima_tokens["large"]
        assert line.points[1].weight == pytest.approx(
            optimum[line.domain] / math.fsum(optimum.values())
        )
        assert line.points[2].weight == example.proposal.mixture[line.domain]


def test_extrapolated_markers_are_hollow(data: ReportData) -> None:
    figure = weights_over_scale(data)
    assert figure is not None
    markers = [
        (line.get_xdata()[0], line.get_markerfacecolor())
        for line in draw(figure).axes[0].get_lines()
        if line.get_marker() == "o"
    ]
    assert len(markers) == 3 * len(DOMAINS)
    assert {tokens == BUDGET for tokens, face in markers if face == PAPER} == {True}
    assert {tokens == BUDGET for tokens, face in markers if face != PAPER} == {False}


def test_ddo_points_are_the_proxy_runs_and_curves_the_stored_fits(
    data: ReportData, example: Example
) -> None:
    figure = ddo_curves(data)
    assert isinstance(figure, DDOCurves)
    assert [p.domain for p in figure.panels] == sorted(DOMAINS)
    assert figure.scales == ("small", "large")
    fits = {(f.domain, f.scale): f for f in example.proposal.fits}
    for panel in figure.panels:
        for shown in panel.fits:
            fit = fits[panel.domain, shown.scale]
            assert shown.curve == (fit.a, fit.b, fit.c)
            assert [x for x, _ in shown.points] == pytest.approx([0.2, 1, 1, 1, 3], rel=1e-3)
            for mine, theirs in zip(sorted(fit.points), shown.points, strict=True):
                assert theirs == pytest.approx(mine)
            assert shown.value(1.0) == pytest.approx(1.0, abs=0.02)


def test_objective_curves_end_in_the_final_objectives(data: ReportData, example: Example) -> None:
    figure = objective_curves(data)
    assert isinstance(figure, ObjectiveCurves)
    assert [line.mixture for line in figure.lines] == ["natural", "uniform", "proposal"]
    for line in figure.lines:
        values = [data.value(example.full[line.mixture, seed]) for seed in (0, 1)]
        assert [seed[-1] for seed in line.seeds] == [(BUDGET, v) for v in values]
        assert line.mean[-1][1] == pytest.approx(sum(v or 0 for v in values) / 2)
    target = figure.targets[0]
    assert target.baseline == "natural"
    assert target.speed_up is not None
    assert target.reached_tokens == pytest.approx((1 - target.speed_up) * BUDGET)


def test_loss_curves_have_a_panel_a_domain_and_a_line_a_seed(
    data: ReportData, example: Example
) -> None:
    figure = loss_curves(data)
    assert figure is not None
    assert [p.domain for p in figure.panels] == sorted(DOMAINS)
    rows = query(
        example.store,
        "SELECT tokens, loss_nats FROM evaluation WHERE domain = 'law' AND run_id = "
        f"'{example.full['uniform', 1]}' ORDER BY tokens",
    ).rows
    law = next(p for p in figure.panels if p.domain == "law")
    assert list(law.lines[1].seeds[1]) == rows


def test_no_full_runs_and_no_fits_mean_no_figure(make_example: Callable[..., Example]) -> None:
    example = make_example(mixtures=())
    data = pull(example.store, example.proposal_id, example.objective)
    assert loss_curves(data) is None
    assert objective_curves(data) is None
    with pytest.raises(MixtureError, match="nothing to show in figure 'loss_curves'"):
        figure_png(example.store, "loss_curves", example.proposal_id, example.objective)
    bare = ReportData(
        objective=Objective(),
        proposal=data.proposal,
        weights=data.weights,
        fits=[],
        fit_runs={},
        proxy_runs=[],
        full_runs=[],
        evaluations={},
        costs=[],
        domains=[],
        tokenizers=[],
        history=[],
    )
    assert weights_over_scale(bare) is None
    assert ddo_curves(bare) is None


@pytest.mark.parametrize("name", FIGURES)
def test_small_pngs_fit_into_dagsters_metadata(data: ReportData, name: str) -> None:
    figure = FIGURES[name](dataclasses.replace(data, history=HISTORY))
    assert figure is not None
    content = small_png(figure)
    assert content.startswith(b"\x89PNG")
    assert len(content) < 60_000
    assert content == small_png(figure)


def test_a_trend_has_every_domain_of_every_proposal_in_time_order(data: ReportData) -> None:
    trend = weights_over_proposals(dataclasses.replace(data, history=HISTORY))
    assert trend is not None
    assert [label.split("\n")[1] for label in trend.proposals] == ["0000", "1000", "2000"]
    assert {line.domain: line.weights for line in trend.lines} == {
        "code": (0.7, 0.6, 0.5),
        "law": (None, None, 0.5),
        "prose": (0.3, 0.4, None),
    }


def test_one_proposal_is_no_trend(data: ReportData, example: Example) -> None:
    assert {row["proposal_id"] for row in data.history} == {example.proposal_id}
    assert weights_over_proposals(data) is None


def test_a_trend_shows_the_newest_proposals(data: ReportData) -> None:
    many = [
        row | {"proposal_id": f"{k:04}", "weight": k / 100}
        for k in range(40)
        for row in HISTORY[:1]
    ]
    trend = weights_over_proposals(dataclasses.replace(data, history=many))
    assert trend is not None
    (line,) = trend.lines
    assert line.weights == tuple(k / 100 for k in range(16, 40))


def test_figure_png_reads_the_store(example: Example, data: ReportData) -> None:
    figure = weight_bars(data)
    assert figure is not None
    content = figure_png(example.store, "weights", example.proposal_id, example.objective)
    assert content == small_png(figure)


def test_figure_that_cannot_be_small_is_an_error(
    data: ReportData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "SMALL_BYTES", 100)
    figure = weight_bars(data)
    assert figure is not None
    with pytest.raises(MixtureError, match="does not fit into 100"):
        small_png(figure)


def test_unknown_figure_is_an_error(example: Example) -> None:
    with pytest.raises(MixtureError, match=r"no figure 'weight'.*did you mean 'weights'"):
        figure_png(example.store, "weight", example.proposal_id, example.objective)


def test_inline_svg_has_its_own_ids_and_the_pages_colours(data: ReportData) -> None:
    figure = weight_bars(data)
    assert figure is not None
    svg, _ = page_images(figure, "weights")
    assert svg.startswith("<svg")
    assert "<!--" not in svg
    assert 'id="figure_1"' not in svg
    assert 'id="weights-figure_1"' in svg
    assert "var(--series-0)" in svg
    assert "#0072b2" not in svg.lower()


def test_mean_is_taken_where_every_seed_was_evaluated() -> None:
    lines = run_lines("natural", [((1.0, 4.0), (2.0, 3.0)), ((2.0, 5.0), (3.0, 1.0))])
    assert lines.mean == ((2.0, 4.0),)


def test_a_mixture_whose_seeds_share_no_point_is_still_drawn(data: ReportData) -> None:
    figure = objective_curves(data)
    assert figure is not None
    apart = run_lines("natural", [((1.0, 4.0),), ((2.0, 5.0),)])
    shown = ObjectiveCurves(figure.name, True, (apart, *figure.lines[1:]), ())
    assert small_png(shown)


@given(st.lists(st.floats(-100, 100), max_size=12), st.floats(0.01, 10))
def test_spread_keeps_order_and_distance(positions: list[float], gap: float) -> None:
    placed = spread(positions, gap)
    order = sorted(range(len(positions)), key=lambda i: (positions[i], i))
    ordered = [placed[i] for i in order]
    assert all(b - a >= gap * 0.999 for a, b in pairwise(ordered))
    assert math.fsum(placed) == pytest.approx(math.fsum(positions), abs=1e-6)
    if all(b - a >= gap for a, b in pairwise(sorted(positions))):
        assert placed == pytest.approx(positions)


def test_long_names_keep_both_ends() -> None:
    assert shortened("prose", 10) == "prose"
    short = shortened("wikipedia:history-of-science:en", 16)
    assert len(short) == 16
    assert short.startswith("wikipedia:")
    assert short.endswith(":en")
