"""The whole graph, materialized; what it shows; and that nothing is ever trained twice."""

import base64
import json
import shutil

import dagster as dg
import pytest

from mixture_assets.definitions import defs

DOMAINS = ["animals", "numbers", "plants"]
MADE = [
    s.key.to_user_string() for a in defs.assets if not isinstance(a, dg.AssetSpec) for s in a.specs
]
FIGURES = [
    ("proposals", "weights_figure"),
    ("proposals", "ddo_curves_figure"),
    ("evaluation", "objective_curves_figure"),
]
N_PROXIES, N_FULL = 16, 6


def result_times(store):
    return {p.parent.name: p.stat().st_mtime_ns for p in store.glob("runs/*/result.json")}


@pytest.mark.parametrize("asset", MADE)
def test_an_asset_tells_in_few_numbers_what_it_made(graph, asset):
    found = graph.metadata(asset)
    own = {key for key in found if not key.startswith("dagster/")}
    assert 3 <= len(own) <= 7, sorted(own)
    assert any(isinstance(found[key], int | float) for key in own)
    assert all(key == key.lower() and " " not in key for key in own)


@pytest.mark.parametrize("asset", ["shards", "tokens"])
def test_every_domain_is_a_partition_with_its_own_numbers(graph, asset):
    assert graph.instance.get_materialized_partitions(dg.AssetKey(asset)) == set(DOMAINS)
    key = {"shards": "n_bytes", "tokens": "available_tokens"}[asset]
    assert len({graph.metadata(asset, domain)[key] for domain in DOMAINS}) == 3
    assert graph.n_events(asset) == 3


def test_every_proxy_run_is_a_partition_with_its_losses(graph):
    partitions = graph.instance.get_materialized_partitions(dg.AssetKey("proxy_trial"))
    assert partitions == set(graph.instance.get_dynamic_partitions("proxy_trial"))
    assert len(partitions) == N_PROXIES
    for partition in partitions:
        found = graph.metadata("proxy_trial", partition)
        result = json.loads((graph.store / "runs" / partition / "result.json").read_text())
        assert found["seconds"] == result["seconds"]
        assert found["objective"] > 1
        assert "seed" in found["label"]
        for domain in DOMAINS:
            assert f"| {domain} | {result['losses'][domain]['loss_nats']:.4f} |" in found["losses"]


@pytest.mark.parametrize(("asset", "key"), FIGURES)
def test_a_figure_is_a_small_png_inside_markdown(graph, asset, key):
    head, _, body = graph.metadata(asset)[key].partition("base64,")
    assert head.startswith("![")
    content = base64.b64decode(body.rstrip(")"))
    assert content.startswith(b"\x89PNG")
    assert len(content) < 60_000


def test_every_check_passed(graph):
    found = {e.check_name: e.passed for e in graph.first.get_asset_check_evaluations()}
    expected = {spec.name for check in defs.asset_checks for spec in check.check_specs}
    assert found == dict.fromkeys(expected, True)


def test_the_report_and_the_weights_are_files(graph):
    assert graph.metadata("report")["page"].startswith("file://")
    weights = json.loads(open(graph.metadata("chosen_mixture")["file"]).read())["weights"]
    assert sum(weights.values()) == pytest.approx(1)
    assert set(weights) == set(DOMAINS)


def test_a_second_materialization_trains_nothing(graph, tmp_path):
    again = graph.copy(tmp_path / "again")
    before, events = result_times(again.store), graph.n_events("proxy_trial")
    assert len(before) == N_PROXIES + N_FULL
    assert again.run().success
    assert result_times(again.store) == before
    assert again.metadata("proxy_runs")["n_trained"] == 0
    assert again.metadata("full_run")["n_trained"] == 0
    assert graph.n_events("proxy_trial") == events


def test_a_retry_trains_only_the_runs_that_are_missing(broken):
    before = result_times(broken.store)
    lost = sorted(graph_run_ids(broken, "proxy"))[:2]
    for run_id in lost:
        shutil.rmtree(broken.store / "runs" / run_id)
    assert broken.run("proxy_runs", partitioned=False).success
    after = result_times(broken.store)
    assert {run_id for run_id in before if before[run_id] != after[run_id]} == set(lost)
    assert broken.metadata("proxy_runs")["n_trained"] == 2


def graph_run_ids(graph, purpose):
    specs = [json.loads(p.read_text()) for p in graph.store.glob("runs/*/spec.json")]
    return [spec["run_id"] for spec in specs if spec["purpose"] == purpose]
