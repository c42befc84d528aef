"""The path of a run's weights: what is drawn, and in which colours."""

import numpy as np
import pytest

from mixture_assets.report.weight_path import draw_weight_path, weight_path


def rows(weights, tokens=(0, 100, 200)):
    """Weights of each domain at some tokens of training, measured from the second on."""
    return [
        {"tokens": t, "domain": d, "weight": w[i]}
        | ({"alignment": w[i], "alignment_se": 0.1} if i else {})
        for d, w in weights.items()
        for i, t in enumerate(tokens)
    ]


def colours(weights):
    """Domain -> colour of its steps."""
    data = weight_path(rows(weights), "a run", budget_tokens=300)
    figure = draw_weight_path(data)
    drawn = figure.axes[0].lines[: len(data.lines)]
    return {line.domain: d.get_color() for line, d in zip(data.lines, drawn, strict=True)}


def test_a_domain_has_the_same_colour_whatever_its_weights_became():
    rng = np.random.default_rng(0)
    names = [f"cluster_{i:02}" for i in range(14)]
    one, other = (colours({d: rng.dirichlet(np.ones(3)) for d in names}) for _ in range(2))
    both = {d for d in one if d in other and d in names}
    assert len(both) > 4
    assert all(one[d] == other[d] for d in both)


def test_ten_lines_at_most_and_one_for_all_others():
    weights = {f"d{i:02}": [1 / 14 + i / 1000] * 3 for i in range(14)}
    data = weight_path(rows(weights), "a run", budget_tokens=300)
    assert [line.domain for line in data.lines[:-1]] == [f"d{i:02}" for i in range(13, 4, -1)]
    rest = data.lines[-1]
    assert rest.domain == "all others (5)"
    assert rest.weights[0][1] == pytest.approx(sum(1 / 14 + i / 1000 for i in range(5)))


def test_a_line_is_the_mean_over_a_tenth_of_the_updates():
    tokens = tuple(range(0, 2100, 100))
    values = np.random.default_rng(1).normal(size=len(tokens)).tolist()
    data = weight_path(rows({"a": values}, tokens), "a run", budget_tokens=2100)
    axes = draw_weight_path(data).axes[1]
    line = max(axes.lines, key=lambda drawn: drawn.get_linewidth() == 1.4)
    expected = [(values[i] + values[i + 1]) / 2 for i in range(1, 20)]
    assert np.allclose(line.get_ydata(), expected)
