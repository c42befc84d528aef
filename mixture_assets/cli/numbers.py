"""Verbs for somebody's own numbers: no experiment, no store."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mixture_assets.cli.app import cli, json_option, print_json, print_left_out, print_table
from mixture_assets.cli.swarm_options import TABLE, require_swarm, swarm_options

if TYPE_CHECKING:
    from mixture_assets.swarms import SwarmOptions


@cli.command(epilog="Example: mixture ddo runs.csv --objective val_ppl_avg --floor 0.2 --json")
@click.argument("runs", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--objective", required=True, help="Column with the number to lower; several with commas."
)
@click.option("--floor", default=0.2, show_default=True, help="Least multiple of the base amount.")
@click.option(
    "--fit",
    type=click.Choice(["three_point", "joint"]),
    default="three_point",
    show_default=True,
    help="A curve for each domain, or one law for each column over all runs.",
)
@click.option(
    "--read",
    "readings",
    multiple=True,
    metavar="TEXT=FACTOR",
    help="What a cell of the column factor stands for, e.g. 0.2=1/3; may repeat.",
)
@json_option
def ddo(
    runs: Path, objective: str, floor: float, fit: Any, readings: tuple[str, ...], as_json: bool
) -> None:
    """Fit and allocate from your own runs (columns: domain, factor, and the objective)."""
    from mixture_assets.tables import ddo_from_csv, ddo_table

    read = {text: factor for text, _, factor in (reading.partition("=") for reading in readings)}
    answer = ddo_from_csv(runs, objective=objective, floor=floor, fit=fit, read=read)
    if as_json:
        print_json(answer)
        return
    print_table(*ddo_table(answer))


@cli.command(epilog="Example: mixture extrapolate optima.json --tokens 5e9 --json")
@click.argument("optima", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--tokens", type=float, required=True, help="Training tokens to predict for.")
@click.option("--rule", type=click.Choice(["safe", "paper"]), default="safe", show_default=True)
@click.option("--floor", default=0.2, show_default=True, help="Of the uniform share, as in DDO.")
@json_option
def extrapolate(optima: Path, tokens: float, rule: Any, floor: float, as_json: bool) -> None:
    """Carry best tokens per domain from two scales or more to a training budget (AutoScale)."""
    from mixture_assets.tables import extrapolate_from_json, extrapolate_table

    answer = extrapolate_from_json(optima, budget_tokens=tokens, rule=rule, floor=floor)
    if as_json:
        print_json(answer)
        return
    print_table(*extrapolate_table(answer))
    if answer["held"]:
        click.echo(f"held at their larger-scale weight: {', '.join(answer['held'])}")
    known = {name: r2 for name, r2 in answer["r2"].items() if r2 is not None}
    if known:
        worst = min(known, key=lambda name: known[name])
        click.echo(f"R2 of the lines through the scales: {known[worst]:.3f} or more ({worst!r})")


@cli.command(
    epilog="Example: mixture laws --ratios ratios.csv --metrics metrics.csv --objective val_loss"
)
@swarm_options
@click.option("--test-ratios", type=TABLE, help="Further runs, for the choice to be judged by.")
@click.option("--test-metrics", type=TABLE, help="Their metrics.")
@click.option("--test-runs", type=TABLE, help="Both in one table.")
@click.option("--folds", default=5, show_default=True, help="Parts that are held out in turn.")
@click.option("--seed", default=0, show_default=True, help="Of the parts.")
@json_option
def laws(
    swarm: "SwarmOptions | None",
    test_ratios: Path | None,
    test_metrics: Path | None,
    test_runs: Path | None,
    folds: int,
    seed: int,
    as_json: bool,
) -> None:
    """Compare laws that predict a metric from the mixture, on runs that they have not seen."""
    from mixture_assets.law_table import compare_laws, law_table, scale_table

    runs = require_swarm(swarm)
    test = runs.test_set(ratios=test_ratios, metrics=test_metrics, runs=test_runs)
    answer = compare_laws(runs, test=test, n_folds=folds, seed=seed)
    if as_json:
        print_json(answer)
        return
    print_left_out(answer)
    click.echo(f"{answer['n_runs']} runs, {answer['n_domains']} domains; held out in turn:")
    print_table(*law_table(answer))
    if "across_scales" in answer:
        held_out = answer["across_scales"]["n_held_out"]
        click.echo(f"\nfitted to smaller runs, scored on the {held_out} of the largest scale:")
        print_table(*scale_table(answer))
