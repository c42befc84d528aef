"""The verb that plans: which proxy runs would help a decision most, and when to stop."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mixture_assets.cli.app import cli, json_option, print_json, print_left_out, print_table
from mixture_assets.cli.decision_options import decision_options
from mixture_assets.cli.swarm_options import require_swarm, swarm_options
from mixture_assets.core.files import atomic_path

if TYPE_CHECKING:
    from mixture_assets.swarms import SwarmOptions


@cli.command(
    "next",
    epilog="Example: mixture next --ratios ratios.csv --metrics metrics.csv --objective loss",
)
@swarm_options
@decision_options
@click.option("--count", default=8, show_default=True, help="Runs to name.")
@click.option(
    "--precision",
    default=0.25,
    show_default=True,
    help="Half-width of the gain's interval that is enough, as a share of the gain.",
)
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="CSV, as --ratios reads it."
)
@json_option
def next_(
    swarm: "SwarmOptions | None",
    options: dict[str, Any],
    count: int,
    precision: float,
    out: Path | None,
    as_json: bool,
) -> None:
    """Name the proxy runs that would narrow the gain's interval most, and say when to stop."""
    from mixture_assets import next_table
    from mixture_assets.decision_table import DecisionOptions

    runs = require_swarm(swarm)
    answer = next_table.plan_next(
        runs, DecisionOptions.from_text(**options), n_runs=count, precision=precision
    )
    if out is not None:
        with atomic_path(out) as path:
            text = next_table.ratios_csv(answer, runs.tables.weight_pattern)
            path.write_text(text, encoding="utf-8")
    if as_json:
        print_json(answer)
        return
    print_left_out(answer)
    for line in next_table.lines(answer):
        click.echo(line)
    click.echo()
    print_table(*next_table.mixture_table(answer))
    click.echo()
    print_table(*next_table.run_table(answer))
