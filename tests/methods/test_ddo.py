import math
import random
from dataclasses import replace

import pytest

from mixture_assets.core.errors import MixtureError
from mixture_assets.core.problem import Objective, Problem, ProxyResult
from mixture_assets.methods.ddo import DDO, ddo_from_table
from mixture_assets.methods.notes import fit_notes
from tests.methods.conftest import DOMAINS, named, toy_loss

# DDO_example.ipynb, as printed: a, b, c of (x + a)^-b + c
NOTEBOOK_FITS = {
    "common_crawl": (2.6658731959, 1.2492023890, 0.8026540601),
    "github": (6.6161755919, 1.4360012484, 0.9458217913),
    "books": (2.6736027595, 1.5362602612, 0.8645212064),
    "wiki": (2.4631072680, 1.8287307259, 0.8968517052),
    "c4": (2.5183840995, 1.1858721474, 0.7750392467),
    "stackexchange": (2.8899578930, 1.9536275988, 0.9296170670),
    "arxiv": (3.3191739234, 1.9266710006, 0.9403250708),
}
NOTEBOOK_OPTIMUM = named(
    [1.62475352, 0.2, 1.27415166, 1.17979573, 1.85189980, 0.63716376, 0.23223551]
)


def abc(fit):
    return {f.domain: pytest.approx((f.a, f.b, f.c), abs=1e-6) for f in fit.curves}


def test_finds_the_notebooks_curves_and_optimum(notebook_rows):
    fit = ddo_from_table(notebook_rows)
    assert abc(fit) == NOTEBOOK_FITS
    assert fit.optimum == pytest.approx(NOTEBOOK_OPTIMUM, abs=1e-6)
    assert fit.at_floor == ["github"]
    assert {f.degrees_of_freedom for f in fit.curves} == {0}
    assert {f.residual_sd for f in fit.curves} == {None}
    assert fit.noise_sd is None


def test_finds_them_from_the_files_too(reference):
    runs = reference("ddo_gpt2large_1p2B_proxy_ppl.csv")
    rows = [
        (
            run["perturbed_domain"],
            float(run["multiplier_used_in_fit"]),
            math.fsum(float(run[f"val_ppl_{d}"]) for d in DOMAINS) / 7,
        )
        for run in runs
    ]
    fit = ddo_from_table(rows)
    fits = {
        r["domain"]: tuple(float(r[k]) for k in "abc")
        for r in reference("ddo_fit_params_notebook.csv")
    }
    optimum = reference("ddo_optimum_1p2B.csv")
    assert abc(fit) == fits
    assert fit.optimum == pytest.approx(
        {r["domain"]: float(r["n_rel_exact_KKT_lb0.2"]) for r in optimum}, abs=1e-6
    )
    assert dict(fit.weights) == pytest.approx(
        {r["domain"]: float(r["weight_exact"]) for r in optimum}, abs=1e-6
    )


def test_other_floors_and_factors_change_it_as_recomputed(notebook_rows):
    """papers.md 1.3, sensitivity: recomputed values, not printed by the authors."""
    unbounded = ddo_from_table(notebook_rows, floor=0.0)
    assert unbounded.optimum == pytest.approx(
        named([1.66643, 0, 1.30814, 1.2079, 1.89559, 0.66322, 0.25872]), abs=1e-5
    )
    third = [(d, 1 / 3 if x == 0.2 else x, y) for d, x, y in notebook_rows]
    assert ddo_from_table(third).optimum == pytest.approx(
        named([1.50096, 0.2, 1.24667, 1.17676, 1.66602, 0.75753, 0.45207]), abs=1e-5
    )


def test_order_of_rows_does_not_matter(notebook_rows):
    shuffled = notebook_rows.copy()
    random.Random(0).shuffle(shuffled)
    assert ddo_from_table(shuffled) == ddo_from_table(notebook_rows)


def test_the_same_seeds_twice_change_nothing_but_the_degrees_of_freedom(notebook_rows):
    fit = ddo_from_table(notebook_rows * 2)
    assert abc(fit) == NOTEBOOK_FITS
    assert fit.optimum == pytest.approx(NOTEBOOK_OPTIMUM, abs=1e-6)
    assert {f.degrees_of_freedom for f in fit.curves} == {3}
    assert all(f.residual_sd == pytest.approx(0, abs=1e-9) for f in fit.curves)
    assert fit.noise_sd == 0


def test_more_factors_than_two(notebook_rows):
    curve = NOTEBOOK_FITS["wiki"]
    more = ("wiki", 0.5, 28.11373645 * ((0.5 + curve[0]) ** -curve[1] + curve[2]))
    fit = ddo_from_table([*notebook_rows, more])
    assert abc(fit) == NOTEBOOK_FITS


def test_prints_what_the_command_line_promises(notebook_rows):
    printed = ddo_from_table(notebook_rows).to_json()
    assert {"fits", "optimum", "weights"} <= printed.keys()
    assert printed["fits"]["wiki"].keys() == {"a", "b", "c"}
    assert math.fsum(printed["weights"].values()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("y_shrunk", "y_grown"), [(28.0, 29.0), (28.11373645, 28.11373645), (29.0, 28.2), (28.0, 27.0)]
)
def test_a_domain_whose_growth_does_not_help_sits_at_its_floor(notebook_rows, y_shrunk, y_grown):
    rows = [r for r in notebook_rows if r[0] != "wiki"]
    fit = ddo_from_table([*rows, ("wiki", 0.2, y_shrunk), ("wiki", 3, y_grown)])
    assert fit.not_improving == ["wiki"]
    assert fit.at_floor == ["github", "wiki"]
    assert fit.optimum["wiki"] == 0.2
    assert fit.to_json()["fits"]["wiki"] == {"a": None, "b": None, "c": None}


def test_no_domain_helps(notebook_rows):
    rows = [(d, x, 28.0 if x == 1 else 28.5) for d, x, _ in notebook_rows]
    fit = ddo_from_table(rows)
    assert fit.not_improving == sorted(DOMAINS)
    assert dict(fit.weights) == pytest.approx(dict.fromkeys(DOMAINS, 1 / 7))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r[1:], r"none of 14 runs is a base run"),
        (lambda r: r[:-1], r"'arxiv' has runs at factor 0\.2 only"),
        (lambda r: [*r, ("wiki", 3, math.nan)], r"run 16 \(wiki\) has an objective of nan"),
        (lambda r: [*r, ("wiki", 3, -1.0)], r"run 16 \(wiki\) has an objective of -1"),
        (lambda r: [*r, ("wiki", 0, 28.0)], r"run 16 \(wiki\) has a factor of 0"),
        (lambda r: [*r, ("wiki", None, 28.0)], r"run 16 \(wiki\) has a factor of None"),
        (lambda r: [*r, ("wiki", 1, 28.0)], r"run 16 \(wiki\) has a factor of 1: factor 1 and"),
        (lambda r: [*r, (None, 3, 28.0)], r"run 16 \(base\) has a factor of 3: factor 1 and"),
        (lambda r: [s for s in r if s[0] in ("", "wiki")], r"the runs name 'wiki'"),
        (lambda r: [], r"none of 0 runs"),
    ],
)
def test_says_which_run_is_wrong(notebook_rows, change, message):
    with pytest.raises(MixtureError, match=message) as caught:
        ddo_from_table(change(notebook_rows))
    assert caught.value.hint


def test_rejects_a_floor_of_one(notebook_rows):
    with pytest.raises(MixtureError, match=r"floor must be in \[0, 1\), got 1"):
        ddo_from_table(notebook_rows, floor=1)


def test_plans_2_d_plus_1_runs_for_each_seed(problem):
    method = DDO(base_tokens=300_000, seeds=(0, 1), base_seeds=(1, 2))
    plan = method.plan(problem)
    assert len(plan) == 2 * 7 + 1  # base seed 1 is part of the design already
    assert len({run.digest for run in plan}) == len(plan)
    assert plan[0].tokens == {"books": 100_000, "code": 100_000, "web": 100_000}
    assert plan[1].tokens == {"books": 20_000, "code": 100_000, "web": 100_000}
    assert plan[6].tokens == {"books": 100_000, "code": 100_000, "web": 300_000}
    assert all(type(n) is int for run in plan for n in run.tokens.values())


def test_labels_say_what_each_run_is(problem):
    labels = list(DDO(base_tokens=300_000, base_seeds=(4,)).labels(problem).values())
    assert labels[:2] == ["small base seed 0", "small books x0.2 seed 0"]
    assert labels[-2:] == ["small web x3 seed 0", "small base seed 4"]


def test_reproduces_the_notebook_through_plan_and_fit(notebook_rows):
    problem = Problem(available_tokens=dict.fromkeys(DOMAINS, 10**10), budget_tokens=10**9)
    method = DDO(base_tokens=1_400_000_000)
    wanted = {(d, x): y for d, x, y in notebook_rows}
    results = []
    for run in method.plan(problem):
        changed = [d for d, n in run.tokens.items() if n != 200_000_000]
        key = (changed[0], run.tokens[changed[0]] / 200_000_000) if changed else ("", 1.0)
        loss = dict.fromkeys(DOMAINS, math.log(wanted[key]))
        results.append(ProxyResult(run=run, loss_nats=loss))
    fit = method.fit(problem, results)
    assert fit.optimum == pytest.approx(NOTEBOOK_OPTIMUM, abs=1e-6)
    assert all(len(f.run_digests) == 3 for f in fit.curves)
    assert math.fsum(fit.tokens.values()) == pytest.approx(1.4e9)


def test_noise_between_base_seeds_is_measured(problem, train):
    method = DDO(base_tokens=300_000, base_seeds=(1, 2))
    results = train(method, problem, disturb=lambda run: 0.001 * run.seed)
    proposal = method.propose(problem, results)
    assert proposal.noise_sd == pytest.approx(0.001)
    assert {f.degrees_of_freedom for f in proposal.fits} == {2}
    assert all(f.residual_sd > 0 for f in proposal.fits)
    assert proposal.interval.keys() == set(problem.domains)
    assert all(lo <= proposal.mixture[d] <= hi for d, (lo, hi) in proposal.interval.items())
    assert any(hi - lo > 0.001 for lo, hi in proposal.interval.values())


def test_more_noise_means_wider_intervals(problem, train):
    method = DDO(base_tokens=300_000, base_seeds=(1, 2))
    widths = []
    for size in (0.0002, 0.002):
        results = train(method, problem, disturb=lambda run, s=size: s * (run.seed - 1) * run.seed)
        interval = method.propose(problem, results).interval
        widths.append(sum(high - low for low, high in interval.values()))
    assert widths[1] > 2 * widths[0]


def test_without_repeats_there_is_no_interval_and_a_note(problem, train):
    method = DDO(base_tokens=300_000)
    proposal = method.propose(problem, train(method, problem))
    assert proposal.noise_sd is None
    assert proposal.interval == {}
    assert any("noise between seeds was not measured" in note for note in proposal.notes)
    assert any("0 degrees of freedom" in note for note in proposal.notes)


def test_averaging_over_seeds_brings_the_optimum_closer(problem, train):
    def distance(seeds):
        rng = random.Random(5)
        method = DDO(base_tokens=300_000, seeds=seeds)
        clean = method.fit(problem, train(method, problem)).optimum
        noisy = method.fit(problem, train(method, problem, disturb=lambda _: rng.gauss(0, 0.002)))
        return sum(abs(clean[d] - noisy.optimum[d]) for d in clean)

    assert distance(tuple(range(16))) < distance((0,))


def test_the_objective_is_chosen_at_fit_time(problem):
    """All domains' losses are kept, so one set of runs answers several questions."""
    method = DDO(base_tokens=300_000)
    results = [
        ProxyResult(
            run=run,
            loss_nats={d: toy_loss(run.tokens) - run.tokens[d] / 1e6 for d in problem.domains},
        )
        for run in method.plan(problem)
    ]
    only = [
        method.propose(
            replace(problem, objective=Objective(metric="loss", weights={d: 1})), results
        )
        for d in problem.domains
    ]
    for domain, proposal in zip(problem.domains, only, strict=True):
        assert max(proposal.mixture, key=proposal.mixture.__getitem__) == domain
    assert only[0].objective.name == "weighted mean loss (nats)"


def test_reports_a_domain_that_does_not_help(problem, train):
    gains = {"web": (2e3, 0.3), "code": (1e3, 0.6)}

    def loss(tokens):
        return toy_loss(tokens, gains) + tokens["books"] / 1e7

    method = DDO(base_tokens=300_000)
    proposal = method.propose(problem, train(method, problem, loss))
    assert proposal.not_improving == ["books"]
    assert proposal.at_floor == ["books"]
    assert proposal.mixture["books"] == pytest.approx(0.2 / 3)
    assert any("more 'books' did not lower" in note for note in proposal.notes)


def test_a_note_tells_when_the_optimum_lies_beyond_what_was_tried():
    names = "abcdefgh"
    rows = [("", 1, 5.0), ("a", 0.2, 5.5), ("a", 3, 4.0)]
    rows += [(d, x, y) for d in names[1:] for x, y in ((0.2, 5.0001), (3, 4.9999))]
    curves = ddo_from_table(rows).curves
    assert curves[0].optimum > 3
    assert any("lies beyond the largest amount tried, 3" in n for n in fit_notes(curves, 0.1))


def test_caps_and_budget_are_those_of_the_full_run(train):
    problem = Problem(
        available_tokens={"web": 6_000_000, "code": 100_000, "books": 2_000_000},
        budget_tokens=2_000_000,
        objective=Objective(metric="loss"),
    )
    method = DDO(base_tokens=300_000)
    proposal = method.propose(problem, train(method, problem))
    assert proposal.capped == ["code"]
    assert proposal.epochs["code"] == pytest.approx(4)
    assert proposal.extrapolation_factor == pytest.approx(2_000_000 / 300_000)
    assert any("'code' is held at 20.0% by max_epochs" in note for note in proposal.notes)


def test_a_diverged_run_is_named(problem, train):
    method = DDO(base_tokens=300_000)
    results = train(method, problem, disturb=lambda run: 1e4 * (run.tokens["web"] > 100_000))
    with pytest.raises(MixtureError, match=r"perplexity of 'small web x3 seed 0' is inf"):
        method.propose(replace(problem, objective=Objective()), results)
    results = train(method, problem, disturb=lambda run: math.nan)
    with pytest.raises(MixtureError, match=r"'small base seed 0' is nan"):
        method.propose(problem, results)


def test_two_results_for_one_run_must_agree(problem, train):
    method = DDO(base_tokens=300_000)
    results = train(method, problem)
    assert method.propose(problem, results * 2) == method.propose(problem, results)
    other = replace(results[0], loss_nats=dict.fromkeys(problem.domains, 9.0))
    with pytest.raises(MixtureError, match=r"two results disagree on .*'small base seed 0'"):
        method.propose(problem, [*results, other])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"base_tokens": 0}, "base_tokens must be > 0"),
        ({"shrink": 1.5}, "shrink and grow must lie around 1"),
        ({"floor": 1.0}, r"floor must be in \[0, 1\)"),
        ({"seeds": ()}, "seeds must name at least one seed"),
    ],
)
def test_rejects_impossible_settings(settings, message):
    with pytest.raises(MixtureError, match=message):
        DDO(**({"base_tokens": 1000} | settings))


def test_needs_two_domains_and_room_to_shrink():
    one = Problem(available_tokens={"web": 10}, budget_tokens=10)
    with pytest.raises(MixtureError, match=r"two domains or more, got 'web'"):
        DDO(base_tokens=1000).plan(one)
    two = Problem(available_tokens={"web": 10, "code": 10}, budget_tokens=10)
    with pytest.raises(MixtureError, match=r"a base run of 4 tokens is too short"):
        DDO(base_tokens=4).plan(two)
