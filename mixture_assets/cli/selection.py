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
from mixture_assets.core.errors import MixtureError

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


@select.command(epilog="Example: mixture select run --experiment examples/selection.toml")
@experiment_option
@click.option("--pilot", is_flag=True, help="Stop after the smallest shares and the forecast.")
@json_option
def run(experiment: Path, pilot: bool, as_json: bool) -> None:
    """Score a pool by every method, train on shares of it, and say what selection is worth.

    The experiment file's [selection] says what; finished parts are looked up, interrupted ones
    go on. A forecast of the pilot is on record before the other runs begin.
    """
    from mixture_assets import summaries
    from mixture_assets.sweeps import run_sweep, summary_json

    workspace = open_workspace(experiment)
    summary = run_sweep(
        workspace,
        is_pilot=pilot,
        say=say,
        on_settled=lambda run: say(summaries.run_line(workspace, run)),
    )
    if as_json:
        print_json(summary_json(summary))
        return
    for sentence in summary.sentences:
        click.echo(sentence)
    click.echo(f"page: {summary.page}")
    say(
        "next: `mixture select plan` for another budget; `mixture calibration --experiment` with "
        "this file for its forecasts"
    )


@select.command("break-even", epilog="Example: mixture select break-even points.csv --json")
@click.argument("points", type=POINTS)
@click.option(
    "--budget",
    type=float,
    default=0.5,
    show_default=True,
    help="For the ratios, in multiples of training on the whole pool.",
)
@size_option
@json_option
def break_even(points: Path, budget: float, train_params: float | None, as_json: bool) -> None:
    """Say from which budget a dearer method pays, and from which ratio of model to selector.

    POINTS is as for `fit --free`, with shares; ratios are of parameters where the columns
    train_params and selector_params are there, else multiples of the present one.
    """
    from mixture_assets.selection_table import (
        break_even_rows,
        break_even_table,
        free_fits,
        read_points,
    )

    known = read_points(points, train_params=train_params)
    answer = break_even_rows(known, budget=budget)
    if as_json:
        print_json(answer)
        return
    print_table(*break_even_table(answer))
    for method, found in free_fits(known).items():
        for note in found["notes"]:
            click.echo(f"note: {method}: {note}")


@select.command(
    epilog="Example: mixture select plan --pool data/raw --specialist target --budget-flops 1e15"
)
@click.option("--pool", required=True, help="Raw text to choose from: a folder or URL.")
@click.option("--specialist", required=True, help="Text of the target: a folder, file or URL.")
@click.option("--budget-flops", required=True, type=float, help="Selection and training, in all.")
@click.option(
    "--train-params",
    type=float,
    help="Parameters of the model to train; default: of the points, or sized for the budget.",
)
@click.option(
    "--selector-params",
    multiple=True,
    type=float,
    help="Parameters of a selector to consider; may repeat. Default: of the points, or two sizes.",
)
@click.option(
    "--tasks",
    default=1,
    show_default=True,
    type=click.IntRange(min=1),
    help="Targets that share what can be shared of the selection.",
)
@click.option("--points", type=POINTS, help="What was measured before, as for `fit`.")
@click.option(
    "--search",
    "searches",
    multiple=True,
    metavar="NAME=OVERHEAD",
    help="A search for a mixture, priced in multiples of the training run; may repeat.",
)
@click.option(
    "--cpu-seconds",
    multiple=True,
    metavar="NAME=SECONDS",
    help="What bm25 or embedding took on a CPU, else taken to be free; may repeat.",
)
@click.option(
    "--flops-per-second", default=0.0, help="Of this machine in training: what a second is worth."
)
@click.option(
    "--bytes-per-token", default=4.0, show_default=True, help="Of the pool under your tokenizer."
)
@click.option("--step-tokens", default=2048.0, show_default=True, help="Of one training step.")
@click.option("--text-field", default="text", show_default=True, help="Field that holds the text.")
@json_option
def plan(
    pool: str,
    specialist: str,
    budget_flops: float,
    train_params: float | None,
    selector_params: tuple[float, ...],
    tasks: int,
    points: Path | None,
    searches: tuple[str, ...],
    cpu_seconds: tuple[str, ...],
    flops_per_second: float,
    bytes_per_token: float,
    step_tokens: float,
    text_field: str,
    as_json: bool,
) -> None:
    """Say which method selects best at a budget, how much, and whether random does as well.

    Predictions come from --points, or from published rates where there are none, and each row
    says from which. Searches for a mixture of the pool's folders stand in the same table.
    """
    from mixture_assets.selection_plan import PlanOptions, plan_lines, plan_selection, plan_table

    options = PlanOptions(
        budget_flops=budget_flops,
        train_params=train_params,
        selector_params=selector_params,
        n_tasks=tasks,
        bytes_per_token=bytes_per_token,
        step_tokens=step_tokens,
        text_field=text_field,
        cpu_seconds=_amounts(cpu_seconds, "--cpu-seconds bm25=120"),
        flops_per_second=flops_per_second,
        searches=_amounts(searches, "--search ddo=0.8") or None,
    )
    answer = plan_selection(pool, specialist, options, points=points)
    if as_json:
        print_json(answer)
        return
    for line in plan_lines(answer):
        click.echo(line)
    click.echo()
    print_table(*plan_table(answer))
    for note in answer["notes"]:
        click.echo(f"note: {note}")


def _amounts(texts: tuple[str, ...], example: str) -> dict[str, float]:
    """Name -> amount."""
    found: dict[str, float] = {}
    for text in texts:
        name, _, amount = text.partition("=")
        name = name.strip()
        if name in found:
            raise MixtureError(f"{name!r} is there twice", hint="name each once")
        try:
            found[name] = float(amount)
        except ValueError as error:
            raise MixtureError(
                f"{text!r} is no name and amount", hint=f"for example {example}"
            ) from error
    return found


@select.command(
    epilog="Example: mixture select accuracy --task examples/tasks/python_next_line.yaml"
)
@experiment_option
@click.option(
    "--task", required=True, type=POINTS, help="A multiple-choice task of lm-eval, in YAML."
)
@click.option("--limit", type=click.IntRange(min=1), help="At most so many questions.")
@json_option
def accuracy(experiment: Path, task: Path, limit: int | None, as_json: bool) -> None:
    """Score every model of a finished sweep on a local task with answers, through lm-eval.

    Writes the points with accuracy as their performance, for `fit`, `frontier` and `plan`.
    """
    from mixture_assets.selection_table import frontier_rows, frontier_table
    from mixture_assets.sweeps import accuracy_points

    points, path = accuracy_points(open_workspace(experiment), task, limit=limit, say=say)
    if as_json:
        print_json(
            {"points": str(path), "frontier": {m: frontier_rows(p) for m, p in points.items()}}
        )
        return
    for model, own in sorted(points.items()):
        click.echo(f"{model}, by accuracy: what nothing cheaper beats")
        print_table(*frontier_table(frontier_rows(own)))
    click.echo(f"points: {path}")
