"""Day two, as a script: a domain lands while models train, and carries itself to new weights.

MIXTURE_SCREENSHOTS=docs/images keeps the pictures.
"""

import json
import shutil
import threading
import time

import pytest

from mixture_assets.store.query import query
from tests.browser import MARKS, chromium, launch, serving, show_graph, status, wait_until

pytestmark = MARKS

PATIENCE = 600  # seconds for each step; all together take about 3 minutes on two idle cores
UP_TO_WEIGHTS = [
    *("shards", "tokenizer", "tokens", "validation_set"),
    *("proxy_plan", "proxy_runs", "ddo_optima", "proposals", "chosen_mixture"),
]
START = """mutation($selector: SensorSelector!) {
  startSensor(sensorSelector: $selector) { __typename ... on PythonError { message } }
}"""
PARTITIONS = """query($key: AssetKeyInput!) {
  assetNodeOrError(assetKey: $key) { ... on AssetNode { partitionKeys } }
}"""
RUNS = "{ runsOrError { ... on Runs { results { runId status tags { key value } } } } }"


@pytest.fixture(scope="module")
def server(tiny_template, tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenario")
    shutil.copytree(tiny_template / "raw", folder / "raw")
    settings = (tiny_template / "tiny.toml").read_text()
    settings = settings.replace("settle_seconds = 0", "settle_seconds = 3")
    (folder / "tiny.toml").write_text(settings)
    with serving(folder / "tiny.toml") as made:
        yield made


def switch_on(server, sensor):
    selector = {
        "repositoryLocationName": "mixture_assets",
        "repositoryName": "__repository__",
        "sensorName": sensor,
    }
    assert server.ask(START, selector=selector)["startSensor"]["__typename"] == "Sensor"


def partitions(server):
    return server.ask(PARTITIONS, key={"path": ["raw"]})["assetNodeOrError"]["partitionKeys"]


def ask(server, sql):
    return query(server.experiment.parent / "store", sql).rows


def proposals(server):
    """Proposal -> domain -> weight, from the history."""
    found = {}
    rows = ask(server, "SELECT proposal_id, domain, weight FROM weight_history")
    for proposal_id, domain, weight in rows:
        found.setdefault(proposal_id, {})[domain] = weight
    return found


def chosen(server):
    """Proposals whose weights are written for full runs."""
    folder = server.experiment.parent / "store" / "mixtures"
    return {path.stem for path in folder.glob("*.json")}


def results(server):
    """Run -> purpose and time of its result."""
    found = {}
    for path in (server.experiment.parent / "store").glob("runs/*/result.json"):
        purpose = json.loads(path.with_name("spec.json").read_text())["purpose"]
        found[path.parent.name] = (purpose, path.stat().st_mtime_ns)
    return found


def copy_slowly(source, target, seconds, seen):
    """Two shards, the way a network copy looks; `seen` is called while the second is half there."""
    target.mkdir()
    lines = source.read_bytes().replace(b"plants", b"songs").replace(b"oak", b"la").splitlines(True)
    half = len(lines) // 2
    for name, part in (("part-0.jsonl", lines[:half]), ("part-1.jsonl", lines[half:])):
        content = b"".join(part)
        with open(target / name, "wb", buffering=0) as file:
            for i in range(10):
                file.write(content[i * len(content) // 10 : (i + 1) * len(content) // 10])
                time.sleep(seconds / 20)
                if name == "part-1.jsonl":
                    seen()


def test_a_domain_that_lands_while_models_train_carries_itself_to_new_weights(server):
    # The first weights, by a click.
    switch_on(server, "refit")
    run = launch(server, *UP_TO_WEIGHTS, domains=partitions(server))
    wait_until(lambda: status(server, run) == "SUCCESS", "weights", seconds=PATIENCE, pause=1)
    (first,) = chosen(server)
    before = results(server)
    assert {purpose for purpose, _ in before.values()} == {"proxy"}
    old = proposals(server)
    assert old.keys() == {first}

    # A domain lands while full runs train.
    training = launch(server, "full_run")
    wait_until(server.workers, "a training", seconds=PATIENCE, pause=0.2)
    seen = []
    raw = server.experiment.parent / "raw"
    copying = threading.Thread(
        target=copy_slowly,
        args=(
            raw / "plants" / "part-00000.jsonl",
            raw / "songs",
            12,
            lambda: seen.append(("songs" in partitions(server), bool(server.workers()))),
        ),
    )
    copying.start()
    copying.join()
    assert not any(is_partition for is_partition, _ in seen), "half a domain was taken"
    assert any(is_training for _, is_training in seen), "nothing trained while it was copied"
    wait_until(lambda: "songs" in partitions(server), "the new partition", seconds=PATIENCE)

    # It carries itself to new weights.
    new = wait_until(lambda: chosen(server) - {first}, "new weights", seconds=PATIENCE, pause=1)
    (second,) = new
    assert status(server, training) == "SUCCESS"
    history = proposals(server)
    assert history.keys() == {first, second}
    assert history[first] == old[first]  # the old proposal stays
    assert history[second].keys() == {*old[first], "songs"}
    assert sum(history[second].values()) == pytest.approx(1)

    # Only the missing proxy runs were trained: two at each of two scales.
    after = results(server)
    assert all(after[run] == found for run, found in before.items())
    trained = {run for run, (purpose, _) in after.items() if purpose == "proxy"} - before.keys()
    assert len(trained) == 4
    priced = ask(server, "SELECT n_to_train FROM refit_option WHERE is_chosen")
    assert priced == [(4,)]

    the_new_weight_is_explained(server, second, trained)
    failed = [
        run["runId"]
        for run in server.ask(RUNS)["runsOrError"]["results"]
        if run["status"] == "FAILURE"
    ]
    assert not failed


def the_new_weight_is_explained(server, proposal_id, trained):
    """All of the new domain counts, and what happened to it is on record."""
    events = ask(server, "SELECT event, n_shards FROM domain_event WHERE domain = 'songs'")
    assert events == [("landed", 2)]
    below = ask(
        server,
        "SELECT DISTINCT node_kind, node, detail FROM lineage "
        f"WHERE proposal_id = '{proposal_id}' AND domain = 'songs'",
    )
    kinds = {kind for kind, _, _ in below}
    assert {"fit", "run", "token_set", "token_shard", "shard"} <= kinds
    assert trained <= {node for kind, node, _ in below if kind == "run"}
    shards = {detail.rpartition("/")[2] for kind, _, detail in below if "songs" in str(detail)}
    assert {"part-0.jsonl", "part-1.jsonl"} <= shards


def test_what_happened_is_seen_in_the_pages(server):
    with chromium() as page:
        show_graph(server, page, "scenario_graph.png")
        page.goto(f"{server.url}/automation", wait_until="domcontentloaded")
        for name in ("new_domains", "prepare", "refit"):
            page.get_by_text(name, exact=True).first.wait_for(timeout=60_000)
        page.wait_for_timeout(2000)
        page.screenshot(path=server.pictures / "scenario_automation.png")
        page.goto(f"{server.url}/assets/proposals?view=events", wait_until="domcontentloaded")
        page.get_by_text("Materialized").first.wait_for(timeout=60_000)
        page.wait_for_timeout(3000)
        page.screenshot(path=server.pictures / "scenario_proposals.png")
        page.goto(f"{server.url}/assets/raw?view=partitions", wait_until="domcontentloaded")
        page.get_by_text("songs", exact=True).first.wait_for(timeout=60_000)
        page.wait_for_timeout(1000)
        page.screenshot(path=server.pictures / "scenario_domains.png")
