"""The additive law, fitted to all runs at once: a power law of each domain's tokens, summed.

Source:
    Kang et al., arXiv:2407.20177: y = sum_i (N0_i + N_i)^-gamma_i + l, the surrogate that DDO
    fits domain by domain. Fitted jointly and for each metric apart, as olmix does with it.

Units:
    Amounts x_i and metrics y in multiples of the base run's.

Shapes:
    R = runs, D = domains, sorted by name, K = metrics.

Differs from the source:
    A domain's term has a size of its own where the runs have more than three amounts of every
    domain (two scales, or more factors); with three it is 1, as in the paper. Sums over metrics
    are allocated exactly instead of by gradient steps. c is not bounded: in multiples of the base
    run the D terms may add up to more than 1.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq, least_squares

from mixture_assets.core.errors import MixtureError, shortlist
from mixture_assets.methods.curves import fit_curve

FloatArray = NDArray[np.float64]
# ranges of a + min x, b and the size, and where the search begins
_SHIFT, _POWER, _SIZE = (1e-3, 50.0), (1e-6, 5.0), (1e-6, 20.0)
_START = (1.0, 0.5, 0.1)  # a, b, size
_LEAST_POWER = 1e-5  # below it a domain does nothing for the metric
_FLAT = 0.05  # b where the search begins for a domain that does not lower the metric
_CURVE_AMOUNTS = 3  # that a curve needs
_FREE_SIZE = 4  # amounts of a domain that tell its size from its power
_NEAR = 1e-4  # relative change of the squared error that ends a search begun near its end
_TINY = 1e-300
_HALVINGS = 60  # of an interval of amounts, to the last bit


@dataclass(frozen=True, kw_only=True)
class Term:
    """What one domain's tokens do for one metric: size (x + a)^-b."""

    a: float
    b: float
    size: float = 1.0

    @property
    def is_improving(self) -> bool:
        """Whether more of the domain lowers the metric at all."""
        return self.b > _LEAST_POWER


@dataclass(frozen=True, kw_only=True)
class AdditiveLaw:
    """One metric against the amounts of all domains."""

    terms: Mapping[str, Term]  # by domain
    c: float
    residual_sd: float | None  # None where there are as many parameters as runs

    def value(self, amounts: Mapping[str, float]) -> float:
        """The metric at some amounts, both in multiples of the base run's."""
        powers = [t.size * (amounts[name] + t.a) ** -t.b for name, t in self.terms.items()]
        return self.c + math.fsum(powers)


def fit_additive(
    amounts: Sequence[Mapping[str, float]],
    values: Sequence[float],
    *,
    start: AdditiveLaw | None = None,
) -> AdditiveLaw:
    """Least squares of y = c + sum_i s_i (x_i + a_i)^-b_i over all runs, within bounds.

    a_i > -min x_i, b_i > 0 and s_i > 0 by their logarithms, with analytic derivatives. A domain
    whose growth does harm has its b at the lower bound: its term is flat.

    Args:
        amounts: Of every domain, one mapping a run.
        values: The metric, one a run.
        start: Where the search begins, e.g. the law of nearly the same values.
    """
    names = sorted(amounts[0])
    x_RD = np.array([[run[name] for name in names] for run in amounts], dtype=float)
    model = _Model(x_RD, np.asarray(values, dtype=float))
    n_parameters = len(model.low_Q)
    if len(values) < n_parameters:
        raise MixtureError(
            f"{len(values)} runs are too few for the {n_parameters} numbers of the additive law "
            f"over {len(names)} domains",
            hint="DDO's design has 2 D + 1 runs for D domains",
        )
    first_Q = model.start() if start is None else model.packed(start, names)
    found = least_squares(
        model.residual,
        np.clip(first_Q, model.low_Q + 1e-9, model.high_Q - 1e-9),
        model.slopes,
        bounds=(model.low_Q, model.high_Q),
        x_scale="jac",
        ftol=1e-8 if start is None else _NEAR,
        max_nfev=500,
    )
    a_D, b_D, size_D, c = model.unpacked(found.x)
    degrees = len(values) - n_parameters
    return AdditiveLaw(
        terms={
            name: Term(a=float(a), b=float(b), size=float(s))
            for name, a, b, s in zip(names, a_D, b_D, size_D, strict=True)
        },
        c=c,
        residual_sd=math.sqrt(2 * float(found.cost) / degrees) if degrees else None,
    )


class _Model:
    """Parameters q: D logs of a + min x, D logs of b, D logs of s where they are free, and c."""

    def __init__(self, x_RD: FloatArray, y_R: FloatArray) -> None:
        self.x_RD, self.y_R, self.least_D = x_RD, y_R, x_RD.min(axis=0)
        n_amounts = [len(np.unique(column)) for column in x_RD.T]
        n_runs, self.n = x_RD.shape
        self.has_size = min(n_amounts) >= _FREE_SIZE and n_runs > 3 * self.n
        ranges = (_SHIFT, _POWER, _SIZE) if self.has_size else (_SHIFT, _POWER)
        self.low_Q, self.high_Q = (
            np.append(np.log(np.repeat([r[i] for r in ranges], self.n)), end)
            for i, end in enumerate((-np.inf, np.inf))
        )

    def start(self) -> FloatArray:
        """DDO's curves, domain by domain, where sizes are 1; else the same for all domains."""
        a, b, size = _START
        found = [(a, b) if self.has_size else self._curve(i) for i in range(self.n)]
        a_D, b_D = np.array(found).T
        sizes = [np.full(self.n, size)] if self.has_size else []
        shift_D = np.maximum(a_D + self.least_D, _SHIFT[0])
        first_Q = np.append(np.log(np.concatenate([shift_D, b_D, *sizes])), 0.0)
        first_Q[-1] = -float(self.residual(np.clip(first_Q, self.low_Q, self.high_Q)).mean())
        return first_Q

    def _curve(self, domain: int) -> tuple[float, float]:
        """(a, b) through the runs that differ from the base run in this domain only.

        Through three points there can be two curves. The joint fit keeps to the one that it
        starts from, so that on one metric without noise it is the three-point fit.
        """
        others_RD = np.delete(self.x_RD, domain, axis=1)
        own_R = (others_RD == 1).all(axis=1)
        if len(np.unique(self.x_RD[own_R, domain])) < _CURVE_AMOUNTS:
            return _START[0], _START[1]
        curve = fit_curve(self.x_RD[own_R, domain].tolist(), self.y_R[own_R].tolist())
        return (curve.a, curve.b) if curve else (_START[0], _FLAT)

    def packed(self, law: AdditiveLaw, names: Sequence[str]) -> FloatArray:
        """The parameters of a law."""
        terms = [law.terms[name] for name in names]
        sizes = [np.log([t.size for t in terms])] if self.has_size else []
        a_D = np.array([t.a for t in terms])
        return np.concatenate(
            [np.log(a_D + self.least_D), np.log([t.b for t in terms]), *sizes, [law.c]]
        )

    def unpacked(self, q: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, float]:
        """A, b, s and c."""
        n, e_Q = self.n, np.exp(q[:-1])
        size_D = e_Q[2 * n :] if self.has_size else np.ones(n)
        return e_Q[:n] - self.least_D, e_Q[n : 2 * n], size_D, float(q[-1])

    def residual(self, q: FloatArray) -> FloatArray:
        """Of every run."""
        a_D, b_D, size_D, c = self.unpacked(q)
        gap_R: FloatArray = (self.x_RD + a_D) ** -b_D @ size_D + c - self.y_R
        return gap_R

    def slopes(self, q: FloatArray) -> FloatArray:
        """Of every run by every parameter."""
        a_D, b_D, size_D, _ = self.unpacked(q)
        z_RD = self.x_RD + a_D
        power_RD = size_D * z_RD**-b_D
        parts = [-b_D * power_RD / z_RD * (a_D + self.least_D), -np.log(z_RD) * power_RD * b_D]
        if self.has_size:
            parts.append(power_RD)
        return np.hstack([*parts, np.ones((len(z_RD), 1))])


def best_amounts(
    laws: Mapping[str, AdditiveLaw],
    *,
    weights: Mapping[str, float],
    total: float,
    floor: float = 0.0,
) -> dict[str, float]:
    """Split `total` over domains so that the weighted sum of metrics is least, exactly.

    A sum of additive laws is additive, so as in `allocate` all domains above their floor have one
    marginal gain g = sum_k w_k s_ki b_ki (x_i + a_ki)^-(b_ki + 1): a root search for g, and for
    each g one by halving for every amount at once.

    Args:
        laws: By metric, over the same domains.
        weights: Of each metric in the objective, in the unit of the metric's y; some above 0.
        total: Amount to hand out, in multiples of a base amount.
        floor: Least amount of every domain, likewise.
    """
    used = [laws[k] for k in sorted(laws) if weights[k] > 0]
    if not used:
        raise MixtureError(f"none of the metrics {shortlist(laws)} has a weight above 0")
    names = sorted(used[0].terms)
    if floor * len(names) >= total:
        return dict.fromkeys(names, total / len(names))
    w_K1 = np.array([weights[k] for k in sorted(laws) if weights[k] > 0])[:, None]
    a_KD, b_KD, size_KD = (
        np.array([[getattr(law.terms[n], part) for n in names] for law in used])
        for part in ("a", "b", "size")
    )

    scale_KD = np.log(w_K1 * size_KD * b_KD)

    def log_gain(x_D: FloatArray) -> FloatArray:
        # nearer to -a than was tried the gain has no bound: an amount goes no lower than that
        log_KD = scale_KD - (b_KD + 1) * np.log(np.maximum(x_D + a_KD, _TINY))
        most_D: FloatArray = log_KD.max(axis=0)
        total_D: FloatArray = most_D + np.log(np.exp(log_KD - most_D).sum(axis=0))
        return total_D

    def amounts(log_g: float) -> FloatArray:
        low_D, high_D = np.full(len(names), floor), np.full(len(names), total)
        for _ in range(_HALVINGS):
            middle_D = 0.5 * (low_D + high_D)
            is_more = log_gain(middle_D) > log_g
            low_D, high_D = np.where(is_more, middle_D, low_D), np.where(is_more, high_D, middle_D)
        return low_D

    least = float(log_gain(np.full(len(names), total)).min()) - 1
    most = float(log_gain(np.full(len(names), floor)).max()) + 1
    log_g = brentq(
        lambda g: float(amounts(g).sum()) - total, least, most, xtol=1e-14, rtol=1e-15, maxiter=500
    )
    return dict(zip(names, amounts(log_g).tolist(), strict=True))
