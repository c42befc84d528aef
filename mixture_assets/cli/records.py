"""Verbs about what is recorded, and about this machine."""

import sys
from pathlib import Path

import click

from mixture_assets.cli.app import (
    cli,
    experiment_option,
    json_option,
    only_experiment,
    print_json,
    print_table,
    store_of,
)


@cli.command(epilog='Example: mixture query "SELECT * FROM leaderboard"')
@click.argument("sql")
@experiment_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
def query(sql: str, experiment: Path | None, as_json: bool, as_csv: bool) -> None:
    """Answer one read-only SQL query over the records. Tables: docs/store.md."""
    from mixture_assets.store.query import query as run_query

    result = run_query(store_of(experiment), sql)
    if as_json:
        click.echo(result.to_json())
    elif as_csv:
        click.echo(result.to_csv(), nl=False)
    else:
        click.echo(result.to_table())


@cli.command(epilog="Example: mixture doctor")
@experiment_option
@json_option
def doctor(experiment: Path | None, as_json: bool) -> None:
    """Check device, memory, disk, versions, tokenizer engine and store; print the fix."""
    from mixture_assets.doctor import examine, findings_table

    findings = examine(store_of(experiment))
    if as_json:
        print_json([finding.__dict__ for finding in findings])
    else:
        print_table(*findings_table(findings))
        for finding in findings:
            if finding.fix:
                click.echo(f"{finding.check}: {finding.fix}")
    if not all(finding.is_ok for finding in findings):
        sys.exit(1)


@cli.command(epilog="Example: mixture ui --port 3000")
@experiment_option
@click.option("--port", default=3000, show_default=True, help="Port on 127.0.0.1.")
def ui(experiment: Path | None, port: int) -> None:
    """Open the asset graph on http://127.0.0.1:PORT (Dagster, with its daemon)."""
    from mixture_assets.defs.server import serve

    sys.exit(serve(experiment or only_experiment(), port=port))
