import numpy as np
import pytest

from mixture_assets.selection.outlook import Outlook
from mixture_assets.selection.points import Point
from mixture_assets.selection.priors import PANELS, RATES
from mixture_assets.selection.utility import UtilityCurve

SHARES = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
RANDOM = UtilityCurve(ceiling=-2.0, zero=-4.0, rate=2.0)


def points(method, curve, *, shares=SHARES, start=0.0, selector=None, noise=0.0, seeds=2):
    rng = np.random.default_rng(len(method))
    return [
        Point(
            method=method,
            share=share,
            total_flops=(share + start) * 1e18,
            full_flops=1e18,
            performance=curve.value(share) + noise * float(rng.standard_normal()),
            seed=f"{seed}",
            selector_params=selector,
        )
        for share in shares
        for seed in range(seeds)
    ]


def test_points_tell_the_curve_whatever_selection_cost():
    fast = UtilityCurve(ceiling=-2.0, zero=-4.0, rate=8.0)
    outlook = Outlook.of(
        [*points("random", RANDOM), *points("gradient", fast, start=1.8, selector=1e6)]
    )
    learning = outlook.learning("gradient", 1e6)
    assert learning.basis == "points"
    assert outlook.unit == "performance"
    for share in (0.1, 0.4, 1.0):
        assert learning.at(share) == pytest.approx(fast.value(share), abs=1e-4)


def test_a_selector_of_another_size_is_stood_for_by_the_nearest():
    fast = UtilityCurve(ceiling=-2.0, zero=-4.0, rate=8.0)
    slow = UtilityCurve(ceiling=-2.0, zero=-4.0, rate=4.0)
    outlook = Outlook.of(
        [
            *points("random", RANDOM),
            *points("perplexity", fast, selector=1e8),
            *points("perplexity", slow, selector=1e6),
        ]
    )
    assert outlook.learning("perplexity", 1e8).at(0.1) == pytest.approx(fast.value(0.1), abs=1e-4)
    near = outlook.learning("perplexity", 3e6)
    assert near.at(0.1) == pytest.approx(slow.value(0.1), abs=1e-4)
    assert near.basis == "points with a selector of 1e+06 parameters"


def test_without_points_a_draw_is_a_published_panel():
    outlook = Outlook.of([])
    learned = {m: outlook.learning(m).at(0.1) for m in ("random", "perplexity")}
    expected = [
        [np.expm1(-r * 0.1) / np.expm1(-r) for r in RATES[m]] for m in ("random", "perplexity")
    ]
    found = {tuple(np.round(pair, 9)) for pair in zip(*learned.values(), strict=True)}
    assert found == {tuple(np.round(pair, 9)) for pair in zip(*expected, strict=True)}
    assert outlook.unit == "share of what the whole pool teaches"
    assert outlook.learning("perplexity").basis.startswith("prior")
    assert outlook.learning("unheard of") is None


def test_a_method_without_points_gets_the_published_ratio_to_random():
    outlook = Outlook.of(points("random", RANDOM))
    learning = outlook.learning("perplexity", 1e6)
    ratios = [a / b for a, b in zip(RATES["perplexity"], RATES["random"], strict=True)]
    assert sorted(set(np.round(learning.rate / 2.0, 3))) == pytest.approx(
        sorted(np.round(ratios, 3)), abs=2e-3
    )
    assert len(ratios) == len(PANELS)
    # the whole pool is the same training for every method
    assert learning.at(1.0) == pytest.approx(RANDOM.value(1.0), abs=1e-4)
    assert learning.at(0.0) == pytest.approx(RANDOM.zero, abs=1e-4)


def test_too_few_points_are_left_to_priors_and_named():
    outlook = Outlook.of([*points("random", RANDOM), *points("bm25", RANDOM, shares=(0.1,))])
    assert outlook.learning("bm25").basis.startswith("prior")
    (note,) = outlook.notes
    assert "'bm25'" in note
    assert "needs 3 different costs" in note


def test_the_gain_of_a_search_is_over_random_selection_of_as_much():
    better = UtilityCurve(ceiling=-1.9, zero=-3.9, rate=2.0)
    outlook = Outlook.of(
        [
            *points("random", RANDOM, noise=0.01, seeds=20),
            *points("ddo", better, shares=(0.5, 1.0), noise=0.01, start=0.3),
        ],
        apart=("ddo",),
    )
    gain = outlook.gain("ddo")
    assert float(np.mean(gain)) == pytest.approx(0.1, abs=0.02)
    assert 0.003 < float(np.std(gain)) < 0.02  # 0.01 / sqrt(4) of the points, and the curve's
    assert outlook.gain("swarm") is None
    assert Outlook.of(points("ddo", better), apart=("ddo",)).gain("ddo") is None


def test_draws_of_two_methods_are_independent():
    """With common draws the gain between equally noisy methods would look far too sure."""
    outlook = Outlook.of(
        [*points("random", RANDOM, noise=0.1), *points("perplexity", RANDOM, noise=0.1)]
    )
    a, b = outlook.learning("random").at(0.2), outlook.learning("perplexity").at(0.2)
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.1


def anchored(method, rate, shares, noise=0.01):
    """Points of a curve from -4 to -2 on the whole pool, whatever the rate."""
    rise = -2.0 / np.expm1(-rate)
    return points(
        method, UtilityCurve(ceiling=-4 + rise, zero=-4.0, rate=rate), shares=shares, noise=noise
    )


def test_a_pilot_is_carried_on_by_what_all_methods_have_in_common():
    """Up to 10 % of the pool: alone, a curve says next to nothing of the half of it."""
    shares = (0.025, 0.05, 0.1)
    pilot = [p for m, r in (("random", 2.0), ("bm25", 8.0)) for p in anchored(m, r, shares)]
    outlook = Outlook.of(pilot)
    assert any("do alike on the whole" in note for note in outlook.notes)
    gain = outlook.learning("bm25").at(0.5) - outlook.learning("random").at(0.5)
    truth = 2 * (np.expm1(-4.0) / np.expm1(-8.0) - np.expm1(-1.0) / np.expm1(-2.0))
    low, high = np.percentile(gain, [5, 95])
    assert low < truth < high
    assert low > 0.1
    assert outlook.learning("bm25").largest_share == 0.1


def test_a_sweep_is_not_held_to_a_common_end():
    better = UtilityCurve(ceiling=-1.5, zero=-4.0, rate=8.0)
    outlook = Outlook.of([*points("random", RANDOM), *points("perplexity", better)])
    assert outlook.notes == ()
    assert outlook.learning("perplexity").at(1.0) == pytest.approx(better.value(1.0), abs=1e-4)
