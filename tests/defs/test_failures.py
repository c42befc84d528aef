"""A run that does not end well leaves a row; a run without a process is ended."""

import os
import shutil
import signal
import subprocess
import sys
import time

import dagster as dg
import pytest
from dagster import DagsterEvent, DagsterEventType
from dagster._core.events import EngineEventData

from mixture_assets.defs import failures
from mixture_assets.defs.resources import Lab
from mixture_assets.store.query import query

ROWS = "SELECT * FROM orchestration_run"


def rows_after(graph, run_id, sensor, kind):
    """What the sensor leaves of a run."""
    event = next(log.dagster_event for log in graph.instance.all_logs(run_id, of_type=kind))
    context = dg.build_run_status_sensor_context(
        sensor_name="failed",
        dagster_event=event,
        dagster_instance=graph.instance,
        dagster_run=graph.instance.get_run_by_id(run_id),
        resources={"lab": Lab(experiment=str(graph.experiment))},
    )
    if kind is DagsterEventType.RUN_FAILURE:
        context = context.for_run_failure()
    sensor(context)
    return query(graph.store, ROWS).to_dicts()


def failed_row(graph, run_id):
    (row,) = rows_after(graph, run_id, failures.failed, DagsterEventType.RUN_FAILURE)
    return row


def test_a_mistake_of_the_user_leaves_its_problem_and_hint(fresh):
    shutil.rmtree(fresh.experiment.parent / "raw" / "plants")
    result = fresh.run("shards", raise_on_error=False)
    row = failed_row(fresh, result.run_id)
    assert row["dagster_run_id"] == result.run_id
    assert row["status"] == "failed"
    assert row["step"] == "shards"
    assert row["job"] == "materialize"
    assert row["experiment"] == "tiny"
    assert row["reason"].startswith("no raw data for 'plants'")
    assert "put its folder back" in row["hint"]
    assert (row["step_attempts"], row["run_attempt"]) == (1, 1)
    assert row["finished_at"] >= row["started_at"]


def test_a_second_look_leaves_one_row(fresh):
    shutil.rmtree(fresh.experiment.parent / "raw" / "plants")
    result = fresh.run("shards", raise_on_error=False)
    assert failed_row(fresh, result.run_id) == failed_row(fresh, result.run_id)


def test_a_broken_experiment_file_is_named_by_the_step(fresh):
    """And leaves its row while it is broken: where the store is, an earlier run knew."""
    assert fresh.run("shards").success
    text = fresh.experiment.read_text()
    fresh.experiment.write_text(text.replace("max_epochs = 20", "max_epochs = -1"))
    result = fresh.run("shards", raise_on_error=False)
    row = failed_row(fresh, result.run_id)
    assert "max_epochs" in row["reason"]
    assert row["experiment"] == "tiny"


def test_a_run_whose_store_nobody_knows_leaves_no_row_and_stops_no_sensor(fresh):
    fresh.experiment.write_text("not = [toml")
    result = fresh.run("shards", raise_on_error=False)
    kind = DagsterEventType.RUN_FAILURE
    assert rows_after(fresh, result.run_id, failures.failed, kind) == []


def test_a_mistake_that_a_check_meets_is_told_as_well(fresh):
    assert fresh.run("validation_set", partitioned=False).success
    (path,) = (fresh.store / "corpora").glob("*.json")
    path.write_text("{")
    selection = dg.AssetSelection.checks(
        dg.AssetCheckKey(dg.AssetKey("validation_set"), "token_audit")
    )
    result = fresh.execute(selection, partitioned=False, raise_on_error=False)
    assert not result.success
    row = failed_row(fresh, result.run_id)
    assert row["step"] == "validation_set_token_audit"
    assert path.name in row["reason"]
    assert "Traceback" not in row["reason"]


def test_a_fault_of_the_machine_says_what_the_machine_said(fresh):
    shutil.rmtree(fresh.store / "tokens")
    (fresh.store / "tokens").write_text("a file where a folder belongs")

    @failures_in_a_row
    def step():
        (fresh.store / "tokens" / "plants").mkdir(parents=True)

    result = dg.materialize([step], instance=fresh.instance, raise_on_error=False)
    row = failed_row(fresh, result.run_id)
    assert row["reason"].startswith(("NotADirectoryError", "FileExistsError"))
    assert row["step_attempts"] == 3


def failures_in_a_row(function):
    from mixture_assets.defs.steps import asset

    return asset(retries=dg.RetryPolicy(max_retries=2, delay=0.01))(function)


# --- runs without a process -------------------------------------------------------------------


@dg.op
def nothing(): ...


@dg.job
def idle():
    nothing()


@pytest.fixture
def process():
    """Somebody's process, to be killed."""
    made = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield made
    made.kill()
    made.wait()


def begin(instance, pid, status=dg.DagsterRunStatus.STARTED, tags=None):
    """A run as its worker leaves it under way."""
    run = instance.create_run_for_job(idle, status=dg.DagsterRunStatus.NOT_STARTED, tags=tags)
    instance.report_engine_event("Started process for run", run, EngineEventData.in_process(pid))
    for kind in (DagsterEventType.RUN_STARTING, DagsterEventType.RUN_START):
        event = DagsterEvent(event_type_value=kind.value, job_name="idle")
        instance.report_dagster_event(event, run.run_id)
    if status is dg.DagsterRunStatus.CANCELING:
        instance.report_run_canceling(run)
    assert instance.get_run_by_id(run.run_id).status is status
    return run.run_id


def look(instance):
    failures.reaper(dg.build_sensor_context(instance=instance))


def test_a_run_with_a_living_process_is_left_alone(instance, process):
    run_id = begin(instance, process.pid)
    look(instance)
    assert instance.get_run_by_id(run_id).status is dg.DagsterRunStatus.STARTED


@pytest.mark.parametrize(
    ("status", "ending"),
    [
        (dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.FAILURE),
        (dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.CANCELED),
    ],
)
def test_a_run_whose_process_was_killed_is_ended(instance, process, status, ending):
    run_id = begin(instance, process.pid, status)
    os.kill(process.pid, signal.SIGKILL)
    while process.returncode is None and not is_zombie(process.pid):
        time.sleep(0.01)
    look(instance)
    assert instance.get_run_by_id(run_id).status is ending
    look(instance)
    kinds = [log.dagster_event.event_type_value for log in instance.all_logs(run_id)]
    assert kinds.count("PIPELINE_FAILURE") + kinds.count("PIPELINE_CANCELED") == 1


def is_zombie(pid):
    import psutil

    return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_a_run_that_ends_while_the_reaper_looks_keeps_its_ending(instance, process):
    """It is listed as started; by the time that its process is looked for, both are over."""
    run_id = begin(instance, process.pid)
    process.kill()
    process.wait()

    class Late:
        """The instance, whose log takes so long to read that the run ends meanwhile."""

        def all_logs(self, *arguments, **options):
            event = DagsterEvent(
                event_type_value=DagsterEventType.RUN_SUCCESS.value, job_name="idle"
            )
            instance.report_dagster_event(event, run_id)
            return instance.all_logs(*arguments, **options)

        def __getattr__(self, name):
            return getattr(instance, name)

    assert list(failures.lost_runs(Late())) == []
    assert instance.get_run_by_id(run_id).status is dg.DagsterRunStatus.SUCCESS


def test_a_process_id_that_went_to_somebody_else_does_not_count(process):
    """As after a restart: the id is there, and younger than the run."""
    assert failures.is_alive(process.pid, time.time())
    assert not failures.is_alive(process.pid, time.time() - 3600)


def test_a_reaped_run_leaves_a_row_that_says_so(fresh, process):
    run_id = begin(fresh.instance, process.pid)
    process.kill()
    process.wait()
    look(fresh.instance)
    row = failed_row(fresh, run_id)
    assert row["reason"].startswith(f"the process of this run (pid {process.pid}) is gone")
    assert row["job"] == "idle"
    assert "started again" in row["hint"]
