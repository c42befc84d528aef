"""What the pages show before anything has run."""

import subprocess
import sys
from pathlib import Path

import dagster as dg
import pyarrow.parquet as pq
import pytest

from mixture_assets import definitions
from mixture_assets.definitions import defs
from mixture_assets.defs import jobs
from mixture_assets.store import database

PROJECT = Path(__file__).parents[2]
GROUPS = {"data", "proxy", "mixture", "training", "evaluation", "records"}


def test_definitions_load():
    dg.Definitions.validate_loadable(defs)


def test_every_asset_has_a_description_a_group_and_kinds():
    specs = list(defs.resolve_all_asset_specs())
    assert {spec.group_name for spec in specs} == GROUPS
    for spec in specs:
        assert spec.description, spec.key
        assert spec.kinds, spec.key


def test_every_asset_has_an_owner():
    for spec in defs.resolve_all_asset_specs():
        assert list(spec.owners) == ["team:mixtures"], spec.key


TABLES = {
    **{"shards": "shard", "proxy_runs": "run", "proxy_trial": "evaluation", "ddo_optima": "fit"},
    **{"proposals": "proposal_weight", "full_run": "run", "evaluation": "comparison"},
}


@pytest.mark.parametrize(("asset", "table"), TABLES.items())
def test_a_tabular_asset_shows_the_columns_of_its_table(asset, table):
    (spec,) = [s for s in defs.resolve_all_asset_specs() if s.key.path == [asset]]
    columns = spec.metadata["dagster/column_schema"].columns
    assert {c.name: c.type for c in columns} == database.tables()[table]
    assert any(c.description for c in columns)


def test_a_columns_meaning_is_the_comment_of_the_schema():
    (spec,) = [s for s in defs.resolve_all_asset_specs() if s.key.path == ["proposals"]]
    told = {c.name: c.description for c in spec.metadata["dagster/column_schema"].columns}
    assert told["weight"] == "probability that a token comes from the domain"


@pytest.mark.parametrize("asset", ["tokens", "validation_set"])
def test_token_shards_show_the_columns_of_their_files(graph, asset):
    (spec,) = [s for s in defs.resolve_all_asset_specs() if s.key.path == [asset]]
    folder = {"tokens": "tokens", "validation_set": "validation"}[asset]
    path = next((graph.store / folder).glob("*/*.parquet"))
    names = [column.name for column in spec.metadata["dagster/column_schema"].columns]
    assert names == pq.read_schema(path).names


def test_evaluation_goes_stale():
    (spec,) = [s for s in defs.resolve_all_asset_specs() if s.key.path == ["evaluation"]]
    policy = spec.freshness_policy
    assert policy.warn_window.to_timedelta() < policy.fail_window.to_timedelta()


def test_loading_warns_of_nothing():
    """Parts of Dagster that may still change are silenced by name, and no other."""
    code = "import mixture_assets.definitions"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.returncode == 0
    assert "Warning" not in found.stderr


def test_every_check_says_what_it_checks_and_all_but_one_block():
    specs = [spec for check in defs.asset_checks for spec in check.check_specs]
    assert len(specs) == 8
    assert [spec.name for spec in specs if not spec.blocking] == ["none_quarantined"]
    assert all(spec.description for spec in specs)


def test_assets_are_listed_in_the_order_data_flows():
    seen: set[dg.AssetKey] = set()
    for asset in defs.assets:
        specs = [asset] if isinstance(asset, dg.AssetSpec) else list(asset.specs)
        for spec in specs:
            assert {dep.asset_key for dep in spec.deps} <= seen, spec.key
            seen.add(spec.key)


def test_the_table_of_contents_stays_short():
    assert len(Path(definitions.__file__).read_text().splitlines()) < 100


def test_the_job_for_everything_holds_every_asset_that_can_be_made():
    job = defs.resolve_job_def(jobs.everything.name)
    made = {
        spec.key
        for asset in defs.assets
        if not isinstance(asset, dg.AssetSpec)
        for spec in asset.specs
    }
    assert job.asset_layer.executable_asset_keys == made


def test_the_packaged_settings_are_those_of_the_project():
    packaged = PROJECT / "mixture_assets" / "defs"
    for name, original in (("dagster.yaml", "deploy"), ("workspace.yaml", "")):
        assert (packaged / name).read_text() == (PROJECT / original / name).read_text()
