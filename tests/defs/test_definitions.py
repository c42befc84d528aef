"""What the pages show before anything has run."""

from pathlib import Path

import dagster as dg

from mixture_assets import definitions
from mixture_assets.definitions import defs
from mixture_assets.defs import jobs

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
