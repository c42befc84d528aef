import pytest

from mixture_assets.core.errors import MixtureError
from mixture_assets.selection.points import (
    Point,
    by_method,
    cells,
    fits_as_published,
    fits_of_utility,
)
from mixture_assets.selection.utility import UtilityCurve

SHARES = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
CURVES = {
    "random": UtilityCurve(ceiling=-2.0, zero=-4.0, rate=3.0),
    "gradient": UtilityCurve(ceiling=-2.0, zero=-4.0, rate=9.0, start=1.8),
}


def point(method, share, performance, **more):
    start = CURVES[method].start
    total = (share + start) * 1e18
    return Point(
        method=method,
        share=share,
        total_flops=total,
        full_flops=1e18,
        performance=performance,
        **more,
    )


def sweep(effects):
    """Every method and share with each seed, whose effect is added to all that it trains."""
    return [
        point(m, s, curve.value(s + curve.start) + effect, seed=seed)
        for m, curve in CURVES.items()
        for s in SHARES
        for seed, effect in effects.items()
    ]


def test_the_cost_of_selection_is_what_training_does_not_explain():
    p = point("gradient", 0.25, 0.0)
    assert p.start == pytest.approx(1.8)
    assert p.cost == pytest.approx(2.05)
    assert p.trained_share == 0.25
    paid = Point(
        method="x", total_flops=3e18, full_flops=1e18, performance=0.0, selection_flops=2e18
    )
    assert (paid.start, paid.trained_share) == (2.0, 1.0)
    bare = Point(method="x", total_flops=3e18, full_flops=1e18, performance=0.0)
    assert (bare.start, bare.trained_share) == (0.0, 3.0)


def test_zero_is_the_performance_before_training_whatever_selection_cost():
    fits = fits_of_utility(sweep({"0": 0.0, "1": 0.0}))
    for method, truth in CURVES.items():
        found = fits[method].curve
        assert found.zero == pytest.approx(-4.0, rel=1e-5)
        assert found.rate == pytest.approx(truth.rate, rel=1e-5)
        assert found.start == pytest.approx(truth.start)


def test_what_a_seed_does_to_all_points_alike_is_no_noise():
    fits = fits_of_utility(sweep({"0": 0.3, "1": -0.3, "2": 0.0}))
    for method, truth in CURVES.items():
        assert fits[method].noise_sd < 1e-3
        assert fits[method].curve.rate == pytest.approx(truth.rate, rel=1e-2)


def test_a_cell_without_one_of_the_seeds_is_compared_fairly():
    points = [p for p in sweep({"0": 0.3, "1": -0.3}) if (p.share, p.seed) != (0.5, "1")]
    by_cell = {(c.point.method, c.point.share): c for c in cells(points)}
    lone = by_cell["random", 0.5]
    assert lone.n_seeds == 1
    assert lone.point.performance == pytest.approx(CURVES["random"].value(0.5), abs=0.02)


def test_points_without_a_seed_are_never_averaged():
    """They may be of two tasks: a table that does not say so is taken as it is."""
    alike = [point("random", 0.1, value) for value in (40.0, 60.0)]
    found = cells(alike)
    assert [c.point.performance for c in found] == [40.0, 60.0]
    assert [c.standard_error for c in found] == [None, None]


def with_seeds(shares, jitter):
    """Random subsets: their documents, so their costs, differ a little from seed to seed."""
    return [
        Point(
            method="random",
            share=share,
            total_flops=(share + jitter * k) * 1e18,
            full_flops=1e18,
            performance=CURVES["random"].value(share),
            seed=str(k),
            selection_flops=0.0,
        )
        for share in shares
        for k in (-1, 0, 1)
    ]


def test_seeds_of_a_share_are_no_shares():
    two = with_seeds((0.1, 0.5), jitter=0.004)
    assert len({p.cost for p in two}) == 6
    with pytest.raises(MixtureError, match="needs 3 different costs or more, got 2"):
        fits_of_utility(two)
    with pytest.raises(MixtureError, match="needs 2 different costs or more, got 1"):
        fits_as_published(with_seeds((0.1,), jitter=0.004))


def test_a_share_is_where_its_seeds_are_on_average():
    """The jitter is symmetric, so the curve is the one behind the means."""
    found = fits_of_utility(with_seeds(SHARES, jitter=0.004))["random"]
    assert found.curve.rate == pytest.approx(3.0, rel=1e-6)
    assert found.noise_sd < 1e-6


def test_cells_come_cheapest_first_whatever_the_order():
    points = sweep({"0": 0.0, "1": 0.1})
    found = cells(points)
    assert cells(points[::-1]) == found
    assert [c.point.total_flops for c in found] == sorted(c.point.total_flops for c in found)


def test_noise_that_is_known_of_some_points_only_is_refused():
    points = sweep({"0": 0.0})
    with pytest.raises(MixtureError, match="1 of 7 points have no noise_sd"):
        fits_of_utility(
            [
                *(point("random", p.share, p.performance, noise_sd=1.0) for p in points[:6]),
                point("random", 0.7, -2.2),
            ]
        )


def test_points_of_two_model_sizes_are_no_curve():
    with pytest.raises(MixtureError, match="models of several sizes"):
        by_method(
            [
                Point(method="x", total_flops=1.0, full_flops=f, performance=0.0)
                for f in (1e18, 2e18)
            ]
        )
    with pytest.raises(MixtureError, match="there is no point"):
        by_method([])
