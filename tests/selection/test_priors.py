import numpy as np
import pytest
from scipy.optimize import least_squares

from mixture_assets.selection.priors import (
    LARGEST_RATIO,
    PANELS,
    RATES,
    draw_panels,
    learned_share,
    prior_rates,
)
from tests.selection.conftest import FULL_FLOPS

NAMES = {
    "random": "Random",
    "bm25": "BM25",
    "embedding": "Embed",
    "perplexity": "PPL",
    "gradient": "LESS",
}


@pytest.mark.parametrize("panel", PANELS)
def test_rates_are_those_of_the_published_accuracies(published, panel):
    """One P(0), one P(1) and five rates, by scipy from the tables."""
    task, size = panel.split()
    rows = [
        r
        for r in published("accuracy_vs_flops")
        if r["figure"] in ("fig2", "fig5b") and (r["task"], r["train_model_size"]) == (task, size)
    ]
    share = np.array([float(r["data_fraction"]) for r in rows])
    accuracy = np.array([float(r["accuracy_pct"]) for r in rows])
    which = np.array([list(NAMES.values()).index(r["method"]) for r in rows])

    def off(q):
        rate = np.exp(q[2:])[which]
        return q[0] + (q[1] - q[0]) * np.expm1(-rate * share) / np.expm1(-rate) - accuracy

    start = [accuracy.min(), accuracy.max(), *np.ones(5)]
    found = least_squares(off, start, xtol=1e-12, ftol=1e-12, gtol=1e-12).x
    ours = [RATES[name][PANELS.index(panel)] for name in NAMES]
    assert ours == pytest.approx(np.exp(found[2:]).tolist(), abs=0.01)


def test_the_largest_published_ratio_is_that_of_70b_to_7b():
    assert pytest.approx(FULL_FLOPS["70B"] / FULL_FLOPS["7B"], abs=0.05) == LARGEST_RATIO


def test_a_draw_is_a_panel_and_all_panels_are_drawn_alike():
    panel = draw_panels(700, seed=3)
    assert np.bincount(panel).tolist() == [100] * 7
    rates, random = prior_rates("perplexity", panel), prior_rates("random", panel)
    pairs = set(zip(rates.tolist(), random.tolist(), strict=True))
    assert pairs == set(zip(RATES["perplexity"], RATES["random"], strict=True))
    assert prior_rates("unheard of", panel) is None


def test_the_whole_pool_teaches_all_and_nothing_teaches_nothing():
    rate = np.array([0.5, 3.0, 90.0])
    assert learned_share(rate, 0.0).tolist() == [0.0, 0.0, 0.0]
    assert learned_share(rate, 1.0) == pytest.approx(1.0)
    expected = (1 - np.exp(-3 * 0.25)) / (1 - np.exp(-3))
    assert learned_share(rate, 0.25)[1] == pytest.approx(expected)
