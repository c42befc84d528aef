"""What is left of a run that did not end well: a row in `orchestration_run`, and no stuck run.

Two sensors write the row; the reaper ends runs whose process is gone, so that `run_retries` of
dagster.yaml starts them again.
"""

import contextlib
import datetime
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import psutil
from dagster import DagsterEventType as Kind

from mixture_assets.core.errors import MixtureError
from mixture_assets.defs.resources import Lab
from mixture_assets.defs.steps import EXPERIMENT_TAG, STORE_TAG
from mixture_assets.store.records import write_record

_RETRY_TAG = "dagster/retry_number"
_SLACK_SECONDS = 60.0  # between a process's start and its first event, clocks included
_OUTSIDE = "marked as failed from outside"  # Dagster's words when it has no reason
_ENDED = ("STEP_SUCCESS", "STEP_FAILURE", "STEP_SKIPPED")


@dg.run_failure_sensor(
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=15,
    description="Leaves a row with the reason in table `orchestration_run` when a run fails.",
)
def failed(context: dg.RunFailureSensorContext, lab: Lab) -> None:
    """A failed run becomes a row."""
    record(context, lab, "failed")


@dg.run_status_sensor(
    run_status=dg.DagsterRunStatus.CANCELED,
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=15,
    description="Leaves a row in table `orchestration_run` when a run is terminated.",
)
def cancelled(context: dg.RunStatusSensorContext, lab: Lab) -> None:
    """A terminated run becomes a row."""
    record(context, lab, "cancelled")


def record(context: dg.RunStatusSensorContext, lab: Lab, status: str) -> None:
    """Write the row of one ended run, from its events alone."""
    run = context.dagster_run
    home = _home(context.instance, run, lab)
    if home is None:
        context.log.warning("no row about run %s: its store was never known", run.run_id)
        return
    experiment, store = home
    events = _events(context.instance, run.run_id)
    ending = _why(events, context.dagster_event.message or "", status)
    found = context.instance.get_run_record_by_id(run.run_id)
    row = {
        "dagster_run_id": run.run_id,
        "job": "materialize" if run.job_name.startswith("__") else run.job_name,
        "experiment": experiment,
        "status": status,
        "step": ending.step,
        "reason": ending.reason,
        "hint": ending.hint,
        "step_attempts": ending.attempts,
        "run_attempt": int(run.tags.get(_RETRY_TAG, 0)) + 1,
        "started_at": _time(found.start_time if found else None),
        "finished_at": _time(found.end_time if found else None),
    }
    write_record(store, "orchestration_run", run.run_id, {"orchestration_run": [row]})


def _home(instance: dg.DagsterInstance, run: dg.DagsterRun, lab: Lab) -> tuple[str, Path] | None:
    """Experiment and store that a run belongs to, also while its experiment file is broken.

    By its own tags, else by the file, else by the newest run that knew: a file that cannot be
    read is the reason of many a failure.
    """
    if STORE_TAG in run.tags:
        return run.tags[EXPERIMENT_TAG], Path(run.tags[STORE_TAG])
    with contextlib.suppress(MixtureError):
        workspace = lab.open()
        return workspace.experiment.name, workspace.store
    known = dict(instance.get_run_tags([STORE_TAG])).get(STORE_TAG, set())
    runs = instance.get_runs(dg.RunsFilter(tags={STORE_TAG: sorted(known)}), limit=1)
    return next(((r.tags[EXPERIMENT_TAG], Path(r.tags[STORE_TAG])) for r in runs), None)


@dataclass(frozen=True)
class Ending:
    """Why a run ended, in words."""

    reason: str
    hint: str | None = None
    step: str | None = None
    attempts: int | None = None  # how often the step was begun in this run


def _why(events: list[dg.DagsterEvent], message: str, status: str) -> Ending:
    """The first step that failed; without one, what Dagster says about the process."""
    failure = next((e for e in events if e.event_type is Kind.STEP_FAILURE), None)
    step = failure.step_key if failure else _running_step(events)
    begun = sum(
        e.step_key == step and e.event_type in (Kind.STEP_START, Kind.STEP_RESTARTED)
        for e in events
    )
    attempts = begun if step else None
    if status == "cancelled":
        return Ending("stopped on request", "start it again: it resumes", step, attempts)
    if failure is not None:
        return Ending(*_of_step(failure), step, attempts)
    if not message or _OUTSIDE in message:
        said = [e.message or "" for e in events if e.event_type is Kind.ENGINE_EVENT]
        message = said[-1] if said else message
    hint = "it is started again by itself, twice at most; finished training runs are kept"
    return Ending(_sentence(message), hint, step, attempts)


def _of_step(event: dg.DagsterEvent) -> tuple[str, str | None]:
    """Reason and hint of a step's failure: the user's mistake, or the error at its root."""
    data: Any = event.event_specific_data
    if data.user_failure_data is not None:
        told = {k: str(v.value) for k, v in data.user_failure_data.metadata.items()}
        return told.get("problem", data.user_failure_data.description or ""), told.get("hint")
    error = data.error
    while error is not None and error.cause is not None and error.cls_name != "MixtureError":
        error = error.cause
    text = _sentence(error.message) if error else "the step failed without an error"
    if error is not None and error.cls_name == "MixtureError":
        problem, _, hint = text.partition(": ")[2].partition(" hint: ")
        return problem, hint or None
    return text, "its log on the run's page has the whole error"


def _sentence(text: str) -> str:
    return " ".join(text.split())


def _running_step(events: list[dg.DagsterEvent]) -> str | None:
    """The step that had begun last and had not ended."""
    ended = {e.step_key for e in events if e.event_type_value in _ENDED}
    begun = [e.step_key for e in events if e.event_type is Kind.STEP_START]
    return next((step for step in reversed(begun) if step not in ended), None)


def _events(instance: dg.DagsterInstance, run_id: str) -> list[dg.DagsterEvent]:
    logs = instance.all_logs(run_id)
    return [log.dagster_event for log in logs if log.dagster_event is not None]


def _time(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


# --- runs without a process -------------------------------------------------------------------


@dg.sensor(
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=15,
    description="Ends runs whose process is gone, as after a restart of the machine.",
)
def reaper(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Report runs without a process: Dagster's launcher on one machine does not look."""
    gone = list(lost_runs(context.instance))
    for run, pid in gone:
        message = f"the process of this run (pid {pid}) is gone: killed, or the machine restarted"
        if run.status is dg.DagsterRunStatus.CANCELING:
            context.instance.report_run_canceled(run, message)
        else:
            context.instance.report_run_failed(run, message)
    return dg.SkipReason(f"{len(gone)} runs without a process")


def lost_runs(instance: dg.DagsterInstance) -> Iterator[tuple[dg.DagsterRun, int]]:
    """Runs that are under way by the records and not by the machine, with their process id."""
    statuses = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
    for run in instance.get_runs(dg.RunsFilter(statuses=statuses)):
        process = _process_of(instance, run.run_id)
        if process is None or is_alive(*process):
            continue
        # It may have ended since it was listed; the dead write no more, so this look is final.
        now = instance.get_run_by_id(run.run_id)
        if now is not None and now.status in statuses:
            yield now, process[0]


def _process_of(instance: dg.DagsterInstance, run_id: str) -> tuple[int, float] | None:
    """Process id of a run, and when it was told: every worker leaves an event with it."""
    for log in reversed(instance.all_logs(run_id, of_type=Kind.ENGINE_EVENT)):
        data: Any = log.dagster_event.event_specific_data if log.dagster_event else None
        pid = data.metadata.get("pid") if data is not None else None
        if pid is not None:
            return int(str(pid.value)), log.timestamp
    return None


def is_alive(pid: int, since: float) -> bool:
    """Whether the process with this id is the one that had it at a time, and lives.

    After a restart the id may be somebody else's, who then began later. A clock that was put
    forward looks the same; the second run then waits for the locks of the first.
    """
    try:
        process = psutil.Process(pid)
        is_same = process.create_time() < since + _SLACK_SECONDS
        return bool(is_same and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
