"""What repeated tokens are worth: the effective tokens of a domain that is read more than once.

Source:
    Muennighoff et al., "Scaling Data-Constrained Language Models", NeurIPS 2023, 2305.16264,
    equation 5, with R* = 15.387756 of appendix A, fitted on 182 runs of 7M to 9B parameters and
    up to 500 epochs, with dropout and weight decay of 0.1.

Units:
    Tokens. U = unique tokens, one pass; D = tokens read; R = D / U - 1 = repetitions.

Differs from the source:
    Applied to every domain by itself: the source repeats one corpus as a whole. That tokens of one
    domain leave the worth of another's alone is our assumption. The source's correction for
    excess parameters is not here.
"""

from collections.abc import Mapping

import numpy as np

from mixture_assets.core.errors import MixtureError, shortlist
from mixture_assets.core.mixture import Mixture
from mixture_assets.methods.swarm import Array

R_STAR = 15.387756  # repetitions over which a token's worth falls to 1 / e


def effective_tokens(read: Array, unique: Array, *, r_star: float = R_STAR) -> Array:
    """Fresh tokens that would do as much: D' = U + U R* (1 - exp(-R / R*)), or D up to one pass.

    Rises and bends down in `read`: slope 1 up to U, exp(-R / R*) after, never beyond U (1 + R*).

    Args:
        read: Tokens drawn, any shape.
        unique: One pass over the data, of a shape that broadcasts. Where 0, nothing is read.
        r_star: Larger, the longer repetition helps.
    """
    read, unique = _checked(read, unique, r_star)
    again = _repetitions(read, unique)
    return np.asarray(np.minimum(read, unique) - unique * r_star * np.expm1(-again / r_star))


def worth_of_next(read: Array, unique: Array, *, r_star: float = R_STAR) -> Array:
    """Derivative of `effective_tokens` by `read`: 1 for a fresh token, exp(-R / R*) after."""
    read, unique = _checked(read, unique, r_star)
    return np.asarray(np.exp(-_repetitions(read, unique) / r_star))


def tokens_to_read(effective: Array, unique: Array, *, r_star: float = R_STAR) -> Array:
    """Inverse of `effective_tokens`; infinite from U (1 + R*) on, which no repetition reaches."""
    effective, unique = _checked(effective, unique, r_star)
    with np.errstate(divide="ignore", invalid="ignore"):
        gone = np.where(effective > unique, (effective / unique - 1) / r_star, 0.0)
        again = np.where(gone < 1, -r_star * np.log1p(-np.minimum(gone, 1.0)), np.inf)
        beyond = np.where(effective > unique, unique * again, 0.0)
    return np.asarray(np.where(gone >= 1, np.inf, np.minimum(effective, unique) + beyond))


def effective_by_domain(
    mixture: Mapping[str, float],
    *,
    budget_tokens: float,
    available_tokens: Mapping[str, float],
    r_star: float = R_STAR,
) -> dict[str, float]:
    """Effective tokens by domain when a mixture is trained for a budget."""
    mixture = Mixture(mixture)
    mixture.check_domains(available_tokens)
    names = list(mixture)
    read = np.array([mixture[name] * budget_tokens for name in names])
    unique = np.array([float(available_tokens[name]) for name in names])
    empty = [n for n, r, u in zip(names, read, unique, strict=True) if r > 0 and u <= 0]
    if empty:
        raise MixtureError(
            f"weights for {shortlist(empty)}, which have no tokens", hint="add data there"
        )
    return dict(zip(names, effective_tokens(read, unique, r_star=r_star).tolist(), strict=True))


def _repetitions(read: Array, unique: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(read > unique, read / unique - 1, 0.0))


def _checked(amount: Array, unique: Array, r_star: float) -> tuple[Array, Array]:
    if not r_star > 0:
        raise MixtureError(f"r_star is above 0, got {r_star:g}", hint=f"the source has {R_STAR}")
    amount, unique = np.asarray(amount, dtype=float), np.asarray(unique, dtype=float)
    if (amount < 0).any() or (unique < 0).any():
        raise MixtureError("tokens are >= 0")
    return amount, unique
