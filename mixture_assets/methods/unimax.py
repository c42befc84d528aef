"""UniMax: every domain the same number of tokens, unless that would read it too often.

Source:
    Chung et al., "UniMax: Fairer and More Effective Language Sampling for Large-Scale
    Multilingual Pretraining", 2304.09151, algorithm 1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mixture_assets.core.errors import MixtureError
from mixture_assets.core.mixture import Mixture
from mixture_assets.core.problem import Problem, Proposal, ProxyResult, ProxyRun
from mixture_assets.methods.base import proposal


def unimax(
    available_tokens: Mapping[str, float], *, budget_tokens: float, epochs: float
) -> Mixture:
    """Spread a budget as evenly as possible, no domain read more than `epochs` times.

    From the smallest domain to the largest, each gets an equal share of what is left of the
    budget, or `epochs` times what it has, if that is less:

        n_i = min(left / domains left, epochs * available_i).

    So all domains that are not capped get the same, and none of them less than a capped one.
    A budget beyond `epochs` passes over everything caps all domains: that is natural.

    Differs from the source:
        Tokens, not characters. No domain is too small to take part.
    """
    if not (epochs > 0 and budget_tokens > 0):
        raise MixtureError(
            f"epochs and budget are above 0, got {epochs:g} epochs of {budget_tokens:g} tokens"
        )
    left, tokens = float(budget_tokens), {}
    ascending = sorted(available_tokens, key=lambda name: (available_tokens[name], name))
    for done, name in enumerate(ascending):
        tokens[name] = min(left / (len(ascending) - done), epochs * available_tokens[name])
        left -= tokens[name]
    return Mixture.proportional_to({name: tokens[name] for name in sorted(tokens)})


@dataclass(frozen=True, kw_only=True)
class UniMax:
    """Uniform up to a number of epochs of its own, at most the problem's `max_epochs`.

    Differs from the source:
        See `unimax`. The constraints of the problem apply afterwards; with `epochs` = max_epochs
        this is the method `uniform`.
    """

    epochs: float = 1.0  # the source's N; 1 did best there, by little

    def plan(self, problem: Problem) -> list[ProxyRun]:
        """Nothing to run."""
        return []

    def labels(self, problem: Problem) -> dict[str, str]:
        """Nothing to name."""
        return {}

    def propose(self, problem: Problem, results: Sequence[ProxyResult]) -> Proposal:
        """UniMax for the full budget, within the constraints."""
        mixture = unimax(
            problem.available_tokens, budget_tokens=problem.budget_tokens, epochs=self.epochs
        )
        wanted = self.epochs * sum(problem.available_tokens.values())
        notes = []
        if wanted < problem.budget_tokens:
            notes = [f"the budget is more than {self.epochs:g} epochs of all data: natural weights"]
        return proposal(problem, method="unimax", mixture=mixture, notes=notes)
