"""Temperature sampling: between natural and uniform, by one number.

Source:
    Arivazhagan et al., "Massively Multilingual Neural Machine Translation in the Wild",
    1907.05019, section 4; XLM-R (Conneau et al., 1911.02116) calls 1 / T alpha, and takes 0.3.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from mixture_assets.core.errors import MixtureError
from mixture_assets.core.mixture import Mixture
from mixture_assets.core.problem import Problem, Proposal, ProxyResult, ProxyRun
from mixture_assets.methods.base import proposal


@dataclass(frozen=True, kw_only=True)
class Temperature:
    """w_i = available_i^(1 / T) / sum of the same: T = 1 is natural, T -> infinity uniform.

    Differs from the source:
        Amounts are tokens, not sentence pairs, and epoch caps apply afterwards.
    """

    temperature: float = 5.0  # the source's choice; 1 / 0.3 is XLM-R's

    def plan(self, problem: Problem) -> list[ProxyRun]:
        """Nothing to run."""
        return []

    def labels(self, problem: Problem) -> dict[str, str]:
        """Nothing to name."""
        return {}

    def propose(self, problem: Problem, results: Sequence[ProxyResult]) -> Proposal:
        """The flattened natural mixture, within the constraints."""
        if not self.temperature > 0:
            raise MixtureError(
                f"a temperature is above 0, got {self.temperature:g}",
                hint="1 is natural, 5 is flatter, math.inf is uniform",
            )
        # shares of the largest: powers of token counts overflow at low temperatures
        largest = max(problem.available_tokens.values())
        amounts = {
            name: (n / largest) ** (1 / self.temperature) if n > 0 else 0.0
            for name, n in sorted(problem.available_tokens.items())
        }
        mixture = Mixture.proportional_to(amounts)
        return proposal(problem, method="temperature", mixture=mixture)
