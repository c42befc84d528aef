"""What nothing refers to is listed, and goes only when asked."""

import json
import os
import shutil

import pytest
from click.testing import CliRunner

from mixture_assets import pipeline, running
from mixture_assets.cli import cli
from mixture_assets.core.errors import MixtureError
from mixture_assets.corpus import Workspace, build_corpus
from mixture_assets.garbage import find_garbage, remove
from mixture_assets.plans import plan_full_runs, plan_proxies
from mixture_assets.policy_runs import with_policies
from mixture_assets.refit import decide
from mixture_assets.specialist import with_specialist
from mixture_assets.store.query import query
from mixture_assets.store.runs import RunFolder, list_runs
from tests.trained import finish

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def searched(tiny_template, tmp_path_factory):
    """Proxy runs and weights; no full run."""
    folder = tmp_path_factory.mktemp("searched") / "tiny"
    shutil.copytree(tiny_template, folder)
    workspace = Workspace.open(folder / "tiny.toml")
    pipeline.refit(workspace, build_corpus(workspace))
    return folder


@pytest.fixture
def workspace(searched, tmp_path):
    shutil.copytree(searched, tmp_path / "tiny")
    return Workspace.open(tmp_path / "tiny" / "tiny.toml")


def tree(folder):
    return {str(p.relative_to(folder)): p.stat().st_size for p in folder.rglob("*") if p.is_file()}


def kinds(found):
    return sorted(g.kind for g in found)


def test_a_store_as_it_should_be_has_none(workspace):
    assert find_garbage(workspace.store, older_than_days=0) == []


def litter(workspace):
    """One of each kind, by the ways in which they come about."""
    store = workspace.store
    run = list_runs(store)[0]
    shutil.copytree(run.path, store / "runs" / "0123456789abcdef")  # nobody's
    header = run.spec() | {"run_id": "0123456789abcdef"}
    RunFolder(store, "0123456789abcdef").spec_path.write_text(json.dumps(header))
    (run.path / "checkpoint").mkdir()
    (run.path / "checkpoint" / "latest.safetensors").write_bytes(b"x" * 10)
    tokens = next((store / "tokens" / "plants").glob("*.npy"))
    shutil.copy(tokens, tokens.with_name("superseded.00000000.npy"))
    (store / "logs").mkdir(exist_ok=True)
    (store / "logs" / "worker-999999999-0.log").write_text("killed")
    (store / "runs" / ".result.json.999999999-01234567.tmp").write_text("{")
    (store / "runs" / f".result.json.{os.getpid()}-01234567.tmp").write_text("{")  # at work


def test_everything_is_found_and_nothing_is_removed_by_looking(workspace):
    litter(workspace)
    before = tree(workspace.store)
    found = find_garbage(workspace.store, older_than_days=0)
    assert kinds(found) == ["checkpoint", "log", "run", "temporary", "tokens"]
    assert all(g.n_bytes > 0 and g.reason for g in found)
    assert tree(workspace.store) == before


def test_what_is_removed_is_what_was_found_and_weights_stay_what_they_were(workspace):
    clean = tree(workspace.store)
    expected = pipeline.propose(workspace, build_corpus(workspace))
    litter(workspace)
    found = find_garbage(workspace.store, older_than_days=0)
    assert remove(workspace.store, found) == sum(g.n_bytes for g in found)
    left = {n for n in tree(workspace.store) if not n.startswith("mixture.duckdb")}
    at_work = f"runs/.result.json.{os.getpid()}-01234567.tmp"
    assert left - {at_work} == {n for n in clean if not n.startswith("mixture.duckdb")}
    assert find_garbage(workspace.store, older_than_days=0) == []
    assert pipeline.propose(workspace, build_corpus(workspace)) == expected
    (row,) = query(workspace.store, "SELECT count(*) FROM run").rows
    assert row == (16,)


def test_young_things_stay(workspace):
    litter(workspace)
    assert find_garbage(workspace.store, older_than_days=1) == []


def test_a_run_that_somebody_trains_stays(workspace):
    litter(workspace)
    run = RunFolder(workspace.store, "0123456789abcdef")
    with run.lock():
        found = find_garbage(workspace.store, older_than_days=0)
        assert "run" not in kinds(found)
    found = find_garbage(workspace.store, older_than_days=0)
    with run.lock():
        remove(workspace.store, found)
    assert run.spec_path.exists()


def test_models_of_proxy_runs_go_only_when_named_and_come_back_when_needed(workspace):
    """Needed: a domain lands, and the runs that are kept are to be measured on it."""
    losses = {run.run_id: run.result()["losses"] for run in list_runs(workspace.store)}
    found = find_garbage(workspace.store, older_than_days=0, models=True)
    assert kinds(found) == ["model"] * 16
    remove(workspace.store, found)
    assert running.missing_runs(workspace, plan_proxies(workspace, build_corpus(workspace))) == []

    add_songs(workspace)
    corpus = build_corpus(workspace)
    pipeline.refit(workspace, corpus, "extend")
    planned = {run.run_id: run for run in plan_proxies(workspace, corpus)}
    measured = [n for n in losses if n in planned and "songs" in measured_on(planned[n])]
    assert measured
    for name in measured:
        run = RunFolder(workspace.store, name)
        assert (run.model_path / "model.safetensors").exists()
        assert run.result()["losses"] == losses[name]
        assert set(run.losses(planned[name].measurement)) == measured_on(planned[name])


def measured_on(run):
    return set(run.measurement.validation_sets)


def add_songs(workspace):
    folder = workspace.store.parent / "raw" / "songs"
    folder.mkdir()
    rows = [json.dumps({"text": f"la {i} lu {i * i} " * 8}) for i in range(300)]
    (folder / "a.jsonl").write_text("\n".join(rows))


@pytest.fixture
def untrained(tiny):
    return Workspace.open(tiny)


def unused_runs(workspace):
    found = find_garbage(workspace.store, older_than_days=0)
    return sorted(g.path.name for g in found if g.kind == "run")


def ids(planned):
    return sorted(run.run_id for run in planned)


def test_runs_of_a_search_that_is_under_way_stay(untrained):
    corpus = build_corpus(untrained)
    planned = plan_proxies(untrained, corpus)
    running.create_runs(untrained, planned)
    finish(untrained, planned[:5])
    running.create_runs(untrained, planned)
    assert unused_runs(untrained) == []


def test_runs_of_a_plan_that_came_to_nothing_go(untrained):
    before = plan_proxies(untrained, build_corpus(untrained))
    running.create_runs(untrained, before)
    add_songs(untrained)
    after = plan_proxies(untrained, build_corpus(untrained))
    running.create_runs(untrained, after)
    assert unused_runs(untrained) == sorted(set(ids(before)) - set(ids(after)))
    shutil.rmtree(untrained.store.parent / "raw" / "songs")  # and the first plan is gone on with
    finish(untrained, plan_proxies(untrained, build_corpus(untrained))[:2])
    assert unused_runs(untrained) == sorted(set(ids(after)) - set(ids(before)))


def test_finished_full_runs_stay_evaluated_or_not(untrained):
    corpus = build_corpus(untrained)
    decide(untrained, corpus)
    finish(untrained, plan_proxies(untrained, corpus))
    _, proposal = pipeline.propose(untrained, corpus)
    full = plan_full_runs(untrained, corpus, proposal)
    finish(untrained, full)
    assert unused_runs(untrained) == []
    shutil.rmtree(untrained.store / "records" / "experiment_run")  # of no current plan either
    assert unused_runs(untrained) == []


def test_runs_that_a_comparison_rests_on_stay_whatever_they_were_first_asked_for(trained):
    _, workspace, _, _ = trained
    for kind in ("cost", "experiment_run"):
        shutil.rmtree(workspace.store / "records" / kind)
    for run in list_runs(workspace.store):
        run.spec_path.write_text(json.dumps(run.spec() | {"purpose": "proxy"}))
    assert unused_runs(workspace) == []


def test_what_an_unfinished_run_is_steered_by_stays(tiny):
    texts = [{"text": f"cat dog horse mouse bird fish {i}"} for i in range(8)]
    (tiny.parent / "wishes.jsonl").write_text("\n".join(map(json.dumps, texts)))
    tiny.write_text(f"{tiny.read_text()}\n[online.dga]\nupdate_steps = 2\n")
    workspace = with_specialist(Workspace.open(tiny), str(tiny.parent / "wishes.jsonl"))
    workspace = with_policies(workspace, ["dga"])
    running.create_runs(workspace, plan_full_runs(workspace, build_corpus(workspace), None))
    found = [g.path for g in find_garbage(workspace.store, older_than_days=0)]
    assert list(workspace.store.glob("token_sets/specialist/*.json"))
    assert not [path for path in found if "specialist" in str(path.relative_to(workspace.store))]


def test_a_negative_age_is_a_mistake(workspace):
    with pytest.raises(MixtureError, match="must be >= 0"):
        find_garbage(workspace.store, older_than_days=-1)


def test_the_command_shows_first_and_deletes_when_told(workspace):
    litter(workspace)
    path = str(workspace.store.parent / "tiny.toml")
    before = tree(workspace.store)

    def gc(*arguments):
        return CliRunner().invoke(
            cli, ["gc", "--experiment", path, "--older-than", "0", *arguments]
        )

    shown = gc()
    assert shown.exit_code == 0, shown.output
    assert "mixture gc --delete" in shown.output
    assert tree(workspace.store) == before
    rows = json.loads(gc("--json").stdout)["garbage"]
    assert {row["kind"] for row in rows} == {"checkpoint", "log", "run", "temporary", "tokens"}
    assert gc("--delete").exit_code == 0
    assert json.loads(gc("--json").stdout)["garbage"] == []
