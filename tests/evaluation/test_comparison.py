import csv
import math
from pathlib import Path

import numpy as np
import pytest

from mixture_assets.core.errors import MixtureError
from mixture_assets.evaluation.comparison import blocked_sd, compare, speed_up, tokens_to_reach

REFERENCE = Path("../shared/reference/autoscale/gpt2large_10B_valppl_fig1a_digitised.csv")


def test_tokens_to_reach_is_linear_between_points_and_ignores_a_passing_dip():
    curve = [(10, 5.0), (20, 3.0), (30, 4.0), (40, 2.0)]
    assert tokens_to_reach(curve, 3.0) == pytest.approx(35)
    assert tokens_to_reach(curve, 2.0) == 40
    assert tokens_to_reach(curve, 1.9) is None
    assert tokens_to_reach(curve, 5.0) == 10


def test_speed_up_of_a_curve_against_itself_is_nothing():
    curve = [(10, 5.0), (20, 3.0), (40, 2.0)]
    assert speed_up(curve, curve) == 0
    assert speed_up([(20, 2.0), (40, 1.0)], curve) == pytest.approx(0.5)
    assert speed_up([(20, 5.0), (40, 3.0)], curve) is None


@pytest.mark.skipif(
    not REFERENCE.exists(), reason="the published curves are not beside the project"
)
def test_agrees_with_the_published_speed_ups_as_far_as_the_figure_can_be_read():
    """AutoScale figure 1a prints 38 % against uniform (115k steps) and 31 % against DoReMi (98k).

    The paper takes the first dip near the final value; we ask that the curve stays below it, so
    a noisy curve gives us less: 72k steps against 78k for uniform.
    """
    curves = {}
    with open(REFERENCE) as file:
        for row in csv.DictReader(file):
            point = (int(row["step"]), float(row["val_ppl_avg_7_domains"]))
            curves.setdefault(row["weights"], []).append(point)
    found = {name: speed_up(curves["AutoScale"], curve) for name, curve in curves.items()}
    assert found["Uniform"] == pytest.approx(0.38, abs=0.07)
    assert found["DoReMi(LLaMA init)"] == pytest.approx(0.31, abs=0.05)


def curves_of(values):
    return {m: {s: [(1, 9.0), (2, v)] for s, v in enumerate(vs)} for m, vs in values.items()}


def test_the_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(2000):
        values = {
            m: list(mean + rng.normal(0, 0.3, 2))
            for m, mean in {"proposal": 4.0, "uniform": 5.0, "natural": 6.0}.items()
        }
        c = compare(curves_of(values), proposal="proposal", baseline="uniform")
        covered += c.low <= -1.0 <= c.high
    assert covered / 2000 == pytest.approx(0.90, abs=0.02)


@pytest.mark.parametrize(
    ("proposal", "verdict"),
    [([1.0, 1.01], "better"), ([3.0, 3.01], "worse"), ([2.0, 2.05], "within noise")],
)
def test_verdicts(proposal, verdict):
    values = {"proposal": proposal, "uniform": [2.01, 2.0], "natural": [5.0, 5.02]}
    c = compare(curves_of(values), proposal="proposal", baseline="uniform")
    assert c.verdict == verdict
    assert c.difference == pytest.approx(np.mean(proposal) - 2.005)
    assert c.n_seeds == 2


def test_one_seed_gives_no_verdict():
    c = compare(
        curves_of({"proposal": [1.0], "uniform": [2.0]}), proposal="proposal", baseline="uniform"
    )
    assert c.verdict == "one seed: unknown"
    assert c.low is c.high is c.noise_sd is None


def test_noise_is_what_mixtures_and_seeds_leave():
    """Against the textbook's two-way analysis of variance, done with least squares."""
    rng = np.random.default_rng(3)
    values = rng.normal(size=(4, 3)) + 10 * rng.normal(size=(4, 1)) + 10 * rng.normal(size=(1, 3))
    design = [
        [i == a for i in range(4)] + [j == b for j in range(3)] for a in range(4) for b in range(3)
    ]
    fit = np.linalg.lstsq(np.array(design, float), values.ravel(), rcond=None)[0]
    left = values.ravel() - np.array(design, float) @ fit
    sd, freedom = blocked_sd(values.tolist())
    assert freedom == 6
    assert sd == pytest.approx(math.sqrt((left**2).sum() / 6))


def test_a_seed_that_is_hard_for_all_is_not_noise():
    values = {"proposal": [1.0, 5.0], "uniform": [2.0, 6.01], "natural": [3.0, 7.02]}
    assert compare(curves_of(values), proposal="proposal", baseline="uniform").verdict == "better"


def test_the_same_runs_under_two_names_add_no_certainty():
    values = {"proposal": [1.0, 1.3], "uniform": [2.0, 2.1]}
    once = compare(curves_of(values), proposal="proposal", baseline="uniform")
    values["natural"] = values["uniform"]
    twice = compare(curves_of(values), proposal="proposal", baseline="uniform")
    assert (twice.low, twice.high) == (once.low, once.high)


def test_no_common_seed_is_an_error():
    curves = {"proposal": {0: [(1, 1.0)]}, "uniform": {1: [(1, 1.0)]}}
    with pytest.raises(MixtureError, match="'proposal' and 'uniform' have no seed in common"):
        compare(curves, proposal="proposal", baseline="uniform")
