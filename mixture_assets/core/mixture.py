"""A mixture: how often each domain is sampled."""

import math
from collections.abc import Iterator, Mapping
from typing import Self

from mixture_assets.core.digest import digest
from mixture_assets.core.errors import MixtureError, shortlist
from mixture_assets.core.names import nearest

_SUM_TOLERANCE = 1e-6


class Mixture(Mapping[str, float]):
    """Sampling weights by domain name: read-only, non-negative, summing to 1.

    Weights are the probability that a training *token* comes from a domain. They are not
    loss weights. Domains iterate in sorted order, so two mixtures with the same numbers are
    equal, hash alike and share a `digest` however they were written down.
    """

    __slots__ = ("_weights",)

    def __init__(self, weights: Mapping[str, float]) -> None:
        self._weights = {name: float(weights[name]) for name in sorted(weights)}
        bad = {n: w for n, w in self._weights.items() if not (math.isfinite(w) and w >= 0)}
        if bad:
            raise MixtureError(f"mixture weights must be finite and >= 0, got {bad}")
        total = math.fsum(self._weights.values())
        if abs(total - 1) > _SUM_TOLERANCE:
            raise MixtureError(
                f"mixture weights must sum to 1, got {total:.6g} over {len(self)} domains",
                hint="use Mixture.proportional_to(...) to normalise counts or scores",
            )

    @classmethod
    def proportional_to(cls, amounts: Mapping[str, float]) -> Self:
        """Normalise non-negative amounts, for example tokens available per domain."""
        total = math.fsum(amounts.values())
        if not total > 0:
            raise MixtureError(f"cannot normalise amounts that sum to {total:g}: {dict(amounts)}")
        return cls({name: amount / total for name, amount in amounts.items()})

    @classmethod
    def uniform(cls, domains: Mapping[str, object] | list[str]) -> Self:
        """The same weight for every domain."""
        return cls.proportional_to(dict.fromkeys(domains, 1.0))

    def __getitem__(self, domain: str) -> float:
        return self._weights[domain]

    def __iter__(self) -> Iterator[str]:
        return iter(self._weights)

    def __len__(self) -> int:
        return len(self._weights)

    def __hash__(self) -> int:
        return hash(tuple(self._weights.items()))

    def __repr__(self) -> str:
        return "Mixture(" + ", ".join(f"{n}={w:.4g}" for n, w in self.items()) + ")"

    @property
    def digest(self) -> str:
        """Hex characters that name these exact weights, for paths and cache keys."""
        return digest(self._weights)

    def split(self, n_tokens: int) -> dict[str, int]:
        """Whole tokens by domain that sum to `n_tokens`; the largest remainders are rounded up."""
        exact = {name: w * n_tokens for name, w in self.items()}
        tokens = {name: int(x) for name, x in exact.items()}
        short = n_tokens - sum(tokens.values())
        for name in sorted(exact, key=lambda n: (tokens[n] - exact[n], n))[:short]:
            tokens[name] += 1
        return tokens

    def check_domains(self, known: Mapping[str, object] | list[str]) -> None:
        """Raise MixtureError if a weight names a domain that is not in `known`."""
        unknown = [name for name in self if name not in known]
        if unknown:
            raise MixtureError(
                f"weights name unknown domains: {shortlist(unknown)}{nearest(unknown[0], known)}",
                hint="`mixture status` lists the domains that have data",
            )

    def epochs(
        self, budget_tokens: float, available_tokens: Mapping[str, float]
    ) -> dict[str, float]:
        """Passes over each domain's data when training on `budget_tokens` tokens."""
        return {n: w * budget_tokens / available_tokens[n] for n, w in self.items() if w > 0}
