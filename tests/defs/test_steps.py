"""Faults of the machine are tried again, mistakes of the user are not."""

import errno
import shutil

import dagster as dg
import pytest

from mixture_assets.core.errors import MachineError, MixtureError
from mixture_assets.definitions import defs
from mixture_assets.defs.steps import RETRIES, asset, owned

AT_ONCE = dg.RetryPolicy(max_retries=RETRIES.max_retries, delay=0.01)


def attempts_at(error, n_failures, instance):
    """Run a step that raises some times; returns the result and how often it was begun."""
    begun = []

    @asset(retries=AT_ONCE)
    def step():
        begun.append(1)
        if len(begun) <= n_failures:
            raise error

    result = dg.materialize([step], instance=instance, raise_on_error=False)
    return result, len(begun)


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "no space left"), MemoryError(), ConnectionError("reset")],
    ids=lambda error: type(error).__name__,
)
def test_a_fault_of_the_machine_is_tried_again(instance, error):
    result, n_attempts = attempts_at(error, 2, instance)
    assert result.success
    assert n_attempts == 3


def test_a_fault_that_stays_ends_the_run_after_three_attempts(instance):
    result, n_attempts = attempts_at(OSError("broken disk"), 99, instance)
    assert not result.success
    assert n_attempts == 3


def test_a_mistake_of_the_user_is_not_tried_again(instance):
    error = MixtureError("no domain 'prose'", hint="add its folder")
    result, n_attempts = attempts_at(error, 99, instance)
    assert not result.success
    assert n_attempts == 1
    (failure,) = [e for e in result.all_events if e.is_step_failure]
    told = failure.step_failure_data.user_failure_data
    assert told.description == "no domain 'prose'\nhint: add its folder"
    assert {key: value.value for key, value in told.metadata.items()} == {
        "problem": "no domain 'prose'",
        "hint": "add its folder",
    }


def test_a_real_asset_ends_at_once_when_its_domain_is_gone(fresh):
    shutil.rmtree(fresh.experiment.parent / "raw" / "plants")
    result = fresh.run("shards", raise_on_error=False)
    kinds = [event.event_type_value for event in result.all_events]
    assert kinds.count("STEP_START") == 1
    assert kinds.count("STEP_FAILURE") == 1
    assert "STEP_UP_FOR_RETRY" not in kinds


def test_the_second_wait_is_longer_than_the_first(instance):
    @asset(retries=dg.RetryPolicy(max_retries=2, delay=0.2, backoff=dg.Backoff.EXPONENTIAL))
    def step():
        raise OSError("broken disk")

    result = dg.materialize([step], instance=instance, raise_on_error=False)
    waits = [e.step_retry_data.seconds_to_wait for e in result.all_events if e.is_step_up_for_retry]
    assert waits == pytest.approx([0.2, 0.6])


def test_the_retries_of_our_assets_back_off():
    assert RETRIES.max_retries == 2
    assert RETRIES.backoff is dg.Backoff.EXPONENTIAL
    assert RETRIES.calculate_delay(2) > RETRIES.calculate_delay(1) / 2 > 0


def test_no_asset_has_dagsters_own_policy_which_would_retry_a_terminated_run():
    made = [a for a in defs.assets if not isinstance(a, dg.AssetSpec)]
    assert made
    assert [a.key for a in made if a.op.retry_policy is not None] == []


def test_a_full_disk_is_a_fault_though_it_is_told_in_one_sentence(instance):
    _, n_attempts = attempts_at(MachineError("no space left"), 99, instance)
    assert n_attempts == 3


def test_an_interruption_is_no_fault(instance):
    begun = []

    @asset(retries=AT_ONCE)
    def step():
        begun.append(1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        dg.materialize([step], instance=instance)
    assert len(begun) == 1


def test_a_run_is_tagged_with_experiment_and_code(fresh):
    result = fresh.run("shards")
    tags = fresh.instance.get_run_by_id(result.run_id).tags
    assert tags["mixture/experiment"] == "tiny"
    assert tags["mixture/code"].startswith("training-")


def test_a_run_that_fits_is_tagged_with_its_proposal(graph):
    tags = graph.instance.get_run_by_id(graph.first.run_id).tags
    assert tags["mixture/proposal"] == graph.metadata("proposals")["proposal_id"]


def test_owners_come_from_the_environment(monkeypatch):
    @dg.asset
    def thing(): ...

    monkeypatch.setenv("MIXTURE_OWNERS", "team:data, someone@example.com")
    (found,) = owned([thing])
    assert next(iter(found.specs)).owners == ["team:data", "someone@example.com"]
