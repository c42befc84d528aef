"""Do predictions hold? What was measured, set beside what was predicted beforehand.

Source:
    The interval of the covered share is Clopper and Pearson's, "The use of confidence or fiducial
    limits illustrated in the case of the binomial", Biometrika 26, 1934.

Units: errors are measured minus predicted, in the unit of what is predicted.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scipy.special import betaincinv

LEVEL = 0.90  # of predictions' intervals, and of the covered share's own
_LEAST = 10  # scored predictions; with fewer, full coverage and 70 % are hardly told apart


@dataclass(frozen=True, kw_only=True)
class Score:
    """One prediction that was measured."""

    predicted: float
    low: float | None
    high: float | None
    measured: float

    @property
    def is_covered(self) -> bool | None:
        """Whether the interval holds what was measured; None without an interval."""
        if self.low is None or self.high is None:
            return None
        return self.low <= self.measured <= self.high


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """Predictions of one kind, summed up. What cannot be said yet is None."""

    n_scored: int
    n_with_interval: int
    covered_share: float | None  # of those with an interval; 0.9 is the promise
    share_low: float | None  # 90 % interval of that share
    share_high: float | None
    mean_error: float | None  # measured minus predicted: above 0, predictions are too optimistic
    verdict: str  # one sentence


def coverage(scores: Sequence[Score]) -> Coverage:
    """Sum up; predictions are taken to be independent, so pass one kind, each proposal once."""
    known = [s.is_covered for s in scores if s.is_covered is not None]
    n_covered = sum(known)
    low, high = binomial_interval(n_covered, len(known)) if known else (None, None)
    errors = [s.measured - s.predicted for s in scores]
    return Coverage(
        n_scored=len(scores),
        n_with_interval=len(known),
        covered_share=n_covered / len(known) if known else None,
        share_low=low,
        share_high=high,
        mean_error=math.fsum(errors) / len(errors) if errors else None,
        verdict=_verdict(len(known), low, high),
    )


def coverage_by_baseline(rows: Sequence[Mapping[str, Any]]) -> dict[str, Coverage]:
    """Coverage by baseline, of the predictions that were made before their runs.

    Args:
        rows: Of the store's view `calibration`.
    """
    scores: dict[str, list[Score]] = {row["baseline"]: [] for row in rows}
    for row in rows:
        if row["state"] == "scored":
            score = Score(
                predicted=row["predicted"],
                low=row["scored_low"],  # of the prediction and the full runs' noise together
                high=row["scored_high"],
                measured=row["measured"],
            )
            scores[row["baseline"]].append(score)
    return {name: coverage(scores[name]) for name in sorted(scores)}


def binomial_interval(n_covered: int, n: int) -> tuple[float, float]:
    """Clopper and Pearson's 90 % interval of a share, exact for any n above 0."""
    tail = (1 - LEVEL) / 2
    low = float(betaincinv(n_covered, n - n_covered + 1, tail)) if n_covered else 0.0
    high = float(betaincinv(n_covered + 1, n - n_covered, 1 - tail)) if n_covered < n else 1.0
    return low, high


def _verdict(n: int, low: float | None, high: float | None) -> str:
    if n < _LEAST or low is None or high is None:
        noun = "prediction" if n == 1 else "predictions"
        return f"too few to judge: {n} {noun} with an interval scored, {_LEAST} say something"
    if high < LEVEL:
        return "the intervals are too narrow: they hold less than 90 %"
    if low > LEVEL:
        return "the intervals are too wide: they hold more than 90 %"
    return "the intervals hold as often as they promise, as far as can be told"


def coverage_line(baseline: str, found: Coverage) -> str:
    """'natural: 9 of 12 covered (75 %, 90 % interval 47 % .. 93 %), mean error +0.0100: ...'."""
    if found.covered_share is None or found.share_low is None or found.share_high is None:
        counted = f"{found.n_scored} scored"
    else:
        n = round(found.covered_share * found.n_with_interval)
        counted = (
            f"{n} of {found.n_with_interval} covered ({found.covered_share:.0%}, 90 % interval "
            f"{found.share_low:.0%} .. {found.share_high:.0%})"
        )
    error = "" if found.mean_error is None else f", mean error {found.mean_error:+.4f}"
    return f"{baseline}: {counted}{error}; {found.verdict}"
