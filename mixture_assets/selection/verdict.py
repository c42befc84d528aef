"""What was measured within a budget: the best choice beside random documents for the same.

Source:
    Welch, Biometrika 34, 1947, for a difference of means whose noise differs; Bonferroni for the
    best of many.

Differs from the source:
    Nothing known. Cells are compared, not curves: a pool can hold documents that do harm, and
    then performance falls where a curve of the source's form can only rise.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import t as student

from mixture_assets.core.units import flops_text
from mixture_assets.methods.decision import Value
from mixture_assets.selection.outlook import RANDOM
from mixture_assets.selection.points import Cell, Point, cells

_ERROR = 0.05  # on each side, over all that is compared
_SAME = 1e-6  # costs that are alike


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The best selection against random documents, where both may spend one budget."""

    model: str
    method: str
    share: float
    total_flops: float  # selection and training
    budget_flops: float
    baseline_share: float  # of the best random subset
    gain: float  # performance above random's
    low: float  # 90 % interval over all cells that were compared
    high: float
    n_compared: int

    @property
    def is_supported(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low > 0

    @property
    def sentence(self) -> str:
        """For people."""
        chosen = (
            f"{self.method} at {100 * self.share:.3g} % of the pool "
            f"({flops_text(self.total_flops)} in all)"
        )
        within = f"within {flops_text(self.budget_flops)} for selection and training"
        found = (
            f"{self.gain:+.3f} nats (90 % interval over all {self.n_compared} choices compared "
            f"{self.low:+.3f} .. {self.high:+.3f})"
        )
        if not math.isfinite(self.low):
            return (
                f"{self.model}: no verdict {within}: of one seed nobody knows the noise, and "
                f"{chosen} is {self.gain:+.3f} nats from random documents; add to [selection] seeds"
            )
        random = f"the best random documents, {100 * self.baseline_share:.3g} % of the pool"
        if self.is_supported:
            return f"{self.model}: select by {chosen}; {within} it is {found} better than {random}"
        return (
            f"{self.model}: random documents are the honest answer {within}; the best of the "
            f"others, {chosen}, is {found} from {random}"
        )


def within(found: Sequence[Cell], budget_share: float) -> list[Cell]:
    """Cells that cost no more than a budget, in trainings on the whole pool."""
    return [c for c in found if c.point.asked_cost <= budget_share * (1 + _SAME)]


def gap(cell: Cell, other: Cell, *, n_compared: int = 1) -> Value:
    """How much better a cell is than another; without repeats nobody knows.

    Args:
        cell: The best of `n_compared`, or one that was named before.
        other: What it is compared with.
        n_compared: The interval holds for all of so many at once.
    """
    value = cell.point.performance - other.point.performance
    if cell.point == other.point:
        return Value(value=0.0, low=0.0, high=0.0)
    errors = (cell.standard_error, other.standard_error)
    if None in errors:
        return Value(value=value, low=-math.inf, high=math.inf)
    variance = [e * e for e in errors if e is not None]
    factor = float(student.ppf(1 - _ERROR / n_compared, _freedom(cell, other, variance)))
    half = factor * math.sqrt(sum(variance))
    return Value(value=value, low=value - half, high=value + half)


def _freedom(cell: Cell, other: Cell, variance: Sequence[float]) -> float:
    """Of the noise of a gap: Welch's, where two methods' repeats tell it; else that of the one."""
    if cell.noise_of == other.noise_of or not sum(variance):
        return min(cell.freedom, other.freedom)
    parts = zip(variance, (cell.freedom, other.freedom), strict=True)
    return sum(variance) ** 2 / sum(v * v / n for v, n in parts)


def verdict(model: str, points: Sequence[Point], budget_share: float) -> Verdict | None:
    """The best choice within a budget; None where there is nothing to compare.

    Random documents are taken at their own best share, which is hard on the others and asks for
    no correction: to be better than the best of them is to be better than each.

    Args:
        model: Its name, for people.
        points: Of models of one size.
        budget_share: The budget, in trainings on the whole pool: named before, because the best
            of many budgets is better than random by chance.
    """
    affordable = within(cells(points), budget_share)
    random = [c for c in affordable if c.point.method == RANDOM]
    rivals = [c for c in affordable if c.point.method != RANDOM and (c.point.share or 0.0) < 1]
    if not random or not rivals:
        return None
    base = max(random, key=lambda c: c.point.performance)
    gaps = [(gap(c, base, n_compared=len(rivals)), c) for c in rivals]
    best, cell = max(gaps, key=lambda pair: (pair[0].low, pair[0].value))
    return Verdict(
        model=model,
        method=cell.point.method,
        share=cell.point.trained_share,
        total_flops=cell.point.total_flops,
        budget_flops=budget_share * cell.point.full_flops,
        baseline_share=base.point.trained_share,
        gain=best.value,
        low=best.low,
        high=best.high,
        n_compared=len(rivals),
    )
