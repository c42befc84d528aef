"""Is the proposal better than a baseline, by how much, and could it be chance?

Source:
    The speed-up is AutoScale's headline number (Kang et al., arXiv:2407.20177, figure 1):
    1 - (tokens the proposal needs to reach the baseline's final objective) / (baseline's
    tokens).

Differs from the source:
    A value counts as reached where the curve stays at or below it, not at its first dip: on
    the noisy curves of the paper's figure this gives 32 % against uniform where it prints 38 %.

Units: objectives in their own unit, lower is better; tokens.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from scipy.special import stdtrit

from mixture_assets.core.errors import MixtureError

_CONFIDENCE = 0.90

_LENGTH_SLACK = 0.05  # each domain is rounded to whole sequences
Curve = Sequence[tuple[int, float]]  # (tokens, objective), in the order of training


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A proposal beside one baseline, over the seeds that both were trained with."""

    baseline: str
    proposal_value: float  # objective, mean over seeds
    baseline_value: float
    difference: float  # proposal minus baseline: negative is better
    low: float | None  # 90 % interval of the difference; None with a single seed
    high: float | None
    noise_sd: float | None  # of one run's objective, mixture and seed taken out
    speed_up: float | None  # share of the baseline's tokens saved; None if never reached
    n_seeds: int
    verdict: Literal["better", "worse", "within noise", "one seed: unknown"]


def compare(
    curves: Mapping[str, Mapping[int, Curve]], *, proposal: str, baseline: str
) -> Comparison:
    """Compare two of the mixtures trained.

    Runs with one seed share their initial weights and the order of their text, so seeds are
    blocks: noise is what remains of M mixtures x S seeds after the means of both are taken out,
    with (M - 1) (S - 1) degrees of freedom, pooled over all mixtures because a handful of seeds
    says little about any one. A difference of two means then has the standard error
    sd sqrt(2 / S).

    Args:
        curves: Mixture name -> seed -> objective along training.
        proposal: Name of the mixture under test.
        baseline: Name of the one to beat.
    """
    seeds = sorted(set(curves[proposal]) & set(curves[baseline]))
    if not seeds:
        raise MixtureError(
            f"{proposal!r} and {baseline!r} have no seed in common",
            hint="train both from the same [full] seeds",
        )
    for s in seeds:
        _require_same_length(proposal, curves[proposal][s], baseline, curves[baseline][s])
    mine = [curves[proposal][s][-1][1] for s in seeds]
    theirs = [curves[baseline][s][-1][1] for s in seeds]
    difference = _mean(mine) - _mean(theirs)
    noise_sd, freedom = blocked_sd([[by[s][-1][1] for s in seeds] for by in _with(curves, seeds)])
    low = high = None
    if noise_sd is not None:
        half = stdtrit(freedom, 0.5 + _CONFIDENCE / 2) * noise_sd * math.sqrt(2 / len(seeds))
        low, high = difference - float(half), difference + float(half)
    speed_ups = [speed_up(curves[proposal][s], curves[baseline][s]) for s in seeds]
    known = [s for s in speed_ups if s is not None]
    return Comparison(
        baseline=baseline,
        proposal_value=_mean(mine),
        baseline_value=_mean(theirs),
        difference=difference,
        low=low,
        high=high,
        noise_sd=noise_sd,
        speed_up=_mean(known) if len(known) == len(speed_ups) else None,
        n_seeds=len(seeds),
        verdict=_verdict(low, high),
    )


def _require_same_length(name: str, curve: Curve, other_name: str, other: Curve) -> None:
    ends = curve[-1][0], other[-1][0]
    if max(ends) > min(ends) * (1 + _LENGTH_SLACK):
        raise MixtureError(
            f"{name!r} ends after {ends[0]:,} tokens and {other_name!r} after {ends[1]:,}: what "
            "differs between them is not the mixture alone",
            hint="train both with one [full] budget_tokens",
        )


def blocked_sd(rows: Sequence[Sequence[float]]) -> tuple[float | None, int]:
    """Standard deviation left after row and column means, and its degrees of freedom.

    Rows are mixtures, columns seeds. None where a single row or column leaves nothing.
    """
    n_rows, n_columns = len(rows), len(rows[0])
    freedom = (n_rows - 1) * (n_columns - 1)
    if freedom == 0:
        return None, 0
    row_means, column_means = [_mean(r) for r in rows], [_mean(c) for c in zip(*rows, strict=True)]
    grand = _mean(row_means)
    left = [
        x - row_mean - column_mean + grand
        for row, row_mean in zip(rows, row_means, strict=True)
        for x, column_mean in zip(row, column_means, strict=True)
    ]
    return math.sqrt(math.fsum(x * x for x in left) / freedom), freedom


def _with(
    curves: Mapping[str, Mapping[int, Curve]], seeds: Sequence[int]
) -> list[Mapping[int, Curve]]:
    """The mixtures that were trained from all of these seeds, each once.

    Two names for the same runs (natural and uniform over domains of one size) are one mixture:
    a copy would add degrees of freedom without noise.
    """
    found: list[Mapping[int, Curve]] = []
    for by in curves.values():
        if all(s in by for s in seeds) and not any(
            list(by.values()) == list(x.values()) for x in found
        ):
            found.append(by)
    return found


def tokens_to_reach(curve: Curve, value: float) -> float | None:
    """Tokens after which a curve stays at or below `value`; linear between its points."""
    before: tuple[int, float] | None = None
    answer = None
    for tokens, objective in curve:
        if objective > value:
            answer = None
        elif answer is None:
            answer = (
                float(tokens) if before is None else _crossing(before, (tokens, objective), value)
            )
        before = (tokens, objective)
    return answer


def speed_up(proposal: Curve, baseline: Curve) -> float | None:
    """1 - tokens the proposal needs for the baseline's final objective / baseline's tokens.

    None if the proposal never gets there: it has no speed-up to speak of.
    """
    tokens, final = baseline[-1]
    needed = tokens_to_reach(proposal, final)
    return None if needed is None else 1 - needed / tokens


def _crossing(a: tuple[int, float], b: tuple[int, float], value: float) -> float:
    share = (a[1] - value) / (a[1] - b[1])
    return a[0] + share * (b[0] - a[0])


def _verdict(
    low: float | None, high: float | None
) -> Literal["better", "worse", "within noise", "one seed: unknown"]:
    if low is None or high is None:
        return "one seed: unknown"
    if high < 0:
        return "better"
    return "worse" if low > 0 else "within noise"


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
