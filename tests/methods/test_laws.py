"""Surrogates against closed forms, and against what was published and recomputed on RegMix."""

import csv

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from mixture_assets.core.errors import MixtureError
from mixture_assets.methods.decision import DEFAULT_LAW
from mixture_assets.methods.laws import LAWS, Score, fit_each, folds_of, held_out, score_laws
from mixture_assets.methods.mixing_law import ExponentialLaw, law, slopes
from mixture_assets.methods.surrogate import Predict
from mixture_assets.methods.swarm import Swarm
from tests.methods.conftest import REFERENCE

REGMIX = REFERENCE.parent / "regmix"
PILE_CC = "metric/the_pile_pile_cc_val_loss"
needs_regmix = pytest.mark.skipif(not REGMIX.exists(), reason="the published runs are not here")


def mixtures(n, m, seed=0, concentration=1.0):
    return np.random.default_rng(seed).dirichlet(np.full(m, concentration), n)


def read(name, target=PILE_CC):
    """Weights and losses of one of RegMix's sets, joined by run."""
    with open(REGMIX / name.format("mixture")) as file:
        weights = {row.pop("index"): row for row in csv.DictReader(file)}
    with open(REGMIX / name.format("pile_loss")) as file:
        losses = {row["index"]: float(row[target]) for row in csv.DictReader(file)}
    runs = sorted(weights.keys() & losses.keys(), key=int)
    domains = sorted(weights[runs[0]])
    table = np.array([[float(weights[run][d]) for d in domains] for run in runs])
    return table / table.sum(axis=1, keepdims=True), np.array([losses[run] for run in runs])


@pytest.fixture(scope="module")
def regmix():
    return {name: read(f"test_{{}}_{name}.csv") for name in ("1m", "60m", "1B")} | {
        "train": read("train_{}_1m.csv")
    }


def spearman_100(predict: Predict, test):
    return 100 * Score.of(predict(test[0]), test[1]).spearman


# --- published runs ---------------------------------------------------------------------------


@needs_regmix
@pytest.mark.parametrize(
    ("law", "scale", "least", "most"),
    [
        # reference/regmix/README.md, recomputed without RegMix's early stop on the test set
        ("linear", "1m", 89.9, 90.5),
        ("lightgbm", "1m", 98.5, 100),
        ("exponential", "1m", 95, 100),
        ("gaussian_process", "1m", 99.2, 100),
        ("log_ridge", "1m", 98.0, 98.6),
        ("exponential", "1B", 97, 100),
    ],
)
def test_a_law_ranks_the_runs_of_regmix_as_recomputed(regmix, law, scale, least, most):
    predict = LAWS[law].fit(*regmix["train"])
    assert least <= spearman_100(predict, regmix[scale]) <= most


@needs_regmix
def test_the_exponential_law_finds_the_best_of_the_1b_runs(regmix):
    predict = ExponentialLaw().fit(*regmix["train"])
    assert Score.of(predict(regmix["1B"][0]), regmix["1B"][1]).regret == 0


@needs_regmix
def test_the_default_law_needs_no_more_than_64_runs(regmix):
    weights, values = (part[:64] for part in regmix["train"])
    assert spearman_100(LAWS[DEFAULT_LAW].fit(weights, values), regmix["1B"]) >= 97


@needs_regmix
def test_the_default_law_carries_every_objective_to_1b():
    """The mean over all losses that RegMix published, each with a law of its own."""
    with open(REGMIX / "train_pile_loss_1m.csv") as file:
        targets = [name for name in next(csv.reader(file)) if name.startswith("metric/")]
    scores = []
    for target in targets:
        predict = LAWS[DEFAULT_LAW].fit(*read("train_{}_1m.csv", target))
        weights, values = read("test_{}_1B.csv", target)
        scores.append(Score.of(predict(weights), values))
    assert len(scores) == 13
    assert 100 * np.mean([s.spearman for s in scores]) >= 93
    assert np.mean([s.regret for s in scores]) <= 0.02


# --- closed forms -----------------------------------------------------------------------------


def test_the_exponential_law_finds_the_law_that_made_the_runs():
    truth, weights = np.array([1.0, -2.0, 0.5, -1.0]), mixtures(60, 4)
    values = 2.5 + np.exp(weights @ truth)
    asked = mixtures(50, 4, seed=1)
    predict = ExponentialLaw().fit(weights, values)
    np.testing.assert_allclose(predict(asked), 2.5 + np.exp(asked @ truth), rtol=2e-3)


@settings(max_examples=30)
@given(st.integers(0, 1000), st.integers(2, 7))
def test_the_slopes_are_those_of_the_law(seed, m):
    rng = np.random.default_rng(seed)
    weights, parameters = mixtures(9, m, seed), rng.normal(size=(2, m + 1))
    parameters[:, 0] = [2e-3, 0.7]  # nearly linear, and clearly bent
    found = slopes(parameters, weights)
    for i, step in enumerate(1e-6 * np.eye(m + 1)):
        above, below = law(parameters + step, weights), law(parameters - step, weights)
        np.testing.assert_allclose(found[..., i], (above - below) / 2e-6, atol=2e-4)


def test_a_linear_truth_is_found_by_the_linear_law():
    weights, slope = mixtures(40, 5), np.array([3.0, 1.0, 2.0, 5.0, 4.0])
    predict = LAWS["linear"].fit(weights, weights @ slope)
    asked = mixtures(20, 5, seed=2)
    np.testing.assert_allclose(predict(asked), asked @ slope, atol=1e-4)


@pytest.mark.parametrize("law", LAWS)
def test_a_unit_changes_nothing_but_the_unit(law):
    """Nats or millinats, with another zero: the same predictions."""
    weights = mixtures(40, 4)
    values = 2 + np.exp(weights @ np.array([1.0, -1.0, 0.0, 0.5]))
    plain = LAWS[law].fit(weights, values)(weights)
    other = LAWS[law].fit(weights, 1000 * values + 7)(weights)
    np.testing.assert_allclose(other, 1000 * plain + 7, rtol=1e-3)


@pytest.mark.parametrize("law", LAWS)
def test_the_same_runs_give_the_same_bits(law):
    weights = mixtures(30, 3)
    values = weights @ np.array([1.0, 2.0, 4.0])
    first, again = (LAWS[law].fit(weights, values)(weights).tobytes() for _ in range(2))
    assert first == again


@pytest.mark.parametrize("law", LAWS)
def test_a_sparse_swarm_does_not_explode_out_of_fold(law):
    """20 runs, 12 domains, most weights near 0: held-out errors stay within the values' range."""
    weights = mixtures(20, 12, concentration=0.1)
    values = 3 + weights @ np.linspace(-0.3, 0.3, 12) + np.random.default_rng(3).normal(0, 0.02, 20)
    predicted = held_out(LAWS[law], weights, values, folds_of(weights, n_folds=5, seed=0))
    assert np.abs(predicted - values).max() < 2 * np.ptp(values)


@pytest.mark.parametrize("law", LAWS)
def test_values_that_are_all_alike_are_predicted_so(law):
    weights = mixtures(12, 3)
    predict = LAWS[law].fit(weights, np.full(12, 2.5))
    np.testing.assert_allclose(predict(mixtures(5, 3, seed=4)), 2.5, atol=1e-6)


# --- scores -----------------------------------------------------------------------------------


def test_scores_of_predictions_that_are_known():
    measured = np.array([1.0, 2.0, 3.0, 4.0])
    right, reversed_ = Score.of(measured, measured), Score.of(-measured, measured)
    assert (right.spearman, right.r2, right.mae, right.regret) == (1, 1, 0, 0)
    assert (reversed_.spearman, reversed_.regret) == (-1, 3)
    mean = Score.of(np.full(4, 2.5), measured)
    assert (mean.spearman, mean.r2, mean.mae) == (None, 0, 1)


def test_a_held_out_run_is_never_seen():
    """A law that remembers what it saw predicts the mean of the others, and of them alone."""

    class Recall:
        def fit(self, weights, values):
            seen = {w.tobytes(): v for w, v in zip(weights, values, strict=True)}
            return lambda asked: np.array([seen.get(w.tobytes(), -1.0) for w in asked])

    weights = mixtures(20, 3)
    folds = folds_of(weights, n_folds=5, seed=1)
    assert sorted(np.bincount(folds)) == [4] * 5
    assert (held_out(Recall(), weights, np.arange(20.0), folds) == -1).all()


def test_metrics_that_move_apart_need_a_law_each():
    weights, asked = mixtures(60, 4), mixtures(50, 4, seed=1)
    t = np.array([1.5, -0.5, 0.0, -1.0])
    values, truth = (
        np.array([np.exp(w @ (2 * t)), np.exp(w @ (-2 * t))]) for w in (weights, asked)
    )
    shares = np.array([3.0, 1.0])
    each = fit_each(LAWS["log_linear"], weights, values, shares)(asked)
    one = LAWS["log_linear"].fit(weights, shares @ values / 4)(asked)
    np.testing.assert_allclose(each, shares @ truth / 4, rtol=1e-4)
    assert np.abs(each - shares @ truth / 4).max() < 0.1 * np.abs(one - shares @ truth / 4).max()
    scores = score_laws(
        weights, values, shares=shares, test=(asked, truth), laws=("exponential", "linear")
    )
    assert scores[0].law == "exponential"
    assert scores[0].cross_validated.r2 > 0.9999
    assert scores[0].test.r2 > 0.9999


def test_noise_has_no_rank_out_of_fold():
    weights, values = mixtures(60, 5), np.random.default_rng(5).normal(size=60)
    for score in score_laws(weights, values, laws=("linear", "exponential", "lightgbm")):
        assert score.cross_validated.r2 < 0.15, score.law


def test_too_few_runs_are_refused():
    with pytest.raises(MixtureError, match=r"7 mixtures \(7 runs\) are too few"):
        score_laws(mixtures(7, 3), np.arange(7.0))


# --- the swarm --------------------------------------------------------------------------------


def swarm_of(order=(0, 1, 2, 3)):
    runs = {
        "a": ({"x": 0.5, "y": 0.5}, {"loss": 1.0, "bpb": 3.0}),
        "b": ({"x": 0.2, "y": 0.8}, {"loss": 2.0, "bpb": 1.0}),
        "c": ({"x": 0.9, "y": 0.1}, {"loss": 4.0, "bpb": 2.0}),
        "d": ({"x": 0.0, "y": 1.0}, {"loss": 3.0, "bpb": 5.0}),
    }
    names = [list(runs)[i] for i in order]
    turned = [{n: dict(reversed(part.items())) for n, (part, _) in runs.items()}, runs]
    return Swarm.of({n: turned[0][n] for n in names}, {n: runs[n][1] for n in names})


def test_the_order_of_rows_and_columns_changes_no_bit():
    one, other = swarm_of(), swarm_of((3, 1, 0, 2))
    assert one.runs == other.runs == ("a", "b", "c", "d")
    assert one.weights.tobytes() == other.weights.tobytes()
    assert one.objective(["loss"]).tobytes() == other.objective(["loss"]).tobytes()


def test_an_objective_is_a_mean_by_shares():
    swarm = swarm_of()
    np.testing.assert_allclose(swarm.objective(["loss", "bpb"]), [2, 1.5, 3, 4])
    np.testing.assert_allclose(swarm.objective({"loss": 3, "bpb": 1}), [1.5, 1.75, 3.5, 3.5])
    with pytest.raises(MixtureError, match=r"no metric 'los' \(did you mean 'loss'\?\)"):
        swarm.objective(["los"])


def test_a_domain_that_never_varies_is_named():
    same = {n: {"x": w, "y": 0.9 - w, "z": 0.1} for n, w in (("a", 0.3), ("b", 0.6))}
    assert Swarm.of(same, {"a": {"l": 1.0}, "b": {"l": 2.0}}).constant == ("z",)


def test_runs_with_other_domains_are_refused():
    with pytest.raises(MixtureError, match="'b' has other domains"):
        Swarm.of({"a": {"x": 1.0}, "b": {"y": 1.0}}, {"a": {"l": 1.0}, "b": {"l": 1.0}})
