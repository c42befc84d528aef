"""What a pilot says of the whole sweep, on record before it; and how right that was.

The question is one budget for each model: `budget_share` of training on the whole pool. The
answer is the planner's. Of the methods that select, the best at a share beyond the pilot is put
on record against random documents for the same budget; `mixture calibration` scores it.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mixture_assets.core.digest import digest
from mixture_assets.core.errors import MixtureError
from mixture_assets.selection.planner import plan
from mixture_assets.selection.points import Cell, Point, cells
from mixture_assets.selection.question import Plan, Question, Row
from mixture_assets.selection_runs import Sweep
from mixture_assets.store.records import Rows, read_record, write_record
from mixture_assets.store.runs import now_text

RANDOM = "random"
OBJECTIVE = "specialist loss (nats)"
_QUANTITY = "log(specialist loss / that of random documents)"
_Z90 = 1.645
_SAME = 1e-6


@dataclass(frozen=True)
class Forecast:
    """The planner's answer for one model, from the pilot alone."""

    model: str
    budget_flops: float
    plan: Plan
    choice: Row  # at a share that the sweep trains
    rival: Row | None  # the best that selects, beyond the pilot: what goes on record

    @property
    def sentence(self) -> str:
        """For people."""
        row = self.choice
        return f"{self.model}: of the pilot the planner says {row.method} at {100 * row.share:g} %"


@dataclass(frozen=True)
class Outcome:
    """A forecast's choice beside the best cell that the budget allowed."""

    model: str
    choice: Cell
    best: Cell
    difference_nats: float  # loss of the choice minus that of the best
    half: float  # of its 90 % interval

    @property
    def is_within_noise(self) -> bool:
        """Whether the choice may be the best."""
        return self.difference_nats <= self.half

    @property
    def sentence(self) -> str:
        """For people."""
        words = "within noise of" if self.is_within_noise else "worse than"
        return (
            f"{self.model}: the choice of the pilot, {_named(self.choice.point)}, is {words} the "
            f"best of the sweep for that budget, {_named(self.best.point)}: "
            f"{self.difference_nats:+.3f} ± {self.half:.3f} nats"
        )


def forecast(sweep: Sweep, model: str) -> Forecast:
    """Ask the planner with what the pilot measured.

    Raises:
        MixtureError: The pilot's runs are not done, or too few.
    """
    spec = sweep.scored.selection.spec
    own = [p for p in sweep.points.get(model, []) if p.share in spec.pilot_shares]
    if not own:
        raise MixtureError(f"the pilot of {model!r} has no finished run", hint="train it first")
    full = own[0].full_flops
    selectors = tuple(sorted({p.selector_params for p in own if p.selector_params is not None}))
    train_params = own[0].train_params
    assert train_params is not None
    asked = Question(
        budget_flops=spec.budget_share * full,
        pool_tokens=sweep.scored.selection.pool.n_tokens,
        train_params=train_params,
        selector_params=selectors,
        specialist_tokens=sweep.scored.selection.specialist.tokens.available_tokens,
        shares=tuple(s for s in spec.shares if s < 1),
        step_tokens=sweep.scored.selection.training.batch_tokens,
    )
    found = plan(asked, own)
    measured = [r for r in found.rows if any(math.isclose(r.share, s) for s in spec.shares)]
    known = [r for r in measured if r.performance is not None and r.basis == "points"]
    better = [r for r in known if r.beats_random]
    random = next(r for r in measured if r.method == RANDOM)
    rivals = [r for r in known if r.method != RANDOM and r.share not in spec.pilot_shares]
    rival = rivals[0] if rivals else None
    return Forecast(model, asked.budget_flops, found, (better or [random])[0], rival)


def record_forecast(sweep: Sweep, said: Forecast, sweep_id: str) -> None:
    """Put a forecast on record, once: what was said first stands."""
    if said.rival is None or read_record(_store(sweep), "forecast", _name(sweep_id, said.model)):
        return
    rival, random = said.rival, next(r for r in said.plan.rows if r.method == RANDOM)
    assert random.performance is not None
    assert rival.gain is not None
    assert rival.gain_low is not None
    assert rival.gain_high is not None
    name = _name(sweep_id, said.model)
    head = {
        "proposal_id": name,
        "experiment": sweep.scored.selection.workspace.experiment.name,
        "method": f"{rival.method} at {100 * rival.share:g} % on {said.model}",
        "objective": OBJECTIVE,
        "budget_tokens": round(rival.tokens),
        "created_at": now_text(),
        "notes": json.dumps([said.sentence, said.plan.verdict, *said.plan.notes]),
    }
    loss = -random.performance
    predicted = {
        "proposal_id": name,
        "quantity": _QUANTITY,
        "baseline": RANDOM,
        "value": _log_ratio(rival.gain, loss),
        "low": _log_ratio(rival.gain_high, loss),
        "high": _log_ratio(rival.gain_low, loss),
    }
    rows: Rows = {"proposal": [head], "prediction": [predicted]}
    write_record(_store(sweep), "forecast", name, rows)


def score_forecast(sweep: Sweep, said: Forecast, sweep_id: str) -> Outcome:
    """Record what was measured of a forecast, and set its choice beside the best cell."""
    own = cells(sweep.points[said.model])
    choice = _cell(own, said.choice.method, said.choice.share)
    allowed = [c for c in own if c.point.total_flops <= said.budget_flops * (1 + 1e-3)]
    best = max([choice, *allowed], key=lambda c: c.point.performance)
    if said.rival is not None:
        _record_comparison(sweep, said, sweep_id, own)
    return Outcome(said.model, choice, best, *_difference(choice, best))


def _record_comparison(sweep: Sweep, said: Forecast, sweep_id: str, own: Sequence[Cell]) -> None:
    assert said.rival is not None
    spec = sweep.scored.selection.spec
    rival = _cell(own, said.rival.method, said.rival.share)
    random = _cell(own, RANDOM, spec.budget_share)
    gap, half = _difference(rival, random)
    error = rival.standard_error
    name = _name(sweep_id, said.model)
    runs = {
        c.run.run_id
        for c in sweep.cells
        if c.model == said.model and c.method == said.rival.method and c.share == said.rival.share
    }
    comparison = {
        "comparison_id": digest([name, RANDOM, sorted(runs)]),
        "experiment": sweep.scored.selection.workspace.experiment.name,
        "proposal_id": name,
        "baseline": RANDOM,
        "objective": OBJECTIVE,
        "tokens": round(said.rival.tokens),
        "proposal_value": -rival.point.performance,
        "baseline_value": -random.point.performance,
        "difference": gap,
        "low": gap - half,
        "high": gap + half,
        "noise_sd": None if error is None else error * math.sqrt(rival.n_seeds),
        "n_seeds": rival.n_seeds,
        "verdict": "supported" if gap + half < 0 else "within noise" if gap - half < 0 else "worse",
    }
    edges = [
        {"child": comparison["comparison_id"], "parent": r, "role": "selection_run"}
        for r in sorted(runs)
    ]
    rows: Rows = {"comparison": [comparison], "edge": edges}
    write_record(_store(sweep), "forecast_score", name, rows)


def _difference(cell: Cell, other: Cell) -> tuple[float, float]:
    """Loss of one minus that of another, and half of its 90 % interval."""
    errors = [c.standard_error or 0.0 for c in (cell, other)]
    gap = other.point.performance - cell.point.performance
    return gap, 0.0 if cell is other else _Z90 * math.hypot(*errors)


def _cell(own: Sequence[Cell], method: str, share: float) -> Cell:
    for cell in own:
        if cell.point.method == method and math.isclose(cell.point.share or 0.0, share):
            return cell
    raise MixtureError(
        f"no run of {method!r} at {100 * share:g} % of the pool is done",
        hint="train the whole sweep first",
    )


def _log_ratio(gain: float, loss: float) -> float | None:
    """log(loss - gain over loss); None where the gain is as large as the loss."""
    return math.log1p(-gain / loss) if gain < loss * (1 - _SAME) else None


def _named(point: Point) -> str:
    return f"{point.method} at {100 * (point.share or 0):g} %"


def _name(sweep_id: str, model: str) -> str:
    return digest([sweep_id, model, "forecast"])


def _store(sweep: Sweep) -> Path:
    return sweep.scored.selection.workspace.store
