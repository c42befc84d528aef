"""How every step behaves: its owners, its tags, what is tried again and how a mistake ends it.

`asset` is `dagster.asset` with these habits; nothing else about an asset is decided here.
"""

import functools
import os
from collections.abc import Callable, Sequence
from typing import Any

import dagster as dg

from mixture_assets.core.errors import MachineError, MixtureError
from mixture_assets.core.run import TRAINING_VERSION

OWNERS_VARIABLE = "MIXTURE_OWNERS"
DEFAULT_OWNERS = "team:mixtures"

# Tags of a run, to filter the list of runs by.
EXPERIMENT_TAG = "mixture/experiment"
STORE_TAG = "mixture/store"
PROPOSAL_TAG = "mixture/proposal"
WAY_TAG = "mixture/refit_way"  # full, extend or reuse
CODE_TAG = "mixture/code"  # as in the column code_version of table `run`

# For faults of the machine: a full disk that empties, memory that comes back, a network file
# system that returns. Waits about 10 s, then 30 s.
RETRIES = dg.RetryPolicy(
    max_retries=2, delay=10, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS
)


def asset(
    retries: dg.RetryPolicy = RETRIES, **options: Any
) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """`dagster.asset` whose faults are tried again, and whose user's mistakes are not."""

    def decorate(function: Callable[..., Any]) -> dg.AssetsDefinition:
        made: dg.AssetsDefinition = dg.asset(**options)(
            trying_again(ending_well(function), retries)
        )
        return made

    return decorate


def trying_again(function: Callable[..., Any], retries: dg.RetryPolicy) -> Callable[..., Any]:
    """A step's function whose faults ask for another attempt.

    Not Dagster's `retry_policy`: under one, a run that somebody terminates is tried again too.
    """

    @functools.wraps(function)
    def step(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except (dg.Failure, dg.DagsterError):
            raise
        except Exception as error:
            attempt = dg.OpExecutionContext.get().retry_number + 1
            wait = retries.calculate_delay(attempt)
            raise dg.RetryRequested(retries.max_retries, seconds_to_wait=wait) from error

    return step


def ending_well(function: Callable[..., Any]) -> Callable[..., Any]:
    """A step's function that turns a MixtureError into a failure that is not tried again.

    The same input fails the same way; the problem and the hint stand on the run's page.
    """

    @functools.wraps(function)
    def step(*args: Any, **kwargs: Any) -> Any:
        try:
            if "lab" in kwargs:
                tag_run(dg.OpExecutionContext.get(), lab_tags(kwargs["lab"]))
            return function(*args, **kwargs)
        except MachineError:
            raise
        except MixtureError as error:
            hint = {"hint": error.hint} if error.hint else {}
            raise dg.Failure(
                "\n".join([str(error), *(f"hint: {text}" for text in hint.values())]),
                metadata={"problem": str(error), **hint},
                allow_retries=False,
            ) from error

    return step


def tag_run(context: Any, tags: dict[str, str]) -> None:
    """Put tags on the run that a step belongs to; those that it has already cost nothing."""
    new = {key: value for key, value in tags.items() if context.run.tags.get(key) != value}
    if new:
        context.instance.add_run_tags(context.run.run_id, new)


def lab_tags(lab: Any) -> dict[str, str]:
    """What every run is tagged with."""
    workspace = lab.open()
    return {
        EXPERIMENT_TAG: workspace.experiment.name,
        STORE_TAG: str(workspace.store.resolve()),
        CODE_TAG: f"training-{TRAINING_VERSION}",
    }


def owned(assets: Sequence[Any]) -> list[Any]:
    """The assets with their owners: MIXTURE_OWNERS, addresses and `team:...` with commas."""
    names = os.environ.get(OWNERS_VARIABLE, DEFAULT_OWNERS).split(",")
    owners = [name.strip() for name in names if name.strip()]
    return list(dg.map_asset_specs(lambda spec: spec.replace_attributes(owners=owners), assets))
