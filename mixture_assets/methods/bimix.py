"""BiMix: a domain's loss from its weight and the length of the run.

Source:
    Ge et al., "BiMix: A Bivariate Data Mixing Law for Language Model Pretraining", 2405.14908:
    L_i(r_i, s) = A_i / r_i^alpha_i (B_i / s^beta_i + C_i).

Differs from the source:
    A_i is 1: it is a factor of B_i and C_i, and no run can tell them apart. s is tokens. The fit
    is ours: least squares on log losses from several starts, alpha_i >= 0, so that the least sum
    of losses is a convex problem, which is solved exactly. An offset may be added to r_i, since
    the law is infinite at weight 0.

Shapes:
    R = runs, D = domains, sorted by name.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares

from mixture_assets.core.errors import MixtureError, shortlist
from mixture_assets.core.mixture import Mixture
from mixture_assets.methods.swarm import Array
from mixture_assets.methods.waterfill import Bound, PowerGain, fill

BETA = 0.28  # exponent of tokens in Hoffmann et al., 2203.15556, for runs of only two lengths
_BETAS, _SHARES = (0.1, 0.3, 0.8), (0.3, 0.7, 0.95)  # starts: exponent, C's share of the loss
_LEAST_RUNS = 4


@dataclass(frozen=True, kw_only=True)
class DomainLaw:
    """(B / s^beta + C) / (r + offset)^alpha."""

    alpha: float  # >= 0; 0: the domain's own weight does not help it
    b: float  # >= 0
    beta: float  # > 0
    c: float  # >= 0
    offset: float = 0.0  # added to a weight

    def level(self, tokens: Array) -> Array:
        """Loss at r + offset = 1, shape as tokens."""
        return np.asarray(self.b * np.asarray(tokens, dtype=float) ** -self.beta + self.c)

    def loss(self, weight: Array, tokens: Array) -> Array:
        """Loss at weights and tokens that broadcast; infinite at weight 0 without an offset."""
        with np.errstate(divide="ignore"):
            grown = (np.asarray(weight, dtype=float) + self.offset) ** -self.alpha
        return np.asarray(grown * self.level(tokens))


@dataclass(frozen=True, kw_only=True)
class BiMix:
    """A law for each domain."""

    laws: Mapping[str, DomainLaw]
    n_lengths: int  # distinct run lengths that the laws rest on; below 3 see `fit_bimix`

    def losses(self, mixture: Mapping[str, float], tokens: float) -> dict[str, float]:
        """Loss of every domain for one mixture and run length."""
        Mixture(mixture).check_domains(self.laws)
        return {
            name: float(law.loss(np.array(mixture.get(name, 0.0)), np.array(tokens)))
            for name, law in sorted(self.laws.items())
        }

    def best(
        self,
        tokens: float,
        *,
        importance: Mapping[str, float] | None = None,
        floor: Bound = 0.0,
        cap: Bound = 1.0,
    ) -> Mixture:
        """Minimise sum_i v_i L_i(r_i, s) over mixtures at s tokens, exactly.

        Convex and separable: the marginal gain of r is v K alpha (r + offset)^-(alpha + 1), with
        K = B / s^beta + C, and `waterfill.fill` levels it.

        Args:
            tokens: Length of the run.
            importance: v by domain, >= 0; all alike if not given.
            floor: Least weight, one for all or by domain.
            cap: Largest weight, likewise.
        """
        names = sorted(self.laws)
        v = dict(importance) if importance is not None else dict.fromkeys(names, 1.0)
        if set(v) != set(names) or min(v.values()) < 0:
            raise MixtureError(
                f"importance is >= 0 for each of {shortlist(names)}, got {shortlist(v)}"
            )
        laws = [self.laws[name] for name in names]
        level = np.array([v[n] * float(self.laws[n].level(np.array(tokens))) for n in names])
        alpha = np.array([law.alpha for law in laws])
        offset = np.array([law.offset for law in laws])
        gain = PowerGain(k=level * alpha, p=alpha + 1, a=offset)
        return fill(names, gain, floor=floor, cap=cap)


def fit_bimix(
    domains: Sequence[str],
    weights: Array,
    tokens: Array,
    losses: Mapping[str, Array],
    *,
    offset: float = 0.0,
) -> BiMix:
    """Fit every domain's law to its losses over runs of one model size.

    One run length says nothing of beta: then B = 0 and the law holds at that length. Two leave
    beta undetermined, and it is taken as 0.28. From three on all parameters are fitted.

    Args:
        domains: Names of the columns of `weights`, in any order.
        weights: (R, D).
        tokens: (R,).
        losses: Domain -> (R,), above 0.
        offset: Added to every weight; needed where a run has weight 0 for a domain.
    """
    if set(losses) != set(domains):
        raise MixtureError(
            f"losses and weights disagree on domains: {shortlist(set(losses) ^ set(domains))} "
            "in only one of them",
            hint="BiMix predicts the loss of each domain that is trained on",
        )
    weights, tokens = np.asarray(weights, dtype=float), np.asarray(tokens, dtype=float)
    _check(domains, weights, tokens, losses, offset)
    columns = dict(zip(domains, weights.T, strict=True))
    laws = {
        name: _fit_domain(columns[name] + offset, tokens, np.asarray(losses[name]), offset)
        for name in sorted(domains)
    }
    return BiMix(laws=laws, n_lengths=len(np.unique(tokens)))


def _check(
    domains: Sequence[str],
    weights: Array,
    tokens: Array,
    losses: Mapping[str, Array],
    offset: float,
) -> None:
    if len(tokens) < _LEAST_RUNS or not (tokens > 0).all():
        raise MixtureError(
            f"BiMix needs {_LEAST_RUNS} runs or more, all with tokens, got {len(tokens)}"
        )
    bad = [n for n in domains if not (np.isfinite(losses[n]) & (losses[n] > 0)).all()]
    if bad:
        raise MixtureError(f"losses are finite and above 0, not so for {shortlist(bad)}")
    absent = [n for n, w in zip(domains, weights.T, strict=True) if not (w + offset > 0).all()]
    if absent:
        raise MixtureError(
            f"{shortlist(absent)} have weight 0 in some runs, where the law is infinite",
            hint="pass offset=0.001, or leave those runs out",
        )


def _fit_domain(shifted: Array, tokens: Array, losses: Array, offset: float) -> DomainLaw:
    """Least squares on log L over q = (alpha, log B, log beta, log C)."""
    n_lengths, unit = len(np.unique(tokens)), float(np.exp(np.log(tokens).mean()))
    log_r, log_s, log_y = np.log(shifted), np.log(tokens / unit), np.log(losses)
    free = {1: [0, 3], 2: [0, 1, 3]}.get(n_lengths, [0, 1, 2, 3])
    level, best = float(log_y.mean()), None
    for beta in _BETAS if n_lengths > 2 else (BETA,):
        for share in _SHARES if n_lengths > 1 else (1.0,):
            q = np.array([0.1, level + math.log1p(-share) if share < 1 else -np.inf, 0.0, 0.0])
            q[2:] = math.log(beta), level + math.log(share)
            found = _descended(q, free, log_r, log_s, log_y)
            if best is None or found[0] < best[0]:
                best = found
    assert best is not None  # there is a start
    alpha, log_b, log_beta, log_c = best[1]
    beta = math.exp(log_beta)
    return DomainLaw(
        alpha=float(alpha),
        b=math.exp(log_b + beta * math.log(unit)),
        beta=beta,
        c=math.exp(log_c),
        offset=offset,
    )


def _descended(
    start: Array, free: list[int], log_r: Array, log_s: Array, log_y: Array
) -> tuple[float, Array]:
    """Squared error and parameters at the minimum next to `start`; those not free stay."""

    def full(x: Array) -> Array:
        q = start.copy()
        q[free] = x
        return q

    lower = np.array([0.0, -50.0, math.log(1e-3), -50.0])[free]
    upper = np.array([50.0, 50.0, math.log(5.0), 50.0])[free]
    answer = least_squares(
        lambda x: _residuals(full(x), log_r, log_s, log_y),
        start[free],
        jac=lambda x: _derivatives(full(x), log_r, log_s, log_y)[:, free],
        bounds=(lower, upper),
        x_scale="jac",
        ftol=1e-15,
        xtol=1e-15,
        gtol=1e-15,
        max_nfev=300,
    )
    return float(answer.cost), full(answer.x)


def _residuals(q: Array, log_r: Array, log_s: Array, log_y: Array) -> Array:
    rest = np.exp(q[1] - np.exp(q[2]) * log_s) + np.exp(q[3])
    return np.asarray(np.log(rest) - q[0] * log_r - log_y)


def _derivatives(q: Array, log_r: Array, log_s: Array, log_y: Array) -> Array:
    falling = np.exp(q[1] - np.exp(q[2]) * log_s)
    share = falling / (falling + np.exp(q[3]))
    return np.stack([-log_r, share, -share * np.exp(q[2]) * log_s, 1 - share], axis=1)
