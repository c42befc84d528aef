"""CRISP: weights from a small specialist set, by which cluster each of its documents is nearest.

Source:
    Grangier, Fan, Seto and Ablin, "Task-Adaptive Pretrained Language Models via
    Clustered-Importance Sampling", ICLR 2025, 2410.03735.

Units:
    Counts are specialist documents by domain; a cluster is a domain.

Differs from the source:
    The embedding and the clustering are not here: pure numbers in, a mixture out. The source
    draws documents; our weights are for tokens, so a document of any length counts alike, unless
    the counts given are of tokens. Smoothing, standard errors and intervals are ours.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mixture_assets.core.errors import MixtureError, shortlist
from mixture_assets.core.mixture import Mixture
from mixture_assets.core.problem import Problem, Proposal, ProxyResult, ProxyRun
from mixture_assets.methods.base import proposal
from mixture_assets.methods.constraints import constrain
from mixture_assets.methods.uncertainty import bootstrap_intervals


def specialist_mixture(counts: Mapping[str, float], *, pseudo_count: float = 0.0) -> Mixture:
    """P(c | specialist): w_i = (n_i + k) / (n + k D), k the pseudo-count, over D domains."""
    wrong = [n for n, x in counts.items() if not (math.isfinite(x) and x >= 0)]
    if wrong or not (math.isfinite(pseudo_count) and pseudo_count >= 0):
        raise MixtureError(
            f"counts and the pseudo-count are finite and >= 0, not so for {shortlist(wrong)}"
            if wrong
            else f"a pseudo-count is finite and >= 0, got {pseudo_count:g}"
        )
    if not sum(counts.values()) > 0:
        raise MixtureError("the specialist set has no documents: every count is 0")
    return Mixture.proportional_to({n: counts[n] + pseudo_count for n in sorted(counts)})


def standard_errors(counts: Mapping[str, float], *, pseudo_count: float = 0.0) -> dict[str, float]:
    """Standard error of each weight over specialist sets of the same size, multinomial.

    sqrt(n w_i (1 - w_i)) / (n + k D): sqrt(w_i (1 - w_i) / n) where nothing is added.
    """
    mixture = specialist_mixture(counts, pseudo_count=pseudo_count)
    n = math.fsum(counts.values())
    total = n + pseudo_count * len(counts)
    return {name: math.sqrt(n * w * (1 - w)) / total for name, w in mixture.items()}


def importance_weights(
    mixture: Mapping[str, float], available_tokens: Mapping[str, float]
) -> dict[str, float]:
    """P(c | specialist) / P(c | generic): how much more often a cluster is read than naturally.

    Raises:
        MixtureError: A cluster with weight has no generic tokens to draw from.
    """
    natural = Mixture.proportional_to(available_tokens)
    Mixture(mixture).check_domains(available_tokens)
    empty = [n for n, w in mixture.items() if w > 0 and natural[n] == 0]
    if empty:
        raise MixtureError(
            f"the specialist set has documents in {shortlist(empty)}, which have no tokens",
            hint="add data there, or leave those clusters out of the counts",
        )
    return {n: w / natural[n] if w > 0 else 0.0 for n, w in sorted(mixture.items())}


def effective_share(mixture: Mapping[str, float], available_tokens: Mapping[str, float]) -> float:
    """Effective sample size of importance sampling, as a share of all generic tokens (Kish).

    1 / sum_i P(i | generic) u_i^2 for importance weights u: 1 for the natural mixture, and the
    cluster's own share where one cluster has all the weight. Small: the run reads little, often.
    """
    ratio = importance_weights(mixture, available_tokens)
    return 1 / math.fsum(mixture[n] * u for n, u in ratio.items())


@dataclass(frozen=True, kw_only=True)
class Crisp:
    """The specialist set's shares of the clusters as weights; no proxy runs.

    Differs from the source:
        See the module.
    """

    counts: Mapping[str, int]  # specialist documents by nearest domain, 0 where there are none
    pseudo_count: float = 0.0  # documents added to every domain
    bootstrap: int = 200  # specialist sets drawn for the intervals

    def plan(self, problem: Problem) -> list[ProxyRun]:
        """Nothing to run."""
        return []

    def labels(self, problem: Problem) -> dict[str, str]:
        """Nothing to name."""
        return {}

    def propose(self, problem: Problem, results: Sequence[ProxyResult]) -> Proposal:
        """The specialist mixture with multinomial intervals, within the constraints."""
        if set(self.counts) != set(problem.domains):
            raise MixtureError(
                f"counts and domains disagree: {shortlist(set(self.counts) ^ set(problem.domains))}"
                " in only one of them",
                hint="give every domain a count, 0 where no document is nearest",
            )
        mixture = specialist_mixture(self.counts, pseudo_count=self.pseudo_count)
        share = effective_share(mixture, problem.available_tokens)
        return proposal(
            problem,
            method="crisp",
            mixture=mixture,
            interval=self._intervals(problem),
            notes=[
                f"{sum(self.counts.values())} specialist documents; as importance sampling the "
                f"weights use {share:.1%} of the data effectively"
            ],
        )

    def _intervals(self, problem: Problem) -> dict[str, tuple[float, float]]:
        names = problem.domains
        n = sum(self.counts.values())
        shares = np.array([self.counts[name] / n for name in names])

        def draw(rng: np.random.Generator) -> Mixture:
            drawn = dict(zip(names, rng.multinomial(n, shares).tolist(), strict=True))
            return constrain(specialist_mixture(drawn, pseudo_count=self.pseudo_count), problem)[0]

        return bootstrap_intervals(draw, draws=self.bootstrap)
