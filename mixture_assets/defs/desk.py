"""The verbs of the command line as jobs: type the arguments into the launchpad, read the answer.

Put verbs here that ask and change nothing. Steps that make something are assets. A verb is a
function from its settings to metadata; `desk` makes the job:

    @desk
    def tokens(config: Tokens, lab: Lab) -> Metadata:
        "Count the tokens of a domain."
        return {"n_tokens": count(lab.open().store, config.domain)}
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import dagster as dg
from pydantic import Field

from mixture_assets import doctor as examination
from mixture_assets import estimate, pipeline, summaries, tables
from mixture_assets.core.errors import MixtureError
from mixture_assets.defs.metadata import Metadata, table
from mixture_assets.defs.resources import Lab
from mixture_assets.defs.steps import ending_well
from mixture_assets.store import status as standing
from mixture_assets.store.query import query as ask


def desk(function: Callable[..., Metadata]) -> dg.JobDefinition:
    """A job of one step that logs what the function returns as metadata of its output."""

    @functools.wraps(function)
    def answer(**arguments: Any) -> dg.Output[None]:
        return dg.Output(None, metadata=function(**arguments))

    answer.__annotations__ = function.__annotations__ | {"return": dg.Output[None]}
    # Nothing is kept but the event: `Nothing` goes to no file.
    step = dg.op(out=dg.Out(dg.Nothing))(ending_well(answer))

    @dg.job(
        name=f"desk_{function.__name__}",
        description=function.__doc__,
        tags={"mixture/job": "desk"},
    )
    def job() -> None:
        step()

    return job


# --- about the experiment ---------------------------------------------------------------------


class Query(dg.Config):
    """What `mixture query` is told."""

    sql: str = Field(
        default="SELECT * FROM leaderboard",
        description="One SELECT over the tables and views of docs/store.md. It cannot write.",
    )
    max_rows: int = Field(default=200, ge=1, le=2000, description="Rows to show.")


@desk
def query(config: Query, lab: Lab) -> Metadata:
    """Answer one read-only SQL query over the records. As `mixture query`."""
    found = ask(lab.open().store, config.sql)
    shown = found.rows[: config.max_rows]
    return {
        "n_rows": len(found.rows),
        "n_rows_shown": len(shown),
        "answer": table(found.columns, [["-" if v is None else v for v in row] for row in shown]),
    }


@desk
def status(lab: Lab) -> Metadata:
    """Count planned, done, failed and running runs. As `mixture status`."""
    rows = standing.run_table(lab.open().store)
    failures = [(r["run_id"], r["label"], r["reason"]) for r in rows if r["status"] == "failed"]
    return {
        "n_runs": len(rows),
        "n_failed": len(failures),
        "runs": table(*standing.status_table(rows)),
        "failures": table(("run", "label", "reason"), failures),
    }


@desk
def plan(lab: Lab) -> Metadata:
    """Say what the experiment takes in runs, tokens, FLOPs, hours and disk. As `mixture plan`."""
    rows = estimate.estimate(lab.open())
    return {
        "n_runs": sum(row.runs for row in rows),
        "flops": sum(row.flops for row in rows),
        "hours": sum(row.hours for row in rows),
        "plan": table(*estimate.plan_table(rows)),
    }


@desk
def propose(lab: Lab) -> Metadata:
    """Weights from the proxy runs that are done; train nothing. As `mixture propose`."""
    from mixture_assets.corpus import build_corpus

    workspace = lab.open()
    proposal_id, proposal = pipeline.propose(workspace, build_corpus(workspace))
    return {
        "proposal_id": proposal_id,
        "weights": table(*summaries.weight_table(proposal)),
        "notes": dg.MetadataValue.md("\n".join(f"- {note}" for note in proposal.notes) or "none"),
    }


@desk
def doctor(lab: Lab) -> Metadata:
    """Check device, memory, disk, versions, tokenizer engine and store. As `mixture doctor`."""
    findings = examination.examine(lab.open().store)
    return {
        "n_to_fix": sum(not finding.is_ok for finding in findings),
        "findings": table(*examination.findings_table(findings)),
        "fixes": table(("check", "fix"), [(f.check, f.fix) for f in findings if f.fix]),
    }


# --- somebody's own numbers -------------------------------------------------------------------


class Ddo(dg.Config):
    """What `mixture ddo` is told."""

    runs: str = Field(description="CSV on this machine: columns domain, factor and the objective.")
    objective: str = Field(description="Column with the number to lower.")
    floor: float = Field(default=0.2, gt=0, description="Least multiple of the base amount.")


@desk
def ddo(config: Ddo) -> Metadata:
    """Fit and allocate from your own runs. As `mixture ddo`."""
    answer = tables.ddo_from_csv(_file(config.runs), objective=config.objective, floor=config.floor)
    return {"n_domains": len(answer["weights"]), "weights": table(*tables.ddo_table(answer))}


class Extrapolate(dg.Config):
    """What `mixture extrapolate` is told."""

    optima: str = Field(
        description='JSON on this machine: {"small": {domain: tokens}, "large": {...}}.'
    )
    tokens: float = Field(gt=0, description="Training tokens to predict for.")
    rule: Literal["safe", "paper"] = Field(default="safe", description="How growth is carried on.")
    floor: float = Field(default=0.2, gt=0, description="Of the uniform share, as in DDO.")


@desk
def extrapolate(config: Extrapolate) -> Metadata:
    """Carry best tokens per domain from two scales to a budget. As `mixture extrapolate`."""
    answer = tables.extrapolate_from_json(
        _file(config.optima), budget_tokens=config.tokens, rule=config.rule, floor=config.floor
    )
    return {
        "n_domains": len(answer["weights"]),
        "held_at_the_larger_scale": ", ".join(answer["held"]) or "none",
        "weights": table(*tables.extrapolate_table(answer)),
    }


def _file(name: str) -> Path:
    path = Path(name).expanduser()
    if not path.is_file():
        raise MixtureError(f"there is no file {name!r}", hint="give its path on this machine")
    return path


verbs = [query, status, plan, propose, doctor, ddo, extrapolate]
