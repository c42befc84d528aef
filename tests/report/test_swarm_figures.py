"""Figures about somebody's own runs: what they show, and that it fits on them."""

import copy
import io
import json
from itertools import pairwise
from typing import Any

import matplotlib
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from PIL import Image

from mixture_assets.report.images import png, small_png
from mixture_assets.report.style import STYLE
from mixture_assets.report.swarm_draw import draw_swarm
from mixture_assets.report.swarm_figures import (
    SWARM_FIGURES,
    Answer,
    SwarmFigure,
    effects,
    objective_name,
    predicted_runs,
    price_bars,
    weight_ranges,
)
from mixture_assets.report.swarm_page import write_figures

ANSWER: dict[str, Any] = {
    "weights": {"code": 0.3, "prose": 0.6, "law": 0.1},
    "interval": {"code": [0.2, 0.35], "prose": [0.5, 0.7], "law": [0.0, 0.15]},
    "mixtures": {
        "natural": {"code": 0.2, "prose": 0.5, "law": 0.3},
        "bare": {"code": 0.3, "prose": 0.7, "law": 0.0},
    },
    "objective": {"loss": 3.0, "perplexity": 1.0},
    # per 1 % of weight, summing to 0 over natural
    "effects": {
        "loss": {"code": 0.02, "prose": -0.014, "law": 0.01},
        "perplexity": {"code": -0.10, "prose": 0.04, "law": 0.0},
    },
    "prices": [
        {"what": "cap", "domain": "code", "bound": 0.3, "per_percent": 0.002},
        {"what": "code+law<=0.4", "domain": "", "bound": 0.4, "per_percent": 0.03},
        {"what": "sampled range", "domain": "law", "bound": 0.0004, "per_percent": 0.01},
    ],
    "runs": {
        "r1": {"measured": 2.0, "predicted": 2.1},
        "r0": {"measured": 2.5, "predicted": 2.4},
        "r2": {"measured": 3.0, "predicted": 2.6},
    },
    "held_out": {"spearman": 1.0, "r2": 0.64, "mae": 0.2, "regret": 0.0},
    "noise_sd": 0.05,
}


def changed(**parts: Any) -> Answer:
    return copy.deepcopy(ANSWER) | parts


def wide(n_domains: int, n_metrics: int) -> Answer:
    """An answer about many domains with long names."""
    names = [f"source_{i:02}/a_long_name_for_a_part_of_a_crawl" for i in range(n_domains)]
    even = dict.fromkeys(names, 1 / n_domains)
    metrics = [f"metric_{j}_with_a_long_name" for j in range(n_metrics)]
    return changed(
        weights=even,
        interval={name: [0.0, 2 / n_domains] for name in names},
        mixtures={"natural": even, "bare": even},
        objective=dict.fromkeys(metrics, 1.0),
        effects={
            m: {name: (i - j + 0.5) / 100 for i, name in enumerate(names)}
            for j, m in enumerate(metrics)
        },
        prices=[
            {"what": "sampled range", "domain": n, "bound": 0.1, "per_percent": 0.1 / (i + 1)}
            for i, n in enumerate(names)
        ],
    )


def shuffled(value: Any, draw: Any) -> Any:
    """The same mapping or list of prices, in another order."""
    if isinstance(value, dict):
        keys = draw(st.permutations(list(value)))
        return {key: shuffled(value[key], draw) for key in keys}
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return draw(st.permutations(value))
    return value


def test_weights_are_largest_first_with_what_they_are_compared_with() -> None:
    rows = [
        (r.domain, r.weight, r.low, r.high, r.natural, r.bare) for r in weight_ranges(ANSWER).rows
    ]
    assert rows == [
        ("prose", 0.6, 0.5, 0.7, 0.5, 0.7),
        ("code", 0.3, 0.2, 0.35, 0.2, 0.3),
        ("law", 0.1, 0.0, 0.15, 0.3, 0.0),
    ]


def test_domains_are_ordered_by_what_they_do_to_the_objective() -> None:
    """3 loss + perplexity: code -0.04, prose -0.002, law +0.03."""
    figure = effects(ANSWER)
    assert figure is not None
    assert figure.metrics == ("loss", "perplexity")
    assert figure.domains == ("code", "prose", "law")
    assert figure.change == ((0.02, -0.10), (-0.014, 0.04), (0.01, 0.0))


def test_prices_are_dearest_first_and_name_their_bound() -> None:
    figure = price_bars(ANSWER)
    assert figure is not None
    assert [(b.domain + b.bound, b.per_percent) for b in figure.bars] == [
        ("code+law<=0.4", 0.03),
        ("law: sampled range, at under 0.1 %", 0.01),
        ("code: cap, at 30 %", 0.002),
    ]


def test_predictions_are_those_of_the_runs_by_name() -> None:
    figure = predicted_runs(ANSWER)
    assert [(p.run, p.measured, p.predicted) for p in figure.held_out] == [
        ("r0", 2.5, 2.4),
        ("r1", 2.0, 2.1),
        ("r2", 3.0, 2.6),
    ]
    assert (figure.spearman, figure.r2, figure.noise_sd) == (1.0, 0.64, 0.05)


@given(st.data())
def test_the_order_of_an_answer_changes_no_figure(data: st.DataObject) -> None:
    turned = shuffled(ANSWER, data.draw)
    for name, make in SWARM_FIGURES.items():
        assert make(turned) == make(ANSWER), name


def test_one_metric_is_named_and_several_are_counted() -> None:
    assert objective_name(changed(objective={"loss": 1.0, "idle": 0.0})) == "loss"
    assert objective_name(ANSWER) == "weighted mean of 2 metrics"


def test_a_figure_without_content_is_not_written_and_an_earlier_one_goes(tmp_path) -> None:
    flat = {"loss": dict.fromkeys(ANSWER["weights"], 0.0)}
    assert write_figures(ANSWER, tmp_path) == {}
    missing = write_figures(changed(prices=[], effects=flat, objective={"loss": 1.0}), tmp_path)
    assert sorted(missing) == ["effects", "prices"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["predicted.png", "weights.png"]


@pytest.mark.parametrize("name", SWARM_FIGURES)
def test_pngs_are_pictures(name: str) -> None:
    """Neither empty nor one colour: letters are drawn in many shades."""
    with Image.open(io.BytesIO(png(_figure(name, ANSWER)))) as image:
        assert image.width > 600
        assert image.height > 150
        colours = image.convert("RGB").getcolors(1 << 20)
        assert colours is not None
        assert len(colours) > 20
        assert max(count for count, _ in colours) < 0.97 * image.width * image.height


@pytest.mark.parametrize("answer", [ANSWER, wide(1, 1), wide(40, 5), wide(12, 20)])
@pytest.mark.parametrize("name", SWARM_FIGURES)
def test_no_text_leaves_the_figure_and_no_names_overlap(name: str, answer: Answer) -> None:
    with matplotlib.rc_context(STYLE):
        figure = draw_swarm(_figure(name, answer))
        figure.draw_without_rendering()
        boxes = [box for box in _texts(figure) if box.width > 0]
        assert boxes
        for box in boxes:
            assert box.x0 >= -1
            assert box.y0 >= -1
            assert box.x1 <= figure.bbox.x1 + 1
            assert box.y1 <= figure.bbox.y1 + 1
        names = [label.get_window_extent() for label in figure.axes[0].get_yticklabels()]
        ordered = sorted(names, key=lambda box: float(box.y0))
        for below, above in pairwise(ordered):
            assert (below.y0 + below.y1) / 2 < above.y0


def _texts(figure: Figure) -> list[Any]:
    ax = figure.axes[0]
    shown = [ax.xaxis.label, ax.yaxis.label, ax.title, ax._left_title, *ax.texts]  # type: ignore[attr-defined]
    for axis in (ax.xaxis, ax.yaxis):
        low, high = sorted(axis.get_view_interval())
        for tick in axis.get_major_ticks():
            if low <= tick.get_loc() <= high:
                shown += [tick.label1, tick.label2] if tick.label2.get_visible() else [tick.label1]
    shown += [text for legend in figure.legends for text in legend.get_texts()]
    return [text.get_window_extent() for text in shown if text.get_text()]


def test_weights_fit_into_dagsters_metadata() -> None:
    assert len(small_png(weight_ranges(wide(60, 1)))) < 60_000


def test_an_answer_that_was_written_makes_the_same_figures() -> None:
    read = json.loads(json.dumps(ANSWER))
    assert {n: make(read) for n, make in SWARM_FIGURES.items()} == {
        n: make(ANSWER) for n, make in SWARM_FIGURES.items()
    }


def _figure(name: str, answer: Answer) -> SwarmFigure:
    figure = SWARM_FIGURES[name](answer)
    assert figure is not None
    return figure
