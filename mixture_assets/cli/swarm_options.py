"""Options that name somebody's own runs, the same for every verb that reads them."""

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mixture_assets.core.errors import MixtureError

if TYPE_CHECKING:
    from mixture_assets.swarms import SwarmOptions

TABLE = click.Path(exists=True, dir_okay=False, path_type=Path)
_OPTIONS = (
    click.option("--ratios", type=TABLE, help="Runs and their weights, CSV or parquet."),
    click.option("--metrics", type=TABLE, help="The same runs and their metrics."),
    click.option("--runs", type=TABLE, help="Runs with weights and metrics in one table."),
    click.option(
        "--objective", default="", help="Metric to lower, or several with shares: a=2,b=1"
    ),
    click.option("--domains", default="", help="Columns with weights, with commas."),
    click.option("--weights-prefix", default="", help="How their names begin; it is taken off."),
    click.option("--rename-weights", default="", help="Their names' pattern: 'train_{}'"),
    click.option("--rename-metrics", default="", help="The metrics' pattern: 'eval/{}_loss'"),
    click.option("--normalise", is_flag=True, help="Rescale weights that do not sum to 1."),
)
_NAMES = (
    *("ratios", "metrics", "runs", "objective", "domains"),
    *("weights_prefix", "rename_weights", "rename_metrics", "normalise"),
)


def swarm_options(command: Any) -> Any:
    """Add the options to a verb, which gets `swarm`: SwarmOptions, or None if no table is named."""

    @functools.wraps(command)
    def told(*args: Any, **kwargs: Any) -> Any:
        given = {name: kwargs.pop(name) for name in _NAMES}
        return command(*args, swarm=_swarm(given), **kwargs)

    for option in reversed(_OPTIONS):
        told = option(told)
    return told


def require_swarm(swarm: "SwarmOptions | None") -> "SwarmOptions":
    """The options of a verb that cannot do without runs."""
    if swarm is None:
        raise MixtureError(
            "no runs are named", hint="pass --ratios FILE --metrics FILE, or --runs FILE"
        )
    return swarm


def _swarm(given: dict[str, Any]) -> "SwarmOptions | None":
    from mixture_assets.swarms import SwarmOptions

    if given["ratios"] or given["metrics"] or given["runs"]:
        return SwarmOptions.from_text(**given)
    idle = [f"--{name.replace('_', '-')}" for name, value in given.items() if value]
    if idle:
        raise MixtureError(
            f"{idle[0]} is about runs of your own, and none are named",
            hint="pass --ratios FILE --metrics FILE, or --runs FILE",
        )
    return None
