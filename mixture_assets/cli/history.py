"""Verbs about what was proposed: how it changed, why it is so, and what two of it differ in."""

from pathlib import Path
from typing import Any

import click

from mixture_assets.cli.app import (
    asked_store,
    cli,
    experiment_option,
    json_option,
    print_json,
    print_table,
    settings_of,
    store_of,
)
from mixture_assets.core.units import bytes_text, flops_text, seconds_text, tokens_text


@cli.command(epilog="Example: mixture history --domain code")
@click.option("--domain", default="", help="Only this one.")
@experiment_option
@json_option
def history(domain: str, experiment: Path | None, as_json: bool) -> None:
    """Show weights over proposals, in time order, with the change to the one before."""
    from mixture_assets.history import weight_history

    e = settings_of(experiment)
    rows = weight_history(e.store_path, e.name, domain)
    if as_json:
        print_json(rows)
        return
    if not rows:
        click.echo("no proposal yet; next: mixture run")
        return
    header = ("time", "proposal", "domain", "weight", "90 % interval", "change", "natural", "")
    print_table(header, [_history_cells(row) for row in rows])


def _history_cells(row: dict[str, Any]) -> tuple[str, ...]:
    return (
        row["created_at"] or "-",
        row["proposal_id"],
        row["domain"],
        f"{row['weight']:.4f}",
        _interval(row),
        "new" if row["change"] is None else f"{row['change']:+.4f}",
        _number(row["natural_weight"]),
        "latest" if row["is_latest"] else "",
    )


def _interval(row: dict[str, Any]) -> str:
    low, high = row["weight_low"], row["weight_high"]
    return "-" if low is None or high is None else f"{low:.3f} .. {high:.3f}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


@cli.command(epilog="Example: mixture why code")
@click.argument("domain")
@click.option("--proposal", default="", help="Its id, or the beginning of it; default: latest.")
@experiment_option
@json_option
def why(domain: str, proposal: str, experiment: Path | None, as_json: bool) -> None:
    """Follow a domain's weight to its fits, runs, tokens, shards, code and cost."""
    from mixture_assets.reasons import reasons

    e = settings_of(experiment)
    found = reasons(asked_store(experiment), e.name, domain, proposal)
    if as_json:
        print_json(found)
        return
    _print_weight(found)
    for fit in found["fits"]:
        _print_fit(fit)
    _print_data(domain, found)
    _print_making(found)


def _print_weight(found: dict[str, Any]) -> None:
    weight, proposal = found["weight"], found["proposal"]
    flags = ("is_at_floor", "is_held", "is_capped")
    remarks = [flag.removeprefix("is_").replace("_", " ") for flag in flags if weight[flag]]
    remarks += [] if weight["is_improving"] else ["growth does not help"]
    click.echo(
        f"{weight['domain']}: weight {weight['weight']:.4f} (90 % interval {_interval(weight)}), "
        f"natural {_number(weight['natural_weight'])}, {weight['epochs']:.2f} epochs"
        + "".join(f", {remark}" for remark in remarks)
    )
    click.echo(
        f"proposal {proposal['proposal_id']} of {proposal['created_at']}: {proposal['method']}, "
        f"{proposal['objective']}, {tokens_text(proposal['budget_tokens'])} tokens"
    )
    for row in found["reused"]:
        earlier = row["parent"].partition(":")[0]
        click.echo(f"its ratio to other unchanged domains is that of proposal {earlier}")
    for row in found["stale"]:
        what = f"{row['input_kind']} {row['input_name']}"
        click.echo(f"stale: {what} {row['change']}: {row['was']} -> {row['now']}")


def _print_fit(fit: dict[str, Any]) -> None:
    if fit["optimum"] is None:
        click.echo(f"\none law through {len(fit['runs'])} runs of random mixtures")
    else:
        _print_curve(fit)
    header = ("run", "label", "status", "x", "objective", "loss (nats)", "FLOPs")
    rows = [
        (
            run["run_id"],
            run["label"],
            run["status"],
            _number(run["x"]),
            _number(run["objective"]),
            _number(run["loss_nats"]),
            "-" if run["flops"] is None else flops_text(run["flops"]),
        )
        for run in fit["runs"]
    ]
    print_table(header, rows)


def _print_curve(fit: dict[str, Any]) -> None:
    curve = ", ".join(f"{k} {_number(fit[k])}" for k in "abc")
    click.echo(
        f"\n{fit['scale']} scale: (x + a)^-b + c with {curve}; best at {fit['optimum']:.3g} x "
        f"{tokens_text(fit['base_tokens'])} tokens; residual {_number(fit['residual_sd'])} of the "
        f"base, {fit['degrees_of_freedom']} degrees of freedom"
    )


def _print_data(domain: str, found: dict[str, Any]) -> None:
    click.echo("")
    for row in found["token_sets"]:
        click.echo(
            f"tokens of {row['domain']}: {tokens_text(row['available_tokens'])} in "
            f"{row['n_documents']:,} documents ({row['token_set_id']})"
        )
    for shard in found["shards"]:
        click.echo(
            f"  shard of {domain}: {shard['url']}, {bytes_text(shard['n_bytes'])}, "
            f"{shard['n_documents']:,} documents, {tokens_text(shard['n_tokens'])} tokens"
        )


def _print_making(found: dict[str, Any]) -> None:
    for row in found["tokenizers"]:
        name = f", {row['name']}" if row["name"] else ""
        click.echo(
            f"tokenizer {row['tokenizer_id']}: {row['kind']}, {row['vocab_size']:,} tokens{name}"
        )
    if found["code"]:
        click.echo("code: " + ", ".join(f"{k} {v}" for k, v in found["code"].items()))
    for row in found["cost"]:
        click.echo(
            f"cost, {row['role']}: {row['n_runs']} runs, {flops_text(row['flops'])}, "
            f"{seconds_text(row['device_seconds'])} on {row['devices']}"
        )


@cli.command(epilog="Example: mixture calibration")
@experiment_option
@json_option
def calibration(experiment: Path | None, as_json: bool) -> None:
    """Show what proposals predicted of their full runs, and whether it held.

    Numbers are logs of the proposal's objective over the baseline's: below 0 is better.
    """
    from mixture_assets import calibration as records
    from mixture_assets.evaluation.calibration import coverage_line

    e = settings_of(experiment)
    found = records.calibration(e.store_path, e.name)
    if as_json:
        print_json(found.to_json())
        return
    if not found.rows:
        click.echo("no prediction yet; next: mixture propose")
        return
    print_table(*records.calibration_table(found.rows))
    for name, each in found.by_baseline.items():
        click.echo(coverage_line(name, each))


@cli.command(epilog="Example: mixture diff 3f2a 90bc")
@click.argument("a")
@click.argument("b")
@experiment_option
@json_option
def diff(a: str, b: str, experiment: Path | None, as_json: bool) -> None:
    """Show which inputs of two runs or proposals differ, and how their results do."""
    from mixture_assets.difference import difference

    found = difference(store_of(experiment), a, b)
    if as_json:
        print_json(found)
        return
    for side, label in zip("ab", found["labels"] or ("", ""), strict=True):
        click.echo(f"{side}: {found['kind']} {found[side]} {label}".rstrip())
    click.echo("" if found["inputs"] else "\nno input differs")
    if found["inputs"]:
        rows = [(r["name"], r["a"] or "-", r["b"] or "-") for r in found["inputs"]]
        print_table(("input", "a", "b"), rows)
    if found["results"]:
        click.echo("")
        header = ("result", "a", "b", "b - a", "noise sd", "")
        print_table(header, [_result_cells(row) for row in found["results"]])


def _result_cells(row: dict[str, Any]) -> tuple[str, ...]:
    gap, noise = row["difference"], row["is_within_noise"]
    verdict = {None: "", True: "within noise", False: "more than noise"}[noise]
    numbers = (_number(row["a"]), _number(row["b"]))
    change = "-" if gap is None else f"{gap:+.4g}"
    return (row["name"], *numbers, change, _number(row["noise_sd"]), verdict)
