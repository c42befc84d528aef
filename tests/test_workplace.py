"""The pages as a workplace: jobs, the desk, failures that explain themselves, a machine that dies.

MIXTURE_SCREENSHOTS=docs/images keeps the pictures.
"""

import contextlib
import os
import shutil
import signal

import psutil
import pytest

from mixture_assets.store.query import query
from tests.browser import LAUNCH, MARKS, chromium, launch, serving, status, wait_until

pytestmark = MARKS

DOMAINS = ("animals", "numbers", "plants")
RUNS = """{ runsOrError { ... on Runs { results {
  runId status parentRunId tags { key value }
} } } }"""


@pytest.fixture(scope="module")
def experiment(tiny_template, tmp_path_factory):
    folder = tmp_path_factory.mktemp("work")
    shutil.copytree(tiny_template / "raw", folder / "raw")
    shutil.copy(tiny_template / "tiny.toml", folder / "tiny.toml")
    return folder / "tiny.toml"


def start(server, job, config=None, tags=None):
    """Start a job as its launchpad does."""
    selector = {
        "repositoryLocationName": "mixture_assets",
        "repositoryName": "__repository__",
        "jobName": job,
    }
    parameters = {
        "mode": "default",
        "runConfigData": config or {},
        "selector": selector,
        "executionMetadata": {"tags": [{"key": k, "value": v} for k, v in (tags or {}).items()]},
    }
    return server.ask(LAUNCH, parameters=parameters)["launchPipelineExecution"]["run"]["runId"]


def ended(server, run, expected, seconds=180):
    wait_until(lambda: status(server, run) == expected, f"{expected} of {run}", seconds=seconds)


def runs(server):
    return server.ask(RUNS)["runsOrError"]["results"]


def rows(server, run):
    """What the sensors left of a run."""
    sql = f"SELECT * FROM orchestration_run WHERE dagster_run_id = '{run}'"
    return query(server.experiment.parent / "store", sql).to_dicts()


def train_for_long(experiment):
    """Budgets that no test waits for."""
    settings = experiment.read_text().replace("[2048, 6144]", "[20_000_000, 60_000_000]")
    experiment.write_text(settings.replace("max_epochs = 20", "max_epochs = 1e6"))


def stop_run(server, run):
    server.ask("mutation($id: String!) { terminateRun(runId: $id) { __typename } }", id=run)
    ended(server, run, "CANCELED", seconds=60)


def kill_everything(experiment):
    """As a power cut: every process of this server, at once, without a word."""
    home = str((experiment.parent / "dagster_home").resolve())
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("DAGSTER_HOME") == home:
                os.kill(process.pid, signal.SIGKILL)


def test_a_day_at_the_desk(experiment):
    with serving(experiment) as server, chromium() as page:
        prepared = start(
            server,
            "prepare_data",
            tags={
                "dagster/asset_partition_range_start": DOMAINS[0],
                "dagster/asset_partition_range_end": DOMAINS[-1],
            },
        )
        ended(server, prepared, "SUCCESS")
        answer_a_question(server, page)
        fail_for_a_reason(server, page)
        page.goto(f"{server.url}/automation", wait_until="domcontentloaded")
        page.get_by_text("refit_weekly").first.wait_for(timeout=60_000)
        page.wait_for_timeout(3000)
        page.screenshot(path=server.pictures / "automation.png")


def answer_a_question(server, page):
    sql = "SELECT domain, available_tokens FROM domain ORDER BY domain"
    asked = start(server, "desk_query", {"ops": {"query": {"config": {"sql": sql}}}})
    ended(server, asked, "SUCCESS")
    page.goto(f"{server.url}/runs/{asked}", wait_until="domcontentloaded")
    page.get_by_text("[Show Markdown]").first.click(timeout=60_000)
    page.get_by_role("cell", name="animals").first.wait_for(timeout=30_000)
    page.wait_for_timeout(1000)
    page.screenshot(path=server.pictures / "desk_query.png")


def fail_for_a_reason(server, page):
    folder = server.experiment.parent / "raw" / "plants"
    aside = server.experiment.parent / "plants"
    folder.rename(aside)
    failed = launch(server, "shards", domains=DOMAINS)
    ended(server, failed, "FAILURE")
    (row,) = wait_until(lambda: rows(server, failed), "a row", seconds=120)
    aside.rename(folder)
    assert row["reason"].startswith("no raw data for 'plants'")
    assert row["step_attempts"] == 1
    page.goto(f"{server.url}/runs/{failed}", wait_until="domcontentloaded")
    page.get_by_text("no raw data for 'plants'").first.wait_for(timeout=60_000)
    page.get_by_text("put its folder back").first.wait_for(timeout=30_000)
    page.wait_for_timeout(2000)
    page.screenshot(path=server.pictures / "failed_run.png")


def test_two_trainings_at_once_take_turns(experiment):
    """Both are launched before either has begun; the second waits in the queue."""
    train_for_long(experiment)
    with serving(experiment) as server:
        pair = [launch(server, "proxy_plan", "proxy_runs") for _ in range(2)]
        wait_until(server.workers, "a training", seconds=180)
        found = sorted((status(server, run), run) for run in pair)
        assert [state for state, _ in found] == ["QUEUED", "STARTED"]
        first, second = found[1][1], found[0][1]
        stop_run(server, first)
        wait_until(lambda: status(server, second) == "STARTED", "its turn", seconds=90)
        stop_run(server, second)


def test_a_run_that_a_power_cut_ended_is_ended_and_started_again(experiment):
    train_for_long(experiment)
    with serving(experiment) as server:
        run = launch(server, "proxy_plan", "proxy_runs")
        wait_until(server.workers, "a training", seconds=180)
        kill_everything(experiment)
    with serving(experiment) as server:
        assert status(server, run) == "STARTED"
        ended(server, run, "FAILURE", seconds=120)
        (row,) = wait_until(lambda: rows(server, run), "a row", seconds=120)
        assert "is gone" in row["reason"]
        assert (row["step"], row["run_attempt"]) == ("proxy_runs", 1)
        again = wait_until(lambda: retry_of(server, run), "a retry", seconds=120)
        # The dead run's slot in the pool `training` was freed.
        wait_until(server.workers, "the training of the retry", seconds=180)
        stop_run(server, again)
        (row,) = wait_until(lambda: rows(server, again), "a row", seconds=120)
        assert (row["status"], row["run_attempt"]) == ("cancelled", 2)


def retry_of(server, run):
    found = [r["runId"] for r in runs(server) if r["parentRunId"] == run]
    return found[0] if found else ""
