"""Decisions on known laws, on noise alone, and against geometry and brute force."""

import itertools
import math

import numpy as np
import pytest
from scipy.optimize import minimize

from mixture_assets.core.mixture import Mixture
from mixture_assets.methods.decision import Case, Settings, decide, replicate_sd
from mixture_assets.methods.optimum import minimise
from mixture_assets.methods.region import Limits, Region
from mixture_assets.methods.resample import Laws
from mixture_assets.methods.swarm import Swarm
from mixture_assets.methods.trust import outside_hull, worst

DOMAINS = ("books", "code", "forum", "web")
SLOPES = {"loss": np.array([-1.5, 0.3, 1.0, -0.2]), "bits": np.array([0.5, -1.2, 0.4, 0.2])}
NATURAL = Mixture(dict(zip(DOMAINS, (0.1, 0.2, 0.3, 0.4), strict=True)))
BOTH = {"loss": 1.0, "bits": 2.0}
QUICK = Settings(draws=100)


def mixtures(n, seed=0, domains=4):
    return np.random.default_rng(seed).dirichlet(np.full(domains, 1.5), n)


def tables(noise=0.05, n=32, seed=0):
    """Runs of two laws, c + exp(t . w), by name."""
    weights, rng = mixtures(n, seed), np.random.default_rng(seed + 1)
    values = {m: 2 + np.exp(weights @ t) for m, t in SLOPES.items()}
    values = {m: v + noise * v.std() * rng.standard_normal(n) for m, v in values.items()}
    runs = [f"r{i:02}" for i in range(n)]
    return (
        {
            r: dict(zip(DOMAINS, w.tolist(), strict=True))
            for r, w in zip(runs, weights, strict=True)
        },
        {r: {m: float(v[i]) for m, v in values.items()} for i, r in enumerate(runs)},
    )


def swarm(**asked):
    return Swarm.of(*tables(**asked))


def array(mixture):
    return np.array([mixture[d] for d in DOMAINS])


def true_value(weights):
    return (2 + np.exp(SLOPES["loss"] @ weights)) / 3 + (
        2 + np.exp(SLOPES["bits"] @ weights)
    ) * 2 / 3


@pytest.fixture(scope="module")
def decided():
    return decide(swarm(), BOTH, NATURAL, QUICK)


# --- the optimum ------------------------------------------------------------------------------


def test_the_bare_optimum_approaches_the_truth_as_noise_goes_to_0():
    runs = swarm(noise=0)
    low, high = runs.weights.min(axis=0), runs.weights.max(axis=0)
    right = minimize(
        true_value,
        runs.weights.mean(axis=0),
        bounds=list(zip(low, high, strict=True)),
        constraints=[{"type": "eq", "fun": lambda w: w.sum() - 1}],
        method="SLSQP",
        options={"ftol": 1e-14},
    ).x
    off = []
    for noise in (0.3, 0.03, 0.0):
        case = Case(swarm(noise=noise), BOTH, NATURAL, QUICK)
        region = Region.simplex(DOMAINS).floored(dict(zip(DOMAINS, low, strict=True)), "low")
        region = region.capped(dict(zip(DOMAINS, high, strict=True)), "high")
        found = minimise(case.fit.convex(), region).weights[0]
        off.append(float(np.abs(found - right).sum() / 2))
    assert off[2] < 2e-3
    assert off[2] <= off[1] <= off[0]
    assert off[1] < 0.05


def test_a_large_effect_is_supported(decided):
    assert decided.verdict == "supported"
    true_gain = true_value(array(NATURAL)) - true_value(array(decided.mixture))
    assert true_gain > 0
    assert decided.gain.low <= true_gain <= decided.gain.high


def test_the_proposal_is_within_one_standard_error_of_the_best_and_nearer_to_natural(decided):
    natural = array(NATURAL)

    def nats(mixture):
        w = np.maximum(array(mixture), 1e-300)
        return float((w * np.log(w / natural)).sum())

    bare, proposal = decided.mixtures["bare"], decided.mixtures["proposal"]
    given_up = decided.predicted["proposal"].value - decided.predicted["bare"].value
    case = Case(swarm(), BOTH, NATURAL, QUICK)
    drawn = minimise(case.draws.convex(), case.region).weights
    # of the bare gain, less its optimism, written out
    gains = case.draws.value(natural[None])[:, 0] - case.draws.own_value(drawn)
    by_fit = case.fit.value(natural[None])[0, 0] - case.fit.value(drawn)[0]
    assert -1e-9 <= given_up <= float((gains - by_fit).std()) * (1 + 1e-6)
    assert nats(proposal) < nats(bare)


# --- invariance -------------------------------------------------------------------------------


@pytest.mark.parametrize(("factor", "shift"), [(1000.0, 0.0), (0.01, 0.0), (1.0, 50.0)])
def test_a_metrics_unit_changes_no_weight_and_no_verdict(decided, factor, shift):
    """The share is divided by what the metric is multiplied by: the objective is the same."""
    weights, metrics = tables()
    metrics = {
        r: {"loss": m["loss"], "bits": factor * m["bits"] + shift} for r, m in metrics.items()
    }
    shares = {"loss": 1.0, "bits": 2.0 / factor}
    found = decide(Swarm.of(weights, metrics), shares, NATURAL, QUICK)
    np.testing.assert_allclose(array(found.mixture), array(decided.mixture), atol=1e-6)
    assert found.verdict == decided.verdict


@pytest.mark.parametrize("factor", [1e6, 1e-6])
def test_the_objectives_unit_scales_the_gain(decided, factor):
    weights, metrics = tables()
    metrics = {r: {k: factor * v for k, v in m.items()} for r, m in metrics.items()}
    found = decide(Swarm.of(weights, metrics), BOTH, NATURAL, QUICK)
    np.testing.assert_allclose(array(found.mixture), array(decided.mixture), atol=1e-6)
    assert found.gain.value / factor == pytest.approx(decided.gain.value, rel=1e-5)
    assert found.verdict == decided.verdict


def test_the_order_of_rows_and_columns_changes_no_bit(decided):
    weights, metrics = tables()
    turned = {r: dict(reversed(w.items())) for r, w in reversed(weights.items())}
    measured = {r: dict(reversed(m.items())) for r, m in reversed(metrics.items())}
    natural = Mixture(dict(reversed(list(NATURAL.items()))))
    found = decide(Swarm.of(turned, measured), dict(reversed(BOTH.items())), natural, QUICK)
    assert found.mixture == decided.mixture
    assert found.interval == decided.interval
    assert found.gain == decided.gain
    assert found.prices == decided.prices


# --- verdicts ---------------------------------------------------------------------------------


def noise_alone(seed, n=24):
    rng = np.random.default_rng(seed)
    return Swarm(
        runs=tuple(f"r{i:02}" for i in range(n)),
        domains=DOMAINS,
        weights=mixtures(n, seed),
        metrics={"loss": 3 + rng.standard_normal(n)},
    )


def test_noise_alone_is_not_identifiable_and_natural_is_kept():
    found = [decide(noise_alone(s), {"loss": 1}, NATURAL, Settings(draws=20)) for s in range(10)]
    seen = [d for d in found if d.verdict == "not identifiable"]
    assert len(seen) >= 9  # benchmarks/coverage.py has many more
    for decision in seen:
        np.testing.assert_allclose(array(decision.mixture), array(NATURAL), atol=0.02)


def test_where_natural_is_the_best_there_is_nothing_to_gain():
    """One steep metric; natural has all that the runs ever had of what helps."""
    runs = swarm(noise=0.2)
    case = Case(runs, {"loss": 1}, NATURAL, QUICK)
    low, high = case.region.low, case.region.high
    best = low.copy()
    for i in np.argsort(SLOPES["loss"]):  # as much as there may be of the best, then the next
        best[i] += min(high[i] - low[i], 1 - best.sum())
    natural = Mixture(dict(zip(DOMAINS, (best / best.sum()).tolist(), strict=True)))
    found = decide(runs, {"loss": 1}, natural, QUICK)
    assert found.verdict == "within noise"
    assert found.gain.low <= 0 <= found.gain.high


def test_weights_stay_within_what_was_run_unless_asked():
    runs = swarm()
    low, high = runs.weights.min(axis=0), runs.weights.max(axis=0)
    kept = decide(runs, {"loss": 1}, NATURAL, Settings(draws=50, kl=1e-6))
    w = array(kept.mixture)
    assert ((low - 1e-8 <= w) & (w <= high + 1e-8)).all()
    assert not kept.notes
    free = decide(runs, {"loss": 1}, NATURAL, Settings(draws=50, kl=1e-6, beyond_samples=True))
    assert free.mixture["books"] == pytest.approx(1, abs=1e-3)  # the least of t
    assert "books" in free.notes[0]
    assert free.trust.outside == pytest.approx(outside_hull(runs.weights, array(free.mixture)))


def test_prices_are_of_what_was_asked():
    limits = Limits(cap={"books": 0.2})
    found = decide(swarm(), {"loss": 1}, NATURAL, Settings(limits=limits, draws=50, kl=1e-3))
    dearest = found.prices[0]
    assert (dearest.what, dearest.domain, dearest.bound) == ("cap", "books", 0.2)
    looser = Settings(limits=Limits(cap={"books": 0.21}), draws=50, kl=1e-3)
    fall = (
        found.predicted["proposal"].value
        - decide(swarm(), {"loss": 1}, NATURAL, looser).predicted["proposal"].value
    )
    assert dearest.per_percent == pytest.approx(fall, rel=0.1)


# --- noise ------------------------------------------------------------------------------------


def test_the_noise_of_replicates_by_hand():
    """Squares about the means 2 and 6: 1 + 0 + 1 and 0.25 + 0.25, over 2 + 1."""
    values = np.array([1.0, 2.0, 3.0, 5.5, 6.5, 9.0])
    groups = np.array([0, 0, 0, 1, 1, 2])
    assert replicate_sd(groups, values) == pytest.approx(math.sqrt(2.5 / 3))
    assert replicate_sd(np.arange(3), values[:3]) is None


# --- trust ------------------------------------------------------------------------------------


def test_a_run_and_an_average_of_runs_are_inside():
    weights = mixtures(10)
    assert outside_hull(weights, weights[3]) == pytest.approx(0, abs=1e-9)
    assert outside_hull(weights, weights.mean(axis=0)) == pytest.approx(0, abs=1e-9)


def test_how_far_a_vertex_is_from_a_shrunk_simplex():
    """Vertices moved by 0.3 of the way to uniform: 0.3 x 3/4 of weight are missing."""
    weights = 0.7 * np.eye(4) + 0.3 / 4
    assert outside_hull(weights, np.eye(4)[0]) == pytest.approx(0.3 * 3 / 4, abs=1e-9)


def test_the_distance_to_two_runs_is_that_of_a_fine_search():
    weights, asked = mixtures(2, 3), mixtures(1, 4)[0]
    along = np.linspace(0, 1, 100001)[:, None]
    line = along * weights[0] + (1 - along) * weights[1]
    right = np.abs(line - asked).sum(axis=1).min() / 2
    assert right > 0.05
    assert outside_hull(weights, asked) == pytest.approx(right, abs=1e-5)


def corners(low, high):
    """All corners of a box cut by sum = 1: all but one weight at a bound."""
    n = len(low)
    for free in range(n):
        others = [i for i in range(n) if i != free]
        for sides in itertools.product((0, 1), repeat=n - 1):
            w = np.empty(n)
            w[others] = [(low, high)[s][i] for s, i in zip(sides, others, strict=True)]
            w[free] = 1 - w[others].sum()
            if low[free] - 1e-12 <= w[free] <= high[free] + 1e-12:
                yield w


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("n_metrics", [1, 2])
def test_the_worst_mixture_is_the_worst_of_all_corners(seed, n_metrics):
    rng = np.random.default_rng(seed)
    low, high = rng.uniform(0, 0.1, 4), rng.uniform(0.4, 0.9, 4)
    region = Region.simplex(DOMAINS).floored(dict(zip(DOMAINS, low, strict=True)), "low")
    region = region.capped(dict(zip(DOMAINS, high, strict=True)), "high")
    laws = Laws(
        constant=np.zeros(1),
        amplitude=rng.uniform(0.5, 1, (1, n_metrics)),
        exponent=rng.normal(size=(1, n_metrics, 4)),
    )
    values = [float(laws.value(w[None])[0, 0]) for w in corners(low, high)]
    found = worst(laws, region, mixtures(20, seed))
    assert float(laws.value(found[None])[0, 0]) == pytest.approx(max(values), rel=1e-9)


# --- coverage ---------------------------------------------------------------------------------


def test_nine_of_ten_intervals_of_weights_hold_the_truth():
    """Swarms of known laws, at a price of entropy that keeps the optimum off its bounds."""
    domains, holds = ("a", "b", "c", "d", "e"), []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        natural, t = rng.dirichlet(np.full(5, 2.0)), rng.normal(size=5)
        weights = rng.dirichlet(5 * natural, 40)
        value = np.exp(weights @ t)
        value = value + 0.2 * value.std() * rng.standard_normal(40)
        runs = Swarm(
            runs=tuple(f"{i:02}" for i in range(40)),
            domains=domains,
            weights=weights,
            metrics={"loss": value},
        )
        mixture = Mixture.proportional_to(dict(zip(domains, natural.tolist(), strict=True)))
        case = Case(runs, {"loss": 1}, mixture, Settings(draws=100, seed=seed))
        kl = 0.3 * case.spread
        truth = Laws(constant=np.zeros(1), amplitude=np.ones((1, 1)), exponent=t[None, None])
        right = minimise(case._convex(truth, kl), case.region).weights[0]
        chosen = minimise(case._convex(case.fit, kl), case.region).weights[0]
        drawn = minimise(case._convex(case.draws, kl), case.region).weights
        low, high = np.array(list(case._intervals(chosen, drawn).values())).T
        free = (right > case.region.low + 1e-6) & (right < case.region.high - 1e-6)
        holds += ((low <= right) & (right <= high))[free].tolist()
    assert len(holds) > 100
    assert 0.80 <= np.mean(holds) <= 0.98


def test_seeds_of_a_mixture_do_not_vouch_for_each_other():
    """Values that belong to mixtures at random, each run four times: there is no law."""
    for seed in range(4):
        rng = np.random.default_rng(seed)
        weights = np.repeat(rng.dirichlet(np.ones(6), 12), 4, axis=0)
        values = np.repeat(rng.normal(10, 1, 12), 4) + rng.normal(0, 0.02, 48)
        runs = Swarm(
            runs=tuple(f"{i:02}" for i in range(48)),
            domains=tuple("abcdef"),
            weights=weights,
            metrics={"loss": values},
        )
        found = decide(runs, {"loss": 1}, settings=Settings(draws=100))
        assert found.verdict == "not identifiable"
        assert found.noise_from == "replicates"
        assert found.noise_sd < 0.1


def test_a_domain_that_hardly_varied_has_no_price_and_natural_beyond_the_runs_is_said():
    rng = np.random.default_rng(3)
    free = rng.dirichlet(np.ones(3), 40)
    weights = np.round(np.hstack([0.95 * free, np.full((40, 1), 0.05)]), 3)
    weights /= weights.sum(axis=1, keepdims=True)
    runs = Swarm(
        runs=tuple(f"{i:02}" for i in range(40)),
        domains=("a", "b", "c", "fixed"),
        weights=weights,
        metrics={"loss": 2 + np.exp(weights[:, :3] @ np.array([-1.0, 0.5, 0.2]))},
    )
    natural = Mixture({"a": 0.1, "b": 0.3, "c": 0.59, "fixed": 0.01})
    found = decide(runs, {"loss": 1}, natural, Settings(draws=100))
    assert runs.constant == ("fixed",)
    assert "fixed" not in {price.domain for price in found.prices}
    assert any(note.startswith("natural outside what was run") for note in found.notes)
    assert found.mixture["a"] > 0.6  # natural's distance from the runs does not hold it back


@pytest.mark.parametrize("seed", range(6))
def test_noise_within_narrow_bounds_never_fails(seed):
    rng = np.random.default_rng(seed)
    weights = np.hstack([0.95 * rng.dirichlet(np.ones(5), 30), np.full((30, 1), 0.05)])
    runs = Swarm(
        runs=tuple(f"{i:02}" for i in range(30)),
        domains=tuple("abcdef"),
        weights=np.round(weights, 3) / np.round(weights, 3).sum(axis=1, keepdims=True),
        metrics={"loss": 2.5 + 0.01 * rng.standard_normal(30)},
    )
    limits = Limits(floor={"a": 0.15}, groups={"c+d": (["c", "d"], (0.0, 0.35))})
    found = decide(runs, {"loss": 1}, settings=Settings(limits=limits, draws=100))
    assert found.verdict == "not identifiable"
    assert found.trust.prediction_sd_ratio < 100
    assert abs(found.gain.value) < 0.1
