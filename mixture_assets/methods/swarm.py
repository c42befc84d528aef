"""Runs on known mixtures, with what came of each: all that a surrogate learns from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mixture_assets.core.errors import MixtureError, shortlist
from mixture_assets.core.names import nearest

Array = NDArray[np.float64]

_SLACK = 1e-9
_ROUNDED = 0.01  # of a weight: rows that were rounded and rescaled vary by so much


def mixtures_of(weights: Array) -> NDArray[np.intp]:
    """A number for each row, the same for rows of one mixture; by first appearance, from 0."""
    _, first, group = np.unique(
        np.round(weights / _SLACK), axis=0, return_index=True, return_inverse=True
    )
    return np.argsort(np.argsort(first))[group.reshape(-1)]


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
    params: Array | None = None  # (runs,), parameters of the model; None where nothing says
    tokens: Array | None = None  # (runs,), training tokens
    seed: Array | None = None  # (runs,)

    @classmethod
    def of(
        cls,
        mixtures: Mapping[str, Mapping[str, float]],
        metrics: Mapping[str, Mapping[str, float]],
        *,
        settings: Mapping[str, Mapping[str, float]] | None = None,
    ) -> "Swarm":
        """From mappings run -> domain -> weight and run -> metric -> value.

        Args:
            mixtures: Weights, rescaled to sum to 1.
            metrics: Lower being better.
            settings: Run -> any of params, tokens and seed, the same ones for every run.

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
        return cls(
            runs=tuple(runs),
            domains=tuple(domains),
            weights=weights,
            metrics=values,
            **_settings(runs, settings or {}),
        )

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

    def parts(self, names: Mapping[str, float] | Sequence[str]) -> tuple[Array, Array]:
        """The metrics of an objective that count, (metrics, runs), and their shares, (metrics,).

        Args:
            names: As of `objective`, which refuses what is none.
        """
        self.objective(names)
        shares = dict(names) if isinstance(names, Mapping) else dict.fromkeys(names, 1.0)
        counted = {name: x for name, x in sorted(shares.items()) if x > 0}
        return np.array([self.metrics[n] for n in counted]), np.array(list(counted.values()))

    def subset(self, keep: NDArray[np.intp]) -> "Swarm":
        """Some of the runs, by their places."""

        def kept(values: Array | None) -> Array | None:
            return None if values is None else values[keep]

        return replace(
            self,
            runs=tuple(self.runs[i] for i in keep),
            weights=self.weights[keep],
            metrics={name: values[keep] for name, values in self.metrics.items()},
            params=kept(self.params),
            tokens=kept(self.tokens),
            seed=kept(self.seed),
        )

    @property
    def groups(self) -> NDArray[np.intp]:
        """A number for each run, shape (runs,), the same for replicates.

        Replicates have the same mixture, and the same params and tokens where these are known.
        """
        known = [x[:, None] for x in (self.params, self.tokens) if x is not None]
        rows = np.concatenate([np.round(self.weights / _SLACK), *known], axis=1)
        return np.unique(rows, axis=0, return_inverse=True)[1].reshape(-1)

    @property
    def constant(self) -> tuple[str, ...]:
        """Domains whose weight is the same in every run: nothing can be learned of them."""
        spread, least = np.ptp(self.weights, axis=0), _ROUNDED * self.weights.mean(axis=0) + _SLACK
        return tuple(d for d, x, y in zip(self.domains, spread, least, strict=True) if x <= y)


def _settings(runs: Sequence[str], settings: Mapping[str, Mapping[str, float]]) -> dict[str, Array]:
    names = sorted(settings[runs[0]]) if settings else []
    for run in runs if settings else ():
        if sorted(settings[run]) != names or not set(names) <= {"params", "tokens", "seed"}:
            raise MixtureError(f"run {run!r} says other things of how it was made than {runs[0]!r}")
    return {n: np.array([settings[run][n] for run in runs], dtype=float) for n in names}
