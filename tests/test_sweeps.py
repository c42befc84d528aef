"""A sweep of selections on the tiny corpus: what it trains, costs, says and records."""

import csv
import dataclasses
import json
import random
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from mixture_assets.cli import cli
from mixture_assets.core.errors import MixtureError, MixtureWarning
from mixture_assets.core.experiment import load_experiment
from mixture_assets.corpus import Workspace, build_corpus
from mixture_assets.garbage import find_garbage
from mixture_assets.pools import Selection
from mixture_assets.running import result_of
from mixture_assets.selection.points import Point, cells
from mixture_assets.selection_estimate import selection_stages
from mixture_assets.selection_page import curves
from mixture_assets.selection_runs import decision_of
from mixture_assets.selection_table import read_points
from mixture_assets.store.query import query
from mixture_assets.store.runs import RunFolder, list_runs
from mixture_assets.sweeps import accuracy_points, run_sweep
from tests.conftest import _WORDS

ROOT = Path(__file__).parents[1]
SETTINGS = """
[specialist]
path = "wishes"
[selection]
methods = ["random", "bm25", "perplexity", "gradient"]
shares = [0.1, 0.2, 0.35, 0.5, 1.0]
pilot_shares = [0.1, 0.2, 0.35]
seeds = [0, 1]
base_tokens = 4096
dimensions = 64
reference_epochs = 3
warmup_epochs = 2
warmup_share = 0.1
"""


def write_settings(path, settings=SETTINGS):
    """The tiny experiment with a specialist set in the words of one domain, and a selection."""
    folder = path.parent / "wishes"
    folder.mkdir(exist_ok=True)
    rng = random.Random(7)
    words = _WORDS["plants"]
    rows = [{"text": " ".join(rng.choices(words, k=40)) + f" wish {i}"} for i in range(24)]
    (folder / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    path.write_text(path.read_text() + settings)
    return path


@pytest.fixture(scope="module")
def swept(tiny_template, tmp_path_factory):
    """Everything trained once; (summary, what was said)."""
    folder = tmp_path_factory.mktemp("swept") / "tiny"
    shutil.copytree(tiny_template, folder)
    said = []
    workspace = Workspace.open(write_settings(folder / "tiny.toml"))
    return run_sweep(workspace, say=said.append), said


def tokens_of(run):
    """Digest of what a run on a subset draws from."""
    (found,) = run.spec.token_sets.values()
    return found


def ids(cell):
    """The documents of a cell, as shards name them."""
    return {f"{h:016x}" for h in cell.documents.tolist()}


def domain_of(workspace):
    """Document id -> domain, from the token shards of the domains."""
    paths = (workspace.store / "tokens").glob("*/*.parquet")
    own = [p for p in paths if p.parent.name in _WORDS]
    return {row: p.parent.name for p in own for row in pq.read_table(p)["doc_id"].to_pylist()}


def test_every_cell_is_trained_from_the_base_on_its_documents_once_over(swept):
    sweep = swept[0].sweep
    workspace = sweep.scored.selection.workspace
    assert len(sweep.cells) == 4 * 5 * 2
    assert sweep.is_done
    # The whole pool is the same for all methods, of one seed each.
    assert len(sweep.planned) == 4 * 4 * 2 + 2
    start = sweep.scored.starts["model"][0]
    for cell in sweep.cells:
        assert cell.run.spec.start.model == start
        (array,) = (workspace.store / "tokens" / "selection").glob(f"{tokens_of(cell.run)}.npy")
        stream = np.load(array)
        context = cell.run.spec.model.context
        assert cell.run.spec.budget_tokens == (len(stream) - 1) // context * context
        eos = sweep.scored.selection.corpus.tokenizer.eos_id
        assert (stream == eos).sum() == len(cell.documents)


def test_shares_are_of_the_pools_tokens_and_nested(swept):
    sweep = swept[0].sweep
    n_tokens = sweep.scored.selection.pool.n_tokens
    by_cell = {(c.method, c.seed, c.share): c for c in sweep.cells}
    for (method, seed, share), cell in by_cell.items():
        trained = cell.run.spec.budget_tokens - len(cell.documents)
        assert trained == pytest.approx(share * n_tokens, rel=0.1)
        if share < 1:
            assert ids(cell) < ids(by_cell[method, seed, 1.0])


@pytest.mark.parametrize("method", ["bm25", "gradient"])
def test_informed_methods_choose_documents_in_the_words_of_the_specialist_set(swept, method):
    sweep = swept[0].sweep
    domains = domain_of(sweep.scored.selection.workspace)
    (chosen, *_) = [ids(c) for c in sweep.cells if (c.method, c.share) == (method, 0.1)]
    (drawn, *_) = [ids(c) for c in sweep.cells if (c.method, c.share) == ("random", 0.1)]
    share, by_chance = (
        np.mean([domains[doc_id] == "plants" for doc_id in ids]) for ids in (chosen, drawn)
    )
    assert share > 0.9 > 0.5 > by_chance


def test_no_document_of_the_specialist_set_or_of_validation_is_trained_on(swept):
    selection = swept[0].sweep.scored.selection
    store = selection.workspace.store
    kept = [p for p in (store / "validation").glob("*/*.parquet")]
    forbidden = {d for p in kept for d in pq.read_table(p)["doc_id"].to_pylist()}
    trained = set().union(*(ids(c) for c in swept[0].sweep.cells))
    assert len(kept) > 3
    assert not forbidden & trained
    assert len(trained) == selection.pool.n_documents


def test_costs_are_those_of_the_runs_and_of_scoring(swept):
    sweep = swept[0].sweep
    scored, workspace = sweep.scored, sweep.scored.selection.workspace
    n = result_of(workspace, sweep.planned[0])["n_params"]
    for cell, point in sweep.measured:
        trained = result_of(workspace, cell.run)["flops_train"]
        assert point.total_flops == pytest.approx(trained + point.selection_flops)
        if cell.share == 1:
            assert point.full_flops == pytest.approx(trained, rel=0.02)
        before = {"perplexity": scored.runs.reference, "gradient": scored.runs.warmup}
        run = before.get(cell.method)
        spent = 0.0 if run is None else result_of(workspace, run)["flops_train"]
        scoring = point.selection_flops - spent
        tokens = scored.selection.pool.n_tokens
        if cell.method == "perplexity":
            assert 2 * 0.5 * n * tokens < scoring < 2 * 4 * n * tokens
        elif cell.method == "gradient":
            assert scoring > 2 * 2 * 3 * 0.5 * n * tokens * 0.5
        else:
            assert (scoring == 0) is (cell.method == "random")


def test_what_the_plan_said_is_what_was_trained(swept):
    sweep = swept[0].sweep
    workspace, pool = sweep.scored.selection.workspace, sweep.scored.selection.pool
    said = dataclasses.replace(workspace.experiment.selection, pool_tokens=pool.n_tokens)
    planned = Workspace(dataclasses.replace(workspace.experiment, selection=said))
    stages = {stage.name: stage for stage in selection_stages(planned)}
    runs = [
        ("base model", list(sweep.scored.base.values())),
        ("warm-up", [sweep.scored.runs.warmup]),
        ("runs on subsets, model", sweep.planned),
    ]
    for name, trained in runs:
        stage = stages.pop(f"selection: {name}")
        assert stage.runs == len(trained)
        assert stage.tokens == pytest.approx(sum(r.spec.budget_tokens for r in trained), rel=0.12)
    assert stages.keys() == {
        f"selection: {name}" for name in ("reference", "perplexities", "gradients, at most")
    }


@pytest.mark.parametrize(
    ("changes", "tokens"),
    [
        ({"domains": ("plants",)}, "plants"),
        ({}, "."),
        ({"pool_tokens": 10**9}, "bytes"),  # no more tokens than there are bytes
        ({"pool_tokens": 500}, 500),
        ({"pool": "wishes"}, "../wishes"),
    ],
)
def test_the_plan_prices_the_pool_that_is_asked_for(tiny, changes, tokens):
    workspace = workspace_of(write_settings(tiny), **changes)
    if isinstance(tokens, str):
        root = tiny.parent / "raw"
        folder = root if tokens == "bytes" else root / tokens
        n_bytes = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
        tokens = n_bytes if tokens == "bytes" else n_bytes // 4
    stage = selection_stages(workspace)[-1]
    shares = 2 * (4 * (0.1 + 0.2 + 0.35 + 0.5) + 1)
    assert stage.tokens == pytest.approx(shares * tokens, rel=0.01)


def test_a_pool_that_is_not_there_has_no_price(tiny):
    workspace = workspace_of(write_settings(tiny), pool="wihses")
    with pytest.raises(MixtureError, match="there is no text at 'wihses'"):
        selection_stages(workspace)


def test_the_points_file_is_read_by_the_other_verbs(swept, tmp_path):
    path = swept[0].page.parent / "selection_points.csv"
    own = swept[0].sweep.points["model"]
    assert len(read_points(path)) == len(own) == 40
    told = CliRunner().invoke(cli, ["select", "fit", str(path), "--json"])
    fits = json.loads(told.stdout)
    assert fits.keys() == {"random", "bm25", "perplexity", "gradient"}
    best = max(p.performance for p in own)
    assert all(fit["ceiling"] == pytest.approx(best) for fit in fits.values())
    with open(path, newline="") as file:
        losses = {-float(r["performance"]) for r in csv.DictReader(file)}
    assert min(losses) > 0


def test_forecasts_were_on_record_before_the_runs_that_they_speak_of(swept):
    sweep = swept[0].sweep
    rows = query(
        sweep.scored.selection.workspace.store,
        "SELECT calibration.* FROM calibration JOIN proposal USING (proposal_id) "
        "WHERE proposal.objective LIKE 'specialist%'",
    ).to_dicts()
    own = {(c.point.method, c.point.share): c.point for c in cells(sweep.points["model"])}
    assert len(rows) == 3
    for row in rows:
        method = row["method"].split(" at ")[0]
        assert row["state"] == "scored"
        assert row["predicted_at"] <= row["begun_at"]
        ratio = own[method, 0.5].performance / own["random", 0.5].performance
        assert row["measured"] == pytest.approx(np.log(ratio))
        assert row["low"] < row["predicted"] < row["high"]


def test_what_the_pilot_chose_is_set_beside_the_best_for_that_budget(swept):
    """Counted again from the points: means over seeds of what the budget allows."""
    points = swept[0].sweep.points["model"]
    mean = {
        key: np.mean([p.performance for p in points if (p.method, p.share) == key])
        for key in {(p.method, p.share) for p in points if p.cost <= 0.5 * 1.01}
    }
    best = max(mean, key=mean.__getitem__)
    plan = swept[0].forecasts[0].plan
    assert [o.kind for o in swept[0].outcomes] == ["sure choice", "favourite"]
    for outcome, row in zip(swept[0].outcomes, (plan.choice, plan.favourite), strict=True):
        assert outcome.best == f"{best[0]} at {100 * best[1]:g} %"
        method, share = outcome.measured.split(" at ")
        assert method == row.method
        regret = mean[best] - mean[method, float(share.removesuffix(" %")) / 100]
        assert outcome.regret.value == pytest.approx(regret, abs=0.02)
        assert outcome.regret.low <= outcome.regret.value <= outcome.regret.high
        assert row.total_flops <= 0.5 * points[0].full_flops * 1.001


@pytest.mark.parametrize(("dip", "is_off"), [(0.0, False), (0.1, True)])
def test_points_that_follow_no_rising_curve_are_said_so(dip, is_off):
    """The whole pool has documents that a chosen half has not: performance falls again."""
    rng = np.random.default_rng(1)
    points = [
        Point(
            method="a",
            total_flops=share,
            full_flops=1.0,
            performance=-3
            + 0.3 * (1 - np.exp(-9 * share))
            - dip * (share == 1)
            + 0.01 * rng.standard_normal(),
            share=share,
            seed=str(seed),
        )
        for share in (0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
        for seed in range(3)
    ]
    fit = curves({"model": points})["model"]["a"]
    assert any("no such curve" in note for note in fit.notes) is is_off


def test_the_store_has_points_scores_pool_and_the_way_back_to_the_shards(swept):
    sweep = swept[0].sweep
    store = sweep.scored.selection.workspace.store
    points = query(store, "SELECT * FROM selection_point").to_dicts()
    assert len(points) == 40
    (pool,) = query(store, "SELECT * FROM selection_pool").to_dicts()
    assert pool["n_documents"] == sweep.scored.selection.pool.n_documents
    sets = query(store, "SELECT method, n_nan FROM selection_score_set").to_dicts()
    assert sorted(r["method"] for r in sets) == sorted(
        # Two seeds, and what the warm-up's documents were drawn by.
        ["random", "random", "random", "bm25", "perplexity", "gradient"]
    )
    run_id = next(c.run.run_id for c in sweep.cells if c.method == "bm25" and c.share == 0.1)
    walked = query(store, f"SELECT node_kind, role FROM lineage_from('{run_id}')").to_dicts()
    kinds = {r["node_kind"] for r in walked}
    assert {"token_set", "score_set", "pool", "token_shard", "shard", "run"} <= kinds
    assert "unknown" not in kinds
    costs = query(
        store,
        f"SELECT DISTINCT role FROM cost WHERE decision_id = '{decision_of(sweep)}'",
    ).to_dicts()
    assert {r["role"] for r in costs} == {"finetune", "base", "selector", "scoring"}


def test_the_ledger_has_what_was_predicted_beside_what_was_measured(swept):
    """6 N T and 2 N T leave out attention and count embeddings: within a half of a tiny model's."""
    sweep = swept[0].sweep
    rows = query(
        sweep.scored.selection.workspace.store,
        "SELECT role, method, cost.flops, predicted_flops FROM cost LEFT JOIN selection_score_set "
        f"ON run_id = score_set_id WHERE decision_id = '{decision_of(sweep)}'",
    ).to_dicts()
    for row in rows:
        if row["role"] != "scoring" or row["method"] == "perplexity":
            assert 0.5 < row["predicted_flops"] / row["flops"] < 1.5, row
        elif row["method"] in ("random", "bm25"):
            assert row["predicted_flops"] == 0
        else:  # of each document one window is read, at each of two snapshots
            assert 0 < row["flops"] < 2 * row["predicted_flops"]


def test_a_second_time_nothing_is_trained_or_scored(swept):
    workspace = swept[0].sweep.scored.selection.workspace
    files = [*workspace.store.glob("runs/*/result.json"), *workspace.store.glob("scores/**/*")]
    times = {p: p.stat().st_mtime_ns for p in files}
    page = swept[0].page.read_text()
    again = run_sweep(workspace, say=lambda line: None)
    assert {p: p.stat().st_mtime_ns for p in files} == times
    assert again.page.read_text() == page
    assert again.sweep_id == swept[0].sweep_id


def test_what_a_sweep_rests_on_is_no_garbage_and_the_rest_is(swept, tmp_path):
    found = swept[0].sweep.scored.selection.workspace.store
    shutil.copytree(found, tmp_path / "store")
    store = tmp_path / "store"
    assert find_garbage(store, older_than_days=0) == []
    shutil.rmtree(store / "records" / "selection_scores")
    assert {g.kind for g in find_garbage(store, older_than_days=0)} == {"pool", "scores"}


def test_the_page_has_a_verdict_every_method_and_its_figures(swept):
    text = swept[0].page.read_text()
    for words in ("bm25", "perplexity", "gradient", "On the frontier", "Cost of selection"):
        assert words in text
    assert any(sentence in text for sentence in swept[0].sentences)
    for name in ("selection.png", "selection_overlap.png"):
        assert (swept[0].page.parent / name).read_bytes()[:4] == b"\x89PNG"


TASK = ROOT / "examples" / "tasks" / "python_next_line.yaml"


@pytest.mark.filterwarnings("ignore:.*longer than the model's context")
def test_accuracy_can_take_the_place_of_the_loss(swept, tmp_path):
    pytest.importorskip("lm_eval", reason="the extra `tasks` is not installed")
    workspace = swept[0].sweep.scored.selection.workspace
    points, path = accuracy_points(workspace, TASK, limit=4, say=lambda line: None)
    assert {p.performance for p in points["model"]} <= {0.0, 0.25, 0.5, 0.75, 1.0}
    assert len(read_points(path)) == 40


def test_accuracy_of_a_sweep_that_is_not_done_is_refused(tiny):
    write_settings(tiny)
    asked = ["select", "accuracy", "--experiment", str(tiny), "--task", str(TASK)]
    found = CliRunner().invoke(cli, asked)
    assert found.exit_code == 1
    assert "is not done" in found.output
    assert "mixture select run" in found.output


# --- pilot and bad input ----------------------------------------------------------------------


def test_a_pilot_trains_no_larger_share(tiny):
    settings = SETTINGS.replace('"bm25", "perplexity", "gradient"', '"bm25"')
    workspace = Workspace.open(write_settings(tiny, settings))
    summary = run_sweep(workspace, is_pilot=True, say=lambda line: None)
    done = [r.spec() for r in list_runs(workspace.store) if r.result()]
    labels = {h["label"] for h in done if h["purpose"] == "finetune"}
    assert labels == {
        f"{m} {s} % model seed {k}"
        for m in ("random", "bm25")
        for s in (10, 20, 35)
        for k in (0, 1)
    }
    assert len(summary.forecasts) == 1
    assert not summary.outcomes


def workspace_of(path, **changes):
    """An experiment with other settings of its selection."""
    e = load_experiment(path)
    return Workspace(dataclasses.replace(e, selection=dataclasses.replace(e.selection, **changes)))


def selection_of(path, **changes):
    workspace = workspace_of(path, **changes)
    return Selection.of(workspace, build_corpus(workspace))


def test_without_a_table_the_command_says_where_one_is(tiny):
    found = CliRunner().invoke(cli, ["select", "run", "--experiment", str(tiny)])
    assert found.exit_code == 1
    assert "no table [selection]" in found.output
    assert "examples/selection.toml" in found.output


def test_a_specialist_set_inside_the_pool_is_reported_and_removed(tiny):
    write_settings(tiny)
    text = "\n".join(json.dumps({"text": f"another green leaf {i}"}) for i in range(30))
    mixed = tiny.parent / "mixed"
    mixed.mkdir()
    shutil.copy(tiny.parent / "wishes" / "a.jsonl", mixed / "a.jsonl")
    (mixed / "b.jsonl").write_text(text)
    with pytest.warns(MixtureWarning, match="24 documents of the pool are in the specialist set"):
        selection = selection_of(tiny, pool="mixed")
    assert (selection.pool.n_leaked, selection.pool.n_documents) == (24, 30)
    paths = selection.pool.paths(selection.workspace.store).values()
    assert sum(pq.read_metadata(p).num_rows for p in paths) == 30


def test_a_pool_that_is_the_specialist_set_is_empty(tiny):
    write_settings(tiny)
    with pytest.raises(MixtureError, match="the pool is empty: of 24 documents, 24 are in"):
        selection_of(tiny, pool="wishes")


def test_an_unknown_domain_is_named(tiny):
    write_settings(tiny)
    with pytest.raises(MixtureError, match=r"names 'plant', .*did you mean 'plants'"):
        selection_of(tiny, domains=("plant",))


def test_a_share_below_one_window_is_one_sentence(tiny):
    settings = SETTINGS.replace('"bm25", "perplexity", "gradient"', '"bm25"').replace(
        "0.1, 0.2, 0.35", "0.0001, 0.2, 0.35"
    )
    workspace = Workspace.open(write_settings(tiny, settings))
    short = tiny.parent / "short"
    short.mkdir()
    rows = [{"text": f"{i} oak"} for i in range(200)]
    (short / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    e = workspace.experiment
    selection = dataclasses.replace(e.selection, pool=str(short))
    workspace = Workspace(dataclasses.replace(e, selection=selection))
    with pytest.raises(MixtureError, match=r"0.01 % of the pool by .* less than one window"):
        run_sweep(workspace, say=lambda line: None)


def test_a_model_with_another_vocabulary_is_refused_before_the_sweep(tiny, swept):
    base = swept[0].sweep.scored.base["model"]
    folder = RunFolder(swept[0].sweep.scored.selection.workspace.store, base.run_id).model_path
    config = json.loads((folder / "config.json").read_text())
    assert config["vocab_size"] == 320
    settings = SETTINGS + f'[selection.base]\nmodel = "{folder}"\n'
    text = write_settings(tiny, settings).read_text()
    tiny.write_text(text.replace("vocab_size = 320", "vocab_size = 330"))
    with pytest.raises(MixtureError, match="vocabulary of 320"):
        run_sweep(Workspace.open(tiny), say=lambda line: None)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("[0.1, 0.2, 0.35, 0.5, 1.0]", "[0.1, 0.2, 0.35, 0.5, 1.5]", "selection: shares .* <= 1"),
        ('"random", ', "", "with 'random' among them"),
        ('"gradient"', '"gradiant"', "selection: methods must be of random"),
        ("pilot_shares = [0.1, 0.2", "pilot_shares = [0.1, 0.3", "pilot_shares must be some of"),
        ("dimensions = 64", 'dimensions = 64\nselector = "big"', "selection: selector"),
        ("seeds = [0, 1]\nbase", "seeds = []\nbase", "selection: seeds"),
    ],
)
def test_a_mistake_in_the_table_names_its_key(tiny, old, new, words):
    write_settings(tiny, SETTINGS.replace(old, new))
    with pytest.raises(MixtureError, match=words):
        load_experiment(tiny)
