import math
import random
import time
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import brentq, minimize

from mixture_assets.core.errors import MixtureError
from mixture_assets.core.problem import Objective, Problem, ProxyResult
from mixture_assets.methods.autoscale import AutoScale
from mixture_assets.methods.ddo import DDO
from mixture_assets.methods.extend import ExtendedDDO
from mixture_assets.methods.extrapolate import extrapolate, extrapolate_scales
from tests.methods.conftest import DOMAINS, named, toy_loss

# AutoScale_example.ipynb: totals of steps 1 to 4, billions of tokens
LADDER = [(1, 5.000487243), (2, 21.38933448), (3, 93.22814587), (4, 412.4400273)]
STEP_1 = [0.23417076, 0.02742590, 0.19954787, 0.14205147, 0.30796944, 0.07732386, 0.01151072]
CHECK_06 = [0.22923901, 0.02875761, 0.17704494, 0.18903027, 0.23804441, 0.09349407, 0.04438968]


@pytest.mark.parametrize("rule", ["safe", "paper"])
@pytest.mark.parametrize(("step", "total"), LADDER)
def test_reaches_the_published_totals(published, rule, step, total):
    """The total that the notebook prints is the one at which t is the notebook's step."""
    small, large = published["small"], published["large"]
    ladder = {d: small[d] * (large[d] / small[d]) ** (step + 1) for d in DOMAINS}
    assert math.fsum(ladder.values()) == pytest.approx(total, rel=1e-8)
    answer = extrapolate(small, large, budget_tokens=total, rule=rule)
    assert answer.t == pytest.approx(step + 1, abs=1e-8)
    assert answer.tokens == pytest.approx(ladder, rel=1e-7)
    assert answer.held == []
    assert answer.at_floor == ["arxiv", "github"]


def test_agrees_with_the_printed_weights(published):
    step_1 = extrapolate(published["small"], published["large"], budget_tokens=5.000487243)
    assert dict(step_1.weights) == pytest.approx(named(STEP_1), abs=1e-7)
    assert step_1.extrapolation_factor == pytest.approx(5.000487243 / 1.2)


def test_half_a_step_is_the_06b_check(published):
    half = extrapolate(published["small"], published["large"], budget_tokens=0.5961154448)
    assert half.t == pytest.approx(0.5, abs=1e-8)
    assert dict(half.weights) == pytest.approx(named(CHECK_06), abs=1e-7)


@pytest.mark.parametrize(
    ("budget", "t", "weights"),
    [
        (3, 1.644498, [0.2346, 0.02793, 0.1953, 0.15305, 0.29173, 0.08144, 0.01596]),
        (10, 2.478716, [0.23243, 0.02663, 0.20438, 0.12783, 0.32961, 0.07175, 0.00738]),
    ],
)
def test_budgets_between_the_steps(published, budget, t, weights):
    """papers.md 1.4, general-t vectors (recomputed, not printed by the authors)."""
    answer = extrapolate(published["small"], published["large"], budget_tokens=budget)
    assert answer.t == pytest.approx(t, abs=1e-6)
    assert dict(answer.weights) == pytest.approx(named(weights), abs=1e-5)


def test_agrees_with_the_notebooks_table(reference):
    rows = {r["row"]: r for r in reference("autoscale_extrapolation_notebook.csv")}

    def tokens(row):
        return {d: float(rows[row][f"Btokens_{d}"]) for d in DOMAINS}

    small, large = tokens("N1_0.3B_DDO"), tokens("N2_1.2B_DDO")
    for row in ("N_0.6B_pred_sqrt", *(f"N_pred_step{k}" for k in range(1, 5))):
        answer = extrapolate(small, large, budget_tokens=float(rows[row]["total_Btokens"]))
        assert answer.tokens == pytest.approx(tokens(row), rel=1e-6)
        assert dict(answer.weights) == pytest.approx(
            {d: float(rows[row][f"w_{d}"]) for d in DOMAINS}, abs=1e-8
        )


def test_gives_back_its_inputs(published):
    for scale, t in (("small", 0), ("large", 1)):
        tokens = published[scale]
        answer = extrapolate(
            published["small"], published["large"], budget_tokens=math.fsum(tokens.values())
        )
        assert answer.t == pytest.approx(t, abs=1e-9)
        assert answer.tokens == pytest.approx(tokens, rel=1e-9)


def test_domain_order_does_not_matter(published):
    backwards = dict(reversed(published["large"].items()))
    assert extrapolate(published["small"], backwards, budget_tokens=5) == extrapolate(
        published["small"], published["large"], budget_tokens=5
    )


EVIDENCE = ("novels", "maths", "proposals", "law", "code", "problems")


@pytest.fixture
def trap():
    """Six domains of natural text, measured with a Llama of 0.7 M parameters, one seed.

    Two domains sit at the floor of 0.2 / 6 at 0.4 M tokens and well above it at 1.2 M.
    """
    small = named([0.2 / 6, 0.22, 0.2 / 6, 0.19, 0.2833, 0.24], EVIDENCE)
    large = named([0.11, 0.18, 0.19, 0.16, 0.20, 0.16], EVIDENCE)
    return {d: 4e5 * w for d, w in small.items()}, {d: 1.2e6 * w for d, w in large.items()}


def test_the_papers_rule_falls_into_the_floor_trap(trap):
    answer = extrapolate(*trap, budget_tokens=4e6, rule="paper")
    measured = named([0.18, 0.09, 0.44, 0.09, 0.11, 0.08], EVIDENCE)
    assert dict(answer.weights) == pytest.approx(measured, abs=0.015)
    assert answer.grown == ["novels", "proposals"]
    assert answer.held == []


def test_the_safe_rule_does_not(trap):
    answer = extrapolate(*trap, budget_tokens=4e6)
    assert answer.held == ["novels", "proposals"]
    assert answer.weights["proposals"] == pytest.approx(0.19)
    assert answer.weights["novels"] == pytest.approx(0.11)
    assert math.fsum(answer.tokens.values()) == pytest.approx(4e6)
    small, large = trap
    for d in ("maths", "law", "code", "problems"):  # the rest follows the rule
        expected = small[d] * (large[d] / small[d]) ** answer.t
        assert answer.tokens[d] == pytest.approx(expected, rel=1e-9)


def test_between_the_scales_growth_was_measured_and_is_followed(trap):
    for budget in (6e5, 1.2e6):
        safe = extrapolate(*trap, budget_tokens=budget)
        paper = extrapolate(*trap, budget_tokens=budget, rule="paper")
        assert safe == paper


def test_a_typed_floor_is_recognised_too(trap):
    """0.03 is how people write 0.2 / 6."""
    small = trap[0] | {"proposals": 0.03 * 4e5}
    assert "proposals" in extrapolate(small, trap[1], budget_tokens=4e6).held


def test_where_the_rest_hardly_grew_nothing_is_extrapolated():
    small, large = {"a": 10.0, "b": 90.0}, {"a": 200.0, "b": 100.0}
    answer = extrapolate(small, large, budget_tokens=3000, floor=0.2)
    assert answer.held == ["a", "b"]
    assert dict(answer.weights) == pytest.approx({"a": 2 / 3, "b": 1 / 3})


def test_a_domain_without_tokens_keeps_its_larger_scale_weight():
    small, large = {"a": 0.0, "b": 50.0, "c": 50.0}, {"a": 30.0, "b": 150.0, "c": 120.0}
    answer = extrapolate(small, large, budget_tokens=3000, floor=0.0)
    assert answer.weights["a"] == pytest.approx(0.1)
    assert answer.held == ["a"]
    with pytest.raises(MixtureError, match=r"needs tokens in every domain .* 'a' has none"):
        extrapolate(small, large, budget_tokens=3000, floor=0.0, rule="paper")


def test_prints_what_the_command_line_promises(published):
    printed = extrapolate(published["small"], published["large"], budget_tokens=5).to_json()
    assert {"weights", "t", "tokens", "at_floor", "extrapolation_factor"} <= printed.keys()


def test_a_sum_that_falls_first_is_still_solved_where_it_rises():
    small, large = {"a": 90.0, "b": 10.0}, {"a": 20.0, "b": 100.0}
    answer = extrapolate(small, large, budget_tokens=90, rule="paper", floor=0)
    assert 0 < answer.t < 1
    assert math.fsum(answer.tokens.values()) == pytest.approx(90)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"large": {"a": 2.0}}, r"the two scales disagree on domains: 'b' in only one"),
        ({"large": {"a": 1.0, "b": 0.5}}, r"the larger scale must have more tokens"),
        ({"small": {"a": -1.0, "b": 1.0}}, r"must be finite and >= 0, not so for 'a'"),
        ({"large": {"a": math.nan, "b": 1.0}}, r"must be finite and >= 0, not so for 'a'"),
        ({"budget_tokens": 0}, r"the budget must be above 0 tokens, got 0"),
        ({"budget_tokens": math.nan}, r"the budget must be above 0 tokens, got nan"),
        ({"budget_tokens": 0.01}, r"is too far below the small scale: the rule reaches down to"),
        ({"rule": "plain"}, r"rule must be 'safe' or 'paper', got 'plain'"),
    ],
)
def test_says_what_is_wrong(change, message):
    good = {"small": {"a": 1.0, "b": 1.0}, "large": {"a": 4.0, "b": 2.0}, "budget_tokens": 20.0}
    with pytest.raises(MixtureError, match=message):
        extrapolate(**(good | change))


@pytest.fixture
def method():
    return AutoScale(
        small=DDO(base_tokens=30_000, base_seeds=(1, 2)),
        large=DDO(base_tokens=120_000, base_seeds=(1, 2)),
    )


def by_seed(run):
    return 1e-4 * run.seed


def test_plans_both_scales(method, problem):
    assert len(method.plan(problem)) == 2 * (7 + 2)
    labels = method.labels(problem)
    assert {label.split()[0] for label in labels.values()} == {"small", "large"}
    assert {run.digest for run in method.plan(problem)} == labels.keys()


def test_a_proposal_carries_what_is_needed_to_judge_it(method, problem, train):
    proposal = method.propose(problem, train(method, problem, disturb=by_seed))
    assert proposal.method == "autoscale"
    assert proposal.natural == problem.natural
    assert proposal.noise_sd == pytest.approx(1e-4)
    assert proposal.extrapolation_factor == pytest.approx(1_000_000 / 120_000)
    assert proposal.optima_tokens.keys() == {"small", "large"}
    assert [f.scale for f in proposal.fits] == ["small"] * 3 + ["large"] * 3
    assert proposal.interval.keys() == set(problem.domains)
    assert all(lo <= proposal.mixture[d] <= hi for d, (lo, hi) in proposal.interval.items())
    assert proposal.epochs == proposal.mixture.epochs(1_000_000, problem.available_tokens)
    assert proposal.notes == ()


def test_intervals_need_noise_at_both_scales(method, problem, train):
    method = replace(method, small=replace(method.small, base_seeds=()))
    proposal = method.propose(problem, train(method, problem, disturb=by_seed))
    assert proposal.interval == {}
    assert any("was not measured" in note for note in proposal.notes)


def test_intervals_cover_the_answer_without_noise(problem, train):
    """Over 20 noisy repetitions the 90 % interval holds the clean weight most of the time."""
    method = AutoScale(
        small=DDO(base_tokens=30_000, base_seeds=(1, 2, 3, 4, 5)),
        large=DDO(base_tokens=120_000, base_seeds=(1, 2, 3, 4, 5)),
        bootstrap=60,
    )
    clean = method.propose(problem, train(method, problem)).mixture
    rng, hits = random.Random(3), 0
    for _ in range(20):
        noisy = method.propose(
            problem, train(method, problem, disturb=lambda _: rng.gauss(0, 0.0005))
        )
        hits += sum(lo <= clean[d] <= hi for d, (lo, hi) in noisy.interval.items())
    assert 40 <= hits <= 60


def test_two_hundred_draws_are_quick(train):
    names = EVIDENCE
    gains = {n: (1e3 * (i + 1), 0.3 + 0.1 * i) for i, n in enumerate(names)}
    problem = Problem(
        available_tokens=dict.fromkeys(names, 2_000_000),
        budget_tokens=4_000_000,
        objective=Objective(metric="loss"),
    )
    method = AutoScale(
        small=DDO(base_tokens=400_000, base_seeds=(1, 2)),
        large=DDO(base_tokens=1_200_000, base_seeds=(1, 2)),
    )
    results = train(method, problem, lambda tokens: toy_loss(tokens, gains), by_seed)
    start = time.perf_counter()
    method.propose(problem, results)
    assert time.perf_counter() - start < 5


def growing_out_of_a_floor(tokens):
    """Books help only in runs of the larger scale."""
    gains = {"web": (2e3, 0.3), "code": (1e3, 0.6)}
    worth = 0.2 if sum(tokens.values()) > 80_000 else 1e-6
    return toy_loss(tokens, gains) + 1 + worth * (1 + tokens["books"] / 3e4) ** -0.5


def test_growth_out_of_a_floor_is_held_and_said(method, problem, train):
    results = train(method, problem, growing_out_of_a_floor)
    safe = method.propose(problem, results)
    assert safe.at_floor == ["books"]
    assert safe.held == ["books"]
    large = safe.optima_tokens["large"]
    assert safe.mixture["books"] == pytest.approx(large["books"] / math.fsum(large.values()))
    assert any("the larger scale's weight is kept for 'books'" in note for note in safe.notes)

    paper = replace(method, rule="paper").propose(problem, results)
    assert paper.held == []
    assert paper.mixture["books"] > 1.5 * safe.mixture["books"]
    assert any("'books' grew out of its floor" in note for note in paper.notes)


def test_says_when_a_domain_does_not_help_at_one_scale(method, problem, train):
    def loss(tokens):
        harm = 1e-4 if sum(tokens.values()) < 80_000 else 0
        return toy_loss(tokens) + harm * tokens["books"]

    proposal = method.propose(problem, train(method, problem, loss))
    assert proposal.not_improving == ["books"]
    assert any("'books' did not lower the objective at the small" in n for n in proposal.notes)


def test_notes_on_distance(method, problem, train):
    results = train(method, problem)
    far = method.propose(replace(problem, budget_tokens=9_000_000), results)
    assert any("75 times the largest proxy budget" in note for note in far.notes)
    near = method.propose(replace(problem, budget_tokens=60_000), results)
    assert any("only 0.5 of the largest proxy budget" in note for note in near.notes)


def test_caps_apply_to_weights_and_intervals(method, train, problem):
    scarce = replace(problem, available_tokens={**problem.available_tokens, "code": 20_000})
    proposal = method.propose(scarce, train(method, scarce, disturb=by_seed))
    assert proposal.capped == ["code"]
    assert proposal.epochs["code"] == pytest.approx(4)
    assert proposal.interval["code"][1] <= 0.08 * (1 + 1e-9)


def test_scales_must_grow_under_one_floor():
    small, large = DDO(base_tokens=10_000), DDO(base_tokens=20_000)
    with pytest.raises(MixtureError, match=r"must have more tokens than the smaller one"):
        AutoScale(small=large, large=small)
    with pytest.raises(MixtureError, match=r"both scales need one floor, got 0\.2 and 0\.1"):
        AutoScale(small=small, large=replace(large, floor=0.1))


def test_the_06b_prediction_is_as_near_to_the_independent_optimum_as_published(published):
    """AutoScale_example.ipynb: DDO run at 0.6B by itself, from the same commit as the others."""
    independent = named([1.6537299, 0.2, 1.1988018, 1.27792191, 1.62120831, 0.7912898, 0.25704828])
    half = extrapolate(published["small"], published["large"], budget_tokens=0.5961154448)
    gap = {d: abs(half.weights[d] - independent[d] / 7) for d in DOMAINS}
    assert math.fsum(gap.values()) == pytest.approx(0.0531, abs=5e-5)
    assert max(gap, key=gap.__getitem__) == "stackexchange"
    assert gap["stackexchange"] == pytest.approx(0.0195, abs=5e-5)


def test_two_scales_are_the_authors_rule_and_have_no_r2(published):
    small, large = published["small"], published["large"]
    many = extrapolate_scales([small, large], budget_tokens=5)
    t = brentq(lambda t: sum(small[d] ** (1 - t) * large[d] ** t for d in DOMAINS) - 5, 1, 3)
    assert many.t == pytest.approx(t)
    assert many.tokens == pytest.approx({d: small[d] ** (1 - t) * large[d] ** t for d in DOMAINS})
    assert many.r2 == {}


def test_a_third_scale_on_the_progression_changes_nothing(published):
    small, large = published["small"], published["large"]
    two = extrapolate(small, large, budget_tokens=5)
    middle = dict(extrapolate(small, large, budget_tokens=0.6).tokens)
    three = extrapolate_scales([small, middle, large], budget_tokens=5)
    # the middle one's place is by its total, which is not quite its t
    assert dict(three.weights) == pytest.approx(dict(two.weights), abs=2e-3)


def test_many_scales_are_numpys_straight_lines():
    rng = random.Random(0)
    scales = [{d: 10**k * math.exp(rng.gauss(0, 0.2)) for d in "abcd"} for k in range(1, 6)]
    answer = extrapolate_scales(scales, budget_tokens=4e7, rule="paper")
    totals = [math.fsum(s.values()) for s in scales]
    s_J = np.log(np.array(totals) / totals[0]) / math.log(totals[-1] / totals[0])
    for d in "abcd":
        log_J = np.log([s[d] for s in scales])
        rate, start = np.polyfit(s_J, log_J, 1)
        assert math.log(answer.tokens[d]) == pytest.approx(start + rate * answer.t, abs=1e-9)
        assert answer.r2[d] == pytest.approx(np.corrcoef(s_J, log_J)[0, 1] ** 2)


def test_the_papers_three_scales_lie_on_lines(reference):
    """papers.md 1.4: 0.3B, 0.6B and 1.2B digitised from figure 2a; mean R2 0.995 by OLS."""
    rows = reference("ddo_weights_by_scale_fig2a_digitised.csv")
    scales = [
        {d: float(row[d]) * size for d in DOMAINS}
        for size in (0.3, 0.6, 1.2)
        for row in rows
        if float(row["tokens_billion"]) == size
    ]
    answer = extrapolate_scales(scales, budget_tokens=10, rule="paper")
    assert math.fsum(answer.r2.values()) / 7 == pytest.approx(0.995, abs=1e-3)


@pytest.mark.parametrize(
    ("scales", "message"),
    [
        ([{"a": 1.0}], r"a trend needs two scales or more, got 1"),
        ([{"a": 1.0}, {"a": 2.0}, {"b": 3.0}], r"the scales disagree on domains: 'a', 'b' in only"),
        ([{"a": 1.0}, {"a": 3.0}, {"a": 2.0}], r"must have more tokens than the smaller one"),
    ],
)
def test_says_what_is_wrong_with_many_scales(scales, message):
    with pytest.raises(MixtureError, match=message):
        extrapolate_scales(scales, budget_tokens=10)


def test_growth_out_of_a_floor_at_any_scale_is_held(trap):
    small, large = trap
    middle = {d: 2 * x for d, x in small.items()}
    answer = extrapolate_scales([small, middle, large], budget_tokens=4e6)
    assert answer.held == ["novels", "proposals"]


HEAD_START = {"web": (0.0, 0.30), "code": (2e3, 0.45), "books": (2.5e4, 0.5)}  # tokens, power


def losses_with_a_head_start(tokens):
    """Of each domain, of its own tokens and what it knows already."""
    return {d: 1 + 40 * (tokens[d] + known) ** -b for d, (known, b) in HEAD_START.items()}


def with_losses(method, problem, sd=0.0):
    rng = random.Random(7)
    return [
        ProxyResult(
            run=run,
            loss_nats={
                d: y + rng.gauss(0, sd) for d, y in losses_with_a_head_start(run.tokens).items()
            },
        )
        for run in method.plan(problem)
    ]


def test_one_law_over_both_scales_is_not_fooled_by_a_floor(method, problem):
    """'books' needs nothing at the small scale, and much at the budget."""
    method = replace(method, bootstrap=0)
    found = minimize(
        lambda z: sum(
            (1e6 * w + HEAD_START[d][0]) ** -HEAD_START[d][1]
            for d, w in zip(HEAD_START, np.exp(z) / np.exp(z).sum(), strict=True)
        ),
        np.zeros(3),
        options={"gtol": 1e-10},
    )
    truth = dict(zip(HEAD_START, np.exp(found.x) / np.exp(found.x).sum(), strict=True))
    results = with_losses(method, problem)
    away = {}
    for rule in ("additive", "safe", "paper"):
        proposal = replace(method, rule=rule).propose(problem, results)
        away[rule] = sum(abs(proposal.mixture[d] - truth[d]) for d in truth)
        assert method.fits(problem, results)["small"].at_floor == ["books"]
    assert away["additive"] < 0.01
    assert away["safe"] > 0.1
    assert away["paper"] > 0.1


def test_the_law_has_intervals_from_what_it_leaves_unexplained(method, problem):
    method = replace(method, rule="additive", bootstrap=24, small=DDO(base_tokens=30_000))
    quiet, loud = (method.propose(problem, with_losses(method, problem, sd)) for sd in (1e-4, 1e-2))
    for proposal in (quiet, loud):
        assert all(lo <= proposal.mixture[d] <= hi for d, (lo, hi) in proposal.interval.items())
    width = [sum(hi - lo for lo, hi in p.interval.values()) for p in (quiet, loud)]
    assert width[1] > 5 * width[0] > 0


def test_the_law_takes_the_effect_of_seeds_out(problem):
    scales = [DDO(base_tokens=n, seeds=(0, 1), base_seeds=(2, 3)) for n in (30_000, 120_000)]
    method = AutoScale(small=scales[0], large=scales[1], rule="additive", bootstrap=0)
    results = with_losses(method, problem)
    moved = [
        replace(r, loss_nats={d: y + 0.05 * r.run.seed for d, y in r.loss_nats.items()})
        for r in results
    ]
    assert dict(method.propose(problem, moved).mixture) == pytest.approx(
        dict(method.propose(problem, results).mixture), abs=0.02
    )


def test_the_law_needs_every_domain_in_every_run(problem):
    small, large = (ExtendedDDO(base_tokens=n, around=("web", "code")) for n in (30_000, 120_000))
    method = AutoScale(small=small, large=large)
    assert method.plan(problem)
    with pytest.raises(MixtureError, match=r"every domain in every run, not so for 'books'"):
        replace(method, rule="additive").plan(problem)
