"""The selection assets: there where the experiment asks for them, doing what the command does."""

import json
import os
import subprocess
import sys

import dagster as dg
import pytest

from mixture_assets.corpus import Workspace
from mixture_assets.defs import jobs, selection
from mixture_assets.defs.resources import Lab
from mixture_assets.defs.server import register_domains
from mixture_assets.store.query import query
from mixture_assets.sweeps import run_sweep
from tests.test_sweeps import SETTINGS, write_settings

SMALL = (
    SETTINGS.replace('"bm25", "perplexity", "gradient"', '"bm25"')
    .replace("[0.1, 0.2, 0.35, 0.5, 1.0]", "[0.1, 0.2, 0.4, 0.5]")
    .replace("[0.1, 0.2, 0.35]", "[0.1, 0.2, 0.4]")
)
EVERY = {
    "dagster/asset_partition_range_start": "random",
    "dagster/asset_partition_range_end": "gradient",
}
NAMES = [
    *("pool", "selection_scores", "selected_subsets", "finetune_runs", "utility_fits"),
    "selection_plan",
]


def materialize(instance, experiment, *, tags=EVERY, **options):
    return dg.materialize(
        selection.assets,
        instance=instance,
        resources={"lab": Lab(experiment=str(experiment))},
        tags=tags,
        **options,
    )


def test_a_sweep_from_the_pages_is_that_of_the_command(instance, tiny):
    write_settings(tiny, SMALL)
    register_domains(Workspace.open(tiny), instance)
    result = materialize(instance, tiny)
    assert result.success
    made = {e.asset_key.to_user_string(): e for e in result.get_asset_materialization_events()}
    assert set(made) == set(NAMES)
    about = {k: e.materialization.metadata for k, e in made.items()}
    assert about["pool"]["n_documents"].value > 400
    assert about["finetune_runs"]["n_runs"].value == 2 * 4 * 2
    for asset, key in (("utility_fits", "utility"), ("selected_subsets", "overlap")):
        assert "data:image/png;base64," in about[asset][key].value
    workspace = Workspace.open(tiny)
    times = {p: p.stat().st_mtime_ns for p in workspace.store.glob("runs/*/result.json")}
    summary = run_sweep(workspace, say=lambda line: None)
    assert {p: p.stat().st_mtime_ns for p in times} == times
    assert about["finetune_runs"]["sweep_id"].value == summary.sweep_id
    for sentence in summary.sentences:
        assert sentence in about["selection_plan"]["said"].value
    (n,) = query(workspace.store, "SELECT count(*) AS n FROM selection_point").to_dicts()
    assert n["n"] == 16


def test_methods_are_partitions_and_those_that_are_not_asked_for_are_said_so(instance, tiny):
    write_settings(
        tiny,
        SMALL.replace("[0.1, 0.2, 0.4, 0.5]", "[0.2, 0.5]").replace("[0.1, 0.2, 0.4]", "[0.2]"),
    )
    only = {k: "bm25" for k in EVERY}
    picked = dg.AssetSelection.assets("pool", "selection_scores")
    result = materialize(instance, tiny, tags=only, selection=picked)
    (event,) = [
        e
        for e in result.get_asset_materialization_events()
        if e.asset_key == dg.AssetKey("selection_scores")
    ]
    assert event.partition == "bm25"
    assert event.materialization.metadata["n_without_score"].value == 0
    scores = Workspace.open(tiny).store / "scores"
    assert [p.name for p in scores.iterdir()] == ["bm25"]


def test_without_a_table_the_pages_are_as_they_were(tiny):
    lab = Lab(experiment=str(tiny))
    assert not lab.has_selection()
    assert not Lab(experiment="nowhere.toml").has_selection()
    assert jobs.of_selection(has_assets=False) == []


@pytest.mark.parametrize("settings", ["", SMALL], ids=["without", "with"])
def test_the_code_location_has_them_where_the_experiment_asks(tiny, settings):
    write_settings(tiny, settings)
    code = (
        "import json; from mixture_assets.definitions import defs;"
        "g = defs.resolve_asset_graph();"
        "print(json.dumps(sorted(k.to_user_string() for k in g.get_all_asset_keys())))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env=os.environ | {"MIXTURE_EXPERIMENT": str(tiny)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    keys = json.loads(done.stdout.splitlines()[-1])
    assert (set(NAMES) <= set(keys)) is bool(settings)
    assert "full_run" in keys
