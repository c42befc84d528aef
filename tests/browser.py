"""`mixture ui` as people use it, for tests: a real server, and headless Chromium.

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
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
GROUPS = ("data", "proxy", "mixture", "training", "evaluation", "records")
MARKS = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
]

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
    process: subprocess.Popen[bytes]

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


@contextlib.contextmanager
def serving(experiment: Path) -> Iterator[Server]:
    """Its web server and daemon, on a free port, until the block ends."""
    folder = experiment.parent
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    pictures = Path(os.environ.get("MIXTURE_SCREENSHOTS") or folder)
    command = ["ui", "--experiment", str(experiment), "--port", str(port)]
    with open(folder / "server.log", "w") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", "from mixture_assets.cli import main; main()", *command],
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            # As a shell's background job has it: Dagster would then ignore SIGTERM as well.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
        )
        made = Server(f"http://127.0.0.1:{port}", experiment, pictures, process)
        try:
            wait_until(lambda: is_up(process, made), "the server", seconds=300)
            yield made
        finally:
            stop(process)


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    """A page."""
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser.new_page(viewport={"width": 1500, "height": 1100})
        browser.close()


def show_graph(server: Server, page: Any, picture: str) -> None:
    """Keep a picture of the whole graph."""
    page.set_viewport_size({"width": 3300, "height": 1000})  # wide enough to read every name
    groups = "%2C".join(f"global%40global%3A{name}" for name in GROUPS)
    page.goto(f"{server.url}/asset-groups?expanded={groups}", wait_until="domcontentloaded")
    page.get_by_text("Hide navigation").click(timeout=60_000)
    page.locator("[aria-label=panel_show_right]").first.click()  # the list of groups
    page.mouse.dblclick(2800, 900)  # fits the graph into the window
    for name in ("raw", "proxy_trial", "chosen_mixture", "full_run", "report"):
        page.get_by_text(name, exact=True).first.wait_for(timeout=30_000)
    page.wait_for_timeout(10_000)  # until colours and checks have arrived
    clip = {"x": 70, "y": 240, "width": 3180, "height": 560}
    page.screenshot(path=server.pictures / picture, clip=clip)
    page.set_viewport_size({"width": 1500, "height": 1100})


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


def launch(server, *assets, domains=()):
    """One run of these assets; partitioned ones over the first to the last of the domains."""
    selector = {
        "repositoryLocationName": "mixture_assets",
        "repositoryName": "__repository__",
        "jobName": "__ASSET_JOB",
        "assetSelection": [{"path": [name]} for name in assets],
        "assetCheckSelection": [],
    }
    ends = {"start": domains[0], "end": domains[-1]} if domains else {}
    tags = [{"key": f"dagster/asset_partition_range_{e}", "value": d} for e, d in ends.items()]
    parameters = {
        "mode": "default",
        "runConfigData": {},
        "selector": selector,
        "executionMetadata": {"tags": tags},
    }
    return server.ask(LAUNCH, parameters=parameters)["launchPipelineExecution"]["run"]["runId"]


def status(server, run):
    return server.ask(STATUS, id=run)["runOrError"]["status"]


def statuses(server):
    """Status -> number of training runs."""
    from mixture_assets.store.runs import list_runs

    return Counter(run.status() for run in list_runs(server.experiment.parent / "store"))
