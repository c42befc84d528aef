"""The two mixtures that need no search, and that every method is compared with."""

from collections.abc import Sequence
from dataclasses import dataclass

from mixture_assets.core.problem import Problem, Proposal, ProxyResult, ProxyRun
from mixture_assets.methods.base import proposal


@dataclass(frozen=True, kw_only=True)
class _Baseline:
    """No proxy runs."""

    def plan(self, problem: Problem) -> list[ProxyRun]:
        """Nothing to run."""
        return []

    def labels(self, problem: Problem) -> dict[str, str]:
        """Nothing to name."""
        return {}


@dataclass(frozen=True, kw_only=True)
class Natural(_Baseline):
    """Sample each domain in proportion to the data available.

    Differs from the source: nothing known.
    """

    def propose(self, problem: Problem, results: Sequence[ProxyResult]) -> Proposal:
        """The natural mixture, within the constraints."""
        return proposal(problem, method="natural", mixture=problem.natural)


@dataclass(frozen=True, kw_only=True)
class Uniform(_Baseline):
    """Sample every domain alike.

    Differs from the source: nothing known.
    """

    def propose(self, problem: Problem, results: Sequence[ProxyResult]) -> Proposal:
        """The uniform mixture, within the constraints: scarce domains are capped."""
        return proposal(problem, method="uniform", mixture=problem.uniform)
