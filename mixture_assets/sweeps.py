"""A whole sweep: models, scores, pilot, forecast, all other runs, and what they came to.

What the planner says of the pilot is on record before the first run that it speaks of has begun.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mixture_assets import pipeline
from mixture_assets.core.errors import MixtureError
from mixture_assets.corpus import Workspace
from mixture_assets.forecast import (
    Forecast,
    Outcome,
    coverage_line,
    forecast,
    record_forecast,
    score_forecast,
)
from mixture_assets.pools import Selection
from mixture_assets.running import missing_runs
from mixture_assets.selection.points import Point
from mixture_assets.selection_page import curves, points_csv, verdict_lines, verdicts, write_page
from mixture_assets.selection_records import record_points
from mixture_assets.selection_runs import (
    OnSettled,
    Say,
    Sweep,
    decision_of,
    models_of,
    plan_sweep,
    scored,
    train_sweep,
)
from mixture_assets.store.files import atomic_write_text
from mixture_assets.store.runs import RunFolder


@dataclass(frozen=True)
class SweepSummary:
    """What a sweep came to."""

    sweep: Sweep
    sweep_id: str
    forecasts: Sequence[Forecast]
    outcomes: Sequence[Outcome]  # none while only the pilot is done
    sentences: Sequence[str]  # verdicts, forecasts and outcomes
    page: Path


def run_sweep(
    workspace: Workspace,
    *,
    is_pilot: bool = False,
    say: Say = print,
    on_settled: OnSettled | None = None,
) -> SweepSummary:
    """The experiment's [selection], from raw text to its page; what is finished is looked up.

    Args:
        workspace: The experiment.
        is_pilot: Stop after the forecasts.
        say: Told what happens.
        on_settled: Told of each run that ends.
    """
    corpus = pipeline.prepare(workspace, say=say)
    selection = Selection.of(workspace, corpus)
    say(pool_line(selection))
    models = models_of(selection, say=say, on_settled=on_settled)
    sweep = plan_sweep(scored(selection, models, say=say))
    return finish(sweep, is_pilot=is_pilot, say=say, on_settled=on_settled)


def finish(
    sweep: Sweep,
    *,
    is_pilot: bool = False,
    say: Say = print,
    on_settled: OnSettled | None = None,
) -> SweepSummary:
    """Train a planned sweep, forecasts in between, and write down what it came to."""
    train_sweep(sweep, sweep.pilot, say=say, on_settled=on_settled)
    forecasts = forecasts_of(sweep, say=say)
    for said in forecasts:
        record_forecast(sweep, said, decision_of(sweep))
        say(said.sentence)
    if not is_pilot:
        train_sweep(sweep, sweep.planned, say=say, on_settled=on_settled)
    return summed_up(sweep, forecasts, say=say)


def forecasts_of(sweep: Sweep, *, say: Say = lambda line: None) -> list[Forecast]:
    """Of every model whose pilot says enough; from the pilot alone, so the same at any time."""
    found = []
    for model in sorted(sweep.scored.selection.models):
        try:
            found.append(forecast(sweep, model))
        except MixtureError as error:
            say(f"no forecast of {model}: {error}")
    return found


def summed_up(
    sweep: Sweep, forecasts: Sequence[Forecast], *, say: Say = lambda line: None
) -> SweepSummary:
    """Records, page and sentences of the runs that are done."""
    workspace, sweep_id = sweep.scored.selection.workspace, decision_of(sweep)
    points, is_done = sweep.points, sweep.is_done
    fits = curves(points, say=say)
    flat = {(model, m): fit for model, own in fits.items() for m, fit in own.items()}
    record_points(
        sweep.scored.selection, sweep_id, sweep.measured, sweep.scored.sets, flat, sweep.scored.base
    )
    outcomes: list[Outcome] = []
    for said in forecasts if is_done else ():
        outcomes += score_forecast(sweep, said, sweep_id)
    scored = {o.model for o in outcomes}
    notes = [*(o.sentence for o in outcomes)]
    notes += [said.sentence for said in forecasts if said.model not in scored]
    notes += [coverage_line(sweep, said) for said in forecasts if is_done and said.log_ratio]
    page = write_page(sweep, notes)
    pipeline.refresh_database(workspace)
    sentences = [*verdict_lines(sweep), *notes]
    return SweepSummary(sweep, sweep_id, forecasts, outcomes, sentences, page)


def pool_line(selection: Selection) -> str:
    """What is chosen from, and what was left out of it."""
    pool = selection.pool
    return (
        f"pool: {pool.n_documents:,} documents, {pool.n_tokens:,} tokens; left out: "
        f"{pool.n_leaked:,} of the specialist set, {pool.n_held_out:,} held out, "
        f"{pool.n_repeated:,} repeats, {pool.n_beyond:,} beyond pool_tokens"
    )


def summary_json(summary: SweepSummary) -> dict[str, Any]:
    """What `mixture select run --json` prints."""
    points = summary.sweep.points
    return {
        "sweep_id": summary.sweep_id,
        "page": str(summary.page),
        "sentences": list(summary.sentences),
        "verdicts": [asdict(v) for v in verdicts(summary.sweep)],
        "points": {model: [asdict(p) for p in own] for model, own in sorted(points.items())},
        "fits": {
            model: {method: fit.to_json() for method, fit in own.items()}
            for model, own in curves(points).items()
        },
        "choices": {f.model: f.plan.choice.to_json() for f in summary.forecasts},
        "favourites": {f.model: f.plan.favourite.to_json() for f in summary.forecasts},
    }


def accuracy_points(
    workspace: Workspace, task: Path, *, limit: int | None = None, say: Say = print
) -> tuple[dict[str, list[Point]], Path]:
    """Points of a finished sweep with accuracy on a local task in the place of the judged loss.

    Args:
        workspace: The experiment; its sweep must be done.
        task: A task of lm-eval, as `evaluation.tasks` reads it.
        limit: At most so many questions.
        say: Told of each model.

    Returns:
        Points of every model, and the CSV file that `mixture select fit` reads.
    """
    from mixture_assets.evaluation.tasks import accuracy  # loads transformers

    sweep = _looked_up(workspace)
    measured: dict[str, float] = {}
    found: dict[str, list[Point]] = {}
    for cell, point in sweep.measured:
        run_id = cell.run.run_id
        if run_id not in measured:
            folder = RunFolder(workspace.store, run_id).model_path
            rows = {row["metric"]: row for row in accuracy(folder, task, limit=limit)}
            measured[run_id] = float(rows["acc"]["value"])
            say(f"  {cell.run.label:<32} accuracy {measured[run_id]:.3f}")
        found.setdefault(cell.model, []).append(replace(point, performance=measured[run_id]))
    path = workspace.store / "reports" / workspace.experiment.name / "selection_accuracy.csv"
    atomic_write_text(path, points_csv(found))
    return found, path


def _looked_up(workspace: Workspace) -> Sweep:
    """A sweep of which every run is done."""
    selection = Selection.of(workspace, pipeline.prepare(workspace, say=lambda line: None))
    runs = selection.base_runs()
    if missing_runs(workspace, runs):
        raise MixtureError(
            f"the sweep of experiment {workspace.experiment.name!r} is not done",
            hint="`mixture select run` does it",
        )
    sweep = plan_sweep(scored(selection, models_of(selection), say=lambda line: None))
    if not sweep.is_done:
        n = len(missing_runs(workspace, sweep.planned))
        raise MixtureError(
            f"{n} of {len(sweep.planned)} runs of the sweep are not done",
            hint="`mixture select run` does them",
        )
    return sweep
