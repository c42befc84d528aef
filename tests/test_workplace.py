"""Two trainings launched at once, and a machine that dies under one of them."""

import contextlib
import os
import shutil
import signal

import psutil
import pytest

from mixture_assets.store.query import query
from tests.browser import MARKS, launch, serving, status, wait_until

pytestmark = MARKS

DOMAINS = ("animals", "numbers", "plants")
PREPARED = ("shards", "tokenizer", "tokens", "validation_set")
RUNS = "{ runsOrError { ... on Runs { results { runId parentRunId } } } }"


@pytest.fixture(scope="module")
def experiment(tiny_template, tmp_path_factory):
    """Proxy runs whose budget no test waits for."""
    folder = tmp_path_factory.mktemp("work")
    shutil.copytree(tiny_template / "raw", folder / "raw")
    settings = (tiny_template / "tiny.toml").read_text()
    settings = settings.replace("[2048, 6144]", "[20_000_000, 60_000_000]")
    path = folder / "tiny.toml"
    path.write_text(settings.replace("max_epochs = 20", "max_epochs = 1e6"))
    return path


def ended(server, run, expected, seconds=180):
    wait_until(lambda: status(server, run) == expected, f"{expected} of {run}", seconds=seconds)


def terminate(server, run):
    server.ask("mutation($id: String!) { terminateRun(runId: $id) { __typename } }", id=run)
    ended(server, run, "CANCELED", seconds=60)


def row_of(server, run):
    """What the sensors left of a run."""
    sql = f"SELECT * FROM orchestration_run WHERE dagster_run_id = '{run}'"
    store = server.experiment.parent / "store"
    (row,) = wait_until(lambda: query(store, sql).to_dicts(), "a row", seconds=120)
    return row


def processes(experiment):
    """Those of this server."""
    home, found = str((experiment.parent / "dagster_home").resolve()), []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("DAGSTER_HOME") == home:
                found.append(process.pid)
    return found


def cut_the_power(experiment):
    """Every process of this server, at once, without a word."""
    for pid in processes(experiment):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def retry_of(server, run):
    found = server.ask(RUNS)["runsOrError"]["results"]
    return next((r["runId"] for r in found if r["parentRunId"] == run), "")


def test_trainings_take_turns_and_one_that_a_power_cut_ended_starts_again(experiment):
    with serving(experiment) as server:
        prepared = launch(server, *PREPARED, domains=DOMAINS)
        ended(server, prepared, "SUCCESS")
        pair = [launch(server, "proxy_plan", "proxy_runs") for _ in range(2)]
        wait_until(server.workers, "a training", seconds=180)
        (_, waiting), (_, training) = sorted((status(server, run), run) for run in pair)
        assert [status(server, waiting), status(server, training)] == ["QUEUED", "STARTED"]
        terminate(server, training)
        ended(server, waiting, "STARTED", seconds=90)  # its turn
        wait_until(server.workers, "its training", seconds=180)
        run = waiting
        cut_the_power(experiment)
    with serving(experiment) as server:
        ended(server, run, "FAILURE")
        row = row_of(server, run)
        assert "is gone" in row["reason"]
        assert (row["step"], row["run_attempt"]) == ("proxy_runs", 1)
        again = wait_until(lambda: retry_of(server, run), "a retry", seconds=120)
        # The dead run's place in the pool `training` was freed.
        wait_until(server.workers, "the training of the retry", seconds=180)
        terminate(server, again)
        row = row_of(server, again)
        assert (row["status"], row["run_attempt"]) == ("cancelled", 2)
        server.process.terminate()  # as from a script
        server.process.wait(30)
        wait_until(lambda: not processes(experiment), "the end of its daemon and pages", seconds=30)
