"""Verbs of compute-constrained data selection: what selecting is worth at a budget."""

from pathlib import Path

import click

from mixture_assets.cli.app import (
    cli,
    experiment_option,
    json_option,
    open_workspace,
    print_json,
    print_table,
    say,
)

POINTS = click.Path(exists=True, dir_okay=False, path_type=Path)


@cli.group(epilog="Example: mixture select frontier points.csv")
def select() -> None:
    """Select training data under a compute budget: fit, compare and plan."""


def size_option(command: click.decorators.FC) -> click.decorators.FC:
    """Add --train-params to a verb that reads points."""
    return click.option(
        "--train-params", type=float, help="Only points of models with so many parameters."
    )(command)


@select.command(epilog="Example: mixture select fit points.csv --json")
@click.argument("points", type=POINTS)
@click.option("--free", is_flag=True, help="All parameters free, with 90 % intervals.")
@size_option
@json_option
def fit(points: Path, free: bool, train_params: float | None, as_json: bool) -> None:
    """Fit performance against compute for each method, as the authors of the law did.

    POINTS is a CSV or parquet file with the columns method, total_flops (selection and training),
    full_flops (training on the whole pool), performance (more is better), and ceiling (the best
    that is known; by default the best in the table). With --free columns share, seed,
    selection_flops and noise_sd are used, too.
    """
    from mixture_assets import selection_table as table

    known = table.read_points(points, train_params=train_params)
    answer = table.free_fits(known) if free else table.published_fits(known)
    if as_json:
        print_json(answer)
        return
    print_table(*(table.free_fit_table(answer) if free else table.fit_table(answer)))
    for method, found in answer.items():
        for note in found.get("notes", ()):
            click.echo(f"note: {method}: {note}")


@select.command(epilog="Example: mixture select frontier points.csv --json")
@click.argument("points", type=POINTS)
@size_option
@json_option
def frontier(points: Path, train_params: float | None, as_json: bool) -> None:
    """Print the points that no other beats: none is as cheap and as good.

    POINTS is as for `fit`. With a column seed, points are means over seeds, and each comes with
    the chance that it is on the frontier in spite of the noise.
    """
    from mixture_assets.selection_table import frontier_rows, frontier_table, read_points

    answer = frontier_rows(read_points(points, train_params=train_params))
    if as_json:
        print_json(answer)
        return
    print_table(*frontier_table(answer))


@select.command(epilog="Example: mixture select run --experiment experiments/selection.toml")
@experiment_option
@click.option("--pilot", is_flag=True, help="Stop after the smallest shares and the forecast.")
@json_option
def run(experiment: Path, pilot: bool, as_json: bool) -> None:
    """Score a pool by every method, train on shares of it, and say what selection is worth.

    The experiment file's [selection] says what; finished parts are looked up, interrupted ones
    go on. A forecast of the pilot is on record before the other runs begin.
    """
    from mixture_assets.sweeps import run_sweep, summary_json

    quiet = (lambda line: None) if as_json else say
    summary = run_sweep(open_workspace(experiment), is_pilot=pilot, say=quiet)
    if as_json:
        print_json(summary_json(summary))
        return
    for sentence in summary.sentences:
        click.echo(sentence)
    click.echo(f"page: {summary.page}")
    say("next: `mixture select plan` for another budget, `mixture calibration` for the forecast")
