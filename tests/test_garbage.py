"""What nothing refers to is listed, and goes only when asked."""

import json
import os
import shutil

import pytest
from click.testing import CliRunner

from mixture_assets import pipeline
from mixture_assets.cli import cli
from mixture_assets.core.errors import MixtureError
from mixture_assets.corpus import Workspace, build_corpus
from mixture_assets.garbage import find_garbage, remove
from mixture_assets.store.query import query
from mixture_assets.store.runs import RunFolder, list_runs

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
    found = find_garbage(workspace.store, older_than_days=0, models=True)
    assert kinds(found) == ["model"] * 16
    remove(workspace.store, found)
    assert (
        pipeline.missing_runs(workspace, pipeline.plan_proxies(workspace, build_corpus(workspace)))
        == []
    )


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
