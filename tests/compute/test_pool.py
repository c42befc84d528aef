import dataclasses
import os
import signal
import threading
import time

import pytest

from mixture_assets.compute.pool import run_pool
from mixture_assets.core.errors import MachineError
from mixture_assets.corpus import Workspace, build_corpus
from mixture_assets.plans import plan_proxies
from mixture_assets.running import create_runs, train
from mixture_assets.store.runs import RunFolder


@pytest.fixture
def planned(tiny):
    workspace = Workspace.open(tiny)
    runs = plan_proxies(workspace, build_corpus(workspace))[:4]
    create_runs(workspace, runs)
    return workspace, runs


def lengthen(workspace, run, factor=40):
    tokens = {d: n * factor for d, n in run.spec.tokens.items()}
    long = dataclasses.replace(
        run, spec=dataclasses.replace(run.spec, tokens=tokens), purpose="full", label="long"
    )
    create_runs(workspace, [long])
    return long


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def test_trains_every_run_once_and_nothing_twice(planned):
    workspace, runs = planned
    settled = []
    ids = [r.run_id for r in runs]
    report = run_pool(workspace.store, ids, workers=2, on_settled=settled.append)
    assert sorted(settled) == sorted(report.done) == sorted(ids)
    stamps = [RunFolder(workspace.store, i).result_path.stat().st_mtime_ns for i in ids]

    again = run_pool(workspace.store, ids, workers=2)
    assert again.already_done == ids
    assert again.done == []
    assert stamps == [RunFolder(workspace.store, i).result_path.stat().st_mtime_ns for i in ids]


def test_a_killed_worker_costs_a_resume_and_not_the_result(planned, monkeypatch):
    """The same run, killed and undisturbed, in two stores."""
    monkeypatch.setenv("MIXTURE_CHECKPOINT_SECONDS", "0.2")
    workspace, runs = planned
    victim = lengthen(workspace, runs[0])
    folder = RunFolder(workspace.store, victim.run_id)
    checkpoint = folder.path / "checkpoint" / "latest.safetensors"
    killed = []

    def kill_once():
        wait_for(lambda: checkpoint.exists() and folder.holder_pid())
        killed.append(folder.holder_pid())
        os.kill(killed[0], signal.SIGKILL)

    thread = threading.Thread(target=kill_once)
    thread.start()
    report = run_pool(workspace.store, [victim.run_id], workers=1)
    thread.join()
    assert len(killed) == 1
    assert report.done == [victim.run_id]
    assert "resuming" in (folder.path / "log.txt").read_text()
    disturbed = folder.result()["losses"]

    folder.path.rename(workspace.store / "kept")
    create_runs(workspace, [victim])
    run_pool(workspace.store, [victim.run_id], workers=1)
    assert "resuming" not in (folder.path / "log.txt").read_text()
    assert folder.result()["losses"] == disturbed


def test_a_run_that_keeps_killing_its_worker_is_given_up_with_its_reason(planned):
    workspace, runs = planned
    victim = lengthen(workspace, runs[0], factor=400)
    folder = RunFolder(workspace.store, victim.run_id)
    stop = threading.Event()

    def keep_killing():
        while not stop.wait(0.05):
            pid = folder.holder_pid()
            if pid:
                with_suppress(pid)

    def with_suppress(pid):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    thread = threading.Thread(target=keep_killing)
    thread.start()
    try:
        ids = [victim.run_id, runs[1].run_id]
        report = run_pool(workspace.store, ids, workers=1, attempts=2)
    finally:
        stop.set()
        thread.join()
    assert report.done == [runs[1].run_id]
    assert report.failed[victim.run_id] == "its process was killed by signal 9 2 times"
    assert folder.status() == "failed"


def test_a_mistake_of_the_user_is_recorded_and_not_retried(planned):
    workspace, runs = planned
    wild_training = dataclasses.replace(runs[0].spec.training, learning_rate=1e30, clip_norm=1e30)
    spec = dataclasses.replace(runs[0].spec, training=wild_training)
    wild = dataclasses.replace(runs[0], spec=spec, label="wild")
    create_runs(workspace, [wild])
    report = run_pool(workspace.store, [wild.run_id, runs[1].run_id], workers=1)
    assert report.done == [runs[1].run_id]
    assert f"of run {wild.run_id} is nan at step" in report.failed[wild.run_id]
    failure = RunFolder(workspace.store, wild.run_id).failure()
    assert failure["status"] == "failed"
    assert "learning_rate" in failure["hint"]


def test_a_full_disk_is_told_apart_from_a_mistake(planned):
    """Every write of the run's metrics meets one; with room again the same call trains it."""
    workspace, runs = planned
    folder = RunFolder(workspace.store, runs[0].run_id)
    folder.metrics_path.symlink_to("/dev/full")
    with pytest.raises(MachineError, match="no space left"):
        train(workspace, runs[:1])
    folder.metrics_path.unlink()
    assert train(workspace, runs[:1]).done == [runs[0].run_id]


def test_an_interrupt_stops_the_workers_and_leaves_resumable_cancelled_rows(planned):
    workspace, runs = planned
    long = lengthen(workspace, runs[0], factor=400)
    folder = RunFolder(workspace.store, long.run_id)

    def on_settled(run_id):
        wait_for(lambda: folder.metrics_path.exists())
        raise KeyboardInterrupt

    create_runs(workspace, runs[1:2])
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_pool(workspace.store, [long.run_id, runs[1].run_id], workers=2, on_settled=on_settled)
    assert time.monotonic() - started < 60
    assert folder.status() == "cancelled"
    assert folder.failure()["reason"] == "stopped on request"
    assert (folder.path / "checkpoint" / "latest.safetensors").exists()
    assert not folder.is_locked()


def test_a_run_that_was_cancelled_elsewhere_is_still_to_be_trained(planned):
    workspace, runs = planned
    folder = RunFolder(workspace.store, runs[0].run_id)
    folder.write_failure("stopped on request", status="cancelled")
    assert run_pool(workspace.store, [runs[0].run_id], workers=1).done == [runs[0].run_id]
    assert folder.status() == "done"
