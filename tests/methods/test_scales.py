"""Laws fitted to small runs and scored on large ones, on simulated laws and on RegMix."""

import dataclasses

import numpy as np
import pytest

from mixture_assets.core.errors import MixtureError
from mixture_assets.methods.additive_law import AdditiveLaw
from mixture_assets.methods.bimix import DomainLaw
from mixture_assets.methods.laws import LAWS, Score
from mixture_assets.methods.scales import ScaledSwarm, score_across_scales
from mixture_assets.methods.swarm import Swarm
from tests.methods.test_laws import PILE_CC, needs_regmix, read

NAMES = ("books", "code", "web")
ADDITIVE = AdditiveLaw(
    e=1.2,
    a=40.0,
    alpha=0.3,
    b=300.0,
    beta=0.33,
    c=dict(zip(NAMES, (0.6, 1.5, 2.5), strict=True)),
    gamma=dict(zip(NAMES, (0.3, 0.6, 0.4), strict=True)),
)
BIMIX = {
    "books": DomainLaw(alpha=0.02, b=9.0, beta=0.1, c=1.2),
    "code": DomainLaw(alpha=0.12, b=300.0, beta=0.3, c=0.8),
    "web": DomainLaw(alpha=0.05, b=40.0, beta=0.2, c=1.9),
}
SIZES, LENGTHS = (1e7, 5e7, 2e8, 4e8), (3e8, 1e9, 4e9, 8e9)
LARGEST = (1e9, 3e10)


def swarm(weights, metrics):
    runs = [f"r{i:04d}" for i in range(len(weights))]
    return Swarm.of(
        {r: dict(zip(NAMES, w, strict=True)) for r, w in zip(runs, weights.tolist(), strict=True)},
        {r: {m: float(v[i]) for m, v in metrics.items()} for i, r in enumerate(runs)},
    )


def additive_runs(noise=0.0, n=20, n_test=30):
    rng = np.random.default_rng(0)
    scales = [(s, t) for s in SIZES for t in LENGTHS for _ in range(n)] + [LARGEST] * n_test
    params, tokens = np.array(scales).T
    weights = rng.dirichlet(np.ones(3), len(scales))
    losses = ADDITIVE.losses(NAMES, weights, params, tokens)
    losses *= np.exp(noise * rng.standard_normal(len(losses)))
    return ScaledSwarm(swarm=swarm(weights, {"loss": losses}), params=params, tokens=tokens)


def bimix_runs():
    rng = np.random.default_rng(1)
    tokens = np.array([t for t in LENGTHS for _ in range(15)] + [3e10] * 30)
    weights = rng.dirichlet(np.ones(3), len(tokens))
    metrics = {n: BIMIX[n].loss(weights[:, i], tokens) for i, n in enumerate(NAMES)}
    return ScaledSwarm(
        swarm=swarm(weights, metrics), params=np.full(len(tokens), 1e8), tokens=tokens
    )


def of(answer, law):
    return [s for s in answer.scores if s.law == law]


def test_the_additive_law_foretells_the_level_and_a_law_of_mixtures_the_ranks():
    answer = score_across_scales(additive_runs(), ["loss"], laws=("additive", "log_ridge"))
    assert (answer.held_out, answer.n_held_out) == (LARGEST, 30)
    (additive,) = of(answer, "additive")
    assert additive.n_runs == 320
    assert additive.score.spearman == pytest.approx(1)
    assert additive.score.r2 > 0.9999
    assert additive.score.regret == 0
    transfers = of(answer, "log_ridge")
    assert [t.n_runs for t in transfers] == [20] * 16
    assert np.median([t.score.spearman for t in transfers]) > 0.9  # of 20 runs each
    assert max(t.score.r2 for t in transfers) < 0  # the loss is lower at the largest scale


def test_noise_leaves_the_additive_law_near_the_best_that_noise_allows():
    runs = additive_runs(noise=0.003)
    test = runs.at([LARGEST])
    truth = ADDITIVE.losses(NAMES, test.swarm.weights, test.params, test.tokens)
    ceiling = Score.of(truth, test.swarm.metrics["loss"])
    (found,) = score_across_scales(runs, ["loss"], laws=("additive",)).scores
    assert found.score.spearman > ceiling.spearman - 0.01
    assert found.score.mae < 1.3 * ceiling.mae


def test_bimix_foretells_the_sum_of_its_domains():
    shares = {"books": 1.0, "code": 2.0, "web": 1.0}
    answer = score_across_scales(bimix_runs(), shares, laws=("bimix",))
    (score,) = answer.scores
    assert (score.n_runs, len(score.fitted_at)) == (60, 4)
    assert score.score.r2 > 0.9999
    assert score.score.regret == 0


def test_the_largest_runs_are_never_seen():
    """Their losses squared: other values in the same order, so the same ranks to the last bit."""
    runs = additive_runs(noise=0.01)
    largest = (runs.params == LARGEST[0]) & (runs.tokens == LARGEST[1])
    loss = runs.swarm.metrics["loss"]
    other = dataclasses.replace(
        runs,
        swarm=dataclasses.replace(runs.swarm, metrics={"loss": np.where(largest, loss**2, loss)}),
    )
    laws = ("additive", "linear", "log_ridge")
    one, two = (score_across_scales(r, ["loss"], laws=laws) for r in (runs, other))
    ranks = [[(s.law, s.fitted_at, s.score.spearman) for s in a.scores] for a in (one, two)]
    assert ranks[0] == ranks[1]
    assert one.scores[0].score.mae != two.scores[0].score.mae


def test_order_of_columns_changes_no_bit():
    runs = additive_runs(noise=0.01)
    mixtures = {
        r: dict(reversed(list(zip(runs.swarm.domains, w, strict=True))))
        for r, w in zip(runs.swarm.runs, runs.swarm.weights.tolist(), strict=True)
    }
    metrics = {
        r: {"loss": float(v)}
        for r, v in zip(runs.swarm.runs, runs.swarm.metrics["loss"], strict=True)
    }
    plain = Swarm.of({r: dict(sorted(w.items())) for r, w in mixtures.items()}, metrics)
    answers = [
        score_across_scales(dataclasses.replace(runs, swarm=s), ["loss"], laws=("additive",))
        for s in (plain, Swarm.of(mixtures, metrics))
    ]
    assert answers[0].scores[0].score == answers[1].scores[0].score


def test_what_could_not_be_fitted_has_its_reason():
    runs = additive_runs(n=5)
    answer = score_across_scales(runs, ["loss"], laws=("bimix", "linear"))
    assert answer.scores == []
    reasons = list(answer.not_fitted.items())
    assert len(reasons) == 17
    assert reasons[0][0].startswith("bimix at ")
    assert reasons[0][1] == "no metric for 'books', 'code', 'web'"
    assert reasons[1] == (
        "linear at 1e+07 parameters x 300M tokens",
        "5 runs, at least 8 are needed",
    )


def test_an_objective_beyond_the_domains_is_not_bimixs():
    runs = bimix_runs()
    metrics = {**runs.swarm.metrics, "quiz": np.ones(len(runs.params))}
    runs = dataclasses.replace(runs, swarm=dataclasses.replace(runs.swarm, metrics=metrics))
    answer = score_across_scales(runs, ["web", "quiz"], laws=("bimix",))
    assert "'quiz', which is the loss of no domain" in next(iter(answer.not_fitted.values()))


def test_domains_find_their_metrics_by_a_map():
    runs = bimix_runs()
    renamed = {f"loss/{n}": v for n, v in runs.swarm.metrics.items()}
    other = dataclasses.replace(runs, swarm=dataclasses.replace(runs.swarm, metrics=renamed))
    names = {n: f"loss/{n}" for n in NAMES}
    one = score_across_scales(runs, list(NAMES), laws=("bimix",))
    two = score_across_scales(other, list(renamed), laws=("bimix",), domain_metrics=names)
    assert one.scores[0].score == two.scores[0].score


def test_impossible_questions_are_refused():
    runs = additive_runs(n=2)
    with pytest.raises(MixtureError, match="got 1 scales"):
        score_across_scales(runs.at([LARGEST]), ["loss"])
    with pytest.raises(MixtureError, match="no law 'oracle'"):
        score_across_scales(runs, ["loss"], laws=("oracle",))
    with pytest.raises(MixtureError, match="tokens are finite and above 0 for each of"):
        ScaledSwarm(swarm=runs.swarm, params=runs.params, tokens=runs.tokens[:3])


@needs_regmix
def test_the_published_runs_of_two_sizes_rank_those_of_a_third():
    """512 runs of 1M and 256 of 60M parameters against 64 of 1B, Pile-CC."""
    parts = [read(n) for n in ("train_{}_1m.csv", "test_{}_60m.csv", "test_{}_1B.csv")]
    weights = np.vstack([w for w, _ in parts])
    losses = np.concatenate([y for _, y in parts])
    sizes = np.repeat([1e6, 6e7, 1e9], [len(y) for _, y in parts])
    names = [f"d{i:02d}" for i in range(weights.shape[1])]
    runs = [f"{i:04d}" for i in range(len(losses))]
    found = Swarm.of(
        {r: dict(zip(names, w, strict=True)) for r, w in zip(runs, weights.tolist(), strict=True)},
        {r: {PILE_CC: y} for r, y in zip(runs, losses.tolist(), strict=True)},
    )
    tokens = np.where(sizes == 1e9, 25e9, 1e9)
    answer = score_across_scales(
        ScaledSwarm(swarm=found, params=sizes, tokens=tokens),
        [PILE_CC],
        laws=("additive", "linear", "exponential"),
    )
    best = {s.law: s.score for s in reversed(answer.scores)}
    assert best["exponential"].spearman > 0.97
    assert best["exponential"].regret == 0
    assert best["additive"].spearman > 0.9
    assert best["linear"].spearman < best["exponential"].spearman


def test_every_law_is_asked_by_default():
    answer = score_across_scales(bimix_runs(), list(NAMES))
    assert {s.law for s in answer.scores} == {"additive", "bimix", *LAWS}
    assert not answer.not_fitted
