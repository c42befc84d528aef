"""Verbs of one experiment: plan it, run it, see where it stands, what it proposes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from mixture_assets.cli.app import (
    cli,
    experiment_option,
    json_option,
    name_and_store_of,
    open_workspace,
    print_json,
    print_table,
    say,
)
from mixture_assets.cli.proposals import show_proposal
from mixture_assets.core.errors import MixtureError, shortlist
from mixture_assets.core.files import atomic_path
from mixture_assets.core.units import tokens_text


@cli.command(epilog="Example: mixture demo")
@json_option
def demo(as_json: bool) -> None:
    """Run experiments/demo.toml: six domains, proxies at two scales, weights, full runs."""
    _run(Path("experiments/demo.toml"), as_json)


@cli.command(epilog="Example: mixture run --experiment experiments/demo.toml")
@experiment_option
@click.option(
    "--until",
    type=click.Choice(["data", "proxies", "weights"]),
    help="Stop there: tokens are made, proxy runs are trained, or weights are proposed.",
)
@click.option("--mixtures", default="", help="Train only these full runs: proposal,natural")
@click.option("--seeds", default="", help="Train full runs only from these seeds: 0,1")
@click.option(
    "--policy", default="", help="No search: train this beside natural and uniform: dga,importance"
)
@click.option("--specialist", default="", help="Folder or file: what the model should be good at.")
@json_option
def run(
    experiment: Path | None,
    until: str | None,
    mixtures: str,
    seeds: str,
    policy: str,
    specialist: str,
    as_json: bool,
) -> None:
    """Do everything that is missing, from raw shards to the report."""
    if policy or specialist:
        if not _listed(policy):
            raise MixtureError(
                "--policy names no policy to train towards the specialist set",
                hint="--policy dga --specialist FOLDER",
            )
        if until or mixtures:
            raise MixtureError(
                "--policy trains full runs towards a specialist set, and nothing else",
                hint="--policy dga --specialist FOLDER, without --until and --mixtures",
            )
        _run_policies(experiment, _listed(policy), specialist, _numbers(seeds), as_json)
    elif until is None:
        _run(experiment, as_json, mixtures=_listed(mixtures), seeds=_numbers(seeds))
    elif mixtures or seeds:
        raise MixtureError(
            f"--until {until} trains no full run to choose", hint="leave --mixtures and --seeds out"
        )
    else:
        _run_until(experiment, until, as_json)


def _numbers(seeds: str) -> list[int]:
    numbers = _listed(seeds)
    unknown = [text for text in numbers if not text.isdecimal()]
    if unknown:
        raise MixtureError(f"--seeds has {shortlist(unknown)}", hint="whole numbers: 0,1")
    return [int(text) for text in numbers]


def _run_policies(
    experiment: Path | None,
    policies: Sequence[str],
    specialist: str,
    seeds: Sequence[int],
    as_json: bool,
) -> None:
    from mixture_assets import policy_runs
    from mixture_assets.specialist import with_specialist

    workspace = open_workspace(experiment)
    if specialist:
        workspace = with_specialist(workspace, specialist)
    _steer(policy_runs.with_policies(workspace, policies), (), seeds, as_json)


def _steer(workspace: Any, mixtures: Sequence[str], seeds: Sequence[int], as_json: bool) -> None:
    """Train full runs that need no search, and say what they came to."""
    from mixture_assets import policy_page, policy_runs, summaries

    summary = policy_runs.run_policies(
        workspace,
        say=say,
        on_settled=lambda run: say(summaries.run_line(workspace, run)),
        mixtures=mixtures,
        seeds=seeds,
    )
    if as_json:
        print_json(policy_page.summary_json(workspace, summary))
        return
    tokens = tokens_text(workspace.experiment.full.budget_tokens)
    click.echo(f"\nTowards the specialist set, after {tokens} tokens")
    print_table(*policy_page.policy_table(workspace, summary.runs))
    click.echo(policy_page.UNITS)
    for line in policy_page.comparison_lines(workspace, summary):
        click.echo(line)
    click.echo("\nWeights: share of training tokens, at the start, on average and at the end")
    print_table(*policy_page.weight_table(workspace, summary.runs))
    click.echo(policy_page.ledger_line(workspace, summary.runs))
    click.echo(f"\npage, with the weights' figures: {policy_page.write_page(workspace, summary)}")
    done = "nothing to do: every run was there" if summary.n_trained == 0 else "done"
    click.echo(done if summary.n_trained == 0 else f"{done}; run it again: nothing to do")


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _run_until(experiment: Path | None, until: str, as_json: bool) -> None:
    """The first steps; what they leave is said in numbers."""
    from mixture_assets import pipeline, summaries

    workspace = open_workspace(experiment)
    corpus = pipeline.prepare(workspace, say=say)

    def told(run: Any) -> None:
        say(summaries.run_line(workspace, run))

    if until == "weights":
        show_proposal(*pipeline.refit(workspace, corpus, say=say, on_settled=told), as_json)
        return
    answer: dict[str, Any] = {"available_tokens": dict(corpus.available_tokens)}
    if until == "proxies":
        planned, n_missing = pipeline.train_proxies(workspace, corpus, say=say, on_settled=told)
        answer |= {"n_runs": len(planned), "n_trained": n_missing}
    pipeline.refresh_database(workspace)
    if as_json:
        print_json(answer)
        return
    total = tokens_text(sum(corpus.available_tokens.values()))
    click.echo(f"{len(corpus.domains)} domains, {total} training tokens; next: mixture run")


def _run(
    experiment: Path | None,
    as_json: bool,
    *,
    mixtures: Sequence[str] = (),
    seeds: Sequence[int] = (),
) -> None:
    from mixture_assets import pipeline, policy_runs, running, summaries

    workspace = open_workspace(experiment)
    if policy_runs.searches_nothing(workspace, mixtures):
        _steer(workspace, mixtures, seeds, as_json)
        return
    if not as_json and not running.has_runs(workspace):
        from mixture_assets.estimate import estimate

        _print_plan(estimate(workspace))
    summary = pipeline.run_all(
        workspace,
        say=say,
        on_settled=lambda run: say(summaries.run_line(workspace, run)),
        mixtures=mixtures,
        seeds=seeds,
    )
    if as_json:
        print_json(summaries.summary_json(workspace, summary))
        return
    click.echo("\nWeights: share of training tokens")
    print_table(*summaries.weight_table(summary.proposal))
    for note in summary.proposal.notes:
        click.echo(f"note: {note}")
    click.echo(f"\nEvaluation after {tokens_text(summary.proposal.budget_tokens)} tokens")
    print_table(*summaries.evaluation_table(workspace, summary.full_runs))
    click.echo("\nThe proposal")
    for line in summaries.comparison_lines(workspace, summary):
        click.echo(f"  {line}")
    click.echo(f"\nreport: {summary.report.html}")
    done = "nothing to do: every run was there" if summary.n_trained == 0 else "done"
    click.echo(done if summary.n_trained == 0 else f"{done}; run it again: nothing to do")


@cli.command(epilog="Example: mixture plan --experiment experiments/demo.toml")
@experiment_option
@json_option
def plan(experiment: Path | None, as_json: bool) -> None:
    """Say what an experiment takes in runs, tokens, FLOPs, hours and disk; start nothing."""
    import dataclasses

    from mixture_assets.estimate import estimate

    rows = estimate(open_workspace(experiment))
    if as_json:
        print_json([dataclasses.asdict(row) for row in rows])
    else:
        _print_plan(rows)


def _print_plan(rows: Any) -> None:
    if not rows:
        return
    from mixture_assets.estimate import plan_table

    print_table(*plan_table(rows))


@cli.command(epilog="Example: mixture status")
@experiment_option
@json_option
def status(experiment: Path | None, as_json: bool) -> None:
    """Count runs by state, name the domains in quarantine, and the next command."""
    from mixture_assets.store.status import (
        next_commands,
        quarantine_table,
        run_table,
        status_table,
    )

    name, store = name_and_store_of(experiment)
    rows, bad = run_table(store), quarantine_table(store, name)
    if as_json:
        print_json({"runs": rows, "quarantined": bad})
        return
    print_table(*status_table(rows))
    for row in rows:
        if row["status"] == "failed":
            click.echo(f"failed: {row['run_id']} {row['label']}: {row['reason']}")
    for row in bad:
        click.echo(f"quarantined: {row['domain']}: {row['problem']}")
        click.echo(f"  {row['fate']}; hint: {row['hint']}")
    if not rows:
        click.echo("no runs yet; next: mixture run")
    for line in next_commands(rows):
        click.echo(line)


@cli.command(epilog="Example: mixture refit --way extend")
@experiment_option
@click.option(
    "--way",
    type=click.Choice(["full", "extend", "reuse"]),
    help="Do it this way; without it the ways are priced and nothing is started.",
)
@json_option
def refit(experiment: Path | None, way: Any, as_json: bool) -> None:
    """Price the ways to new weights when domains came, changed or went; or go one."""
    from mixture_assets import pipeline, summaries
    from mixture_assets.corpus import build_corpus
    from mixture_assets.prices import option_line, price
    from mixture_assets.validity import run_validity

    workspace = open_workspace(experiment)
    corpus = build_corpus(workspace)
    if way is not None:
        proposal_id, proposal = pipeline.refit(
            workspace,
            corpus,
            way,
            say=say,
            on_settled=lambda run: say(summaries.run_line(workspace, run)),
        )
        show_proposal(proposal_id, proposal, as_json)
        return
    options = price(workspace, corpus)
    validity = run_validity(workspace, corpus, options)
    if as_json:
        print_json({"options": [o.to_json() for o in options], "earlier_runs": validity})
        return
    for option in options:
        click.echo(option_line(option, is_chosen=False))
    click.echo()
    print_table(*summaries.fate_table(validity))
    click.echo("next: mixture refit --way WAY, or mixture run")


@cli.command(epilog="Example: mixture report")
@click.option("--proposal", default="", help="Its id, or the beginning of it; default: latest.")
@experiment_option
@json_option
def report(proposal: str, experiment: Path | None, as_json: bool) -> None:
    """Write the report of a proposal again, from the database."""
    from mixture_assets import pipeline

    workspace = open_workspace(experiment)
    if proposal:
        proposal_id = pipeline.proposal_named(workspace, proposal)
    else:
        proposal_id = pipeline.latest_proposal(workspace)
    paths = pipeline.make_report(workspace, proposal_id)
    if as_json:
        print_json({"html": str(paths.html), "markdown": str(paths.markdown)})
    else:
        click.echo(paths.html)


@cli.command(epilog="Example: mixture export --format olmo-core --paths 'tokens/{}/*.npy'")
@click.argument(
    "file", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.option("--format", "form", default="json", show_default=True, help="Name of the format.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="File to write.")
@click.option("--paths", default="", help="Where a domain's tokens lie: 'tokens/{}'.")
@click.option("--proposal", default="", help="Its id, or the beginning of it; default: latest.")
@experiment_option
@json_option
def export(
    file: Path | None,
    form: str,
    out: Path | None,
    paths: str,
    proposal: str,
    experiment: Path | None,
    as_json: bool,
) -> None:
    """Write weights for another trainer, from a proposal or a FILE that `propose --json` made.

    Formats: json, toml, olmo-core, megatron, huggingface, levanter, nanochat.
    """
    from mixture_assets.handover import handed_over, weights_in

    if file is None:
        from mixture_assets.summaries import recorded_weights

        _, weights = recorded_weights(open_workspace(experiment), proposal)
    elif proposal or experiment:
        raise MixtureError(
            f"{file.name} and an experiment both have weights", hint="name one of the two"
        )
    else:
        weights = weights_in(file)
    made = handed_over(weights, form, paths)
    if out is not None:
        with atomic_path(out) as temporary:
            temporary.write_text(made.text, encoding="utf-8")
    for note in made.notes if not as_json else ():
        say(f"note: {note}")
    if as_json:
        print_json({"format": form, "text": made.text, "notes": list(made.notes)})
    elif out is None:
        click.echo(made.text, nl=False)
