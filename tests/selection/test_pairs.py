import math

import numpy as np
import pytest

from mixture_assets.selection.pairs import break_even_pairs
from mixture_assets.selection.points import Point
from mixture_assets.selection.utility import UtilityCurve

FULL = 6e13
CURVES = {
    "random": (UtilityCurve(ceiling=50, zero=40, rate=2.0), 0.0, None),
    "perplexity": (UtilityCurve(ceiling=50, zero=40, rate=8.0), 0.2, 6e5),
    "gradient": (UtilityCurve(ceiling=50, zero=40, rate=12.0), 1.8, 1e6),
}


def points(noise=0.0, **more):
    rng = np.random.default_rng(2)
    return [
        Point(
            method=method,
            share=share,
            total_flops=(share + start) * FULL,
            full_flops=FULL,
            performance=curve.value(share) + noise * float(rng.standard_normal()),
            seed=str(seed),
            selector_params=size,
            **more,
        )
        for method, (curve, start, size) in CURVES.items()
        for share in (0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
        for seed in range(3)
    ]


def by_names(pairs):
    return {(p.costly, p.cheap): p for p in pairs}


def test_budgets_and_ratios_are_those_of_the_closed_form():
    """r S / (r - r_b) with S = 0.2, and S rho / C r / (r - r_b) at C = 1."""
    found = by_names(break_even_pairs(points(train_params=1e6), budget=1.0))
    assert set(found) == {
        ("perplexity", "random"),
        ("gradient", "random"),
        ("gradient", "perplexity"),
    }
    pair = found["perplexity", "random"]
    assert pair.budget_flops == pytest.approx(0.2 * 8 / 6 * FULL, rel=1e-3)
    assert pair.budget_interval == pytest.approx([pair.budget_flops] * 2, rel=1e-2)
    assert pair.chance == 1
    assert pair.ratio_now == pytest.approx(1 / 0.6)
    assert pair.ratio == pytest.approx(0.2 / 0.6 * 8 / 6, rel=1e-3)
    gradient = found["gradient", "random"]
    assert gradient.budget_flops == math.inf  # 1.8 C_full are spent before it has begun
    assert gradient.chance == 0
    assert gradient.ratio == pytest.approx(1.8 * 12 / 10, rel=1e-3)
    assert found["gradient", "perplexity"].ratio is None  # a ratio would make both cheaper


def test_without_sizes_the_ratio_is_in_multiples_of_the_present_one():
    (pair,) = (p for p in break_even_pairs(points(), budget=1.0) if p.costly == "perplexity")
    assert pair.ratio_now is None
    assert pair.ratio == pytest.approx(0.2 * 8 / 6, rel=1e-3)


def test_noise_gives_intervals_that_hold_the_truth():
    found = by_names(break_even_pairs(points(noise=0.2, train_params=1e6), budget=1.0))
    pair = found["perplexity", "random"]
    low, high = pair.budget_interval
    assert low < 0.2 * 8 / 6 * FULL < high
    low, high = pair.ratio_interval
    assert low < 0.2 / 0.6 * 8 / 6 < high
