"""Verbs about what is recorded, and about this machine."""

import sys
from pathlib import Path

import click

from mixture_assets.cli.app import (
    asked_store,
    cli,
    experiment_option,
    json_option,
    only_experiment,
    print_json,
    print_table,
    store_of,
)
from mixture_assets.core.units import bytes_text


@cli.command(epilog='Example: mixture query "SELECT * FROM leaderboard"')
@click.argument("sql")
@experiment_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=60.0,
    show_default=True,
    help="Seconds that the query may take.",
)
def query(sql: str, experiment: Path | None, as_json: bool, as_csv: bool, timeout: float) -> None:
    """Answer one read-only SQL query over the records. Tables: docs/store.md."""
    from mixture_assets.store.limits import MAX_MEMORY_BYTES
    from mixture_assets.store.query import query as run_query

    store = asked_store(experiment)
    result = run_query(store, sql, seconds=timeout, cap_bytes=MAX_MEMORY_BYTES)
    if as_json:
        click.echo(result.to_json())
    elif as_csv:
        click.echo(result.to_csv(), nl=False)
    else:
        click.echo(result.to_table())


@cli.command(epilog="Example: mixture gc --older-than 30 --delete")
@experiment_option
@click.option("--delete", is_flag=True, help="Remove what is listed; without it nothing changes.")
@click.option("--older-than", default=7.0, show_default=True, help="Days since the last change.")
@click.option("--models", is_flag=True, help="Also models of finished proxy runs.")
@json_option
def gc(
    experiment: Path | None, delete: bool, older_than: float, models: bool, as_json: bool
) -> None:
    """List what nothing in the store refers to; with --delete, remove it."""
    from mixture_assets.garbage import find_garbage, remove

    store = store_of(experiment)
    found = find_garbage(store, older_than_days=older_than, models=models)
    freed = remove(store, found) if delete else 0
    if as_json:
        rows = [g.__dict__ | {"path": str(g.path)} for g in found]
        print_json({"garbage": rows, "freed_bytes": freed})
        return
    body = [
        (g.kind, str(g.path.relative_to(store)), bytes_text(g.n_bytes), g.reason) for g in found
    ]
    print_table(("kind", "path below the store", "size", "why"), body)
    total = bytes_text(sum(g.n_bytes for g in found))
    if delete:
        click.echo(f"removed: {bytes_text(freed)}")
    elif found:
        click.echo(f"{total} can go; next: mixture gc --delete")
    else:
        click.echo(f"nothing that is older than {older_than:g} days can go")


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
