"""Carry the best mixture found at two small scales, or more, to a large one.

Source:
    Kang et al., "AutoScale: Scale-Aware Data Mixing for Pre-Training LLMs", COLM 2025,
    arXiv:2407.20177, and the authors' `algorithms/AutoScale_example.ipynb`.
    The authors' rule is N3 = N2 (N1)^-1 N2, per domain.

Units:
    All amounts are in tokens.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.optimize import brentq
from scipy.special import logsumexp

from mixture_assets.core.errors import MixtureError, shortlist
from mixture_assets.core.mixture import Mixture
from mixture_assets.core.units import tokens_text

Rule = Literal["safe", "paper"]

_AT_FLOOR = 1.01  # typed numbers are rounded, and a hair above the floor is still the floor
_LEAST_T = -1.0  # as far below the small scale as the large one is above it
_NO_CHANGE = 1e-20  # squared, of log tokens: rounding
_LEAST_GROWTH = 0.5  # of the whole budget's growth in logs; below, the rest is not followed


@dataclass(frozen=True, kw_only=True)
class Extrapolation:
    """Weights at a budget that was not measured."""

    weights: Mixture
    t: float  # 0 is the small scale, 1 the large one, 2 the authors' first step
    tokens: Mapping[str, float]  # by domain, summing to the budget
    at_floor: Sequence[str]  # domains at their floor at either scale
    grown: Sequence[str]  # domains at their floor at the small scale, above it at the large one
    held: Sequence[str]  # domains that keep their larger-scale weight
    extrapolation_factor: float  # budget over the larger scale's tokens
    r2: Mapping[str, float | None]  # of log tokens on t, three scales or more; None: no change

    def to_json(self) -> dict[str, object]:
        """What `mixture extrapolate --json` prints."""
        return {
            "weights": dict(self.weights),
            "t": self.t,
            "tokens": dict(self.tokens),
            "at_floor": list(self.at_floor),
            "held": list(self.held),
            "extrapolation_factor": self.extrapolation_factor,
            "r2": dict(self.r2),
        }


def extrapolate(
    small: Mapping[str, float],
    large: Mapping[str, float],
    *,
    budget_tokens: float,
    rule: Rule = "safe",
    floor: float = 0.2,
) -> Extrapolation:
    """Predict the best mixture at `budget_tokens` from the best token counts at two scales.

    Every domain follows its own geometric progression, N_i(t) = small_i (large_i / small_i)^t,
    so t = 0 and t = 1 give back the two inputs and t = 2 is the authors' rule. The t for any
    other budget solves sum_i N_i(t) = budget_tokens.

    Args:
        small: Best tokens by domain at the smaller scale.
        large: The same at the larger scale, same domains.
        budget_tokens: Training tokens to predict for.
        rule: 'paper' extrapolates every domain. 'safe' does the same, except beyond the larger
            scale for a domain that grew out of its floor between the scales: that growth is
            the bound's doing, so it keeps its larger-scale weight and the others follow the
            rule with the tokens that remain.
        floor: The floor that both optima were found under, in multiples of the uniform share.

    Differs from the source:
        The paper steps t = 2, 3, ... and so reaches only a ladder of budgets (5B, 21B, 93B,
        412B from 0.3B and 1.2B). Solving for t reaches all of them and agrees on the ladder.
        The paper has rule 'paper' only; measured, it turned 3 % at 0.4 M tokens and 19 % at
        1.2 M into 44 % at 4 M. Under 'safe', domains that the rule has nothing to say about
        also keep their larger-scale weight: those without tokens at a scale, and all, where
        the rest together grew by less than the square root of the whole.
    """
    return extrapolate_scales([small, large], budget_tokens=budget_tokens, rule=rule, floor=floor)


def extrapolate_scales(
    scales: Sequence[Mapping[str, float]],
    *,
    budget_tokens: float,
    rule: Rule = "safe",
    floor: float = 0.2,
) -> Extrapolation:
    """Predict the best mixture at `budget_tokens` from the best token counts at many scales.

    With s_j = log(T_j / T_first) / log(T_last / T_first), T_j the total of scale j, every domain
    follows log N_i(t) = p_i + q_i t, by least squares of its log tokens on s_j. Two scales give
    `extrapolate`. The t for a budget again solves sum_i N_i(t) = budget_tokens.

    Args:
        scales: Best tokens by domain, two or more, the smallest scale first.
        budget_tokens: See `extrapolate`, and so for the rest. A domain that was at its floor at
            any scale but the largest, and is above it there, grew out of it.
        rule: See `extrapolate`.
        floor: See `extrapolate`.

    Differs from the source:
        The paper fits its figure's line through three scales and extrapolates from two.
    """
    if not 0 <= floor < 1:
        raise MixtureError(f"floor must be in [0, 1), got {floor:g}", hint="the paper has 0.2")
    totals = _check_scales(scales, budget_tokens, rule)
    first, last = scales[0], scales[-1]
    names, share = sorted(last), floor / len(last) * _AT_FLOOR
    low = [{n for n in names if s[n] <= share * t} for s, t in zip(scales, totals, strict=True)]
    empty = {n for n in names if min(s[n] for s in scales) == 0}
    if empty and rule == "paper":
        raise MixtureError(
            f"the paper's rule needs tokens in every domain at every scale, "
            f"{shortlist(empty)} has none",
            hint="find the optima under a floor above 0, or use rule = 'safe'",
        )
    grown = set().union(*low[:-1]) - low[-1]
    held = grown if rule == "safe" and budget_tokens > totals[-1] else set()
    free = [n for n in names if n not in held | empty]
    if (held or empty) and not _grows(free, first, last):
        held, free = set(names), []
    fixed = {n: last[n] / totals[-1] * budget_tokens for n in names if n not in free}
    lines = {n: _line([s[n] for s in scales], totals) for n in names if n not in empty}
    t, followed = _follow({n: lines[n] for n in free}, budget_tokens - math.fsum(fixed.values()))
    tokens = {n: {**fixed, **followed}[n] for n in names}
    return Extrapolation(
        weights=Mixture.proportional_to(tokens),
        t=t,
        tokens=tokens,
        at_floor=sorted(set().union(*low)),
        grown=sorted(grown),
        held=sorted(held),
        extrapolation_factor=budget_tokens / totals[-1],
        r2={n: line.r2 for n, line in lines.items()} if len(scales) > 2 else {},
    )


@dataclass(frozen=True, kw_only=True)
class _Line:
    """Log tokens of a domain: start + t rate."""

    start: float
    rate: float
    r2: float | None  # None where the tokens do not change


def _line(tokens_J: Sequence[float], totals_J: Sequence[float]) -> _Line:
    """Least squares of log tokens on how far each scale is from the first to the last."""
    way_J = np.log(np.array(totals_J) / totals_J[0]) / math.log(totals_J[-1] / totals_J[0])
    log_J = np.log(tokens_J)
    from_J, above_J = way_J - way_J.mean(), log_J - log_J.mean()
    rate = float(from_J @ above_J / (from_J @ from_J))
    gap_J = above_J - rate * from_J
    spread = float(above_J @ above_J)
    return _Line(
        start=float(log_J.mean() - rate * way_J.mean()),
        rate=rate,
        r2=1 - float(gap_J @ gap_J) / spread if spread > _NO_CHANGE else None,
    )


def _check_scales(
    scales: Sequence[Mapping[str, float]], budget_tokens: float, rule: str
) -> list[float]:
    if rule not in ("safe", "paper"):
        raise MixtureError(f"rule must be 'safe' or 'paper', got {rule!r}")
    if len(scales) < 2:
        raise MixtureError(
            f"a trend needs two scales or more, got {len(scales)}",
            hint="run DDO at a larger scale too",
        )
    names = set().union(*scales)
    odd = {n for n in names if any(n not in s for s in scales)}
    if odd:
        raise MixtureError(
            f"the {'two ' if len(scales) == 2 else ''}scales disagree on domains: "
            f"{shortlist(odd)} in only {'one' if len(scales) == 2 else 'some'} of them",
            hint="refit DDO on the same domains at all scales",
        )
    bad = [n for n in names if not all(math.isfinite(s[n]) and s[n] >= 0 for s in scales)]
    if bad:
        raise MixtureError(f"tokens must be finite and >= 0, not so for {shortlist(bad)}")
    if not (math.isfinite(budget_tokens) and budget_tokens > 0):
        raise MixtureError(f"the budget must be above 0 tokens, got {budget_tokens:g}")
    totals = [math.fsum(s.values()) for s in scales]
    for smaller, larger in itertools.pairwise(totals):
        if not 0 < smaller < larger:
            raise MixtureError(
                f"the larger scale must have more tokens than the smaller one, "
                f"got {tokens_text(smaller)} and then {tokens_text(larger)}",
                hint="swap them, or run DDO at a larger scale",
            )
    return totals


def _grows(free: Sequence[str], small: Mapping[str, float], large: Mapping[str, float]) -> bool:
    """Whether these domains together grow enough between the scales to be followed further."""
    if not free:
        return False

    def growth(names: Sequence[str]) -> float:
        return math.log(math.fsum(large[n] for n in names) / math.fsum(small[n] for n in names))

    return growth(free) >= _LEAST_GROWTH * growth(list(small))


def _follow(lines: Mapping[str, _Line], total: float) -> tuple[float, dict[str, float]]:
    """The t, and tokens by domain, at which geometric progressions add up to `total`."""
    if not lines:
        return 1.0, {}
    names = list(lines)
    start_D = np.array([lines[n].start for n in names])
    rate_D = np.array([lines[n].rate for n in names])

    def surplus(t: float) -> float:  # convex in t
        return float(logsumexp(start_D + t * rate_D)) - math.log(total)

    def slope(t: float) -> float:
        line_D = start_D + t * rate_D
        return float(np.exp(line_D - logsumexp(line_D)) @ rate_D)

    if rate_D.max() <= 0:  # possible for lines through three scales or more only
        raise MixtureError(
            "no domain's best tokens grow from scale to scale, so no trend reaches the budget",
            hint="use two scales, or the largest scale's optimum itself",
        )
    # domains that shrink can make the sum fall at first: start where it rises
    rising = 1.0
    while slope(rising) < 0:
        rising *= 2
    low = _LEAST_T if slope(_LEAST_T) >= 0 else float(brentq(slope, _LEAST_T, rising))
    if surplus(low) > 0:
        least = math.exp(math.log(total) + surplus(low))
        raise MixtureError(
            f"a budget of {tokens_text(total)} tokens is too far below the small scale: "
            f"the rule reaches down to {tokens_text(least)}",
            hint="use the small scale's optimum itself",
        )
    high = 2.0 * rising
    while surplus(high) < 0:
        high *= 2
    t = float(brentq(surplus, low, high, xtol=1e-14, rtol=1e-14))
    tokens_D = np.exp(start_D + t * rate_D)
    tokens_D *= total / tokens_D.sum()
    return t, dict(zip(names, tokens_D.tolist(), strict=True))
