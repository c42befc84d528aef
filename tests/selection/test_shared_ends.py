import numpy as np
import pytest

from mixture_assets.core.errors import MixtureError
from mixture_assets.selection.shared_ends import fit_shared_ends

RATES = {"random": 2.0, "bm25": 5.0, "perplexity": 12.0}
PILOT = (0.025, 0.05, 0.1)


def truth(share, rate):
    return -4 + 2 * np.expm1(-rate * np.asarray(share)) / np.expm1(-rate)


def points(rng, noise, shares=PILOT, seeds=3, rates=RATES):
    x = np.repeat(shares, seeds)
    return {
        name: (x, truth(x, rate) + noise * rng.standard_normal(len(x)))
        for name, rate in rates.items()
    }


def test_finds_the_curves_behind_points_without_noise():
    found = fit_shared_ends(points(np.random.default_rng(0), 0.0, (0.05, 0.1, 0.2, 0.6), 1))
    for name, rate in RATES.items():
        drawn = found.draws[name].predict([0.05, 0.4, 1.0])
        assert np.median(drawn, axis=0) == pytest.approx(truth([0.05, 0.4, 1.0], rate), abs=0.01)
        assert np.median(found.draws[name].rate) == pytest.approx(rate, rel=0.02)


def test_every_draw_has_one_beginning_and_one_end():
    found = fit_shared_ends(points(np.random.default_rng(1), 0.05), draws=300)
    ends = [d.predict([0.0, 1.0]) for d in found.draws.values()]
    assert all(e.shape == (300, 2) for e in ends)
    assert ends[1] == pytest.approx(ends[0])
    assert ends[2] == pytest.approx(ends[0])


def test_draws_are_those_of_the_posterior_by_brute_force():
    """Two methods: the density of both rates on a fine grid, P(0), P(1), noise integrated out."""
    rates = {"random": 2.0, "perplexity": 9.0}
    data = points(np.random.default_rng(2), 0.05, (0.05, 0.2, 0.6), 3, rates)
    log_rate = np.linspace(np.log(0.05), np.log(5 / 0.15), 150)
    density = np.empty((150, 150))
    left = [
        [1 - np.expm1(-np.exp(r) * data[n][0]) / np.expm1(-np.exp(r)) for r in log_rate]
        for n in ("random", "perplexity")
    ]
    y = np.concatenate([data["random"][1], data["perplexity"][1]])
    for i in range(150):
        for j in range(150):
            b = np.concatenate([left[0][i], left[1][j]])
            design = np.stack([b, 1 - b], axis=1)
            normal = design.T @ design
            solved = np.linalg.solve(normal, design.T @ y)
            squares = ((y - design @ solved) ** 2).sum()
            density[i, j] = -0.5 * np.log(np.linalg.det(normal)) - 8 * np.log(squares)
    share = np.exp(density - density.max())
    found = fit_shared_ends(data, draws=4000)
    for axis, name in ((1, "random"), (0, "perplexity")):
        marginal = share.sum(axis=axis) / share.sum()
        mean = marginal @ log_rate
        sd = np.sqrt(marginal @ (log_rate - mean) ** 2)
        drawn = np.log(found.draws[name].rate)
        assert drawn.mean() == pytest.approx(mean, abs=0.2 * sd)
        assert drawn.std() == pytest.approx(sd, rel=0.2)


def test_intervals_hold_the_truth_about_nine_times_in_ten():
    rng = np.random.default_rng(3)
    held = []
    for seed in range(6):
        found = fit_shared_ends(points(rng, 0.05), draws=600, seed=seed)
        for name, rate in RATES.items():
            low, high = np.percentile(found.draws[name].predict([0.1, 0.5]), [5, 95], axis=0)
            held.extend((low <= truth([0.1, 0.5], rate)) & (truth([0.1, 0.5], rate) <= high))
    assert 0.75 <= np.mean(held) <= 1.0


def test_one_share_of_a_method_is_enough_beside_the_curve_of_another():
    rng = np.random.default_rng(4)
    data = points(rng, 0.01, (0.025, 0.1, 0.4, 1.0), 2, {"random": 2.0})
    data["bm25"] = (np.array([0.1, 0.1]), truth([0.1, 0.1], 5.0))
    drawn = fit_shared_ends(data).draws["bm25"].predict([0.3])[:, 0]
    assert np.median(drawn) == pytest.approx(truth(0.3, 5.0), abs=0.05)
    assert np.std(drawn) < 0.1


def test_too_few_points_are_refused():
    with pytest.raises(MixtureError, match="3 points of 1 methods at 3 shares do not determine"):
        fit_shared_ends({"random": ([0.1, 0.2, 0.4], [1.0, 2.0, 3.0])})
    with pytest.raises(MixtureError, match="at 2 shares"):
        fit_shared_ends({n: ([0.1, 0.2] * 3, [1.0, 2.0] * 3) for n in ("random", "bm25")})
