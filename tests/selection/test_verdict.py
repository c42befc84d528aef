"""The best choice within a budget, against closed forms and simulated sweeps."""

import math

import numpy as np
import pytest
from scipy.stats import t as student

from mixture_assets.selection.points import Point, cells
from mixture_assets.selection.verdict import gap, verdict

SHARES = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0)


def point(method, share, performance, seed, *, selection=0.0):
    return Point(
        method=method,
        total_flops=share + selection,
        full_flops=1.0,
        performance=performance,
        share=share,
        seed=seed,
        selection_flops=selection,
    )


def sweep(rng, mean, noise_sd, *, methods=("random", "a", "b", "c", "d"), n_seeds=3):
    """Points about `mean(method, share)`, with the noise of each method."""
    return [
        point(
            method,
            share,
            mean(method, share) + noise_sd(method) * rng.standard_normal(),
            str(seed),
            selection=0.01 * (method != "random"),
        )
        for method in methods
        for share in SHARES
        for seed in range(n_seeds)
    ]


def rising(method, share):
    return -3 + 2 * (1 - math.exp(-4 * share))


def flat(method, share):
    return -3.0


def peaked(method, share):
    """Random rises all the way; `a` is best at a quarter of the pool, and falls again."""
    if method == "a":
        return {0.1: -2.9, 0.25: -2.5, 0.5: -2.55}.get(share, -3.0)
    return -3 + 0.4 * share


def test_a_peak_is_found_though_no_rising_curve_has_one():
    points = sweep(np.random.default_rng(0), peaked, lambda m: 0.01, methods=("random", "a", "b"))
    found = verdict("large", points, 0.5)
    assert (found.method, found.share, found.baseline_share) == ("a", 0.25, 0.5)
    assert found.is_supported
    assert found.gain == pytest.approx(-2.5 - (-3 + 0.4 * 0.5), abs=0.02)
    assert "select by a at 25 % of the pool" in found.sentence


def test_an_interval_is_welchs_with_a_part_of_the_error_for_each_choice():
    """Two methods whose noise differs, by hand."""
    rng = np.random.default_rng(1)
    points = sweep(rng, rising, lambda m: 0.1 if m == "random" else 0.01, methods=("random", "a"))
    made = {(c.point.method, c.point.share): c for c in cells(points)}
    random, a = made["random", 0.25], made["a", 0.25]
    assert (random.freedom, a.freedom) == (12, 12)
    assert 3 < random.standard_error / a.standard_error < 30
    found = gap(a, random, n_compared=7)
    v, w = a.standard_error**2, random.standard_error**2
    freedom = (v + w) ** 2 / (v**2 / 12 + w**2 / 12)
    half = student.ppf(1 - 0.05 / 7, freedom) * math.sqrt(v + w)
    assert found.value == pytest.approx(a.point.performance - random.point.performance)
    assert found.high - found.value == pytest.approx(half)
    assert found.value - found.low == pytest.approx(half)


@pytest.mark.parametrize("random_sd", [0.02, 0.08])
def test_methods_that_are_all_alike_seldom_beat_random(random_sd):
    """Where no share is better than another, whatever the noise: 1 in 20 at most, as promised."""
    rng = np.random.default_rng(0)
    noise = {"random": random_sd}
    supported = sum(
        verdict("m", sweep(rng, flat, lambda m: noise.get(m, 0.02)), 0.5).is_supported
        for _ in range(150)
    )
    assert supported <= 12  # more has a chance of 0.04 where 1 in 20 is the truth


def test_gains_are_covered():
    """One rival, named before: 90 % intervals, 120 worlds; 82 to 98 % is 3 sd of a binomial."""
    rng, hits = np.random.default_rng(3), 0
    for _ in range(120):
        noise = {"random": 0.05, "a": 0.01}
        points = sweep(rng, rising, noise.__getitem__, methods=("random", "a"))
        made = {(c.point.method, c.point.share): c for c in cells(points)}
        found = gap(made["a", 0.25], made["random", 0.5])
        hits += found.low <= rising("a", 0.25) - rising("random", 0.5) <= found.high
    assert 0.82 <= hits / 120 <= 0.98


def test_what_the_budget_does_not_allow_is_not_compared():
    rng = np.random.default_rng(4)
    points = sweep(rng, rising, lambda m: 0.01, methods=("random", "a"))
    dear = [point("dear", s, 9.0, str(seed), selection=0.6) for s in SHARES for seed in range(3)]
    found = verdict("m", [*points, *dear], 0.5)
    assert found.method == "a"
    assert found.n_compared == 4  # half of the pool and its selection are beyond


def test_one_seed_says_nothing_of_noise():
    points = sweep(np.random.default_rng(5), peaked, lambda m: 0.01, methods=("random", "a"))
    found = verdict("m", [p for p in points if p.seed == "0"], 0.5)
    assert not found.is_supported
    assert found.low == -math.inf


def test_without_random_documents_there_is_no_verdict():
    points = sweep(np.random.default_rng(6), rising, lambda m: 0.01, methods=("a", "b"))
    assert verdict("m", points, 0.5) is None
