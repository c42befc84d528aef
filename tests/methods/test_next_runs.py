"""Runs that a decision needs, against refits, brute force, and laws that are known."""

import math
from dataclasses import replace

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from mixture_assets.core.errors import MixtureError
from mixture_assets.methods.decision import Case, Settings
from mixture_assets.methods.mixing_law import descend
from mixture_assets.methods.next_runs import (
    chance_of_support,
    choose,
    error_factor,
    narrowed,
    next_runs,
    runs_to_learn,
    runs_until,
    within,
)
from mixture_assets.methods.optimum import minimise
from mixture_assets.methods.region import Limits, Region, region_of
from mixture_assets.methods.resample import FittedLaws
from mixture_assets.methods.swarm import Swarm

QUICK = Settings(draws=100)
NAMES = ("a", "b", "c", "d", "e", "f")
SLOPES = np.array([-1.5, -0.7, 0.1, 0.4, 0.9, 1.3])


def truth(weights):
    return 2 + 0.5 * np.exp(weights @ SLOPES)


def swarm_of(weights, values, names=NAMES):
    runs = [f"r{i:03d}" for i in range(len(weights))]
    return Swarm.of(
        {r: dict(zip(names, w, strict=True)) for r, w in zip(runs, weights.tolist(), strict=True)},
        {r: {"loss": y} for r, y in zip(runs, values.tolist(), strict=True)},
    )


def simulated(seed, n=24, noise=0.08, signal=1.0):
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.ones(len(NAMES)), n)
    return swarm_of(weights, signal * truth(weights) + noise * rng.normal(size=n))


# --- which runs -------------------------------------------------------------------------------


def test_errors_are_those_of_refits_to_fresh_noise():
    rng = np.random.default_rng(0)
    weights = rng.dirichlet(np.ones(6), 40)
    swarm = swarm_of(weights, truth(weights) + 0.02 * rng.normal(size=40))
    fitted = FittedLaws.of(swarm, {"loss": 1.0})
    (fit,) = fitted.fits
    asked = rng.dirichlet(np.ones(6), 4)
    sd = math.sqrt((fitted.residuals**2).sum() / fitted.free_share.sum()) / fit.spread
    n, curb = 4000, fit.penalty(40)
    measured = (fit(swarm.weights) - fit.centre) / fit.spread + sd * rng.normal(size=(n, 40))
    parameters, _ = descend(
        np.tile(fit.parameters, (n, 1)),
        swarm.weights,
        measured,
        np.ones_like(measured),
        np.tile(curb, (n, 1, 1)),
        sd * rng.normal(size=(n, 6)),
    )
    again = np.array([replace(fit, parameters=p)(asked) for p in parameters])
    factor = error_factor(fitted, asked)
    expected, found = np.cov(again.T), factor @ factor.T
    assert np.sqrt(np.diag(found)) == pytest.approx(np.sqrt(np.diag(expected)), rel=0.08)
    assert np.corrcoef(again.T)[0, 1] == pytest.approx(
        found[0, 1] / math.sqrt(found[0, 0] * found[1, 1]), abs=0.08
    )


def test_metrics_that_err_alike_do_not_average_their_errors_out():
    rng = np.random.default_rng(1)
    weights = rng.dirichlet(np.ones(6), 40)
    noise = 0.05 * rng.normal(size=(2, 40))
    runs = [f"r{i:02d}" for i in range(40)]
    mixtures = {r: dict(zip(NAMES, w, strict=True)) for r, w in zip(runs, weights, strict=True)}

    def sd(second):
        values = {
            r: {"x": truth(weights)[i] + noise[0, i], "y": truth(weights)[i] + second[i]}
            for i, r in enumerate(runs)
        }
        factor = error_factor(FittedLaws.of(Swarm.of(mixtures, values), {"x": 1, "y": 1}), weights)
        return float(np.sqrt((factor**2).sum(axis=1)).mean())

    assert sd(noise[1]) / sd(noise[0]) == pytest.approx(1 / math.sqrt(2), rel=0.2)


def left_over(gain, measured, noise_sd):
    """Variance of the gain given noisy measurements, by the normal equations."""
    inner = measured @ measured.T + noise_sd**2 * np.eye(len(measured))
    return gain @ gain - gain @ measured.T @ np.linalg.solve(inner, measured @ gain)


@given(st.integers(0, 10_000))
@settings(max_examples=50, deadline=None)
def test_each_choice_is_the_best_of_all_candidates(seed):
    rng = np.random.default_rng(seed)
    targets, values = rng.normal(size=(3, 5)), rng.normal(size=(7, 5))
    noise_sd = rng.uniform(0.1, 2)
    chosen = choose(targets, values, noise_sd, 4)
    for i in range(4):
        tried = [
            sum(left_over(gain, values[[*chosen[:i], c]], noise_sd) for gain in targets)
            for c in range(len(values))
        ]
        assert tried[chosen[i]] == pytest.approx(min(tried), abs=1e-12)
    sds = narrowed(targets[0], values[chosen], noise_sd)
    expected = [left_over(targets[0], values[chosen[:i]], noise_sd) for i in range(5)]
    assert sds**2 == pytest.approx(expected, abs=1e-9)


def test_a_run_in_the_gains_own_direction_leaves_its_noise_alone():
    gain, values = np.array([3.0, 4.0]), np.array([[1.0, 0.0], [0.6, 0.8]])
    assert choose(gain[None], values, 0.1, 1) == [1]
    # prior variance 25 of 5 z, measured as z with noise 0.1: z's variance is 1 / (1 + 1 / 0.01)
    assert narrowed(gain, values[[1]], 0.1) == pytest.approx([5, 5 / math.sqrt(101)])


def test_runs_narrow_the_interval_more_than_random_ones():
    """Over known laws, in the width that the gain's interval has after runs of either kind."""
    widths = []
    for seed in range(4):
        swarm, rng = simulated(seed), np.random.default_rng(1000 + seed)
        found = next_runs(swarm, {"loss": 1.0}, settings=QUICK)
        proposed = np.array([[m[n] for n in NAMES] for m in found.mixtures])
        noise = 0.08 * rng.normal(size=8)
        widths.append([_width(swarm, w, noise) for w in (proposed, rng.dirichlet(np.ones(6), 8))])
    proposed, fresh = np.mean(widths, axis=0)
    assert proposed < 0.8 * fresh


def _width(swarm, runs, noise):
    """Of the interval of the best mixture's gain over natural, after some runs."""
    values = np.concatenate([swarm.metrics["loss"], truth(runs) + noise])
    grown = swarm_of(np.vstack([swarm.weights, runs]), values)
    case = Case(grown, {"loss": 1.0}, None, QUICK)
    gain = case.gain(minimise(case.fit.convex(), case.region).weights[0], case.optima())
    return gain.high - gain.low


def test_the_order_of_rows_and_columns_changes_nothing():
    swarm, rng = simulated(3), np.random.default_rng(0)

    def shuffled(rows, columns):
        mixtures = {
            swarm.runs[r]: {NAMES[c]: float(swarm.weights[r, c]) for c in columns} for r in rows
        }
        return Swarm.of(mixtures, {swarm.runs[r]: {"loss": swarm.metrics["loss"][r]} for r in rows})

    straight = shuffled(range(24), range(6))
    mixed = shuffled(rng.permutation(24), rng.permutation(6))
    one, other = (next_runs(s, {"loss": 1.0}, settings=QUICK) for s in (straight, mixed))
    assert [dict(m) for m in one.mixtures] == [dict(m) for m in other.mixtures]
    assert one.half_widths == other.half_widths
    assert one.reason == other.reason


def test_the_unit_of_the_metric_changes_no_run():
    swarm = simulated(4)
    large = replace(swarm, metrics={"loss": swarm.metrics["loss"] * 1000})
    one, other = (next_runs(s, {"loss": 1.0}, settings=QUICK) for s in (swarm, large))
    for a, b in zip(one.mixtures, other.mixtures, strict=True):
        assert dict(a) == pytest.approx(dict(b), abs=1e-5)
    assert np.array(other.half_widths) / 1000 == pytest.approx(one.half_widths, rel=1e-3)
    assert one.n_needed == other.n_needed
    assert one.is_enough is other.is_enough


# --- where runs may be ------------------------------------------------------------------------


def test_runs_respect_what_the_weights_must_respect():
    limits = Limits(floor={"f": 0.1}, cap={"a": 0.3}, groups={"b+c": (("b", "c"), (0.3, 0.5))})
    chosen = replace(QUICK, limits=limits)
    found = next_runs(simulated(5), {"loss": 1.0}, settings=chosen)
    for mixture in found.mixtures:
        assert mixture["f"] >= 0.1 - 1e-7
        assert mixture["a"] <= 0.3 + 1e-7
        assert 0.3 - 1e-7 <= mixture["b"] + mixture["c"] <= 0.5 + 1e-7


@given(st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_every_candidate_is_moved_into_the_region_and_those_inside_stay(seed):
    rng = np.random.default_rng(seed)
    limits = Limits(
        floor={"a": 0.05}, cap={"b": 0.4, "c": 0.5}, groups={"g": (("c", "d"), (0.2, 0.6))}
    )
    region = region_of(("a", "b", "c", "d"), limits, {})
    asked = rng.dirichlet(np.full(4, 0.4), 20)
    moved = within(asked, region, np.full(4, 0.25))
    assert max(region.violation(w) for w in moved) < 1e-9
    assert moved.sum(axis=1) == pytest.approx(np.ones(20))
    inside = [i for i, w in enumerate(asked) if region.violation(w) == 0]
    assert moved[inside] == pytest.approx(asked[inside], abs=1e-9)


def test_the_nearest_weights_within_bounds_are_those_of_the_closed_form():
    region = Region.simplex(("a", "b", "c")).capped({"a": 0.5}, "cap")
    moved = within(np.array([[0.9, 0.1, 0.0]]), region, np.full(3, 1 / 3))
    assert moved[0] == pytest.approx([0.5, 0.3, 0.2])  # 0.4 shared alike by the other two


# --- when to stop -----------------------------------------------------------------------------


def test_runs_are_counted_by_precision():
    """One run halves the variance, so that k runs make it 1 / (1 + k) of what it was."""
    assert runs_until(np.sqrt([1, 1 / 2]), asked=0.1) == 99
    assert runs_until(np.sqrt([1, 1 / 2]), asked=2.0) == 0
    assert runs_until(np.array([1.0, 1.0]), asked=0.1) is None
    assert runs_until(np.sqrt([1, 1 / 2]), asked=-0.1) is None


@pytest.mark.parametrize("gain", [-1.0, 0.5, 2.0])
def test_the_chance_of_support_is_how_often_it_comes_in_simulation(gain):
    rng, sds = np.random.default_rng(0), np.sqrt([1, 1 / 2])
    after = 1 / 5  # variance after 4 runs
    real = gain + rng.normal(size=200_000)  # what may be true, given what is known
    measured = real + rng.normal(size=real.size) * math.sqrt(1 / 4)
    estimate = after * (gain + 4 * measured)
    often = np.mean(estimate > 1.6448536 * math.sqrt(after))
    assert chance_of_support(gain, sds, 4) == pytest.approx(often, abs=0.005)


def test_as_many_runs_as_said_show_a_law_about_as_often_as_not():
    from mixture_assets.methods.decision import is_better_than_mean

    rng, n = np.random.default_rng(0), runs_to_learn(1.0, 6)
    shown = []
    for _ in range(200):
        weights = rng.normal(size=(n, 6))
        signal = weights @ rng.normal(size=6) / math.sqrt(6)
        values = signal / signal.std() + rng.normal(size=n)
        folds = np.random.default_rng(0).permutation(np.arange(n) % 5)
        predicted = np.empty(n)
        for fold in range(5):
            held = folds == fold
            slope, *_ = np.linalg.lstsq(weights[~held], values[~held], rcond=None)
            predicted[held] = weights[held] @ slope
        shown.append(is_better_than_mean(weights, predicted, values, 0))
    assert 0.35 < np.mean(shown) < 0.75


def test_it_goes_on_while_the_interval_is_wide_and_stops_when_it_is_narrow():
    few = next_runs(simulated(0, n=20, noise=0.06), {"loss": 1.0}, settings=QUICK)
    many = next_runs(simulated(0, n=150, noise=0.02), {"loss": 1.0}, settings=QUICK)
    assert not few.is_enough
    assert few.reason.startswith("go on")
    assert few.n_needed > 0
    assert many.decision.verdict == "supported"
    assert many.is_enough
    assert many.n_needed == 0


def test_where_replicates_differ_as_much_as_mixtures_no_further_run_is_asked_for():
    rng = np.random.default_rng(0)
    weights = np.repeat(rng.dirichlet(np.ones(6), 12), 2, axis=0)
    found = next_runs(swarm_of(weights, rng.normal(size=24)), {"loss": 1.0}, settings=QUICK)
    assert found.decision.verdict == "not identifiable"
    assert (found.n_needed is None) == ("lower the noise" in found.reason)


def test_noise_without_replicates_is_given_up_when_a_law_would_have_shown():
    few, many = (
        next_runs(simulated(1, n=n, noise=1.0, signal=0.0), {"loss": 1.0}, settings=QUICK)
        for n in (16, 60)
    )
    assert few.decision.verdict == many.decision.verdict == "not identifiable"
    assert not few.is_enough
    assert few.n_needed == runs_to_learn(1.0, 6) - 16
    assert many.is_enough
    assert "would have shown" in many.reason


def test_no_runs_are_no_plan():
    with pytest.raises(MixtureError, match="0 runs"):
        next_runs(simulated(0), {"loss": 1.0}, n_runs=0)


def test_a_metric_that_never_changes_adds_no_error():
    swarm = simulated(2)
    both = replace(swarm, metrics={**swarm.metrics, "flat": np.ones(len(swarm.runs))})
    asked = swarm.weights[:3]
    alone = error_factor(FittedLaws.of(swarm, {"loss": 1.0}), asked)
    mixed = error_factor(FittedLaws.of(both, {"loss": 1.0, "flat": 1.0}), asked)
    assert (mixed @ mixed.T) * 4 == pytest.approx(alone @ alone.T, rel=1e-4)
