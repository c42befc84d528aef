"""Optima and prices against scipy, grids, closed forms and finite differences."""

from dataclasses import replace

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from scipy.optimize import linprog, minimize

from mixture_assets.core.errors import MixtureError
from mixture_assets.methods.optimum import Convex, minimise
from mixture_assets.methods.region import Region

SETTINGS = settings(max_examples=50, deadline=None, derandomize=True)


def names(n):
    return [f"d{i:02}" for i in range(n)]


def boxed(low, high):
    return replace(Region.simplex(names(len(low))), low=np.array(low), high=np.array(high))


def law(rng, n, terms=2, batch=1, kl=0.0):
    return Convex(
        amplitude=rng.uniform(0.1, 1, (batch, terms)),
        exponent=rng.normal(size=(batch, terms, n)),
        kl=kl,
        reference=rng.dirichlet(np.full(n, 3.0)),
    )


def value(objective, weights, draw=0):
    """Written out again, term by term."""
    total = sum(
        a * np.exp(t @ weights)
        for a, t in zip(objective.amplitude[draw], objective.exponent[draw], strict=True)
    )
    inside = weights > 0
    ratio = weights[inside] / objective.reference[inside]
    return float(total + objective.kl * (weights[inside] * np.log(ratio)).sum())


def by_scipy(objective, region, draw=0):
    """The least value that SLSQP finds from a few starts."""
    rows = [{"type": "eq", "fun": lambda w: w.sum() - 1}]
    if len(region.rows):
        rows.append({"type": "ineq", "fun": lambda w: region.rows @ w - region.row_low})
        rows.append({"type": "ineq", "fun": lambda w: region.row_high - region.rows @ w})
    low = np.maximum(region.low, 1e-12)
    starts = [np.clip(objective.reference, low, region.high), (low + region.high) / 2]
    found = [
        minimize(
            lambda w: value(objective, w, draw),
            start,
            bounds=list(zip(low, region.high, strict=True)),
            constraints=rows,
            method="SLSQP",
            options={"ftol": 1e-14, "maxiter": 500},
        )
        for start in starts
    ]
    inside = [f for f in found if abs(f.x.sum() - 1) < 1e-8 and region.violation(f.x) < 1e-7]
    return min((f.fun, f.x.tolist()) for f in inside)


def slope_gap(objective, region, weights):
    """slope . (w - v) at the corner v where it is greatest: 0 at the optimum of a convex function.

    An upper bound on how far the objective is above its least, by a linear programme.
    """
    slope = objective.slope(weights)[0]
    corner = linprog(
        slope,
        A_ub=np.vstack([region.rows, -region.rows]) if len(region.rows) else None,
        b_ub=np.concatenate([region.row_high, -region.row_low]) if len(region.rows) else None,
        A_eq=np.ones((1, len(slope))),
        b_eq=[1.0],
        bounds=list(zip(region.low, region.high, strict=True)),
    )
    assert corner.status == 0
    return float(slope @ weights[0] - corner.fun), float(np.abs(slope).max())


# --- optima -----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("kl", [0.0, 0.05, 2.0])
def test_the_optimum_is_that_of_slsqp(seed, kl):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(3, 9))
    objective = law(rng, n, terms=int(rng.integers(1, 4)), kl=kl)
    region = boxed(rng.uniform(0, 0.5 / n, n), rng.uniform(1.2 / n, 1, n))
    middle = (region.low + region.high) / 2
    share = float((middle / middle.sum())[:2].sum())
    region = region.grouped("pair", region.domains[:2], (0.5 * share, min(1.1 * share, 1)))
    weights = minimise(objective, region).weights[0]
    least, where = by_scipy(objective, region)
    assert region.violation(weights) < 1e-8
    assert weights.sum() == pytest.approx(1, abs=1e-9)
    assert value(objective, weights) <= least + 1e-9
    if kl:  # strictly convex: one optimum
        np.testing.assert_allclose(weights, where, atol=2e-4)


@pytest.mark.parametrize("seed", range(5))
def test_no_mixture_of_a_fine_grid_is_better(seed):
    rng = np.random.default_rng(seed)
    objective = law(rng, 3, terms=3, kl=0.1 * seed)
    region = boxed([0.0, 0.1, 0.05], [0.6, 0.7, 0.5]).grouped("ab", ["d00", "d01"], (0.0, 0.8))
    a, b = np.meshgrid(np.linspace(0, 1, 81), np.linspace(0, 1, 81))
    grid = np.stack([a.ravel(), b.ravel(), 1 - a.ravel() - b.ravel()], axis=1)
    inside = [w for w in grid if region.violation(w) <= 0]
    assert len(inside) > 500
    best = value(objective, minimise(objective, region).weights[0])
    least = min(value(objective, np.maximum(w, 0)) for w in inside)
    assert best <= least + 1e-9
    assert best == pytest.approx(least, abs=0.05)


@pytest.mark.parametrize("strength", [0.0, 0.5, 3.0])
def test_entropy_and_a_nearly_linear_term_have_a_closed_form(strength):
    """a exp(t . w) with tiny t is linear: w ~ reference exp(-a t / kl)."""
    rng = np.random.default_rng(1)
    reference, pull = rng.dirichlet(np.full(6, 2.0)), strength * rng.normal(size=6)
    objective = Convex(
        amplitude=np.array([[1e5]]), exponent=1e-5 * pull[None, None], kl=1.0, reference=reference
    )
    right = reference * np.exp(-pull)
    weights = minimise(objective, Region.simplex(names(6))).weights[0]
    np.testing.assert_allclose(weights, right / right.sum(), atol=1e-4)


def test_one_term_takes_the_domain_that_lowers_most():
    objective = Convex(amplitude=np.array([[1.0]]), exponent=np.array([[[0.2, -0.7, 0.1]]]))
    found = minimise(objective, boxed([0, 0, 0.1], [1, 0.6, 1]))
    np.testing.assert_allclose(found.weights[0], [0, 0.6, 0.4], atol=1e-8)  # then the next best


@SETTINGS
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(2, 15),
    kl=st.sampled_from([0.0, 1e-4, 0.1, 10.0]),
    concentration=st.sampled_from([0.1, 1.0]),
    width=st.sampled_from([0.0, 1e-7, 1e-6, 1e-3, 1.0]),
    give=st.sampled_from([0.0, 1e-6, 0.1]),
    n_groups=st.integers(0, 3),
)
def test_no_corner_is_downhill_of_the_optimum(seed, n, kl, concentration, width, give, n_groups):
    """Any box around a mixture, down to sampled ranges of 1e-7, and groups of any give."""
    rng = np.random.default_rng(seed)
    inside = rng.dirichlet(np.full(n, concentration))
    spread = width * 10 ** rng.uniform(-1, 0, n)
    region = boxed(np.maximum(inside - spread, 0), np.minimum(inside + spread, 1))
    for g in range(n_groups):
        members = [d for d in region.domains if rng.random() < 0.4] or [region.domains[0]]
        total = sum(inside[region.domains.index(d)] for d in members)
        bound = (max(total - give * rng.random(), 0), min(total + give * rng.random(), 1))
        region = region.grouped(f"g{g}", members, bound)
    objective = law(rng, n, kl=kl)
    found = minimise(objective, region)
    assert found.weights.sum() == pytest.approx(1, abs=1e-8)
    assert region.violation(found.weights[0]) < 1e-7
    at = np.maximum(found.weights, 1e-13)  # log 0
    gap, steepest = slope_gap(objective, region, at)
    assert gap <= 1e-6 * max(steepest, 1)


def test_a_batch_equals_its_parts():
    rng = np.random.default_rng(3)
    objective = law(rng, 7, batch=5, kl=0.02)
    region = boxed([0.01] * 7, [0.4] * 7).grouped("g", ["d01", "d02"], (0.2, 0.3))
    together = minimise(objective, region)
    for draw in range(5):
        one = replace(
            objective,
            amplitude=objective.amplitude[draw : draw + 1],
            exponent=objective.exponent[draw : draw + 1],
        )
        alone = minimise(one, region)
        np.testing.assert_allclose(together.weights[draw], alone.weights[0], atol=1e-7)
        np.testing.assert_allclose(together.high_price[draw], alone.high_price[0], atol=1e-6)


@pytest.mark.parametrize("factor", [1e6, 1e-6])
def test_the_unit_changes_no_weight_and_scales_prices(factor):
    rng = np.random.default_rng(4)
    objective = law(rng, 6, kl=0.03)
    region = boxed([0.02] * 6, [0.3] * 6).grouped("g", ["d00", "d05"], (0.45, 0.5))
    here = minimise(objective, region)
    scaled = replace(objective, amplitude=objective.amplitude * factor, kl=objective.kl * factor)
    there = minimise(scaled, region)
    np.testing.assert_allclose(there.weights, here.weights, atol=1e-9)
    for price in ("low_price", "high_price", "row_low_price", "row_high_price"):
        np.testing.assert_allclose(
            getattr(there, price) / factor, getattr(here, price), rtol=1e-5, atol=1e-8
        )


def test_the_order_of_domains_changes_nothing():
    rng = np.random.default_rng(5)
    objective, order = law(rng, 8, kl=0.01), rng.permutation(8)
    low, high = rng.uniform(0, 0.08, 8), rng.uniform(0.15, 0.5, 8)
    here = minimise(objective, boxed(low, high))
    turned = replace(
        objective,
        exponent=objective.exponent[..., order],
        reference=objective.reference[order],
    )
    there = minimise(turned, boxed(low[order], high[order]))
    np.testing.assert_allclose(there.weights[0], here.weights[0][order], atol=1e-8)
    np.testing.assert_allclose(there.low_price[0], here.low_price[0][order], atol=1e-7)


# --- prices -----------------------------------------------------------------------------------


def moved(region, field, i, h):
    bound = getattr(region, field).copy()
    bound[i] += h
    return replace(region, **{field: bound})


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("kl", [0.0, 0.2])
def test_prices_are_what_the_objective_falls_by(seed, kl):
    """Each bound is moved outwards by h, and the problem solved again."""
    rng = np.random.default_rng(seed)
    n, h = 6, 1e-5
    objective = law(rng, n, terms=2, kl=kl)
    region = boxed(rng.uniform(0.02, 0.08, n), rng.uniform(0.22, 0.35, n))
    region = region.grouped("one", ["d00", "d01", "d02"], (0.4, 0.45))
    region = region.grouped("two", ["d02", "d03"], (0.25, 0.3))
    found = minimise(objective, region)
    here, seen = value(objective, found.weights[0]), 0
    for field, price, sign in [
        ("low", found.low_price, -1),
        ("high", found.high_price, 1),
        ("row_low", found.row_low_price, -1),
        ("row_high", found.row_high_price, 1),
    ]:
        for i, asked in enumerate(price[0]):
            there = minimise(objective, moved(region, field, i, sign * h)).weights[0]
            fall = (here - value(objective, there)) / h
            assert asked == pytest.approx(fall, abs=2e-4), (field, i)
            seen += asked > 1e-3
    assert seen >= 2  # some bounds do bind


def test_a_weight_within_its_bounds_has_no_price():
    rng = np.random.default_rng(6)
    objective = law(rng, 5, kl=5.0)
    found = minimise(objective, boxed([0.001] * 5, [0.9] * 5))
    assert (found.weights > 0.01).all()
    assert (found.weights < 0.89).all()
    assert not found.low_price.any()
    assert not found.high_price.any()


# --- regions with no room ---------------------------------------------------------------------


def test_a_domain_that_cannot_move_keeps_its_weight():
    rng = np.random.default_rng(7)
    objective = law(rng, 4, kl=0.1)
    region = boxed([0.0, 0.3, 0.0, 0.0], [1.0, 0.3, 1.0, 1.0])
    weights = minimise(objective, region).weights[0]
    assert weights[1] == 0.3
    assert value(objective, weights) <= by_scipy(objective, region)[0] + 1e-9


@pytest.mark.parametrize(
    ("low", "high", "right"),
    [
        ([0.2, 0.3, 0.5], [0.2, 0.3, 0.5], [0.2, 0.3, 0.5]),  # one point
        ([0.2, 0.3, 0.5], [0.9, 0.9, 0.9], [0.2, 0.3, 0.5]),  # least weights add up to 1
        ([0.0, 0.0, 0.0], [0.2, 0.3, 0.5], [0.2, 0.3, 0.5]),  # and largest ones
        ([0.2, 0.3, 0.1], [0.2, 0.3, 0.9], [0.2, 0.3, 0.5]),  # a single domain that can move
    ],
)
def test_a_region_of_one_point_is_that_point(low, high, right):
    objective = law(np.random.default_rng(8), 3, kl=0.1)
    weights = minimise(objective, boxed(low, high)).weights[0]
    np.testing.assert_allclose(weights, right, atol=1e-7)


def test_a_group_may_be_fixed_hold_every_domain_or_be_asked_for_twice():
    objective = law(np.random.default_rng(9), 4, kl=0.1)
    region = Region.simplex(names(4)).grouped("fixed", ["d00", "d01"], (0.7, 0.7))
    region = region.grouped("all", names(4), (0.0, 1.0)).grouped("again", ["d01", "d00"], (0.7, 1))
    weights = minimise(objective, region).weights[0]
    assert weights[:2].sum() == pytest.approx(0.7, abs=1e-7)
    assert value(objective, weights) <= by_scipy(objective, region)[0] + 1e-8


def test_what_contradicts_itself_is_named():
    objective = law(np.random.default_rng(10), 3)
    floors = replace(boxed([0.5, 0.4, 0.3], [1, 1, 1]), low_why=("floor",) * 3)
    with pytest.raises(MixtureError, match=r"least weights of .*d00.* add up to 1\.2"):
        minimise(objective, floors)
    caps = replace(boxed([0, 0, 0], [0.2, 0.3, 0.4]), high_why=("cap",) * 3)
    with pytest.raises(MixtureError, match=r"largest weights .* add up to 0\.9.*cap"):
        minimise(objective, caps)
    groups = Region.simplex(names(3)).grouped("web", ["d00", "d01"], (0.0, 0.3))
    groups = groups.grouped("books", ["d02"], (0.0, 0.5))
    with pytest.raises(MixtureError, match=r"books.*web|web.*books") as error:
        minimise(objective, groups)
    assert "relax" in "".join(error.value.__notes__)
