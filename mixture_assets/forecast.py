"""What a pilot says of the whole sweep, on record before it; and how right that was.

The question is one budget for each model: `budget_share` of training on the whole pool. The
answer is the planner's. What is put on record for `mixture calibration` to score is how each
method's loss compares with that of random documents at the first share beyond the pilot.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mixture_assets.core.digest import digest
from mixture_assets.core.errors import MixtureError
from mixture_assets.methods.decision import Value
from mixture_assets.methods.uncertainty import percentile_interval
from mixture_assets.selection.outlook import RANDOM, Outlook
from mixture_assets.selection.planner import plan
from mixture_assets.selection.points import Cell, Point, cells
from mixture_assets.selection.question import Plan, Question, Row
from mixture_assets.selection.verdict import gap, within
from mixture_assets.selection_runs import Sweep
from mixture_assets.store.records import Rows, read_record, write_record
from mixture_assets.store.runs import now_text

OBJECTIVE = "specialist loss (nats)"
_QUANTITY = "log(specialist loss / that of random documents)"
_MOST = 0.95


@dataclass(frozen=True)
class Forecast:
    """The planner's answer for one model, from the pilot alone."""

    model: str
    budget_flops: float
    plan: Plan
    share: float  # the least beyond the pilot: what goes on record is said of it
    log_ratio: Mapping[str, NDArray[np.float64]]  # method -> draws of log(loss / random's)

    @property
    def sentence(self) -> str:
        """For people."""
        rows = self.plan.choice, self.plan.favourite
        sure, likely = (_named(row.method, row.share) for row in rows)
        return f"{self.model}: the pilot's sure choice is {sure}, its favourite {likely}"


@dataclass(frozen=True)
class Outcome:
    """What a forecast chose, beside the best cell that the budget allowed."""

    model: str
    kind: str  # 'sure choice' or 'favourite'
    chosen: str
    measured: str  # the cell that stands for it: of the nearest share within the budget
    best: str
    regret: Value  # loss of the choice minus that of the best, over all cells within the budget

    @property
    def is_within_noise(self) -> bool:
        """Whether the choice may be the best."""
        return self.regret.low <= 0

    @property
    def sentence(self) -> str:
        """For people."""
        near = "" if self.measured == self.chosen else f" (measured: {self.measured})"
        head = f"{self.model}: the pilot's {self.kind}, {self.chosen}{near}, is"
        if self.measured == self.best:
            return f"{head} the best cell that its budget allows"
        words = "within noise of" if self.is_within_noise else "worse than"
        r = self.regret
        return (
            f"{head} {words} the best cell that its budget allows, {self.best}: {r.value:+.3f} "
            f"nats (90 % interval {r.low:+.3f} .. {r.high:+.3f})"
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
        full_flops=full,
    )
    found = plan(asked, own)
    share = min((s for s in spec.shares if s not in spec.pilot_shares), default=0.0)
    ratios = _log_ratios(own, share) if share else {}
    return Forecast(model, asked.budget_flops, found, share, ratios)


def record_forecast(sweep: Sweep, said: Forecast, sweep_id: str) -> None:
    """Put a prediction of each method on record, once: what was said first stands."""
    for method, drawn in said.log_ratio.items():
        name = _name(sweep_id, said.model, method)
        if read_record(_store(sweep), "forecast", name):
            continue
        low, high = percentile_interval(drawn.tolist())
        head = {
            "proposal_id": name,
            "experiment": sweep.scored.selection.workspace.experiment.name,
            "method": f"{method} at {100 * said.share:g} % on {said.model}",
            "objective": OBJECTIVE,
            "budget_tokens": _budget(sweep, said),
            "created_at": now_text(),
            "notes": json.dumps([said.sentence, said.plan.verdict, *said.plan.notes]),
        }
        predicted = {
            "proposal_id": name,
            "quantity": _QUANTITY,
            "baseline": RANDOM,
            "value": float(np.median(drawn)),
            "low": low,
            "high": high,
        }
        rows: Rows = {"proposal": [head], "prediction": [predicted]}
        write_record(_store(sweep), "forecast", name, rows)


def score_forecast(sweep: Sweep, said: Forecast, sweep_id: str) -> list[Outcome]:
    """Record what was measured of a forecast, and set what it chose beside the best.

    Args:
        sweep: Every run is done.
        said: From its pilot.
        sweep_id: Names the sweep.
    """
    own = cells(sweep.points[said.model])
    for method in said.log_ratio:
        _record_comparison(sweep, said, sweep_id, method, own)
    affordable = within(own, sweep.scored.selection.spec.budget_share)
    if not affordable:
        return []
    best = max(affordable, key=lambda c: c.point.performance)
    n_compared = max(1, len(affordable) - 1)
    found = []
    for kind, row in (("sure choice", said.plan.choice), ("favourite", said.plan.favourite)):
        cell = _nearest(affordable, row)
        if cell is None:  # the sweep has no cell of it that the budget allows: nothing to score
            continue
        regret = gap(best, cell, n_compared=n_compared)
        names = _named(row.method, row.share), _cell_name(cell), _cell_name(best)
        found.append(Outcome(said.model, kind, *names, regret))
    return found


def coverage_line(sweep: Sweep, said: Forecast) -> str:
    """How many of a model's forecasts held, and which did not; each loss beside random's."""
    own, missed = cells(sweep.points[said.model]), []
    for method, drawn in said.log_ratio.items():
        cell, random = (_cell(own, name, said.share) for name in (method, RANDOM))
        measured = math.log(cell.point.performance / random.point.performance)
        low, high = percentile_interval(drawn.tolist())
        if not low <= measured <= high:
            middle = math.expm1(float(np.median(drawn)))
            missed.append(
                f"{method} (said {middle:+.1%}, {math.expm1(low):+.1%} .. {math.expm1(high):+.1%}; "
                f"came to {math.expm1(measured):+.1%})"
            )
    n = len(said.log_ratio)
    return (
        f"{said.model}: {n - len(missed)} of {n} forecasts of the loss at {100 * said.share:g} % "
        "beside random documents' were within their 90 % intervals"
        + (f"; missed: {', '.join(missed)}" if missed else "")
    )


def _nearest(affordable: Sequence[Cell], row: Row) -> Cell | None:
    """The cell of a method whose share is nearest to what was chosen; None without any."""
    mine = [c for c in affordable if c.point.method == row.method and c.point.share]
    return min(mine, key=lambda c: abs(math.log((c.point.share or 1.0) / row.share)), default=None)


def _cell_name(cell: Cell) -> str:
    return _named(cell.point.method, cell.point.trained_share)


def _record_comparison(
    sweep: Sweep, said: Forecast, sweep_id: str, method: str, own: Sequence[Cell]
) -> None:
    cell, random = (_cell(own, name, said.share) for name in (method, RANDOM))
    loss = gap(random, cell)  # of the method minus random's
    error, is_known = cell.standard_error, math.isfinite(loss.high)
    name = _name(sweep_id, said.model, method)
    runs = sorted(
        {
            c.run.run_id
            for c in sweep.cells
            if (c.model, c.method, c.share) == (said.model, method, said.share)
        }
    )
    comparison = {
        "comparison_id": digest([name, RANDOM, runs]),
        "experiment": sweep.scored.selection.workspace.experiment.name,
        "proposal_id": name,
        "baseline": RANDOM,
        "objective": OBJECTIVE,
        "tokens": _budget(sweep, said),
        "proposal_value": -cell.point.performance,
        "baseline_value": -random.point.performance,
        "difference": loss.value,
        "low": loss.low if is_known else None,
        "high": loss.high if is_known else None,
        "noise_sd": None if error is None else error * math.sqrt(cell.n_seeds),
        "n_seeds": cell.n_seeds,
        "verdict": "supported" if loss.high < 0 else "worse" if loss.low > 0 else "within noise",
    }
    edges = [
        {"child": comparison["comparison_id"], "parent": r, "role": "selection_run"} for r in runs
    ]
    rows: Rows = {"comparison": [comparison], "edge": edges}
    write_record(_store(sweep), "forecast_score", name, rows)


def _log_ratios(own: Sequence[Point], share: float) -> dict[str, NDArray[np.float64]]:
    """By method, draws of log(loss / loss of random documents) at a share beyond the pilot."""
    outlook = Outlook.of(own)
    random = outlook.learning(RANDOM)
    assert random is not None
    found = {}
    for method, size in sorted(outlook.fits, key=str):
        learning = outlook.learning(method, size)
        if method == RANDOM or learning is None or not learning.basis.startswith("points"):
            continue
        losses = -learning.at(share), -random.at(share)
        is_loss = (losses[0] > 0) & (losses[1] > 0)  # a curve may promise less than none
        if is_loss.mean() > _MOST:
            found[method] = np.log(losses[0][is_loss] / losses[1][is_loss])
    return found


def _cell(own: Sequence[Cell], method: str, share: float) -> Cell:
    for cell in own:
        if cell.point.method == method and math.isclose(cell.point.share or 0.0, share):
            return cell
    raise MixtureError(
        f"no run of {method!r} at {100 * share:g} % of the pool is done",
        hint="train the whole sweep first",
    )


def _named(method: str, share: float) -> str:
    return f"{method} at {100 * share:.3g} %"


def _budget(sweep: Sweep, said: Forecast) -> int:
    return round(said.share * sweep.scored.selection.pool.n_tokens)


def _name(sweep_id: str, model: str, method: str) -> str:
    return digest([sweep_id, model, method, "forecast"])


def _store(sweep: Sweep) -> Path:
    return sweep.scored.selection.workspace.store
