"""`mixture`: the same steps without Dagster, one verb per step. Data on stdout, words on stderr."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mixture_assets.core.errors import MixtureError
from mixture_assets.core.units import bytes_text, flops_text, seconds_text, tokens_text

if TYPE_CHECKING:
    from mixture_assets.corpus import Workspace

# Modules that load torch or duckdb are imported inside the commands that need them: help and
# `mixture ddo` answer in a tenth of a second.


class _Group(click.Group):
    """Turns MixtureError into one readable line and its hint, never a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except MixtureError as error:
            notes = getattr(error, "__notes__", [])
            raise click.ClickException("\n".join([str(error), *notes])) from error


def main() -> None:
    """Entry point: exit code 0 for success, 1 for a user's mistake, 2 for a bug."""
    try:
        sys.exit(cli.main(standalone_mode=False))
    except click.exceptions.Abort:
        click.echo("stopped; start again to resume", err=True)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(1)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.exit(0)
    except Exception:
        import traceback

        traceback.print_exc()
        click.echo("this is a bug of mixture_assets: please report it", err=True)
        sys.exit(2)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Find, check and train data mixtures."""


def _experiment_option(command: Any) -> Any:
    return click.option(
        "--experiment",
        type=click.Path(dir_okay=False, path_type=Path),
        help="Experiment file; default: the only TOML in experiments/.",
    )(command)


def _json_option(command: Any) -> Any:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def _open(experiment: Path | None) -> "Workspace":
    from mixture_assets.corpus import Workspace

    return Workspace.open(experiment or _only_experiment())


def _only_experiment() -> Path:
    found = sorted(Path("experiments").glob("*.toml"))
    if len(found) != 1:
        what = f"{len(found)} files" if found else "no file"
        raise MixtureError(
            f"there is {what} in experiments/, so which one is meant is unclear",
            hint="pass --experiment FILE",
        )
    return found[0]


def _store_of(experiment: Path | None) -> Path:
    """The store, without loading what only training needs."""
    from mixture_assets.core.experiment import load_experiment

    return load_experiment(experiment or _only_experiment()).store_path


def _print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, sort_keys=True))


def _say(line: str) -> None:
    click.echo(line, err=True)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns of words to the left, columns of numbers to the right."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    is_words = [any(row[i][:1].isalpha() for row in rows) for i in range(len(header))]
    for row in [header, ["-" * w for w in widths], *rows]:
        cells = [
            cell.ljust(w) if words else cell.rjust(w)
            for cell, w, words in zip(row, widths, is_words, strict=True)
        ]
        click.echo("  ".join(cells).rstrip())


# --- the main job -----------------------------------------------------------------------------


@cli.command(epilog="Example: mixture demo")
@_json_option
def demo(as_json: bool) -> None:
    """Run experiments/demo.toml: six domains, proxies at two scales, weights, full runs."""
    _run(Path("experiments/demo.toml"), as_json)


@cli.command(epilog="Example: mixture run --experiment experiments/demo.toml")
@_experiment_option
@_json_option
def run(experiment: Path | None, as_json: bool) -> None:
    """Do everything that is missing, from raw shards to the report."""
    _run(experiment, as_json)


def _run(experiment: Path | None, as_json: bool) -> None:
    from mixture_assets import pipeline, summaries

    workspace = _open(experiment)
    if not as_json and not pipeline.has_runs(workspace):
        from mixture_assets.estimate import estimate

        _print_plan(estimate(workspace))
    summary = pipeline.run_all(
        workspace, say=_say, on_settled=lambda run: _say(summaries.run_line(workspace, run))
    )
    if as_json:
        _print_json(summaries.summary_json(workspace, summary))
        return
    click.echo("\nWeights: share of training tokens")
    _table(*summaries.weight_table(summary.proposal))
    for note in summary.proposal.notes:
        click.echo(f"note: {note}")
    click.echo(f"\nEvaluation after {tokens_text(summary.proposal.budget_tokens)} tokens")
    _table(*summaries.evaluation_table(workspace, summary.full_runs))
    click.echo("\nThe proposal")
    for line in summaries.comparison_lines(workspace, summary):
        click.echo(f"  {line}")
    click.echo(f"\nreport: {summary.report.html}")
    done = "nothing to do: every run was there" if summary.n_trained == 0 else "done"
    click.echo(done if summary.n_trained == 0 else f"{done}; run it again: nothing to do")


@cli.command(epilog="Example: mixture plan --experiment experiments/demo.toml")
@_experiment_option
@_json_option
def plan(experiment: Path | None, as_json: bool) -> None:
    """Say what an experiment takes in runs, tokens, FLOPs, hours and disk; start nothing."""
    import dataclasses

    from mixture_assets.estimate import estimate

    rows = estimate(_open(experiment))
    if as_json:
        _print_json([dataclasses.asdict(row) for row in rows])
    else:
        _print_plan(rows)


def _print_plan(rows: Any) -> None:
    if not rows:
        return
    header = ("stage", "runs", "tokens", "FLOPs", "time", "disk")
    body = [
        (
            row.stage,
            str(row.runs),
            tokens_text(row.tokens),
            flops_text(row.flops),
            seconds_text(3600 * row.hours),
            bytes_text(row.disk_bytes),
        )
        for row in rows
    ]
    _table(header, body)


@cli.command(epilog="Example: mixture status")
@_experiment_option
@_json_option
def status(experiment: Path | None, as_json: bool) -> None:
    """Count planned, done, failed and running runs, and name the next command."""
    from mixture_assets.store.status import run_table

    rows = run_table(_store_of(experiment))
    if as_json:
        _print_json(rows)
        return
    counts: dict[tuple[str, str], int] = {}
    for row in rows:
        key = (row["purpose"], row["status"])
        counts[key] = counts.get(key, 0) + 1
    _table(("purpose", "status", "runs"), [(p, s, str(n)) for (p, s), n in sorted(counts.items())])
    for row in rows:
        if row["status"] == "failed":
            click.echo(f"failed: {row['run_id']} {row['label']}: {row['reason']}")
    if any(row["status"] != "done" for row in rows):
        click.echo("next: mixture run")
    elif not rows:
        click.echo("no runs yet; next: mixture run")


@cli.command(epilog="Example: mixture propose --json")
@_experiment_option
@_json_option
def propose(experiment: Path | None, as_json: bool) -> None:
    """Compute weights from the proxy runs that are done; train nothing."""
    from mixture_assets import pipeline, summaries
    from mixture_assets.corpus import build_corpus

    workspace = _open(experiment)
    proposal_id, proposal = pipeline.propose(workspace, build_corpus(workspace))
    pipeline.refresh_database(workspace)
    if as_json:
        _print_json(summaries.proposal_json(proposal_id, proposal))
        return
    _table(*summaries.weight_table(proposal))
    for note in proposal.notes:
        click.echo(f"note: {note}")


@cli.command(epilog="Example: mixture report")
@_experiment_option
@_json_option
def report(experiment: Path | None, as_json: bool) -> None:
    """Write the report of the newest proposal again, from the database."""
    from mixture_assets import pipeline

    workspace = _open(experiment)
    proposal_id = pipeline.latest_proposal(workspace)
    paths = pipeline.make_report(workspace, proposal_id)
    if as_json:
        _print_json({"html": str(paths.html), "markdown": str(paths.markdown)})
    else:
        click.echo(paths.html)


@cli.command(epilog='Example: mixture query "SELECT * FROM leaderboard"')
@click.argument("sql")
@_experiment_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
def query(sql: str, experiment: Path | None, as_json: bool, as_csv: bool) -> None:
    """Answer one read-only SQL query over the records. Tables: docs/store.md."""
    from mixture_assets.store.query import query as run_query

    result = run_query(_store_of(experiment), sql)
    if as_json:
        click.echo(result.to_json())
    elif as_csv:
        click.echo(result.to_csv(), nl=False)
    else:
        click.echo(result.to_table())


@cli.command(epilog="Example: mixture doctor")
@_experiment_option
@_json_option
def doctor(experiment: Path | None, as_json: bool) -> None:
    """Check device, memory, disk, versions, tokenizer engine and store; print the fix."""
    from mixture_assets.doctor import examine

    findings = examine(_store_of(experiment))
    if as_json:
        _print_json([finding.__dict__ for finding in findings])
    else:
        _table(
            ("check", "state", "finding"),
            [(f.check, "ok" if f.is_ok else "FIX", f.finding) for f in findings],
        )
        for finding in findings:
            if finding.fix:
                click.echo(f"{finding.check}: {finding.fix}")
    if not all(finding.is_ok for finding in findings):
        sys.exit(1)


@cli.command(epilog="Example: mixture ui --port 3000")
@_experiment_option
@click.option("--port", default=3000, show_default=True, help="Port on 127.0.0.1.")
def ui(experiment: Path | None, port: int) -> None:
    """Open the asset graph on http://127.0.0.1:PORT (Dagster, with its daemon)."""
    from mixture_assets.defs.server import serve

    sys.exit(serve(experiment or _only_experiment(), port=port))


# --- your own numbers -------------------------------------------------------------------------


@cli.command(epilog="Example: mixture ddo runs.csv --objective val_ppl_avg --floor 0.2 --json")
@click.argument("runs", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--objective", required=True, help="Column with the number to lower.")
@click.option("--floor", default=0.2, show_default=True, help="Least multiple of the base amount.")
@_json_option
def ddo(runs: Path, objective: str, floor: float, as_json: bool) -> None:
    """Fit and allocate from your own runs (columns: domain, factor, and the objective)."""
    from mixture_assets.tables import ddo_from_csv

    answer = ddo_from_csv(runs, objective=objective, floor=floor)
    if as_json:
        _print_json(answer)
        return
    rows = []
    for name, weight in sorted(answer["weights"].items(), key=lambda item: -item[1]):
        fit = answer["fits"][name]
        numbers = ["-" if fit[k] is None else f"{fit[k]:.4f}" for k in "abc"]
        rows.append((name, f"{answer['optimum'][name]:.4f}", f"{weight:.4f}", *numbers))
    _table(("domain", "x base", "weight", "a", "b", "c"), rows)


@cli.command(epilog="Example: mixture extrapolate optima.json --tokens 5e9 --json")
@click.argument("optima", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--tokens", type=float, required=True, help="Training tokens to predict for.")
@click.option("--rule", type=click.Choice(["safe", "paper"]), default="safe", show_default=True)
@click.option("--floor", default=0.2, show_default=True, help="Of the uniform share, as in DDO.")
@_json_option
def extrapolate(optima: Path, tokens: float, rule: Any, floor: float, as_json: bool) -> None:
    """Carry best tokens per domain from two scales to a training budget (AutoScale)."""
    from mixture_assets.tables import extrapolate_from_json

    answer = extrapolate_from_json(optima, budget_tokens=tokens, rule=rule, floor=floor)
    if as_json:
        _print_json(answer)
        return
    rows = [
        (name, f"{weight:.4f}", tokens_text(answer["tokens"][name]))
        for name, weight in sorted(answer["weights"].items(), key=lambda item: -item[1])
    ]
    _table(("domain", "weight", "tokens"), rows)
    if answer["held"]:
        click.echo(f"held at their larger-scale weight: {', '.join(answer['held'])}")
