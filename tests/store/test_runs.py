import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mixture_assets.core.errors import MixtureError
from mixture_assets.store.runs import MetricsLog, RunFolder, list_runs
from mixture_assets.store.status import run_table
from tests.store.fakes import append_rows, finished_run, header, spec, step_row, write_json

REPOSITORY = Path(__file__).parents[2]


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    )


def test_create_is_idempotent_and_keeps_the_first_header(tmp_path: Path) -> None:
    run = RunFolder(tmp_path, "r0")
    run.create(header("r0", label="first"))
    run.create(header("r0", label="second", created_at="2030-01-01T00:00:00Z"))
    assert run.spec()["label"] == "first"
    assert run.spec()["created_at"] == "2026-01-02T03:04:05Z"
    with pytest.raises(MixtureError, match="another specification"):
        run.create(header("r0", spec=spec(seed=7)))


def test_create_stamps_the_time_when_the_caller_does_not(tmp_path: Path) -> None:
    run = RunFolder(tmp_path, "r0")
    run.create({"purpose": "proxy", "spec": spec()})
    assert run.spec()["run_id"] == "r0"
    assert run.spec()["created_at"].endswith("Z")


@pytest.mark.parametrize("name", ["", "..", "a/b", ".hidden", "a\\b"])
def test_a_run_cannot_leave_its_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(MixtureError, match="is not a run"):
        RunFolder(tmp_path, name)


def test_missing_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(MixtureError, match="there is no run r9"):
        RunFolder(tmp_path, "r9").spec()


def test_status_follows_a_run_through_its_life(tmp_path: Path) -> None:
    run = RunFolder(tmp_path, "r0")
    run.create(header("r0"))
    assert run.status() == "planned"
    with run.lock() as is_mine:
        assert is_mine
        assert run.status() == "running"
        with MetricsLog(run) as log:
            log.append(step_row("r0", 1))
    assert run.status() == "interrupted"
    run.write_failure("the loss is nan at step 7", hint="lower the learning rate", attempts=2)
    assert run.status() == "failed"
    failure = run.failure()
    assert failure is not None
    assert (failure["reason"], failure["attempts"]) == ("the loss is nan at step 7", 2)
    run.write_failure("stopped on request", status="cancelled")
    assert run.status() == "cancelled"
    with run.lock():
        assert run.status() == "running"
    run.write_result({"losses": {}})
    assert run.status() == "done"
    assert run.failure() is None
    assert not run.failure_path.exists()
    result = run.result()
    assert result is not None
    assert (result["run_id"], result["status"]) == ("r0", "done")


def test_checkpoint_alone_is_an_interrupted_run(tmp_path: Path) -> None:
    run = RunFolder(tmp_path, "r0")
    run.create(header("r0"))
    (run.path / "checkpoint").mkdir()
    assert run.status() == "interrupted"


def test_clear_failure_gives_another_chance(tmp_path: Path) -> None:
    run = RunFolder(tmp_path, "r0")
    run.create(header("r0"))
    run.write_failure("out of memory")
    run.clear_failure()
    run.clear_failure()
    assert run.status() == "planned"


HOLD = """
import sys, time
from pathlib import Path
from mixture_assets.store.runs import RunFolder
with RunFolder(Path(sys.argv[1]), "r0").lock() as is_mine:
    print(is_mine, flush=True)
    time.sleep(60)
"""


def test_lock_is_exclusive_between_processes_and_dies_with_its_holder(tmp_path: Path) -> None:
    run = RunFolder(tmp_path, "r0")
    run.create(header("r0"))
    assert run.holder_pid() is None
    holder = start(HOLD, tmp_path)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "True\n"
        with run.lock() as is_mine:
            assert not is_mine
        assert run.status() == "running"
        assert run.holder_pid() == holder.pid
    finally:
        holder.kill()
        holder.wait()
    assert run.status() == "planned"
    assert run.holder_pid() == holder.pid  # it died over it: that is who to blame
    with run.lock() as is_mine:
        assert is_mine
    assert run.holder_pid() is None


def test_looking_at_the_status_never_costs_a_trainer_its_lock(tmp_path: Path) -> None:
    run = RunFolder(tmp_path, "r0")
    run.create(header("r0"))
    watcher = start(
        "import sys; from pathlib import Path\n"
        "from mixture_assets.store.runs import RunFolder\n"
        "run = RunFolder(Path(sys.argv[1]), 'r0'); print('up', flush=True)\n"
        "while True: run.status()",
        tmp_path,
    )
    try:
        assert watcher.stdout is not None
        watcher.stdout.readline()
        for _ in range(300):
            with run.lock() as is_mine:
                assert is_mine
    finally:
        watcher.kill()
        watcher.wait()


def test_torn_line_is_closed_before_the_next_row(tmp_path: Path) -> None:
    run = RunFolder(tmp_path, "r0")
    append_rows(run.metrics_path, [step_row("r0", 1)])
    with open(run.metrics_path, "a") as file:
        file.write('{"kind": "step", "run_id": "r0", "st')
    with MetricsLog(run) as log:
        log.append(step_row("r0", 2))
        log.sync()
    assert [row["step"] for row in run.metrics()] == [1, 2]
    assert run.metrics_path.read_text().count("\n") == 3


def test_numbers_that_json_cannot_say_become_null(tmp_path: Path) -> None:
    run = RunFolder(tmp_path, "r0")
    with MetricsLog(run) as log:
        log.append(step_row("r0", 1) | {"grad_norm": float("inf")})
    log.close()
    assert [row["grad_norm"] for row in run.metrics()] == [None]
    assert list(RunFolder(tmp_path, "r1").metrics()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_disk_while_logging_names_the_file() -> None:
    log = MetricsLog(Path("/dev/full"))
    with pytest.raises(MixtureError, match="no space left while writing /dev/full"):
        log.append({"step": 1})


WRITE = """
import sys
from pathlib import Path
from mixture_assets.store.runs import MetricsLog, RunFolder
with MetricsLog(RunFolder(Path(sys.argv[1]), "r0")) as log:
    for step in range(int(sys.argv[2]), 10**9):
        log.append({"kind": "step", "run_id": "r0", "step": step, "loss_nats": 1.0})
        print(step, flush=True)
"""


def test_sigkill_loses_no_acknowledged_row(tmp_path: Path) -> None:
    run = RunFolder(tmp_path, "r0")
    run.create(header("r0"))
    acknowledged = 0
    for _ in range(3):
        writer = start(WRITE, tmp_path, acknowledged + 1)
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(0.05)
        writer.send_signal(signal.SIGKILL)
        lines = [line for line in writer.stdout.read().split("\n")[:-1] if line]
        writer.wait()
        acknowledged = int(lines[-1]) if lines else acknowledged + 1
    steps = {row["step"] for row in run.metrics()}
    assert steps >= set(range(1, acknowledged + 1))


def test_list_runs_passes_over_what_is_no_run(tmp_path: Path) -> None:
    finished_run(tmp_path, "r1")
    finished_run(tmp_path, "r0")
    (tmp_path / "runs" / "empty").mkdir()
    write_json(tmp_path / "runs" / ".hidden" / "spec.json", header("x"))
    assert [run.run_id for run in list_runs(tmp_path)] == ["r0", "r1"]
    assert list_runs(tmp_path / "nowhere") == []
    assert json.loads((tmp_path / "runs/r1/spec.json").read_text()) == list_runs(tmp_path)[1].spec()


def test_run_table_has_a_row_a_run(store: Path) -> None:
    RunFolder(store, "r0").result_path.unlink()
    RunFolder(store, "r0").write_failure("the loss is nan at step 7")
    rows = run_table(store)
    assert [row["purpose"] for row in rows] == ["full"] * 2 + ["proxy"] * 3
    (failed,) = [row for row in rows if row["status"] != "done"]
    assert (failed["status"], failed["reason"]) == ("failed", "the loss is nan at step 7")
    assert failed["budget_tokens"] == 1920
