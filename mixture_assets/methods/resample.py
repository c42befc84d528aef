"""Exponential laws of several metrics fitted to one swarm, and fitted again to its noise.

Source:
    Wild bootstrap, Wu (Annals of Statistics 1986) with the signs of Liu (1988): every run's
    residual keeps its size and gets a random sign. It is first divided by 1 - leverage (HC3,
    MacKinnon and White 1985), because a fit that has few runs for its parameters lies too close to
    them. A run's residuals in all metrics share the sign: what they have in common stays in common.

Shapes:
    B draws, R runs, M metrics, D domains, P = 1 + D parameters of one law.

Differs from the source:
    Each draw is fitted from the parameters of the fit to the runs alone, all draws side by side.
    The penalty's centre is drawn as well, from the prior that the penalty stands for: a penalised
    fit to resampled noise alone is too sure of what it was never shown.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mixture_assets.methods.mixing_law import ExponentialFit, ExponentialLaw, descend
from mixture_assets.methods.optimum import Convex
from mixture_assets.methods.swarm import Array, Swarm, mixtures_of

_CHUNK = 128  # draws that are in memory at a time
_LARGEST = 50.0
_LEAST_FREE = 0.05  # of a run's residual that is not its own leverage


@dataclass(frozen=True, kw_only=True)
class Laws:
    """One law for each metric of an objective, or a batch of them."""

    constant: Array  # (B,), unit of the objective
    amplitude: Array  # (B, M), share x spread of each metric
    exponent: Array  # (B, M, D)

    def value(self, weights: Array) -> Array:
        """The objective at (n, D) weights by every draw, (B, n)."""
        power = np.minimum(np.einsum("bmd,nd->bmn", self.exponent, weights), _LARGEST)
        terms = np.einsum("bm,bmn->bn", self.amplitude, np.exp(power))
        return np.asarray(self.constant[:, None] + terms)

    def own_value(self, weights: Array) -> Array:
        """Each draw at its own row of (B, D) weights, (B,)."""
        power = np.minimum(np.einsum("bmd,bd->bm", self.exponent, weights), _LARGEST)
        return np.asarray(self.constant + (self.amplitude * np.exp(power)).sum(axis=1))

    def convex(self, kl: float = 0.0, reference: Array | None = None) -> Convex:
        """As an objective to be minimised."""
        return Convex(amplitude=self.amplitude, exponent=self.exponent, kl=kl, reference=reference)


@dataclass(frozen=True, kw_only=True)
class FittedLaws:
    """The laws of a swarm's metrics, with what is needed to draw them again."""

    names: tuple[str, ...]  # of the metrics, sorted
    weights: Array  # (R, D)
    shares: Array  # (M,), sum to 1
    fits: Sequence[ExponentialFit]
    values: Array  # (R, M), the metrics

    @classmethod
    def of(cls, swarm: Swarm, shares: Mapping[str, float]) -> "FittedLaws":
        """Fit a law to each metric with a share above 0.

        Args:
            swarm: Runs.
            shares: Metric -> share of the objective, in any unit.
        """
        swarm.objective(shares)  # checks the names
        names = sorted(name for name, share in shares.items() if share > 0)
        total = sum(shares[name] for name in names)
        return cls(
            names=tuple(names),
            weights=swarm.weights,
            shares=np.array([shares[name] / total for name in names]),
            fits=[ExponentialLaw().fit(swarm.weights, swarm.metrics[name]) for name in names],
            values=np.stack([swarm.metrics[name] for name in names], axis=1),
        )

    @property
    def laws(self) -> Laws:
        """The fit itself, a batch of one."""
        return self._laws(np.stack([fit.parameters for fit in self.fits])[None])

    def effects(self, at: Array) -> Array:
        """What each metric gains, in its own unit, per unit of weight that moves to a domain.

        The weight is taken from all domains in the proportions of `at`, so the effects, weighted
        by `at`, sum to 0.

        Args:
            at: (D,) weights.

        Returns:
            (M, D), the derivative of each law from `at` towards each domain alone.
        """
        slopes = np.stack([fit.gradient(at) for fit in self.fits])
        return np.asarray(slopes - (slopes @ at)[:, None])

    @property
    def residuals(self) -> Array:
        """Measured less fitted, (R, M), in each metric's unit."""
        fitted = np.stack([fit(self.weights) for fit in self.fits], axis=1)
        return np.asarray(self.values - fitted)

    @property
    def free_share(self) -> Array:
        """1 - leverage of every run in every metric, (R, M)."""
        return np.stack([self._free_share(fit) for fit in self.fits], axis=1)

    @property
    def residual_sd(self) -> float:
        """Of the objective about the laws, corrected for the parameters that were fitted."""
        free = float(self.free_share.mean(axis=1).sum())
        of_objective = self.residuals @ self.shares
        return float(np.sqrt((of_objective**2).sum() / max(free, 1.0)))

    def draw(self, n_draws: int, rng: np.random.Generator) -> Laws:
        """Fit again `n_draws` times to the runs moved by their noise."""
        grown = self.residuals / np.maximum(self.free_share, _LEAST_FREE)
        mixtures = mixtures_of(self.weights)  # what the law misses of one is missed in all its runs
        signs = rng.choice([-1.0, 1.0], size=(n_draws, int(mixtures.max()) + 1))[:, mixtures]
        prior = rng.standard_normal((n_draws, len(self.fits), self.weights.shape[1]))
        parameters = np.stack(
            [self._refitted(m, signs * grown[:, m], prior[:, m]) for m in range(len(self.fits))],
            axis=1,
        )
        return self._laws(parameters)

    def _laws(self, parameters: Array) -> Laws:
        """Parameters (B, M, P) as laws in the unit of the objective."""
        spread = np.array([fit.spread for fit in self.fits])
        centre = np.array([fit.centre for fit in self.fits])
        amplitude = self.shares * spread / parameters[..., 0]
        return Laws(
            constant=float(centre @ self.shares) - amplitude.sum(axis=1),
            amplitude=amplitude,
            exponent=parameters[..., :1] * parameters[..., 1:],
        )

    def _free_share(self, fit: ExponentialFit) -> Array:
        slopes, penalty = fit.slopes(self.weights), fit.penalty(len(self.weights))
        inverse = np.linalg.pinv(slopes.T @ slopes + penalty.T @ penalty)
        return np.asarray(1 - np.einsum("rp,pq,rq->r", slopes, inverse, slopes))

    def _refitted(self, m: int, noise: Array, prior: Array) -> Array:
        """Parameters (B, P) for residuals (B, R) and prior draws (B, D)."""
        fit = self.fits[m]
        if fit.spread == 0:
            return np.tile(fit.parameters, (len(noise), 1))
        free = max(float(self._free_share(fit).sum()), 1.0)
        sd = float(np.sqrt((self.residuals[:, m] ** 2).sum() / free)) / fit.spread
        measured = (fit(self.weights) - fit.centre) / fit.spread + noise / fit.spread
        chunks = [slice(i, i + _CHUNK) for i in range(0, len(noise), _CHUNK)]
        return np.vstack([_refit(fit, self.weights, measured[i], sd * prior[i]) for i in chunks])


def _refit(fit: ExponentialFit, weights: Array, measured: Array, aim: Array) -> Array:
    """Parameters (B, P) for (B, R) scaled values, from those of the fit."""
    curb, n_draws = fit.penalty(len(weights)), len(measured)
    found: Array
    found, _ = descend(
        np.tile(fit.parameters, (n_draws, 1)),
        weights,
        measured,
        np.ones_like(measured),
        np.tile(curb, (n_draws, 1, 1)),
        aim,
    )
    return found
