"""The verb that answers: weights from runs of your own, or from an experiment's proxy runs."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mixture_assets.cli.app import (
    cli,
    experiment_option,
    json_option,
    open_workspace,
    print_json,
    print_table,
)
from mixture_assets.cli.decision_options import decision_options, idle_option
from mixture_assets.cli.swarm_options import swarm_options
from mixture_assets.core.errors import MixtureError
from mixture_assets.core.files import atomic_path

if TYPE_CHECKING:
    from mixture_assets.core.problem import Proposal
    from mixture_assets.swarms import SwarmOptions


@cli.command(
    epilog="Example: mixture propose --ratios ratios.csv --metrics metrics.csv --objective loss"
)
@swarm_options
@decision_options
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="JSON for `export`.")
@click.option(
    "--figures",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for figures of your own runs, as PNG.",
)
@experiment_option
@json_option
def propose(
    swarm: "SwarmOptions | None",
    options: dict[str, Any],
    out: Path | None,
    figures: Path | None,
    experiment: Path | None,
    as_json: bool,
) -> None:
    """Compute weights from runs of your own, or from an experiment's finished proxy runs.

    Nothing is trained. With --ratios and --metrics (or --runs) no experiment is needed.
    """
    if swarm is not None:
        if experiment is not None:
            raise MixtureError("runs of your own and an experiment", hint="name one of the two")
        answer = _answer_from_runs(swarm, options, out, figures)
        print_json(answer) if as_json else _show_answer(answer)
        return
    _no_idle(options, out, figures)
    from mixture_assets import pipeline
    from mixture_assets.corpus import build_corpus

    workspace = open_workspace(experiment)
    proposal_id, proposal = pipeline.propose(workspace, build_corpus(workspace))
    pipeline.refresh_database(workspace)
    show_proposal(proposal_id, proposal, as_json)


def _answer_from_runs(
    swarm: "SwarmOptions", options: dict[str, Any], out: Path | None, figures: Path | None
) -> dict[str, Any]:
    """Decide, and write the files that are asked for."""
    from mixture_assets import decision_table

    answer = decision_table.propose_from_runs(
        swarm, decision_table.DecisionOptions.from_text(**options)
    )
    if out is not None:
        with atomic_path(out) as temporary:
            temporary.write_text(json.dumps(answer, indent=1) + "\n", encoding="utf-8")
    if figures is not None:
        from mixture_assets.report.swarm_page import write_figures

        for name, reason in write_figures(answer, figures).items():
            click.echo(f"no figure '{name}': {reason}", err=True)
    return answer


def _show_answer(answer: dict[str, Any]) -> None:
    from mixture_assets import decision_table

    for run, reason in answer["excluded"].items():
        click.echo(f"left out: {run}: {reason}")
    for line in [*decision_table.lines(answer), *(f"note: {n}" for n in answer["notes"])]:
        click.echo(line)
    print_table(*decision_table.weight_table(answer))
    if answer["prices"]:
        print_table(*decision_table.price_table(answer))


def _no_idle(options: dict[str, Any], out: Path | None, figures: Path | None) -> None:
    """Options for runs of one's own mean nothing for an experiment, which has a file for them."""
    files = {"--out": out, "--figures": figures}
    idle = idle_option(options) or next((n for n, path in files.items() if path is not None), "")
    if idle:
        raise MixtureError(
            f"{idle} is about runs of your own, and none are named",
            hint="pass --ratios FILE --metrics FILE, or --runs FILE",
        )


def show_proposal(proposal_id: str, proposal: "Proposal", as_json: bool) -> None:
    """Print the weights of an experiment's proposal."""
    from mixture_assets import summaries

    if as_json:
        print_json(summaries.proposal_json(proposal_id, proposal))
        return
    print_table(*summaries.weight_table(proposal))
    for note in proposal.notes:
        click.echo(f"note: {note}")
