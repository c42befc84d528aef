"""The additive scaling law of mixtures: loss from size, tokens and weights at once.

Source:
    Shukor et al., "Scaling Laws for Optimal Data Mixtures", 2507.09404, the additive law:
    L(N, D, h) = E + 1 / (sum_i C_i h_i^gamma_i) + A / N^alpha + B / D^beta.

Differs from the source:
    Huber loss on log losses by a trust region with analytic derivatives, begun from least squares
    at several starts. gamma_i is between 0.01 and 0.99: then the law is convex in h, and its least
    point is the only one and is found exactly. The source's joint law, in which the mixture changes
    A and B, is not here.

Shapes:
    R = runs, K = domains, sorted by name. N = parameters, D = tokens.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from mixture_assets.core.errors import MixtureError, shortlist
from mixture_assets.core.mixture import Mixture
from mixture_assets.methods.swarm import Array
from mixture_assets.methods.waterfill import Bound, PowerGain, fill

ALPHA, BETA = 0.34, 0.28  # Hoffmann et al., 2203.15556, where two values leave it undetermined
_SHARES, _GAMMAS = (0.1, 0.4), (0.3, 0.8)  # starts: the mixture's share of the loss, and gamma
_GAMMA = (0.01, 0.99)
_LEAST_RUNS = 8


@dataclass(frozen=True, kw_only=True)
class AdditiveLaw:
    """E + 1 / (sum_i C_i h_i^gamma_i) + A / N^alpha + B / D^beta."""

    e: float
    a: float  # 0 where all runs had one size
    alpha: float
    b: float  # 0 where all runs had one length
    beta: float
    c: Mapping[str, float]  # by domain, > 0
    gamma: Mapping[str, float]  # by domain, between 0 and 1
    notes: Sequence[str] = ()  # what the runs could not say

    def loss(self, mixture: Mapping[str, float], *, params: float, tokens: float) -> float:
        """Loss of one mixture at a size and a length."""
        Mixture(mixture).check_domains(self.c)
        row = np.array([[mixture.get(name, 0.0) for name in self.c]])
        return float(self.losses(list(self.c), row, np.array([params]), np.array([tokens]))[0])

    def losses(self, domains: Sequence[str], weights: Array, params: Array, tokens: Array) -> Array:
        """Losses of runs, (R,); `domains` names the columns of weights (R, K), in any order."""
        if set(domains) != set(self.c):
            raise MixtureError(
                f"the law and the weights disagree on domains: "
                f"{shortlist(set(domains) ^ set(self.c))} in only one of them"
            )
        c, gamma = (np.array([part[n] for n in domains]) for part in (self.c, self.gamma))
        with np.errstate(divide="ignore"):
            mixed = 1 / (c * weights**gamma).sum(axis=1)
        return np.asarray(
            self.e + mixed + self.a * params**-self.alpha + self.b * tokens**-self.beta
        )

    def best(self, *, floor: Bound = 0.0, cap: Bound = 1.0) -> Mixture:
        """The mixture with the least loss, exactly; it is the same at every size and length.

        The largest sum_i C_i h_i^gamma_i, concave and separable: the marginal gain of h_i is
        C_i gamma_i h_i^(gamma_i - 1).
        """
        names = sorted(self.c)
        c, gamma = (np.array([part[n] for n in names]) for part in (self.c, self.gamma))
        gain = PowerGain(k=c * gamma, p=1 - gamma, a=np.zeros(len(names)))
        return fill(names, gain, floor=floor, cap=cap)


@dataclass(frozen=True, kw_only=True)
class _Runs:
    """Runs in units of their geometric means."""

    log_h: Array  # (R, K), 0 where the weight is 0
    is_in: NDArray[np.bool_]  # (R, K), whether it is not
    log_n: Array  # (R,)
    log_d: Array  # (R,)
    log_y: Array  # (R,)


def fit_additive_law(
    domains: Sequence[str],
    weights: Array,
    params: Array,
    tokens: Array,
    losses: Array,
    *,
    huber: float = 1e-3,
) -> AdditiveLaw:
    """Fit the law to runs over several mixtures, sizes and lengths.

    A term whose size or length is the same in all runs is left out: E holds it. Where there are
    two, its exponent cannot be found and is that of Hoffmann et al. Neither changes which
    mixture is best.

    Args:
        domains: Names of the columns of `weights`, in any order.
        weights: (R, K).
        params: (R,), parameters.
        tokens: (R,), length.
        losses: (R,), above 0.
        huber: Errors of the log loss beyond this count linearly.
    """
    order = np.argsort(np.array(domains))
    names = [domains[i] for i in order]
    weights = np.asarray(weights, dtype=float)[:, order]
    _check(losses, params, tokens)
    units = [float(np.exp(np.log(x).mean())) for x in (params, tokens, losses)]
    runs = _Runs(
        log_h=np.log(np.where(weights > 0, weights, 1.0)),
        is_in=weights > 0,
        log_n=np.log(params / units[0]),
        log_d=np.log(tokens / units[1]),
        log_y=np.log(losses / units[2]),
    )
    sizes, lengths = len(np.unique(params)), len(np.unique(tokens))
    free = _free(sizes, lengths, len(names))
    q = _fitted(runs, free, sizes, lengths, huber)
    return _law(names, q, units, notes=[*_notes("sizes", sizes), *_notes("lengths", lengths)])


def _check(losses: Array, params: Array, tokens: Array) -> None:
    if len(losses) < _LEAST_RUNS:
        raise MixtureError(f"the additive law needs {_LEAST_RUNS} runs, got {len(losses)}")
    for what, values in (("losses", losses), ("params", params), ("tokens", tokens)):
        if not (np.isfinite(values) & (np.asarray(values) > 0)).all():
            raise MixtureError(f"{what} are finite and above 0 in every run")


def _free(sizes: int, lengths: int, n_domains: int) -> Array:
    """Positions in q = (log E, log A, log alpha, log B, log beta, log C..., gamma...) to fit."""
    of_size = [1, 2][: max(0, sizes - 1)]
    of_length = [3, 4][: max(0, lengths - 1)]
    return np.array([0, *of_size, *of_length, *range(5, 5 + 2 * n_domains)])


def _notes(what: str, distinct: int) -> list[str]:
    if distinct == 1:
        return [f"all runs have one of the {what}: what it does is part of E"]
    if distinct == 2:
        return [f"two {what} leave the exponent undetermined: that of Hoffmann et al. is taken"]
    return []


def _fitted(runs: _Runs, free: Array, sizes: int, lengths: int, huber: float) -> Array:
    found = []
    for share, gamma in itertools.product(_SHARES, _GAMMAS):
        start = _start(runs, sizes, lengths, share, gamma)
        found.append(_descended(runs, start, free, loss="linear", f_scale=1.0))
    least = min(found, key=lambda f: f[0])[1]
    return _descended(runs, least, free, loss="huber", f_scale=huber)[1]


def _start(runs: _Runs, sizes: int, lengths: int, share: float, gamma: float) -> Array:
    n_domains = runs.log_h.shape[1]
    each = 0.15  # of the loss, for a term of size or length
    a, b = each * (sizes > 1), each * (lengths > 1)
    c = n_domains ** (gamma - 1) / share  # the mixture's term is `share` at the uniform mixture
    with np.errstate(divide="ignore"):  # log 0: the term is left out
        head = np.log([1 - share - a - b, a, ALPHA, b, BETA])
    return np.concatenate([head, np.full(n_domains, math.log(c)), np.full(n_domains, gamma)])


def _descended(
    runs: _Runs, start: Array, free: Array, *, loss: str, f_scale: float
) -> tuple[float, Array]:
    """Cost and parameters at the minimum next to `start`; those not free stay."""

    def full(x: Array) -> Array:
        q = start.copy()
        q[free] = x
        return q

    k = runs.log_h.shape[1]
    exponent = math.log(5.0)
    lower = np.array([-12.0, -30.0, -5.0, -30.0, -5.0, *[-15.0] * k, *[_GAMMA[0]] * k])[free]
    upper = np.array([5.0, 5.0, exponent, 5.0, exponent, *[15.0] * k, *[_GAMMA[1]] * k])[free]
    answer = least_squares(
        lambda x: _residuals(full(x), runs),
        np.clip(start[free], lower, upper),
        jac=lambda x: _derivatives(full(x), runs)[:, free],
        bounds=(lower, upper),
        x_scale="jac",
        loss=loss,
        f_scale=f_scale,
        ftol=1e-14,
        xtol=1e-12,
        gtol=1e-14,
        max_nfev=400,
    )
    return float(answer.cost), full(answer.x)


def _terms(q: Array, runs: _Runs) -> tuple[Array, Array, Array]:
    """A / N^alpha and B / D^beta, (R,), and C h^gamma, (R, K)."""
    k = runs.log_h.shape[1]
    size = np.exp(q[1] - np.exp(q[2]) * runs.log_n)
    length = np.exp(q[3] - np.exp(q[4]) * runs.log_d)
    parts = np.where(runs.is_in, np.exp(q[5 : 5 + k] + q[5 + k :] * runs.log_h), 0.0)
    return size, length, parts


def _residuals(q: Array, runs: _Runs) -> Array:
    size, length, parts = _terms(q, runs)
    return np.asarray(np.log(np.exp(q[0]) + size + length + 1 / parts.sum(axis=1)) - runs.log_y)


def _derivatives(q: Array, runs: _Runs) -> Array:
    size, length, parts = _terms(q, runs)
    total = parts.sum(axis=1)
    value = np.exp(q[0]) + size + length + 1 / total
    head = [
        np.full(len(value), np.exp(q[0])),
        size,
        -size * np.exp(q[2]) * runs.log_n,
        length,
        -length * np.exp(q[4]) * runs.log_d,
    ]
    by_c = -parts / total[:, None] ** 2
    return np.asarray(np.hstack([np.stack(head, axis=1), by_c, by_c * runs.log_h]) / value[:, None])


def _law(names: Sequence[str], q: Array, units: Sequence[float], notes: list[str]) -> AdditiveLaw:
    """Out of the runs' own units."""
    k, (n, d, y) = len(names), units
    alpha, beta = float(np.exp(q[2])), float(np.exp(q[4]))
    return AdditiveLaw(
        e=y * float(np.exp(q[0])),
        a=y * float(np.exp(q[1])) * n**alpha,
        alpha=alpha,
        b=y * float(np.exp(q[3])) * d**beta,
        beta=beta,
        c=dict(zip(names, (np.exp(q[5 : 5 + k]) / y).tolist(), strict=True)),
        gamma=dict(zip(names, q[5 + k :].tolist(), strict=True)),
        notes=tuple(notes),
    )
