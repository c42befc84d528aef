"""AutoScale: carry the best mixture found at two small scales to a large one.

Source:
    Kang et al., "AutoScale: Scale-Aware Data Mixing for Pre-Training LLMs", COLM 2025,
    arXiv:2407.20177, and the authors' `algorithms/AutoScale_example.ipynb`.
    The authors' rule is N3 = N2 (N1)^-1 N2, per domain.

Units:
    All amounts are in tokens.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy.optimize import brentq
from scipy.special import logsumexp

from mixture_assets.core.errors import MixtureError, shortlist
from mixture_assets.core.mixture import Mixture
from mixture_assets.core.problem import Problem, Proposal, ProxyResult, ProxyRun
from mixture_assets.core.units import tokens_text
from mixture_assets.methods.base import losses_of, proposal
from mixture_assets.methods.constraints import constrain
from mixture_assets.methods.ddo import DDO
from mixture_assets.methods.fit import DDOFit
from mixture_assets.methods.notes import extrapolation_notes, fit_notes, floor_notes
from mixture_assets.methods.uncertainty import bootstrap_draws, weight_intervals

Rule = Literal["safe", "paper"]

_AT_FLOOR = 1.01  # typed numbers are rounded, and a hair above the floor is still the floor
_LEAST_T = -1.0  # as far below the small scale as the large one is above it
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

    def to_json(self) -> dict[str, object]:
        """What `mixture extrapolate --json` prints."""
        return {
            "weights": dict(self.weights),
            "t": self.t,
            "tokens": dict(self.tokens),
            "at_floor": list(self.at_floor),
            "held": list(self.held),
            "extrapolation_factor": self.extrapolation_factor,
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
    if not 0 <= floor < 1:
        raise MixtureError(f"floor must be in [0, 1), got {floor:g}", hint="the paper has 0.2")
    total_small, total_large = _check_scales(small, large, budget_tokens, rule)
    names, share = sorted(small), floor / len(small) * _AT_FLOOR
    low_small = {n for n in names if small[n] <= share * total_small}
    low_large = {n for n in names if large[n] <= share * total_large}
    empty = {n for n in names if min(small[n], large[n]) == 0}
    if empty and rule == "paper":
        raise MixtureError(
            f"the paper's rule needs tokens in every domain at both scales, "
            f"{shortlist(empty)} has none",
            hint="find the optima under a floor above 0, or use rule = 'safe'",
        )
    grown = low_small - low_large
    held = grown if rule == "safe" and budget_tokens > total_large else set()
    free = [n for n in names if n not in held | empty]
    if (held or empty) and not _grows(free, small, large):
        held, free = set(names), []
    fixed = {n: large[n] / total_large * budget_tokens for n in names if n not in free}
    t, followed = _follow(free, small, large, budget_tokens - math.fsum(fixed.values()))
    tokens = {n: {**fixed, **followed}[n] for n in names}
    return Extrapolation(
        weights=Mixture.proportional_to(tokens),
        t=t,
        tokens=tokens,
        at_floor=sorted(low_small | low_large),
        grown=sorted(grown),
        held=sorted(held),
        extrapolation_factor=budget_tokens / total_large,
    )


def _check_scales(
    small: Mapping[str, float], large: Mapping[str, float], budget_tokens: float, rule: str
) -> tuple[float, float]:
    if rule not in ("safe", "paper"):
        raise MixtureError(f"rule must be 'safe' or 'paper', got {rule!r}")
    if small.keys() != large.keys():
        raise MixtureError(
            f"the two scales disagree on domains: {shortlist(small.keys() ^ large.keys())} "
            "in only one of them",
            hint="refit DDO on the same domains at both scales",
        )
    bad = [n for n in small if not all(math.isfinite(s[n]) and s[n] >= 0 for s in (small, large))]
    if bad:
        raise MixtureError(f"tokens must be finite and >= 0, not so for {shortlist(bad)}")
    if not (math.isfinite(budget_tokens) and budget_tokens > 0):
        raise MixtureError(f"the budget must be above 0 tokens, got {budget_tokens:g}")
    totals = math.fsum(small.values()), math.fsum(large.values())
    if not 0 < totals[0] < totals[1]:
        raise MixtureError(
            f"the larger scale must have more tokens than the smaller one, "
            f"got {tokens_text(totals[0])} and then {tokens_text(totals[1])}",
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


def _follow(
    names: Sequence[str], small: Mapping[str, float], large: Mapping[str, float], total: float
) -> tuple[float, dict[str, float]]:
    """The t, and tokens by domain, at which geometric progressions add up to `total`."""
    if not names:
        return 1.0, {}
    start_D = np.log([small[n] for n in names])
    rate_D = np.log([large[n] for n in names]) - start_D

    def surplus(t: float) -> float:  # convex in t
        return float(logsumexp(start_D + t * rate_D)) - math.log(total)

    def slope(t: float) -> float:
        line_D = start_D + t * rate_D
        return float(np.exp(line_D - logsumexp(line_D)) @ rate_D)

    # domains that shrink can make the sum fall at first: start where it rises
    low = _LEAST_T if slope(_LEAST_T) >= 0 else float(brentq(slope, _LEAST_T, 1.0))
    if surplus(low) > 0:
        least = math.exp(math.log(total) + surplus(low))
        raise MixtureError(
            f"a budget of {tokens_text(total)} tokens is too far below the small scale: "
            f"the rule reaches down to {tokens_text(least)}",
            hint="use the small scale's optimum itself",
        )
    high = 2.0
    while surplus(high) < 0:
        high *= 2
    t = float(brentq(surplus, low, high, xtol=1e-14, rtol=1e-14))
    tokens_D = np.exp(start_D + t * rate_D)
    tokens_D *= total / tokens_D.sum()
    return t, dict(zip(names, tokens_D.tolist(), strict=True))


@dataclass(frozen=True, kw_only=True)
class AutoScale:
    """DDO at two scales, then `extrapolate`.

    Differs from the source:
        See `DDO` and `extrapolate`. Intervals come from a parametric bootstrap over the noise
        measured between seeds, and epoch caps apply; the paper has neither.
    """

    small: DDO
    large: DDO
    rule: Rule = "safe"
    bootstrap: int = 200  # draws behind the intervals
    seed: int = 0  # of the draws

    def __post_init__(self) -> None:
        if not self.small.base_tokens < self.large.base_tokens:
            raise MixtureError(
                f"the larger scale must have more tokens than the smaller one, got "
                f"{self.small.base_tokens} and then {self.large.base_tokens}",
                hint="see [proxy] budgets_tokens",
            )
        if self.small.floor != self.large.floor:
            raise MixtureError(
                f"both scales need one floor, got {self.small.floor:g} and {self.large.floor:g}",
                hint="see [proxy] floor",
            )

    @property
    def scales(self) -> tuple[DDO, DDO]:
        """Both designs, under the names that fits and labels carry."""
        return replace(self.small, scale="small"), replace(self.large, scale="large")

    def plan(self, problem: Problem) -> list[ProxyRun]:
        """The runs of both scales, each once."""
        runs = [run for design in self.scales for run in design.plan(problem)]
        return list({run.digest: run for run in runs}.values())

    def labels(self, problem: Problem) -> dict[str, str]:
        """'small base seed 0', 'large wiki x3 seed 0'."""
        small, large = self.scales
        return {**large.labels(problem), **small.labels(problem)}

    def fits(self, problem: Problem, results: Sequence[ProxyResult]) -> dict[str, DDOFit]:
        """Curves and optimum by scale."""
        return {d.scale: d.fit(problem, results) for d in self.scales}

    def propose(self, problem: Problem, results: Sequence[ProxyResult]) -> Proposal:
        """Weights at the full run's budget."""
        # asked for both scales at once, so that a message names all missing runs
        losses_of(self.labels(problem), results, method="autoscale")
        small, large = (design.fit(problem, results) for design in self.scales)
        carried = self._carry(small, large, problem)
        drawn = self._drawn(problem, results, small, large)
        return proposal(
            problem,
            method="autoscale",
            mixture=carried.weights,
            interval=weight_intervals([mixture for mixture, _ in drawn]),
            at_floor=carried.at_floor,
            held=carried.held,
            not_improving=sorted({*small.not_improving, *large.not_improving}),
            extrapolation_factor=carried.extrapolation_factor,
            noise_sd=large.noise_sd,
            optima_tokens={"small": small.tokens, "large": large.tokens},
            fits=(*small.curves, *large.curves),
            curves=large.curves,
            redrawn=[again.curves for _, again in drawn],
            notes=self._notes(small, large, carried, problem),
        )

    def _carry(self, small: DDOFit, large: DDOFit, problem: Problem) -> Extrapolation:
        return extrapolate(
            small.tokens,
            large.tokens,
            budget_tokens=problem.budget_tokens,
            rule=self.rule,
            floor=self.large.floor,
        )

    def _drawn(
        self, problem: Problem, results: Sequence[ProxyResult], small: DDOFit, large: DDOFit
    ) -> list[tuple[Mixture, DDOFit]]:
        """Weights and the large scale's fit, both scales moved by their own noise.

        Empty unless the noise is known at both.
        """
        if small.noise_sd is None or large.noise_sd is None:
            return []
        fits = (small, large)
        trials = [design.trials(problem, results) for design in self.scales]

        def draw(rng: np.random.Generator) -> tuple[Mixture, DDOFit]:
            again = [
                design.redraw(problem, t, f, rng)
                for design, t, f in zip(self.scales, trials, fits, strict=True)
            ]
            carried = self._carry(again[0], again[1], problem)
            return constrain(carried.weights, problem)[0], again[1]

        return bootstrap_draws(draw, draws=self.bootstrap, seed=self.seed)

    def _notes(
        self, small: DDOFit, large: DDOFit, carried: Extrapolation, problem: Problem
    ) -> list[str]:
        noise = None if None in (small.noise_sd, large.noise_sd) else large.noise_sd
        is_beyond = carried.extrapolation_factor > 1
        return [
            *fit_notes([*small.curves, *large.curves], noise),
            *floor_notes(
                carried.grown if is_beyond else [],
                carried.held,
                dict(carried.weights),
                problem.budget_tokens,
            ),
            *extrapolation_notes(carried.extrapolation_factor),
        ]
