"""The best choice within a budget, against closed forms and simulated sweeps."""

import math
from dataclasses import replace

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
    assert random.freedom == a.freedom == pytest.approx(12 * 22 / 24)  # two effects of seeds
    assert 3 < random.standard_error / a.standard_error < 30
    found = gap(a, random, n_compared=7)
    v, w = a.standard_error**2, random.standard_error**2
    freedom = (v + w) ** 2 / (v**2 / 11 + w**2 / 11)
    half = student.ppf(1 - 0.05 / 7, freedom) * math.sqrt(v + w)
    assert found.value == pytest.approx(a.point.performance - random.point.performance)
    assert found.high - found.value == pytest.approx(half)
    assert found.value - found.low == pytest.approx(half)


def test_the_interval_of_a_verdict_is_that_of_the_best_of_all_choices():
    points = sweep(np.random.default_rng(8), peaked, lambda m: 0.03)
    found = verdict("m", points, 0.5)
    made = {(c.point.method, c.point.share): c for c in cells(points)}
    best, base = made["a", 0.25], made["random", 0.5]
    bound = gap(best, base, n_compared=4 * 4)  # four methods, the shares below a half
    assert (found.gain, found.low, found.high) == (bound.value, bound.low, bound.high)
    assert found.low < gap(best, base).low


def shared(points):
    """The whole pool is one subset: all methods have random's run of each seed."""
    whole = {p.seed: p.performance for p in points if p.share == 1 and p.method == "random"}
    return [replace(p, performance=whole[p.seed]) if p.share == 1 else p for p in points]


@pytest.mark.parametrize(
    ("random_sd", "n_seeds", "shares"),
    [(0.02, 3, SHARES), (0.08, 3, SHARES), (0.02, 2, (0.25, 1.0)), (0.02, 2, (0.1, 0.5, 1.0))],
)
def test_methods_that_are_all_alike_seldom_beat_random(random_sd, n_seeds, shares):
    """Where no share is better than another: 1 in 20 at most, as promised."""
    rng = np.random.default_rng(0)
    noise, supported = {"random": random_sd}, 0
    for _ in range(200):
        points = shared(sweep(rng, flat, lambda m: noise.get(m, 0.02), n_seeds=n_seeds))
        points = [p for p in points if p.share in shares]
        supported += verdict("m", points, 0.5).is_supported
    assert supported <= 17  # more has a chance of 0.015 where 1 in 20 is the truth


def test_runs_that_methods_share_count_once():
    points = shared(sweep(np.random.default_rng(9), flat, lambda m: 0.02, n_seeds=2))
    points = [p for p in points if p.share in (0.5, 1.0)]
    found = {c.point.method: c for c in cells(points)}
    # Five cells of a half and one of the whole pool, twice each, less the effect of a seed.
    assert found["a"].freedom == pytest.approx(6 - 1)
    assert found["a"].noise_of == ""


def test_what_ends_with_a_long_document_still_costs_what_was_asked():
    """A random half that a document takes to 0.508 of the pool is within half of the pool."""
    rng = np.random.default_rng(10)
    points = sweep(rng, peaked, lambda m: 0.01, methods=("random", "a"))
    points = [replace(p, total_flops=p.total_flops + 0.008) for p in points]
    assert verdict("m", points, 0.5).baseline_share == 0.5


def test_the_noise_of_two_cells_from_the_same_repeats_is_no_better_known():
    rng = np.random.default_rng(12)
    hits = 0
    for _ in range(300):
        points = sweep(rng, flat, lambda m: 0.02, methods=("random", "a"), n_seeds=2)
        points = [p for p in points if p.share < 0.1]
        made = {(c.point.method, c.point.share): c for c in cells(points)}
        found = gap(made["a", 0.05], made["random", 0.05])
        hits += found.low <= 0 <= found.high
    assert hits / 300 >= 0.85  # of 90 % intervals


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
    assert "add to [selection] seeds" in found.sentence


def test_without_random_documents_there_is_no_verdict():
    points = sweep(np.random.default_rng(6), rising, lambda m: 0.01, methods=("a", "b"))
    assert verdict("m", points, 0.5) is None
