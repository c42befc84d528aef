"""The whole graph, materialized; what it shows; and that nothing is ever trained twice."""

import base64
import json
import shutil
from pathlib import Path

import dagster as dg
import pyarrow.parquet as pq
import pytest

from mixture_assets.definitions import defs
from mixture_assets.store.query import query

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
    own = {key for key in found if not key.startswith(("dagster/", "weight_"))}
    assert 3 <= len(own) <= 8, sorted(own)
    assert any(isinstance(found[key], int | float) for key in own)
    assert all(key == key.lower() and " " not in key for key in own)


@pytest.mark.parametrize("asset", ["shards", "tokens"])
def test_every_domain_is_a_partition_with_its_own_numbers(graph, asset):
    assert graph.instance.get_materialized_partitions(dg.AssetKey(asset)) == set(DOMAINS)
    key = {"shards": "n_bytes", "tokens": "available_tokens"}[asset]
    assert len({graph.metadata(asset, domain)[key] for domain in DOMAINS}) == 3
    assert graph.n_events(asset) >= 3


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
    report = graph.metadata("report")
    assert Path(report["file"]).read_text().startswith("<!doctype html>")
    assert "## Weights" in report["page"]
    assert "](weights.png)" not in report["page"]  # the figures lie beside the file
    weights = json.loads(open(graph.metadata("chosen_mixture")["file"]).read())["weights"]
    assert sum(weights.values()) == pytest.approx(1)
    assert set(weights) == set(DOMAINS)


def test_a_second_materialization_trains_nothing(broken):
    before, events = result_times(broken.store), broken.n_events("proxy_trial")
    assert len(before) == N_PROXIES + N_FULL
    assert broken.run().success
    assert result_times(broken.store) == before
    assert broken.metadata("proxy_runs")["n_trained"] == 0
    assert broken.metadata("full_run")["n_trained"] == 0
    assert broken.n_events("proxy_trial") == events


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


# asset -> rows that it holds, counted by hand: 3 domains, 2 scales, 16 proxies, 6 full runs
ROWS = {
    "proxy_runs": N_PROXIES,
    "ddo_optima": 3 * 2,
    "proposals": 3,
    "full_run": N_FULL,
    "evaluation": 2,
}


@pytest.mark.parametrize("asset", ROWS)
def test_a_tabular_asset_counts_its_rows(graph, asset):
    assert graph.metadata(asset)["dagster/row_count"] == ROWS[asset]


def test_rows_of_files_are_counted(graph):
    n_lines = {"animals": 260, "numbers": 200, "plants": 120}
    for domain in DOMAINS:
        assert graph.metadata("shards", domain)["dagster/row_count"] == 1
        found = graph.metadata("tokens", domain)
        assert 0 < found["dagster/row_count"] <= n_lines[domain]
    documents = pq.ParquetDataset(graph.store / "validation").read().num_rows
    assert graph.metadata("validation_set")["dagster/row_count"] == documents


def test_the_database_counts_all_its_rows(graph):
    total = graph.metadata("database")["dagster/row_count"]
    n_steps = query(graph.store, "SELECT count(*) FROM step_metric").rows[0][0]
    n_edges = query(graph.store, "SELECT count(*) FROM edge").rows[0][0]
    assert total > n_steps + n_edges > 0


def test_each_weight_is_a_number_that_the_page_draws_over_time(graph):
    found = graph.metadata("proposals")
    weights = {key: value for key, value in found.items() if key.startswith("weight_")}
    assert set(weights) == {f"weight_{domain}" for domain in DOMAINS}
    assert sum(weights.values()) == pytest.approx(1)
    chosen = json.loads(Path(graph.metadata("chosen_mixture")["file"]).read_text())["weights"]
    assert {k.removeprefix("weight_"): v for k, v in weights.items()} == pytest.approx(chosen)


def test_the_run_is_tagged_with_the_way_to_its_weights(graph):
    tags = graph.instance.get_run_by_id(graph.first.run_id).tags
    assert tags["mixture/refit_way"] == "full"


def test_some_of_the_full_runs_can_be_asked_for(broken):
    for spec in broken.store.glob("runs/*/spec.json"):
        if json.loads(spec.read_text())["purpose"] == "full":
            shutil.rmtree(spec.parent)
    options = {"ops": {"full_run": {"config": {"mixtures": ["proposal"], "seeds": [1]}}}}
    assert broken.run("full_run", partitioned=False, run_config=options).success
    specs = [json.loads(p.read_text()) for p in broken.store.glob("runs/*/spec.json")]
    assert [s["label"] for s in specs if s["purpose"] == "full"] == ["proposal seed 1"]
    found = broken.check("full_run", "finite_full_losses")
    assert found.passed
    assert (found.metadata["n_runs"].value, found.metadata["n_missing"].value) == (1, 5)


def test_a_mixture_that_the_experiment_has_not_is_named(broken):
    options = {"ops": {"full_run": {"config": {"mixtures": ["neutral"]}}}}
    result = broken.run("full_run", partitioned=False, run_config=options, raise_on_error=False)
    (failure,) = [e for e in result.all_events if e.is_step_failure]
    told = failure.step_failure_data.user_failure_data.metadata
    assert "'neutral'" in told["problem"].value
    assert "'natural'" in told["hint"].value


def test_a_check_without_any_full_run_does_not_pass(broken):
    for spec in broken.store.glob("runs/*/spec.json"):
        if json.loads(spec.read_text())["purpose"] == "full":
            shutil.rmtree(spec.parent)
    assert not broken.check("full_run", "finite_full_losses").passed


def test_a_backfill_over_some_domains_is_one_run(graph):
    """Two of three partitions, named as the pages' backfill names them."""
    before = {d: materialized_at(graph, "shards", d) for d in DOMAINS}
    tags = {
        "dagster/asset_partition_range_start": "animals",
        "dagster/asset_partition_range_end": "numbers",
    }
    assert graph.run("shards", "tokens", tags=tags).success
    after = {d: materialized_at(graph, "shards", d) for d in DOMAINS}
    assert [d for d in DOMAINS if after[d] > before[d]] == ["animals", "numbers"]


def materialized_at(graph, asset, partition):
    filters = dg.AssetRecordsFilter(dg.AssetKey(asset), asset_partitions=[partition])
    return graph.instance.fetch_materializations(filters, limit=1).records[0].timestamp
