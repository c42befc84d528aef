"""DDO: change one domain's data at a time, fit how the objective answers, allocate.

Source:
    Kang et al., "AutoScale: Scale-Aware Data Mixing for Pre-Training LLMs", COLM 2025,
    arXiv:2407.20177, and the authors' `algorithms/DDO_example.ipynb`.

Units:
    Factors and optima are multiples of a domain's tokens in the base run.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mixture_assets.core.errors import MixtureError, shortlist
from mixture_assets.core.mixture import Mixture
from mixture_assets.core.problem import Problem, Proposal, ProxyResult, ProxyRun
from mixture_assets.methods.base import objectives, proposal
from mixture_assets.methods.constraints import constrain
from mixture_assets.methods.fit import DDOFit, Trial, fit_trials
from mixture_assets.methods.notes import extrapolation_notes, fit_notes
from mixture_assets.methods.uncertainty import bootstrap_draws, jittered, weight_intervals

Row = (  # domain, factor, objective, and the seed if it is known
    tuple[str | None, float | None, float] | tuple[str | None, float | None, float, str]
)


@dataclass(frozen=True, kw_only=True)
class DDO:
    """Grow and shrink each domain once around a uniform base, fit curves, allocate.

    Differs from the source:
        The allocation is solved exactly instead of by 10,000 gradient steps, and the floor is
        part of the problem instead of a pin set by hand (see `allocate`). Repeated seeds enter
        the fit, as blocks (see `blocks`). A domain whose growth does not lower the objective gets
        its floor; the notebook's fit has no meaning there. The shrunk run takes a factor of 0.2,
        as the notebook's code does; its text says 1/3.
    """

    base_tokens: int  # length of the base run; the grown runs are longer, the shrunk ones shorter
    grow: float = 3.0
    shrink: float = 0.2
    floor: float = 0.2  # least amount of any domain, in multiples of the uniform share
    seeds: tuple[int, ...] = (0,)  # the whole design is repeated for each
    base_seeds: tuple[int, ...] = ()  # further repeats of the base run: the noise
    scale: str = "small"
    bootstrap: int = 200  # draws behind the intervals

    def __post_init__(self) -> None:
        rules = [
            (self.base_tokens > 0, f"base_tokens must be > 0, got {self.base_tokens}"),
            (
                0 < self.shrink < 1 < self.grow,
                f"shrink and grow must lie around 1, got {self.shrink:g} and {self.grow:g}",
            ),
            (0 <= self.floor < 1, f"floor must be in [0, 1), got {self.floor:g}"),
            (len(self.seeds) > 0, "seeds must name at least one seed"),
        ]
        for holds, problem in rules:
            if not holds:
                raise MixtureError(f"DDO: {problem}", hint="see [proxy] in the experiment file")

    def plan(self, problem: Problem) -> list[ProxyRun]:
        """2 D + 1 runs for each seed: base, every domain shrunk, every domain grown."""
        return [run for run, _, _ in self._design(problem)]

    def labels(self, problem: Problem) -> dict[str, str]:
        """'small base seed 0', 'small wiki x3 seed 0'."""
        return {
            run.digest: f"{self.scale} {f'{domain} x{factor:g}' if domain else 'base'} "
            f"seed {run.seed}"
            for run, domain, factor in self._design(problem)
        }

    def trials(self, problem: Problem, results: Sequence[ProxyResult]) -> list[Trial]:
        """The design with the objective of each run."""
        value = objectives(self.labels(problem), results, problem.objective, method="ddo")
        share = self._share(problem)
        return [
            Trial(
                domain=domain,
                # what was asked for after rounding to whole tokens
                factor=run.tokens[domain] / share if domain else 1.0,
                objective=value[run.digest],
                run_digest=run.digest,
                seed=str(run.seed),
            )
            for run, domain, _ in self._design(problem)
        ]

    def fit(self, problem: Problem, results: Sequence[ProxyResult]) -> DDOFit:
        """Curves and optimum at this scale."""
        return fit_trials(
            self.trials(problem, results),
            floor=self.floor,
            scale=self.scale,
            base_tokens=self._share(problem),
            alone=self._absent(problem),
        )

    def fits(self, problem: Problem, results: Sequence[ProxyResult]) -> dict[str, DDOFit]:
        """Curves and optimum by scale."""
        return {self.scale: self.fit(problem, results)}

    def redraw(
        self, problem: Problem, trials: Sequence[Trial], fit: DDOFit, rng: np.random.Generator
    ) -> DDOFit:
        """Fit once more, every objective moved by the noise measured between seeds."""
        moved = jittered([t.objective for t in trials], fit.noise_sd or 0.0, rng)
        return fit_trials(
            [replace(t, objective=y) for t, y in zip(trials, moved, strict=True)],
            floor=self.floor,
            scale=self.scale,
            base_tokens=fit.curves[0].base_tokens,
            starts=fit.starts,
            alone=self._absent(problem),
        )

    def propose(self, problem: Problem, results: Sequence[ProxyResult]) -> Proposal:
        """The optimum at this scale, as weights for any budget. See AutoScale for larger ones."""
        trials, fit = self.trials(problem, results), self.fit(problem, results)
        drawn = []
        if fit.noise_sd is not None:

            def draw(rng: np.random.Generator) -> tuple[Mixture, DDOFit]:
                again = self.redraw(problem, trials, fit, rng)
                return constrain(again.weights, problem)[0], again

            drawn = bootstrap_draws(draw, draws=self.bootstrap)
        factor = problem.budget_tokens / self.base_tokens
        return proposal(
            problem,
            method="ddo",
            mixture=fit.weights,
            interval=weight_intervals([mixture for mixture, _ in drawn]),
            at_floor=fit.at_floor,
            not_improving=fit.not_improving,
            extrapolation_factor=factor,
            noise_sd=fit.noise_sd,
            optima_tokens={self.scale: fit.tokens},
            fits=fit.curves,
            curves=fit.curves,
            redrawn=[again.curves for _, again in drawn],
            notes=(*fit_notes(fit.curves, fit.noise_sd), *extrapolation_notes(factor)),
        )

    def _share(self, problem: Problem) -> int:
        """Tokens of each domain in the base run."""
        return round(self.base_tokens / len(problem.domains))

    def _absent(self, problem: Problem) -> frozenset[str]:
        """Domains that the base run lacks."""
        return frozenset()

    def _design(self, problem: Problem) -> list[tuple[ProxyRun, str | None, float]]:
        """Each run once, with the domain that it changes and the factor."""
        domains, share = problem.domains, self._share(problem)
        if len(domains) < 2:
            raise MixtureError(
                f"DDO mixes two domains or more, got {shortlist(domains) or 'none'}",
                hint="add a domain: a folder of shards under [data] root",
            )
        if not 0 < round(share * self.shrink) < share < round(share * self.grow):
            raise MixtureError(
                f"a base run of {self.base_tokens} tokens is too short to shrink and grow "
                f"{len(domains)} domains",
                hint="raise [proxy] budgets_tokens",
            )
        base = dict.fromkeys(domains, share)
        design: dict[str, tuple[ProxyRun, str | None, float]] = {}

        def add(domain: str | None, factor: float, seed: int) -> None:
            changed = {domain: round(share * factor)} if domain else {}
            run = ProxyRun(tokens={**base, **changed}, seed=seed)
            design.setdefault(run.digest, (run, domain, factor))

        for seed in self.seeds:
            add(None, 1.0, seed)
            for factor in (self.shrink, self.grow):
                for domain in domains:
                    add(domain, factor, seed)
        for seed in self.base_seeds:
            add(None, 1.0, seed)
        return list(design.values())


def ddo_from_table(rows: Sequence[Row], *, floor: float = 0.2) -> DDOFit:
    """DDO on somebody's own numbers: (domain, factor, objective[, seed]), in any order.

    Args:
        rows: The domain is None or empty for a base run, whose factor is 1 or None. Repeats
            (seeds) and any number of factors are welcome. Runs of one seed are a block: what it
            did to all of them is taken out, as far as the repeats can tell.
        floor: Least amount of any domain, in multiples of its base amount.
    """
    return fit_trials(checked_trials(rows, floor=floor), floor=floor)


def checked_trials(rows: Sequence[Row], *, floor: float) -> list[Trial]:
    """Rows of `ddo_from_table` as trials, or MixtureError if they are no design of DDO."""
    if not 0 <= floor < 1:
        raise MixtureError(f"floor must be in [0, 1), got {floor:g}", hint="the paper has 0.2")
    trials = list(_checked(rows))
    domains = sorted({t.domain for t in trials if t.domain is not None})
    if not any(t.domain is None for t in trials):
        raise MixtureError(
            f"none of {len(trials)} runs is a base run",
            hint="leave its domain empty: `,1,28.11`",
        )
    if len(domains) < 2:
        raise MixtureError(
            f"DDO mixes two domains or more, the runs name {shortlist(domains) or 'none'}",
            hint="the base run's domain is empty, every other run names the domain it changes",
        )
    for domain in domains:
        factors = {t.factor for t in trials if t.domain == domain}
        if len(factors) < 2:
            raise MixtureError(
                f"{domain!r} has runs at factor {next(iter(factors)):g} only; "
                "a curve needs two factors besides the base run",
                hint="add a run with less of it, e.g. 0.2, and one with more, e.g. 3",
            )
    return trials


def _checked(rows: Sequence[Row]) -> Iterator[Trial]:
    for number, (name, factor, objective, *seed) in enumerate(rows, start=1):
        domain = (name or "").strip() or None
        where = f"run {number} ({domain or 'base'})"
        if not (math.isfinite(objective) and objective > 0):
            raise MixtureError(
                f"{where} has an objective of {objective:g}, expected a number above 0",
                hint="leave diverged runs out, or repeat them",
            )
        x = 1.0 if factor is None and domain is None else factor
        if x is None or not (math.isfinite(x) and x > 0):
            raise MixtureError(
                f"{where} has a factor of {x}, expected a number above 0",
                hint="the domain's amount in multiples of its amount in the base run",
            )
        if (domain is None) != (x == 1):
            raise MixtureError(
                f"{where} has a factor of {x:g}: factor 1 and an empty domain belong together",
                hint="a base run has an empty domain and factor 1; every other run has neither",
            )
        yield Trial(domain=domain, factor=x, objective=objective, seed=str(*seed))
