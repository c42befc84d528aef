"""The main job under faults of the machine: a full disk, a restart, a clock that jumps, a stop."""

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from mixture_assets import running
from mixture_assets.corpus import Workspace, build_corpus
from mixture_assets.pipeline import run_all
from mixture_assets.plans import PlannedRun, plan_proxies
from mixture_assets.running import create_runs
from mixture_assets.store.query import query
from mixture_assets.store.runs import RunFolder, list_runs
from mixture_assets.store.status import run_table

pytestmark = pytest.mark.slow

PROGRAM = "from mixture_assets.cli import main; main()"
POOL = """
import sys
from pathlib import Path
from mixture_assets.compute.pool import run_pool
run_pool(Path(sys.argv[1]), sys.argv[2:], workers=1)
"""


@pytest.fixture(scope="module")
def finished_once(tiny_template, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "tiny"
    shutil.copytree(tiny_template, folder)
    path = folder / "tiny.toml"
    path.write_text(path.read_text().replace("seeds = [0, 1]", "seeds = [0]"))
    run_all(Workspace.open(path))
    return folder


@pytest.fixture
def finished(finished_once, tmp_path):
    """The experiment file of a private copy that was run to its end."""
    shutil.copytree(finished_once, tmp_path / "tiny")
    return tmp_path / "tiny" / "tiny.toml"


def start(*command, checkpoint_seconds=0.1):
    return subprocess.Popen(
        [sys.executable, "-c", *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"MIXTURE_CHECKPOINT_SECONDS": str(checkpoint_seconds)},
    )


def start_job(path):
    return start(PROGRAM, "run", "--json", "--experiment", path)


def wait_for(condition, seconds=90):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def bits(store):
    """What a store's finished runs ended in: losses, and the bytes of their models."""
    found = {}
    for run in list_runs(store):
        result = run.result()
        if result is not None:
            models = sorted((run.path / "model").glob("*.safetensors"))
            found[run.run_id] = (result["losses"], [p.read_bytes() for p in models])
    return found


def lengthened(workspace, n_tokens, **training):
    """A run of the tiny experiment, made so long that it can be hit."""
    run = plan_proxies(workspace, build_corpus(workspace))[0]
    spec = dataclasses.replace(
        run.spec,
        tokens=dict.fromkeys(run.spec.tokens, n_tokens),
        training=dataclasses.replace(run.spec.training, **training),
    )
    long = PlannedRun(spec, run.measurement, "full", "long")
    create_runs(workspace, [long])
    return RunFolder(workspace.store, long.run_id), long


def end_all(process):
    """What a restart of the machine does to them."""
    workers = children(process.pid)
    process.kill()
    for worker in workers:
        os.kill(worker, signal.SIGKILL)
    process.communicate()
    wait_for(lambda: not set(workers) & all_pids())


def children(pid):
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True)
    return [int(child) for child in found.stdout.split() if int(child) in all_pids()]


def all_pids():
    return {int(name) for name in os.listdir("/proc") if name.isdigit()}


# --- a restart --------------------------------------------------------------------------------


def test_a_machine_that_restarts_in_a_full_run_costs_the_steps_since_the_checkpoint(tiny):
    """Everything dies; old locks, half-written files and a clock gone wrong are left behind."""
    workspace = Workspace.open(tiny)
    folder, run = lengthened(workspace, 20_000)
    pool = start(POOL, workspace.store, run.run_id)
    checkpoint = folder.path / "checkpoint" / "latest.safetensors"
    wait_for(checkpoint.exists)
    end_all(pool)
    assert folder.status() == "interrupted"

    folder.lock_path.write_text("1")  # a process id that is somebody else's by now
    half = checkpoint.read_bytes()[: checkpoint.stat().st_size // 2]
    (checkpoint.parent / ".latest.safetensors.1-00.tmp").write_bytes(half)
    (folder.path / ".result.json.1-00.tmp").write_text('{"status": "done", "los')
    (folder.path / ".model.1-00.tmp").mkdir()
    with open(folder.metrics_path, "ab") as file:
        file.write(b'{"kind": "step", "run_id"' + b"\0" * 100)  # what a file system may leave
    for path in workspace.store.rglob("*"):
        os.utime(path, (4e9, 4e9))  # 2096: the battery was empty

    assert start(POOL, workspace.store, run.run_id).wait(120) == 0
    assert "resuming" in (folder.path / "log.txt").read_text()
    disturbed = bits(workspace.store)[run.run_id]
    steps = {row["step"] for row in folder.metrics() if row["kind"] == "step"}
    assert steps == set(range(1, folder.result()["steps"] + 1))
    [(n_rows,)] = query(workspace.store, "SELECT count(*) FROM step_metric").rows
    assert n_rows == len(steps)

    shutil.rmtree(folder.path)
    create_runs(workspace, [run])
    assert start(POOL, workspace.store, run.run_id).wait(120) == 0
    assert bits(workspace.store)[run.run_id] == disturbed


# --- a stop -----------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_job_is_gone_in_10_seconds_and_resumes_to_the_same_bits(tiny, number):
    tiny.write_text(tiny.read_text().replace("[2048, 6144]", "[2048, 40_000]"))
    job = start_job(tiny)
    store = tiny.parent / "store"
    wait_for(lambda: any(r.path.joinpath("checkpoint").exists() for r in list_runs(store)))
    workers = children(job.pid)
    asked = time.monotonic()
    job.send_signal(number)
    _, messages = job.communicate(timeout=60)
    assert time.monotonic() - asked < 10
    assert job.returncode == 130
    assert "stopped; start again to resume" in messages
    assert "Traceback" not in messages
    assert workers
    assert not set(workers) & all_pids()
    cancelled = [row for row in run_table(store) if row["status"] == "cancelled"]
    assert cancelled
    assert {row["reason"] for row in cancelled} == {"stopped on request"}
    sql = "SELECT count(*) FROM run WHERE status = 'cancelled'"
    assert query(store, sql).rows == [(len(cancelled),)]

    ids = [row["run_id"] for row in cancelled]
    assert start(POOL, store, *ids).wait(120) == 0
    resumed = {run_id: bits(store)[run_id] for run_id in ids}
    assert any("resuming" in RunFolder(store, i).path.joinpath("log.txt").read_text() for i in ids)
    workspace = Workspace.open(tiny)
    again = [r for r in plan_proxies(workspace, build_corpus(workspace)) if r.run_id in ids]
    for run_id in ids:
        shutil.rmtree(store / "runs" / run_id)
    create_runs(workspace, again)
    assert start(POOL, store, *ids).wait(120) == 0
    assert {run_id: bits(store)[run_id] for run_id in ids} == resumed


@pytest.mark.parametrize(("interrupts", "seconds"), [(1, 10), (2, 5)])
def test_a_stop_in_a_step_that_takes_long(tiny, interrupts, seconds):
    """The worker cannot answer, so it is killed: after a grace, or at the second request."""
    workspace = Workspace.open(tiny)
    folder, run = lengthened(workspace, 2_000_000, batch_tokens=5_000_000)
    pool = start(POOL, workspace.store, run.run_id)
    wait_for(lambda: folder.status() == "running")
    time.sleep(6)  # into the step
    (worker,) = children(pool.pid)
    asked = time.monotonic()
    for _ in range(interrupts):
        pool.send_signal(signal.SIGINT)
        time.sleep(1)
    pool.communicate(timeout=60)
    assert time.monotonic() - asked < seconds
    assert worker not in all_pids()
    assert not list(folder.metrics()), "the step was over: this tests nothing"
    assert folder.status() == "cancelled"


def test_a_stop_is_not_told_of_runs_that_another_pool_trains(tiny):
    workspace = Workspace.open(tiny)
    theirs, _ = lengthened(workspace, 1_000_000)
    ours, _ = lengthened(workspace, 1_000_001)
    other = start(POOL, workspace.store, theirs.run_id)
    wait_for(lambda: theirs.status() == "running")
    pool = start(POOL, workspace.store, theirs.run_id, ours.run_id)
    try:
        wait_for(ours.metrics_path.exists)
        pool.send_signal(signal.SIGINT)
        pool.communicate(timeout=60)
        assert (ours.status(), theirs.status()) == ("cancelled", "running")
        assert theirs.failure() is None
    finally:
        end_all(pool)
        end_all(other)


# --- a full disk ------------------------------------------------------------------------------

MOUNT = ["unshare", "-rm", "sh", "-c"]
GROW = """
mount -t tmpfs -o size=64k none "$1"
for size in 64k 160k 256k 512k 1200k 32m; do
  mount -o remount,size=$size none "$1"
  "$2" -c "$3" run --json --experiment "$4" >"$5/$size.json" 2>"$5/$size.txt"
  echo $? >"$5/$size.code"
  find "$1" -name '*.tmp' >"$5/$size.left"
done
cp -r "$1" "$5/store"
"""


def can_mount():
    trial = [*MOUNT, 'mount -t tmpfs none "$0"', "/mnt"]
    try:
        return subprocess.run(trial, capture_output=True, timeout=10).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


@pytest.mark.skipif(not can_mount(), reason="needs a user namespace to mount a small disk")
def test_a_disk_that_is_full_at_every_stage_is_one_sentence_and_costs_nothing(finished, tmp_path):
    """The disk grows a little after each failure, so that every writer meets its end in turn."""
    logs, store = tmp_path / "logs", finished.parent / "store"
    expected = bits(store)
    shutil.rmtree(store)
    store.mkdir()
    logs.mkdir()
    arguments = [store, sys.executable, PROGRAM, finished, logs]
    environment = os.environ | {"MIXTURE_CHECKPOINT_SECONDS": "0.05"}
    subprocess.run([*MOUNT, GROW, "sh", *arguments], check=True, env=environment)

    codes = {path.stem: path.read_text().strip() for path in logs.glob("*.code")}
    failed = [size for size, code in codes.items() if code != "0"]
    assert len(failed) >= 4, codes
    assert codes["32m"] == "0", (logs / "32m.txt").read_text()
    for size in failed:
        messages = (logs / f"{size}.txt").read_text()
        assert codes[size] == "1", messages
        assert "no space left while writing" in messages
        assert "hint: free some space" in messages
        assert "Traceback" not in messages
        assert not (logs / f"{size}.left").read_text()
    assert bits(logs / "store") == expected


# --- what a killed process left for the next --------------------------------------------------


def test_a_report_is_never_older_than_the_runs_that_it_is_about(finished):
    """Stopped after the last training and before the report: the next call writes it."""
    workspace = Workspace.open(finished)
    summary = run_all(workspace)
    run = summary.full_runs[0]
    shutil.rmtree(RunFolder(workspace.store, run.run_id).path)
    for page in (summary.report.html, summary.report.markdown):
        page.write_text(f"an old page about {summary.proposal_id}")

    def stop(settled):
        if settled.run_id == run.run_id:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_all(workspace, on_settled=stop)
    assert running.result_of(workspace, run) is not None
    again = run_all(workspace)
    assert again.n_trained == 0
    assert run.label in again.report.markdown.read_text()
    assert "an old page" not in again.report.html.read_text()


def test_wall_clocks_that_jump_between_runs_train_nothing_again(finished):
    workspace = Workspace.open(finished)
    done = run_all(workspace)
    losses = bits(workspace.store)
    for stamp in (0, 4e9):
        for path in finished.parent.rglob("*"):
            os.utime(path, (stamp, stamp))
        again = run_all(workspace)
        assert again.n_trained == 0
        assert again.proposal_id == done.proposal_id
        assert bits(workspace.store) == losses
        rows = query(workspace.store, "SELECT count(*), count(DISTINCT run_id) FROM run").rows
        assert rows == [(len(losses), len(losses))]
