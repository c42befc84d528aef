"""AutoScale: DDO at two small scales, carried to a large one.

Source:
    Kang et al., "AutoScale: Scale-Aware Data Mixing for Pre-Training LLMs", COLM 2025,
    arXiv:2407.20177, and the authors' `algorithms/AutoScale_example.ipynb`; see `extrapolate`.

Units:
    All amounts are in tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from mixture_assets.core.errors import MixtureError
from mixture_assets.core.mixture import Mixture
from mixture_assets.core.problem import Problem, Proposal, ProxyResult, ProxyRun
from mixture_assets.methods.base import losses_of, proposal
from mixture_assets.methods.constraints import constrain
from mixture_assets.methods.ddo import DDO
from mixture_assets.methods.extrapolate import Extrapolation, extrapolate
from mixture_assets.methods.fit import DDOFit
from mixture_assets.methods.joint import check_complete, fit_joint, runs_over_scales
from mixture_assets.methods.notes import extrapolation_notes, fit_notes, floor_notes
from mixture_assets.methods.uncertainty import (
    bootstrap_draws,
    bootstrap_intervals,
    weight_intervals,
)

Rule = Literal["safe", "paper", "additive"]


@dataclass(frozen=True, kw_only=True)
class AutoScale:
    """DDO at two scales, then `extrapolate`, or one law over the runs of both.

    Rule 'additive' extrapolates no optimum: it fits `additive`'s law to all runs of both scales,
    each domain's loss apart, and allocates the full budget with it. A floor cannot fool it, since
    none enters the fit; the floor bounds the answer only.

    Differs from the source:
        See `DDO` and `extrapolate`. Intervals come from a parametric bootstrap over the noise
        measured between seeds (rule 'additive': over what its laws leave unexplained), and epoch
        caps apply; the paper has neither, and no rule 'additive'.
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
        if self.rule == "additive":
            check_complete(runs, problem)  # before anything is trained
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
        if self.rule == "additive":
            return self._by_law(problem, results, small, large)
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

    def _by_law(
        self, problem: Problem, results: Sequence[ProxyResult], small: DDOFit, large: DDOFit
    ) -> Proposal:
        """Weights from one additive law for each metric, over the runs of both scales."""
        runs = runs_over_scales([d.plan(problem) for d in self.scales], problem, results)
        total = problem.budget_tokens / large.curves[0].base_tokens
        floor = self.large.floor * total / len(problem.domains)
        fit = fit_joint(runs, total=total, floor=floor)

        def draw(rng: np.random.Generator) -> Mixture:
            moved = runs.redrawn(fit.laws, rng)
            again = fit_joint(moved, total=total, floor=floor, start=fit.laws)
            return constrain(again.weights, problem)[0]

        factor = problem.budget_tokens / self.large.base_tokens
        return proposal(
            problem,
            method="autoscale",
            mixture=fit.weights,
            interval=bootstrap_intervals(draw, draws=self.bootstrap, seed=self.seed),
            at_floor=fit.at_floor,
            not_improving=fit.not_improving,
            extrapolation_factor=factor,
            noise_sd=large.noise_sd,
            optima_tokens={"small": small.tokens, "large": large.tokens},
            fits=(*small.curves, *large.curves),
            notes=(
                *fit_notes([*small.curves, *large.curves], large.noise_sd),
                *extrapolation_notes(factor),
            ),
        )

    def _carry(self, small: DDOFit, large: DDOFit, problem: Problem) -> Extrapolation:
        return extrapolate(
            small.tokens,
            large.tokens,
            budget_tokens=problem.budget_tokens,
            rule="paper" if self.rule == "paper" else "safe",
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
