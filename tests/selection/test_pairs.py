import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import brentq

from mixture_assets.selection.pairs import break_even_pairs
from mixture_assets.selection.points import Point

FULL = 6e13
SHARES = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
METHODS = {  # rate, cost of selection in multiples of C_full, parameters of the selector
    "random": (2.0, 0.0, None),
    "perplexity": (8.0, 0.2, 6e5),
    "gradient": (12.0, 1.8, 1e6),
}
STEP = 0.03  # relative: of the grid of rates that curves are drawn from


def learned(rate, share):
    """Of what the whole pool teaches, which is alike in all methods."""
    return math.expm1(-rate * share) / math.expm1(-rate)


def needed(rate, part):
    """The share that teaches so much: its inverse."""
    return -math.log1p(part * math.expm1(-rate)) / rate


def overtaking(rate, selection, cheap_rate):
    return brentq(lambda c: learned(rate, c - selection) - learned(cheap_rate, c), selection, 0.7)


def points(noise=0.0, methods=METHODS, seed=2, **more):
    rng = np.random.default_rng(seed)
    return [
        Point(
            method=method,
            share=share,
            total_flops=(share + start) * FULL,
            full_flops=FULL,
            performance=40 + 10 * learned(rate, share) + noise * float(rng.standard_normal()),
            seed=str(k),
            selector_params=size,
            **more,
        )
        for method, (rate, start, size) in methods.items()
        for share in SHARES
        for k in range(3)
    ]


def by_names(pairs):
    return {(p.costly, p.cheap): p for p in pairs}


def test_budgets_and_ratios_are_those_of_the_curves_behind_the_points():
    found = by_names(break_even_pairs(points(train_params=1e6)))
    assert set(found) == {
        ("perplexity", "random"),
        ("gradient", "random"),
        ("gradient", "perplexity"),
    }
    pair = found["perplexity", "random"]
    budget = overtaking(8.0, 0.2, 2.0) * FULL
    assert pair.budget_flops == pytest.approx(budget, rel=STEP)
    assert pair.budget_interval == pytest.approx([budget] * 2, rel=STEP)
    assert (pair.chance, pair.ratio_chance, pair.ratio_budget) == (1, 1, 0.5)
    assert pair.ratio_now == pytest.approx(1 / 0.6)
    margin = 0.5 - needed(8.0, learned(2.0, 0.5))
    assert pair.ratio == pytest.approx(0.2 / 0.6 / margin, rel=STEP)
    gradient = found["gradient", "random"]
    assert gradient.budget_flops == math.inf  # 1.8 C_full are spent before it has begun
    assert gradient.chance == 0
    margin = 0.5 - needed(12.0, learned(2.0, 0.5))
    assert gradient.ratio == pytest.approx(1.8 / margin, rel=STEP)
    other = found["gradient", "perplexity"]  # a ratio would make both cheaper
    assert (other.ratio, other.ratio_interval, other.ratio_chance) == (None, None, None)


def test_ratios_are_of_the_budget_that_is_asked():
    (pair,) = (p for p in break_even_pairs(points(), budget=0.2) if p.costly == "perplexity")
    assert pair.ratio_now is None  # without sizes, multiples of the present ratio
    margin = 0.2 - needed(8.0, learned(2.0, 0.2))
    assert pair.ratio == pytest.approx(0.2 / margin, rel=STEP)


def test_noise_gives_intervals_that_hold_the_truth():
    found = by_names(break_even_pairs(points(noise=0.2, train_params=1e6)))
    pair = found["perplexity", "random"]
    low, high = pair.budget_interval
    assert low < overtaking(8.0, 0.2, 2.0) * FULL < high
    low, high = pair.ratio_interval
    assert low < 0.2 / 0.6 / (0.5 - needed(8.0, learned(2.0, 0.5))) < high
    assert pair.ratio_chance > 0.95


ALIKE = {"random": (4.0, 0.0, None), "perplexity": (4.0, 0.36, 1e6), "gradient": (4.0, 0.9, 1e6)}


def test_a_selection_that_teaches_nothing_pays_at_no_ratio():
    """All curves alike: sooner or later a draw is better by luck, and the interval says so."""
    ends, budgets = [], []
    for seed in range(12):
        found = by_names(break_even_pairs(points(0.4, ALIKE, seed, train_params=1e6)))
        ends += [found[m, "random"].ratio_interval[1] for m in ("perplexity", "gradient")]
        budgets += [found[m, "random"].budget_flops for m in ("perplexity", "gradient")]
    assert np.isinf(ends).mean() >= 0.9
    assert np.isinf(budgets).mean() >= 0.9


def test_the_run_on_the_whole_pool_counts_once_however_often_it_is_listed():
    own = [p for p in points(0.4, train_params=1e6) if p.share <= 0.25]
    run = replace(own[0], share=1.0, total_flops=FULL, performance=51.0, seed="")
    assert run.method == "random"
    pair = by_names(break_even_pairs([*own, run, run, run]))["gradient", "random"]
    twin = by_names(break_even_pairs([*own, run]))["gradient", "random"]
    assert pair.ratio == pytest.approx(twin.ratio, rel=1e-9)
    assert pair.ratio_interval == pytest.approx(twin.ratio_interval, rel=1e-9)


def test_methods_that_cost_alike_are_no_pair():
    free = {"random": (2.0, 0.0, None), "bm25": (4.0, 0.0005, None)}
    assert break_even_pairs(points(methods=free)) == []
