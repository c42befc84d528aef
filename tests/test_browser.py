"""The pages as people use them: a real server, and headless Chromium that clicks.

MIXTURE_SCREENSHOTS=docs/images keeps the pictures.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
PATIENCE = 420  # seconds; 200 on two busy cores
GROUPS = ("data", "proxy", "mixture", "training", "evaluation", "records")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
]

ASSETS = """{
  assetNodes {
    assetKey { path }
    isMaterializable
    assetMaterializations(limit: 1) { timestamp }
    assetChecksOrError { ... on AssetChecks { checks {
      name executionForLatestMaterialization { status }
    } } }
  }
  partitionBackfillsOrError(limit: 1) { ... on PartitionBackfills { results { status } } }
}"""
LAUNCH = """mutation($parameters: ExecutionParams!) {
  launchPipelineExecution(executionParams: $parameters) {
    __typename ... on LaunchRunSuccess { run { runId } }
  }
}"""
STATUS = "query($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"


@dataclass
class Server:
    """`mixture ui` on the tiny experiment."""

    url: str
    experiment: Path
    pictures: Path

    def ask(self, query: str, **variables: Any) -> Any:
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(
            f"{self.url}/graphql", body, {"content-type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            found = json.load(answer)
        assert "errors" not in found, found
        return found["data"]

    def workers(self) -> list[int]:
        """Training processes on this store."""
        store = str(self.experiment.parent / "store")
        return [
            p.pid
            for p in psutil.process_iter(["cmdline"])
            if {"mixture_assets.training", store} <= set(p.info["cmdline"] or ())
        ]


def wait_until(condition, what, *, seconds=60.0, pause=0.5):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
        time.sleep(pause)
    return found


@pytest.fixture(scope="module")
def server(tiny_template, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ui")
    shutil.copytree(tiny_template / "raw", folder / "raw")
    shutil.copy(tiny_template / "tiny.toml", folder / "tiny.toml")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    pictures = Path(os.environ.get("MIXTURE_SCREENSHOTS") or folder)
    made = Server(f"http://127.0.0.1:{port}", folder / "tiny.toml", pictures)
    command = ["ui", "--experiment", str(made.experiment), "--port", str(port)]
    with open(folder / "server.log", "w") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", "from mixture_assets.cli import main; main()", *command],
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            # A shell's background job ignores SIGINT, and so would Dagster.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        try:
            wait_until(lambda: is_up(process, made), "the server", seconds=120)
            yield made
        finally:
            stop(process)


def is_up(process, server):
    assert process.poll() is None, (server.experiment.parent / "server.log").read_text()
    with contextlib.suppress(OSError):
        return server.ask("{ assetNodes { id } }")["assetNodes"]


def stop(process):
    """The whole group: web server, daemon, code server, runs."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(15)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(15)


@pytest.fixture(scope="module")
def page(server):
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser.new_page(viewport={"width": 1500, "height": 1100})
        browser.close()


def materialize_all(page, server):
    """Click through the dialog, which asks for the domains."""
    page.goto(f"{server.url}/asset-groups", wait_until="domcontentloaded")
    page.get_by_role("button", name="Materialize all").click(timeout=60_000)
    page.get_by_role("button", name="All", exact=True).click()
    page.get_by_role("button", name="Launch backfill").click()


def test_materialize_all_makes_every_asset_and_every_check_passes(server, page):
    materialize_all(page, server)
    wait_until(lambda: all_made(server), "every asset", seconds=PATIENCE, pause=1)
    found = wait_until(lambda: all_checked(server), "every check", seconds=30)
    assert len(found) == 8
    assert set(found.values()) == {"SUCCEEDED"}


def all_made(server):
    found = server.ask(ASSETS)
    backfills = found["partitionBackfillsOrError"]["results"]
    assert not any(b["status"] in ("FAILED", "COMPLETED_FAILED") for b in backfills)
    return all(n["assetMaterializations"] for n in found["assetNodes"] if n["isMaterializable"])


def all_checked(server):
    checks = [
        check
        for node in server.ask(ASSETS)["assetNodes"]
        for check in node["assetChecksOrError"].get("checks", [])
    ]
    if not all(c["executionForLatestMaterialization"] for c in checks):
        return None
    return {c["name"]: c["executionForLatestMaterialization"]["status"] for c in checks}


def test_the_graph_shows_every_asset(server, page):
    page.set_viewport_size({"width": 3300, "height": 1000})  # wide enough to read every name
    groups = "%2C".join(f"global%40global%3A{name}" for name in GROUPS)
    page.goto(f"{server.url}/asset-groups?expanded={groups}", wait_until="domcontentloaded")
    page.get_by_text("Hide navigation").click(timeout=60_000)
    page.locator("[aria-label=panel_show_right]").first.click()  # the list of groups
    page.mouse.dblclick(2800, 900)  # fits the graph into the window
    for name in ("raw", "proxy_trial", "chosen_mixture", "full_run", "report"):
        page.get_by_text(name, exact=True).first.wait_for(timeout=30_000)
    page.wait_for_timeout(3000)  # until colours and checks have arrived
    clip = {"x": 70, "y": 280, "width": 3180, "height": 480}
    page.screenshot(path=server.pictures / "asset_graph.png", clip=clip)
    page.set_viewport_size({"width": 1500, "height": 1100})


def test_an_asset_shows_its_figure(server, page):
    page.goto(f"{server.url}/assets/proposals?view=overview", wait_until="domcontentloaded")
    page.get_by_text("[Show Markdown]").first.click(timeout=60_000)
    figure = page.locator("img[src^='data:image/png']").first
    figure.wait_for()
    assert figure.evaluate("image => image.naturalWidth") > 300
    page.wait_for_timeout(1000)  # until the dialog has faded in
    page.screenshot(path=server.pictures / "asset_figure.png")


def test_every_proxy_run_is_in_the_partition_grid(server, page):
    page.goto(f"{server.url}/assets/proxy_trial?view=partitions", wait_until="domcontentloaded")
    page.get_by_text("Materialized (16)").wait_for(timeout=60_000)


def test_terminating_a_run_stops_its_training_within_ten_seconds(server):
    settings = server.experiment.read_text().replace("[2048, 6144]", "[20_000_000, 60_000_000]")
    server.experiment.write_text(settings.replace("max_epochs = 20", "max_epochs = 1e6"))
    run = launch(server, "proxy_plan", "proxy_runs")
    wait_until(lambda: "running" in statuses(server), "a training", seconds=90)
    server.ask("mutation($id: String!) { terminateRun(runId: $id) { __typename } }", id=run)
    wait_until(lambda: not server.workers(), "the end of the workers", seconds=10, pause=0.1)
    wait_until(lambda: status(server, run) == "CANCELED", "a cancelled run", seconds=30)
    assert statuses(server)["cancelled"] >= 1
    assert "running" not in statuses(server)


def launch(server, *assets):
    selector = {
        "repositoryLocationName": "mixture_assets",
        "repositoryName": "__repository__",
        "jobName": "__ASSET_JOB",
        "assetSelection": [{"path": [name]} for name in assets],
        "assetCheckSelection": [],
    }
    parameters = {"mode": "default", "runConfigData": {}, "selector": selector}
    return server.ask(LAUNCH, parameters=parameters)["launchPipelineExecution"]["run"]["runId"]


def status(server, run):
    return server.ask(STATUS, id=run)["runOrError"]["status"]


def statuses(server):
    """Status -> number of training runs."""
    from collections import Counter

    from mixture_assets.store.runs import list_runs

    return Counter(run.status() for run in list_runs(server.experiment.parent / "store"))
