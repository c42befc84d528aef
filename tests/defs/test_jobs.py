"""Jobs, launched as the pages and the schedule launch them; pools that hold one at a time."""

import datetime

import dagster as dg
import pytest
from dagster._core.instance.config import PoolGranularity

from mixture_assets.definitions import defs
from mixture_assets.defs import jobs
from mixture_assets.defs.proxies import TRAINING_POOL
from mixture_assets.defs.resources import Lab
from mixture_assets.defs.server import prepare_home, register_pool

MONDAY = datetime.datetime(2026, 11, 23, 3, tzinfo=datetime.UTC)


REFIT = defs.resolve_job_def("refit_mixture")
PREPARE = defs.resolve_job_def("prepare_data")


def execute(job, graph, tags):
    """Run a job of the definitions on another experiment."""
    lab = Lab(experiment=str(graph.experiment))
    return job.execute_in_process(instance=graph.instance, tags=tags, resources={"lab": lab})


def tick(graph, moment=MONDAY):
    """What the schedule asks for on a Monday."""
    context = dg.build_schedule_context(
        instance=graph.instance,
        scheduled_execution_time=moment,
        resources={"lab": Lab(experiment=str(graph.experiment))},
    )
    return jobs.refit_weekly.evaluate_tick(context)


def test_every_job_says_what_it_does():
    names = [job.name for job in defs.jobs]
    assert {"prepare_data", "train_proxies", "fit_mixture", "train_full"} <= set(names)
    assert {"evaluate", "write_records", "refit_mixture", "everything"} <= set(names)
    for job in defs.jobs:
        assert job.description, job.name


def test_the_stages_together_are_everything():
    found = [defs.resolve_job_def(n).asset_layer.executable_asset_keys for n in jobs.STAGES]
    everything = defs.resolve_job_def("everything").asset_layer.executable_asset_keys
    assert set().union(*found) == everything
    without_refit = [
        keys for n, keys in zip(jobs.STAGES, found, strict=True) if n != "refit_mixture"
    ]
    assert sum(map(len, without_refit)) == len(everything)  # each asset in one stage


def test_a_refit_trains_no_full_run():
    keys = defs.resolve_job_def("refit_mixture").asset_layer.executable_asset_keys
    names = {key.to_user_string() for key in keys}
    assert "proposals" in names
    assert not names & {"full_run", "evaluation"}


def test_the_schedule_is_off_and_weekly():
    assert jobs.refit_weekly.default_status is dg.DefaultScheduleStatus.STOPPED
    assert jobs.refit_weekly.cron_schedule == "0 3 * * 1"
    assert jobs.refit_weekly.execution_timezone == "UTC"


def test_a_tick_asks_for_one_run_over_all_domains(fresh):
    (request,) = tick(fresh).run_requests
    assert request.tags["mixture/schedule"] == "refit_weekly"
    assert request.tags["mixture/experiment"] == "tiny"
    (again,) = tick(fresh).run_requests
    assert again.run_key == request.run_key  # Dagster starts one run for a key
    (later,) = tick(fresh, MONDAY + datetime.timedelta(hours=1)).run_requests
    assert later.run_key != request.run_key  # the cron may be another than weekly


def test_a_tick_without_domains_says_why_nothing_starts(instance, tiny, fresh):
    for name in instance.get_dynamic_partitions("domain"):
        instance.delete_dynamic_partition("domain", name)
    found = tick(fresh)
    assert not found.run_requests
    assert "no domain" in found.skip_message


def test_what_the_schedule_asks_for_covers_every_domain(fresh):
    """The request's tags on a job that mixes assets with and without partitions."""
    (request,) = tick(fresh).run_requests
    result = execute(PREPARE, fresh, request.tags)
    assert result.success
    for name in ("shards", "tokens"):
        made = fresh.instance.get_materialized_partitions(dg.AssetKey(name))
        assert made == {"animals", "numbers", "plants"}
    assert fresh.n_events("validation_set") == 1
    filtered = fresh.instance.get_runs(dg.RunsFilter(tags={"mixture/schedule": "refit_weekly"}))
    assert [run.run_id for run in filtered] == [result.run_id]


def test_a_refit_with_nothing_new_trains_nothing(broken):
    (request,) = tick(broken).run_requests
    result = execute(REFIT, broken, request.tags)
    assert result.success
    assert broken.metadata("proxy_runs")["n_trained"] == 0
    ended = [event.step_key for event in result.all_events if event.is_step_success]
    assert ended.index("proposals") < ended.index("database") < ended.index("report")


def test_the_pool_holds_one_run_at_a_time(tmp_path):
    """Run by run, not step by step: two steps that ask at once may both be let in by SQLite.

    That runs do wait is in tests/test_workplace.py.
    """
    with dg.DagsterInstance.from_config(str(prepare_home(tmp_path / "home"))) as instance:
        config = instance.event_log_storage.get_pool_config()
        assert config.default_pool_limit == 1
        assert config.pool_granularity is PoolGranularity.RUN
        register_pool(instance)
        assert instance.event_log_storage.get_concurrency_info(TRAINING_POOL).slot_count == 1


@pytest.mark.parametrize("name", ["proxy_runs", "full_run"])
def test_training_is_in_the_pool(name):
    definition = next(
        a for a in defs.assets if not isinstance(a, dg.AssetSpec) and a.key.path == [name]
    )
    assert definition.op.pool == TRAINING_POOL
