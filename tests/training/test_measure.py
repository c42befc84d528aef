"""A finished run, measured on what nobody asked for when it was trained."""

import dataclasses
import io
import shutil

import pytest

from mixture_assets.compute.pool import run_pool
from mixture_assets.corpus import Workspace, build_corpus
from mixture_assets.plans import plan_proxies
from mixture_assets.running import create_runs, missing_runs, result_of
from mixture_assets.store.query import query
from mixture_assets.store.runs import RunFolder
from mixture_assets.training import worker

DOMAINS = ("animals", "numbers", "plants")


@pytest.fixture
def trained(tiny):
    """A run trained while only animals and numbers were known; and the run as asked for now."""
    workspace = Workspace.open(tiny)
    now = plan_proxies(workspace, build_corpus(workspace))[-1]
    sets = {d: now.measurement.validation_sets[d] for d in ("animals", "numbers")}
    then = dataclasses.replace(
        now, measurement=dataclasses.replace(now.measurement, validation_sets=sets)
    )
    create_runs(workspace, [then])
    run_pool(workspace.store, [then.run_id], workers=1)
    return workspace, then, now


def train_here(workspace, run, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(run.run_id))
    return worker.main([str(workspace.store)])


def test_what_a_run_is_measured_on_does_not_change_its_name(trained):
    _, then, now = trained
    assert then.run_id == now.run_id


def test_only_the_missing_losses_are_measured_and_they_are_those_of_a_run_that_had_them(trained):
    workspace, then, now = trained
    assert missing_runs(workspace, [then]) == []
    assert missing_runs(workspace, [now]) == [now]
    create_runs(workspace, [now])
    folder = RunFolder(workspace.store, now.run_id)
    stamp = folder.result_path.stat().st_mtime_ns
    report = run_pool(workspace.store, [now.run_id], workers=1)
    assert report.done == [now.run_id]
    assert folder.result_path.stat().st_mtime_ns == stamp, "it was trained again"
    found = result_of(workspace, now)["losses"]
    assert set(found) == set(DOMAINS)
    assert [p.suffix for p in folder.losses_path.iterdir()] == [".json"]

    shutil.rmtree(folder.path)  # the same run, asked for everything from the start
    create_runs(workspace, [now])
    run_pool(workspace.store, [now.run_id], workers=1)
    assert RunFolder(workspace.store, now.run_id).result()["losses"] == found


def test_a_later_loss_is_a_row_beside_the_first_ones(trained):
    workspace, _, now = trained
    create_runs(workspace, [now])
    run_pool(workspace.store, [now.run_id], workers=1)
    rows = query(
        workspace.store, "SELECT domain, validation_id FROM evaluation WHERE is_final ORDER BY 1"
    ).rows
    assert rows == [(d, now.measurement.validation_sets[d]) for d in DOMAINS]


def test_a_run_whose_model_was_deleted_is_trained_again_to_the_same_bits(trained):
    workspace, _, now = trained
    folder = RunFolder(workspace.store, now.run_id)
    model = (folder.model_path / "model.safetensors").read_bytes()
    before = folder.result()["losses"]
    shutil.rmtree(folder.model_path)
    create_runs(workspace, [now])
    run_pool(workspace.store, [now.run_id], workers=1)
    assert (folder.model_path / "model.safetensors").read_bytes() == model
    assert folder.result()["losses"] == before
    assert set(result_of(workspace, now)["losses"]) == set(DOMAINS)


def test_validation_documents_that_are_gone_are_named_and_the_run_stays_done(trained, monkeypatch):
    workspace, then, now = trained
    create_runs(workspace, [now])
    shutil.rmtree(workspace.store / "validation" / "plants")
    assert train_here(workspace, now, monkeypatch) == 0
    folder = RunFolder(workspace.store, now.run_id)
    assert "plants" in folder.failure()["reason"]
    assert result_of(workspace, then) is not None
