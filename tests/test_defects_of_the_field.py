"""Defects that were found in the field's own code: each has a test here that it would fail."""

import ast
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

import mixture_assets
from mixture_assets import pipeline
from mixture_assets.core.errors import MixtureError
from mixture_assets.core.problem import Objective, Problem, ProxyResult
from mixture_assets.corpus import Workspace, build_corpus
from mixture_assets.data.sampler import Layout, Sampler
from mixture_assets.evaluation.comparison import compare
from mixture_assets.methods.boosted_trees import BoostedTrees
from mixture_assets.methods.ddo import DDO, ddo_from_table
from mixture_assets.methods.laws import LAWS, score_laws
from mixture_assets.methods.linear import LogRidge
from mixture_assets.plans import plan_full_runs, plan_proxies
from mixture_assets.store.records import read_record
from mixture_assets.store.runs import RunFolder
from mixture_assets.swarms import read_swarm


def swarm(n_runs, seed=0):
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.ones(4), n_runs)
    return weights, 2 + np.exp(-weights @ np.arange(4.0)) + 0.01 * rng.normal(size=n_runs)


def write(path, rows):
    path.write_text("\n".join(",".join(map(str, row)) for row in rows) + "\n")
    return path


# olmix: its check for too few runs compares a length with itself, and never fires.
@pytest.mark.parametrize("n_runs", [2, 7])
def test_too_few_runs_are_refused(n_runs):
    with pytest.raises(MixtureError, match=rf"{n_runs} mixtures \({n_runs} runs\) are too few"):
        score_laws(*swarm(n_runs), laws=["linear"])
    assert score_laws(*swarm(8), laws=["linear"])


# olmix: its cache answers new data with the fit of old data.
def test_changed_results_change_the_proposal_and_its_record(trained):
    _, workspace, corpus, _ = trained
    _, before = pipeline.propose(workspace, corpus)
    run = next(r for r in plan_proxies(workspace, corpus) if "x3" in r.label)
    path = RunFolder(workspace.store, run.run_id).result_path
    result = json.loads(path.read_text())
    for row in result["losses"].values():
        row["loss_nats"] -= 0.2
    path.write_text(json.dumps(result))
    after_id, after = pipeline.propose(workspace, corpus)
    assert dict(after.mixture) != dict(before.mixture)
    rows = read_record(workspace.store, "proposal", after_id)["proposal_weight"]
    assert {row["domain"]: row["weight"] for row in rows} == dict(after.mixture)


@pytest.mark.parametrize("law", LAWS)
def test_a_law_that_was_fitted_before_is_fitted_anew(law):
    (weights, values), (others, other_values) = swarm(40), swarm(40, seed=1)
    first = LAWS[law].fit(weights, values)(weights)
    LAWS[law].fit(others, 5 - other_values)
    np.testing.assert_array_equal(LAWS[law].fit(weights, values)(weights), first)
    assert not np.allclose(LAWS[law].fit(weights, 5 - values)(weights), first)


# regmix: its `temperature` is taken and ignored.
@pytest.mark.parametrize(
    ("law", "change"),
    [
        (BoostedTrees(), {"n_trees": 50}),
        (BoostedTrees(), {"learning_rate": 0.001}),
        (BoostedTrees(), {"min_runs_in_leaf": 15}),
        (LogRidge(), {"offset": 0.1}),
    ],
)
def test_every_setting_of_a_law_changes_what_it_predicts(law, change):
    weights, values = swarm(60)
    plain = law.fit(weights, values)(weights)
    assert not np.array_equal(
        dataclasses.replace(law, **change).fit(weights, values)(weights), plain
    )


def test_boosted_trees_have_no_setting_beyond_those():
    names = {field.name for field in dataclasses.fields(BoostedTrees)}
    assert names == {"n_trees", "learning_rate", "min_runs_in_leaf"}


# regmix: domains without files are dropped silently, 17 in and 13 out.
def test_a_domain_without_a_loss_stays_a_domain(tmp_path):
    weights, values = swarm(12)
    names = [f"d{i}" for i in range(4)]
    ratios = write(
        tmp_path / "r.csv", [["run", *names], *([f"{i:02}", *w] for i, w in enumerate(weights))]
    )
    rows = [["run", "d0", "d1"], *([f"{i:02}", y, y * y] for i, y in enumerate(values))]
    found = read_swarm(ratios, write(tmp_path / "m.csv", rows)).swarm
    assert found.domains == tuple(names)
    np.testing.assert_allclose(found.weights, weights)


# regmix: its trees stop early on the test set, which is then no test.
@pytest.mark.parametrize("law", LAWS)
def test_the_values_of_a_test_set_do_not_reach_the_fit(law):
    """Turned round, they turn the rank correlation round, and change nothing else."""
    test_weights, test_values = swarm(30, seed=2)
    plain, turned = (
        score_laws(*swarm(40), test=(test_weights, sign * test_values), laws=[law])[0]
        for sign in (1, -1)
    )
    assert turned.test.spearman == pytest.approx(-plain.test.spearman, abs=1e-12)
    assert turned.cross_validated == plain.cross_validated


# CLIMB: its arms get the same time on the clock, and so unequal tokens.
def test_every_mixture_is_trained_on_the_same_tokens(trained):
    _, workspace, corpus, _ = trained
    _, proposal = pipeline.propose(workspace, corpus)
    planned = plan_full_runs(workspace, corpus, proposal)
    assert len({run.mixture_name for run in planned}) == 3
    budget = workspace.experiment.full.budget_tokens
    assert {run.spec.budget_tokens for run in planned} == {budget}
    context = workspace.experiment.model.context
    for run in planned:
        layout = Layout.from_tokens(run.spec.tokens, context=context, batch=8)
        apart = abs(layout.n_sequences * context - budget)
        assert apart <= len(run.spec.tokens) * context / 2


def test_runs_of_unequal_tokens_are_not_compared():
    curves = {"proposal": {0: [(100, 3.0)]}, "natural": {0: [(120, 3.1)]}}
    with pytest.raises(MixtureError, match="'proposal' ends after 100 tokens"):
        compare(curves, proposal="proposal", baseline="natural")


# dolma: `__post__init__` is a method that nobody calls, so four warnings never run.
def test_no_method_has_a_name_that_only_looks_like_python_s():
    known = {n for kind in (object, type, int, dict, list, Exception) for n in dir(kind)}
    known |= {"__post_init__", "__enter__", "__exit__", "__call__", "__getattr__", "__fspath__"}
    odd = {
        f"{path.name}: {node.name}"
        for path in Path(mixture_assets.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
        and node.name.startswith("__")
        and node.name.endswith("__")
        and node.name not in known
    }
    assert odd == set()


# AutoScale: its text shrinks to 1/3, its code to 1/5.
@pytest.mark.parametrize("shrink", [0.2, 1 / 3])
def test_the_factor_of_the_fit_is_that_of_the_run(shrink):
    """Runs of a known law give its optimum, whichever factor was asked for."""
    problem = Problem(
        available_tokens={"a": 10**9, "b": 10**9},
        budget_tokens=10**6,
        objective=Objective(metric="loss"),
    )
    method = DDO(base_tokens=200_000, shrink=shrink)
    planned = method.plan(problem)
    assert {round(r.tokens["a"] / 1e5, 4) for r in planned} == {round(shrink, 4), 1.0, 3.0}

    def losses(run):
        gaps = {n: 0.5 * (run.tokens[n] / 1e5 + 1) ** -b for n, b in {"a": 0.4, "b": 0.9}.items()}
        return {n: 1 + 2 * gap for n, gap in gaps.items()}

    results = [ProxyResult(run=run, loss_nats=losses(run)) for run in planned]
    wanted = min(
        np.linspace(0.1, 0.9, 8001),
        key=lambda w: (2 * w + 1) ** -0.4 + (3 - 2 * w) ** -0.9,
    )
    found = method.propose(problem, results).mixture["a"]
    assert found == pytest.approx(wanted, abs=0.01)  # a wrong factor is 0.03 off


# AutoScale: two rows of its table are swapped.
def test_rows_mean_what_they_name_wherever_they_stand():
    rows = [("", 1.0, 30.0), ("a", 0.2, 33.0), ("a", 3.0, 28.0), ("b", 0.2, 31.0), ("b", 3.0, 29.5)]
    plain = dict(ddo_from_table(rows, floor=0.2).weights)
    assert dict(ddo_from_table(rows[::-1], floor=0.2).weights) == plain
    renamed = [({"a": "b", "b": "a"}.get(d, d), x, y) for d, x, y in rows]
    swapped = dict(ddo_from_table(renamed, floor=0.2).weights)
    assert swapped == pytest.approx({"a": plain["b"], "b": plain["a"]})
    assert plain["a"] != pytest.approx(plain["b"])


# olmix: runs that crashed, or are still running, are taken as finished.
@pytest.mark.parametrize("state", ["crashed", "running", "failed", "killed", "preempted", ""])
def test_only_finished_runs_count(tmp_path, state):
    weights, values = swarm(12)
    header = ["run", "a", "b", "c", "d"]
    ratios = write(tmp_path / "r.csv", [header, *([i, *w] for i, w in enumerate(weights))])
    states = [state if i == 3 else "finished" for i in range(12)]
    rows = [[i, y, s] for i, (y, s) in enumerate(zip(values, states, strict=True))]
    found = read_swarm(ratios, write(tmp_path / "m.csv", [["run", "loss", "state"], *rows]))
    assert list(found.excluded) == ["3"]
    assert "3" not in found.swarm.runs


def test_our_own_run_without_a_result_is_no_result(trained):
    _, workspace, corpus, _ = trained
    run = plan_proxies(workspace, corpus)[0]
    RunFolder(workspace.store, run.run_id).result_path.unlink()
    with pytest.raises(MixtureError, match="1 of them without a result"):
        pipeline.propose(workspace, corpus)


# OLMo-core: a run that is rounded up to whole batches enters a second epoch.
@pytest.mark.parametrize("batch", [7, 8, 64])
def test_one_pass_stays_one_pass_whatever_the_batch(batch):
    arrays = {"a": [np.arange(1001)], "b": [np.arange(5000, 5501)]}
    layout = Layout.from_tokens({"a": 1000, "b": 500}, context=10, batch=batch)
    sampler = Sampler(layout, arrays, seed=0)
    starts = [int(row[0]) for step in range(layout.n_steps) for row in sampler.batch(step)]
    assert len(starts) == len(set(starts)) == 150


# marin: its hash does not see that a tokenizer behaves otherwise under the same name.
@pytest.mark.filterwarnings("ignore::mixture_assets.core.errors.MixtureWarning")
def test_a_tokenizer_that_behaves_otherwise_renames_tokens_and_runs(tiny):
    path = tiny.parent / "tokenizer.json"
    text = json.loads(build_corpus(Workspace.open(tiny)).tokenizer.path.read_text())
    tiny.write_text(tiny.read_text().replace("vocab_size = 320", 'name = "tokenizer.json"'))
    config = {"eos_token": "<|endoftext|>"}
    (tiny.parent / "tokenizer_config.json").write_text(json.dumps(config))

    def made():
        path.write_text(json.dumps(text))
        workspace = Workspace.open(tiny)
        corpus = build_corpus(workspace)
        runs = {run.run_id for run in plan_proxies(workspace, corpus)}
        return {d.digest for d in corpus.domains.values()}, runs

    before = made()
    text["normalizer"] = {"type": "Lowercase"}
    after = made()
    assert not before[0] & after[0]
    assert not before[1] & after[1]
