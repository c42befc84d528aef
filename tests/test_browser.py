"""The pages as people use them: a real server, and headless Chromium that clicks."""

import shutil

import pytest

from tests.browser import (
    MARKS,
    chromium,
    launch,
    serving,
    show_graph,
    status,
    statuses,
    wait_until,
)

PATIENCE = 420  # seconds; 200 on two busy cores

pytestmark = MARKS

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


@pytest.fixture(scope="module")
def server(tiny_template, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ui")
    shutil.copytree(tiny_template / "raw", folder / "raw")
    shutil.copy(tiny_template / "tiny.toml", folder / "tiny.toml")
    with serving(folder / "tiny.toml") as made:
        yield made


@pytest.fixture(scope="module")
def page():
    with chromium() as found:
        yield found


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
    show_graph(server, page, "asset_graph.png")


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


LAUNCHPAD = """ops:
  full_run:
    config:
      mixtures: [dga]
      seeds: [0]
      specialist: {folder}
"""
SEEN = """{ assetOrError(assetKey: {path: ["full_run"]}) { ... on Asset {
  assetObservations { timestamp metadataEntries { label } }
  assetMaterializations(limit: 2) { metadataEntries { label } }
} } }"""


def test_a_steered_run_is_launched_with_a_folder_and_its_weights_are_watched(server, page):
    settings = server.experiment.read_text()
    longer = settings.replace("budget_tokens = 10_000", "budget_tokens = 300_000")
    server.experiment.write_text(f"{longer}\n[online.dga]\nupdate_steps = 20\neta = 5.0\n")
    folder = server.experiment.parent / "wishes"
    folder.mkdir()
    shutil.copy(server.experiment.parent / "raw" / "plants" / "part-00000.jsonl", folder)
    page.goto(f"{server.url}/assets/full_run", wait_until="domcontentloaded")
    button = page.get_by_role("button", name="Materialize")
    button.wait_for(timeout=60_000)
    page.wait_for_timeout(2000)
    box = button.bounding_box()  # the arrow beside it opens the menu
    page.mouse.click(box["x"] + box["width"] + 14, box["y"] + box["height"] / 2)
    page.get_by_text("Open launchpad").click(timeout=30_000)
    page.locator(".CodeMirror").last.wait_for(timeout=60_000)
    page.wait_for_timeout(2000)
    page.evaluate(
        "text => [...document.querySelectorAll('.CodeMirror')].at(-1).CodeMirror.setValue(text)",
        LAUNCHPAD.format(folder=folder),
    )
    page.wait_for_timeout(2000)
    page.get_by_role("button", name="Materialize").last.click(timeout=30_000)
    wait_until(lambda: observed(server), "weights that move", seconds=PATIENCE)
    wait_until(lambda: "dga_weights_figure" in shown(server), "the figure", seconds=PATIENCE)
    page.goto(f"{server.url}/assets/full_run?view=overview", wait_until="domcontentloaded")
    page.get_by_text("[Show Markdown]").last.click(timeout=60_000)
    figure = page.locator("img[src^='data:image/png']").last
    figure.wait_for()
    assert figure.evaluate("image => image.naturalWidth") > 300
    page.wait_for_timeout(1000)
    page.screenshot(path=server.pictures / "weight_path.png")
    server.experiment.write_text(settings)


def observed(server):
    """Twice at least while it trains: the second time, they have moved."""
    seen = server.ask(SEEN)["assetOrError"]["assetObservations"]
    labels = {entry["label"] for one in seen for entry in one["metadataEntries"]}
    return len(seen) >= 2 and "dga seed 0, plants" in labels


def shown(server):
    made = server.ask(SEEN)["assetOrError"]["assetMaterializations"]
    return {entry["label"] for entry in made[0]["metadataEntries"]}


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
