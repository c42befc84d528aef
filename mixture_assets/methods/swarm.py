"""Runs on known mixtures, with what came of each: all that a surrogate learns from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mixture_assets.core.errors import MixtureError, shortlist
from mixture_assets.core.names import nearest

Array = NDArray[np.float64]

_SLACK = 1e-9


@dataclass(frozen=True, kw_only=True)
class Swarm:
    """Mixtures and their metrics, run by run, lower being better.

    Arrays follow `runs` and `domains`, which are sorted: the order in which somebody's table had
    its rows and columns changes no bit of an answer.
    """

    runs: tuple[str, ...]
    domains: tuple[str, ...]
    weights: Array  # (runs, domains), each row sums to 1
    metrics: Mapping[str, Array]  # name -> (runs,), in the metric's own unit

    @classmethod
    def of(
        cls, mixtures: Mapping[str, Mapping[str, float]], metrics: Mapping[str, Mapping[str, float]]
    ) -> "Swarm":
        """From mappings run -> domain -> weight and run -> metric -> value.

        Raises:
            MixtureError: Fewer than two runs, or runs that disagree on their domains or metrics.
        """
        runs = sorted(mixtures)
        if len(runs) < 2 or runs != sorted(metrics):
            raise MixtureError(f"a swarm is two runs or more with metrics, got {len(runs)}")
        domains, names = sorted(mixtures[runs[0]]), sorted(metrics[runs[0]])
        for run in runs:
            if sorted(mixtures[run]) != domains or sorted(metrics[run]) != names:
                raise MixtureError(f"run {run!r} has other domains or metrics than {runs[0]!r}")
        weights = np.array([[mixtures[run][d] for d in domains] for run in runs], dtype=float)
        weights /= weights.sum(axis=1, keepdims=True)
        values = {n: np.array([metrics[run][n] for run in runs], dtype=float) for n in names}
        return cls(runs=tuple(runs), domains=tuple(domains), weights=weights, metrics=values)

    def objective(self, names: Mapping[str, float] | Sequence[str]) -> Array:
        """The weighted mean of some metrics for every run, shape (runs,).

        Args:
            names: Metric -> share, in any unit; or metrics that count alike.
        """
        shares = dict(names) if isinstance(names, Mapping) else dict.fromkeys(names, 1.0)
        for name in shares:
            if name not in self.metrics:
                raise MixtureError(
                    f"there is no metric {name!r}{nearest(name, self.metrics)}",
                    hint=f"metrics: {shortlist(self.metrics, 20)}",
                )
        total = sum(shares.values())
        if not shares or not total > 0 or min(shares.values()) < 0:
            raise MixtureError(f"an objective is metrics with shares above 0, got {shares}")
        parts = [x / total * self.metrics[n] for n, x in sorted(shares.items())]
        return np.asarray(np.sum(parts, axis=0), dtype=float)

    @property
    def constant(self) -> tuple[str, ...]:
        """Domains whose weight is the same in every run: nothing can be learned of them."""
        spread = np.ptp(self.weights, axis=0)
        return tuple(d for d, x in zip(self.domains, spread, strict=True) if x <= _SLACK)
