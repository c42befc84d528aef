"""The exponential mixing law: the objective is c + exp(t . w).

Source:
    Data Mixing Laws (Ye et al., 2403.16952), equation 1: L(w) = c + k exp(sum_j t_j w_j). Since
    the weights sum to 1, k is part of t. Olmix's log-linear law has the same form: `log_linear`.

Shapes:
    B fits side by side, R runs, D domains, P = 1 + D parameters.

Differs from the source:
    The authors minimise a Huber loss from random starts. Here least squares from a few depths of
    c, with analytic derivatives, in the parameters (k, s) of

        (exp(k s . w) - 1) / k,   so that c = -1 / k and t = k s - log k,

    because c and t alone lie in a long valley: where the law is nearly linear, c runs off to minus
    infinity and t with it, while k only goes to 0. The spread of s, which is that of the domains'
    effects, is penalised, by a strength that held-out runs of the fit choose, so that a sparse
    swarm does not explode beyond its runs. The nested laws over steps and model
    size are `nested_law`.
"""

from dataclasses import dataclass

import numpy as np

from mixture_assets.methods.swarm import Array, mixtures_of

_DEPTHS = (0.02, 0.2, 1.0, 5.0)  # starts of c: so many spreads of the objective below its least
_STRENGTHS = (1e-7, 1e-5, 1e-4, 1e-3, 1e-2)  # penalty on the spread of s, objective of spread 1
_FOLDS = 5
_ALIKE = 1e-12  # of the mean: a spread that is rounding
_MOST_EFFECT = 30.0  # sd that a domain's effect s may have beforehand, in spreads of the objective
_MOST_CURVATURE = 3.0  # of k: c lies a third of the spread below the mean
_LEAST_CURVATURE = 1e-3  # of k: linear, but for a thousandth of the spread
_LARGEST = 50.0  # of an exponent
_MOST_STEPS = 60
_SETTLED = 1e-10  # of the squared error


@dataclass(frozen=True, kw_only=True)
class ExponentialLaw:
    """c + exp(t . w) by penalised least squares (Data Mixing Laws, equation 1).

    Differs from the source:
        See the module.
    """

    def fit(self, weights: Array, values: Array) -> "ExponentialFit":
        """See Surrogate.fit; what comes back can also be drawn again and minimised."""
        centre, spread = float(values.mean()), float(values.std())
        if spread <= _ALIKE * abs(centre):  # all alike: the law is a constant
            flat = np.zeros(weights.shape[1] + 1)
            flat[0] = _LEAST_CURVATURE
            return ExponentialFit(centre=centre, spread=0.0, parameters=flat, strength=1.0)
        scaled = (values - centre) / spread
        strength = _best_strength(weights, scaled)
        parameters = _fitted(weights, scaled, strength)
        least = _least_strength(weights, scaled, parameters)
        if strength < least:
            strength, parameters = least, _fitted(weights, scaled, least)
        return ExponentialFit(
            centre=centre, spread=spread, parameters=parameters, strength=strength
        )


@dataclass(frozen=True, kw_only=True)
class ExponentialFit:
    """One fitted law: centre + spread (exp(k s . w) - 1) / k, in the unit of the objective."""

    centre: float
    spread: float  # 0 where all values were alike
    parameters: Array  # (P,): k, s
    strength: float  # of the penalty on the spread of s

    def __call__(self, asked: Array) -> Array:
        """Predictions at (n, D) weights."""
        return np.asarray(self.centre + self.spread * law(self.parameters[None], asked)[0])

    def gradient(self, at: Array) -> Array:
        """Derivatives by each weight at (D,) weights, (D,), in the unit of the objective."""
        k, s = self.parameters[0], self.parameters[1:]
        return np.asarray(self.spread * np.exp(min(float(k * (s @ at)), _LARGEST)) * s)

    def slopes(self, asked: Array) -> Array:
        """Derivatives of the scaled law by k and s at (n, D) weights, (n, P)."""
        return np.asarray(slopes(self.parameters[None], asked)[0])

    def penalty(self, n_runs: int) -> Array:
        """What the fit adds to its residuals, as a matrix on k and s, (D, P)."""
        return penalty(len(self.parameters) - 1, n_runs * self.strength)


def law(parameters: Array, weights: Array) -> Array:
    """(exp(k s . w) - 1) / k for (B, P) parameters at (R, D) weights, (B, R)."""
    k = parameters[:, :1]
    power = np.minimum(k * (parameters[:, 1:] @ weights.T), _LARGEST)
    return np.asarray(np.expm1(power) / k)


def slopes(parameters: Array, weights: Array) -> Array:
    """Derivatives of the same by k and s, (B, R, P)."""
    k, plain = parameters[:, :1], parameters[:, 1:] @ weights.T
    power = np.minimum(k * plain, _LARGEST)
    grown = np.exp(power)
    found = np.empty((*plain.shape, parameters.shape[1]))
    found[..., 0] = (power * grown - np.expm1(power)) / k**2
    found[..., 1:] = grown[..., None] * weights
    return found


def penalty(n_domains: int, strength: float) -> Array:
    """sqrt(strength) (s - mean s) as a matrix on (k, s): the mean of s is the objective's level."""
    of_s = np.sqrt(strength) * (np.eye(n_domains) - 1 / n_domains)
    return np.hstack([np.zeros((n_domains, 1)), of_s])


def descend(
    start: Array, weights: Array, scaled: Array, counts: Array, curb: Array, aim: Array
) -> tuple[Array, Array]:
    """Levenberg-Marquardt for B fits side by side.

    Minimises sum_r counts_r (law_r - scaled_r)^2 + |curb (k, s) - aim|^2.

    Args:
        start: (B, P).
        weights: (R, D).
        scaled: (B, R), values to be met.
        counts: (B, R), how often each run counts.
        curb: (B, D, P), the penalty.
        aim: (B, D), where the penalty is 0.

    Returns:
        Parameters (B, P), and the least sums of squares (B,).
    """
    p, damping = start, np.full(len(start), 1e-3)
    error = _error(p, weights, scaled, counts, curb, aim)
    diagonal = np.arange(p.shape[1])
    square = np.swapaxes(curb, 1, 2) @ curb
    for _ in range(_MOST_STEPS):
        of_runs, gap = slopes(p, weights), law(p, weights) - scaled
        weighted = of_runs * counts[..., None]
        pull = np.einsum("bdp,bp->bd", curb, p) - aim
        right = np.einsum("brp,br->bp", weighted, gap) + np.einsum("bdp,bd->bp", curb, pull)
        left = np.swapaxes(weighted, 1, 2) @ of_runs + square
        left[:, diagonal, diagonal] *= 1 + damping[:, None]
        left[:, diagonal, diagonal] += 1e-12
        moved = p - np.linalg.solve(left, right[..., None])[..., 0]
        moved[:, 0] = np.clip(moved[:, 0], _LEAST_CURVATURE, _MOST_CURVATURE)
        after = _error(moved, weights, scaled, counts, curb, aim)
        better = after <= error
        gain = np.where(better, error - after, 0.0)
        p, error = np.where(better[:, None], moved, p), np.where(better, after, error)
        damping = np.where(better, damping / 5, np.maximum(damping, 1e-6) * 10)
        if (better & (gain <= _SETTLED * error) | (damping > 1e8)).all():
            break
    return p, error


def _error(
    p: Array, weights: Array, scaled: Array, counts: Array, curb: Array, aim: Array
) -> Array:
    gap, pull = law(p, weights) - scaled, np.einsum("bdp,bp->bd", curb, p) - aim
    return np.asarray((counts * gap**2).sum(axis=1) + (pull**2).sum(axis=1))


def _fitted(weights: Array, scaled: Array, strength: float) -> Array:
    return np.asarray(
        _from_all_starts(weights, scaled[None], np.ones((1, len(scaled))), strength)[0]
    )


def _least_strength(weights: Array, scaled: Array, parameters: Array) -> float:
    """The penalty whose prior gives the effects an sd of 30 spreads: variance of a run / 30^2 / R.

    Weaker ones leave a direction that the runs do not show free to be anything, and draws of it
    overflow.
    """
    gap = law(parameters[None], weights)[0] - scaled
    freedom = max(len(scaled) - len(parameters), 1)
    return float(gap @ gap) / freedom / _MOST_EFFECT**2 / len(scaled)


def _from_all_starts(weights: Array, scaled: Array, counts: Array, strength: float) -> Array:
    """The best fit over all starts for B sets of values and counts, (B, P)."""
    n_fits, n = len(scaled), weights.shape[1]
    curb = np.stack([penalty(n, strength * total) for total in counts.sum(axis=1)])
    found = [
        descend(start, weights, scaled, counts, curb, np.zeros((n_fits, n)))
        for start in (_starts(weights, scaled, counts, depth) for depth in _DEPTHS)
    ]
    best = np.argmin([error for _, error in found], axis=0)
    return np.stack([found[i][0][fit] for fit, i in enumerate(best)])


def _starts(weights: Array, scaled: Array, counts: Array, depth: float) -> Array:
    """With c fixed, log(1 + k y) / k is linear in s."""
    k = min(1 / (depth - scaled.min()), _MOST_CURVATURE)
    straight, n = np.log1p(k * scaled) / k, weights.shape[1]
    starts = np.empty((len(scaled), 1 + n))
    starts[:, 0] = k
    for fit, (row, count) in enumerate(zip(straight, counts, strict=True)):
        left = (weights * count[:, None]).T @ weights + 1e-6 * len(row) * np.eye(n)
        starts[fit, 1:] = np.linalg.solve(left, (weights * count[:, None]).T @ row)
    return starts


def _best_strength(weights: Array, scaled: Array) -> float:
    """The penalty with the least error on held-out runs, the larger of two that are alike."""
    mixtures = mixtures_of(weights)  # runs of one mixture are held out together
    n_folds = min(_FOLDS, int(mixtures.max()) + 1)
    folds = mixtures % n_folds
    held_out = (folds[None, :] == np.arange(n_folds)[:, None]).astype(float)
    values = np.tile(scaled, (n_folds, 1))
    errors = []
    for strength in _STRENGTHS:
        parameters = _from_all_starts(weights, values, 1 - held_out, strength)
        errors.append(float((held_out * (law(parameters, weights) - scaled) ** 2).sum()))
    least = min(errors)
    return max(s for s, e in zip(_STRENGTHS, errors, strict=True) if e <= least * 1.001)
