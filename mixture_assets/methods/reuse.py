"""Mixture reuse: unchanged domains keep their ratios and are fitted as one, beside the others.

Source:
    Olmix (Ai2; allenai/olmix, 2026) reuses a mixture when the set of domains changes: the ratios
    among unaffected domains are frozen, and the whole group is one virtual domain of a search over
    the affected ones.

Differs from the source:
    Olmix fits a swarm of random mixtures with a log-linear law; here any method of ours does the
    search (DDO, AutoScale). Epoch caps and floors apply to the real domains, once the group is
    unfolded. Where nothing is new the answer is the earlier mixture without what went, and costs no
    run. It predicts nothing of the full run: the curve of a group says nothing about other ratios
    in it, and those of natural and uniform are others.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mixture_assets.core.errors import MixtureError, shortlist
from mixture_assets.core.mixture import Mixture
from mixture_assets.core.problem import (
    Constraints,
    CurveFit,
    Problem,
    Proposal,
    ProxyResult,
    ProxyRun,
)
from mixture_assets.methods.autoscale import AutoScale
from mixture_assets.methods.base import losses_of, proposal
from mixture_assets.methods.ddo import DDO
from mixture_assets.methods.fit import DDOFit
from mixture_assets.methods.random_swarm import RandomSwarm

GROUP = "(unchanged)"  # no domain can have this name


@dataclass(frozen=True, kw_only=True)
class Reuse:
    """Freeze the ratios among unchanged domains, and search over the group and the rest.

    Differs from the source:
        See the module.
    """

    frozen: Mapping[str, float]  # domain -> weight in an earlier mixture; only ratios count
    inner: DDO | AutoScale | RandomSwarm

    def plan(self, problem: Problem) -> list[ProxyRun]:
        """The inner method's runs, the group unfolded; none where there is nothing to search."""
        return [run for run, _ in self._unfolded(problem)]

    def labels(self, problem: Problem) -> dict[str, str]:
        """As the inner method has them: 'small (unchanged) x3 seed 0'."""
        if not self._is_search(problem):
            return {}
        names = self.inner.labels(self._grouped(problem))
        return {run.digest: names[inner] for run, inner in self._unfolded(problem)}

    def fits(self, problem: Problem, results: Sequence[ProxyResult]) -> dict[str, DDOFit]:
        """The inner method's curves and optimum by scale; none where nothing is searched."""
        if not self._is_search(problem):
            return {}
        return self.inner.fits(self._grouped(problem), self._folded(problem, results))

    def propose(self, problem: Problem, results: Sequence[ProxyResult]) -> Proposal:
        """The group's weight shared out in its frozen ratios."""
        ratios = self._ratios(problem)
        if not self._is_search(problem):
            return proposal(problem, method="reuse", mixture=ratios)
        asked = {run.digest: inner for run, inner in self._unfolded(problem)}
        found = self.inner.propose(self._grouped(problem), self._folded(problem, results))
        return proposal(
            problem,
            method="reuse",
            mixture=Mixture(_shared_out(found.mixture, ratios)),
            interval=_intervals(found.interval, ratios),
            at_floor=[n for n in found.at_floor if n != GROUP],
            held=[n for n in found.held if n != GROUP],
            not_improving=[n for n in found.not_improving if n != GROUP],
            extrapolation_factor=found.extrapolation_factor,
            noise_sd=found.noise_sd,
            optima_tokens=found.optima_tokens,
            fits=[_refitted(fit, asked) for fit in found.fits],
            notes=found.notes,
        )

    def _folded(self, problem: Problem, results: Sequence[ProxyResult]) -> list[ProxyResult]:
        """The results under the inner method's runs."""
        losses_of(self.labels(problem), results, method="reuse")  # names missing runs as trained
        asked = {run.digest: inner for run, inner in self._unfolded(problem)}
        inner = {run.digest: run for run in self.inner.plan(self._grouped(problem))}
        return [
            dataclasses.replace(r, run=inner[asked[r.run.digest]])
            for r in results
            if r.run.digest in asked
        ]

    def _is_search(self, problem: Problem) -> bool:
        return bool(set(problem.domains) - set(self.frozen))

    def _ratios(self, problem: Problem) -> Mixture:
        """Shares of the unchanged domains within their group."""
        kept = {n: w for n, w in self.frozen.items() if n in problem.available_tokens}
        if not kept or not math.fsum(kept.values()) > 0:
            raise MixtureError(
                f"no earlier weight can be kept: of {shortlist(self.frozen)} none is left",
                hint="mixture refit --way full",
            )
        return Mixture.proportional_to(kept)

    def _grouped(self, problem: Problem) -> Problem:
        """The same question over the group and the domains that are new, unconstrained."""
        fresh = {n: k for n, k in problem.available_tokens.items() if n not in self.frozen}
        group = sum(k for n, k in problem.available_tokens.items() if n in self.frozen)
        return dataclasses.replace(
            problem,
            available_tokens={**fresh, GROUP: group},
            constraints=Constraints(max_epochs=math.inf),
        )

    def _unfolded(self, problem: Problem) -> list[tuple[ProxyRun, str]]:
        """Every inner run with the group's tokens shared out, and the inner run's digest."""
        if not self._is_search(problem):
            return []
        ratios = self._ratios(problem)
        runs = []
        for inner in self.inner.plan(self._grouped(problem)):
            rest = {n: k for n, k in inner.tokens.items() if n != GROUP}
            tokens = {**rest, **ratios.split(inner.tokens[GROUP])}
            run = ProxyRun(tokens={n: k for n, k in tokens.items() if k}, seed=inner.seed)
            runs.append((run, inner.digest))
        return runs


def _shared_out(mixture: Mapping[str, float], ratios: Mixture) -> dict[str, float]:
    group = mixture[GROUP]
    rest = {n: w for n, w in mixture.items() if n != GROUP}
    return {**rest, **{n: group * r for n, r in ratios.items()}}


def _intervals(
    interval: Mapping[str, tuple[float, float]], ratios: Mixture
) -> dict[str, tuple[float, float]]:
    """The group's interval for each of its domains: their ratios are taken as known."""
    if GROUP not in interval:
        return {}
    low, high = interval[GROUP]
    rest = {n: bounds for n, bounds in interval.items() if n != GROUP}
    return {**rest, **{n: (low * r, high * r) for n, r in ratios.items()}}


def _refitted(fit: CurveFit, asked: Mapping[str, str]) -> CurveFit:
    """A fit that names the runs as they were trained."""
    outer = {inner: run for run, inner in asked.items()}
    return dataclasses.replace(fit, run_digests=tuple(outer[d] for d in fit.run_digests))
