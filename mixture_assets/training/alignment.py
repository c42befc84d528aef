"""How well each group's gradient agrees with the specialist's, measured in a training step.

    a_g = <grad L(group g), G>,   G the specialist gradient,   L(group) the mean over sequences

Source: S. Fan, D. Grangier, P. Ablin, "Dynamic Gradient Alignment for Online Data Mixing", 2024,
    arXiv:2410.02498, Algorithm 1. Four ways to the same number, at very different prices:

    naive              one backward per group; the only one that also knows the groups' norms
    jvp                one dual forward pass; needs attention in matrix products
    finite_difference  two forward passes; the only one that is not exact
    ghost              inside the training backward; needs to know every layer

Differs from the source: the groups' gradients are those of the step's own training batch, which
is stratified and weighted so that the step stays unbiased, and not of batches drawn for this
alone; every alignment has a standard error.

Shapes:
    S sequences of C + 1 tokens, m groups by name.
"""

import contextlib
import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from mixture_assets.core.errors import MixtureError, MixtureWarning, shortlist
from mixture_assets.training import directional, ghost
from mixture_assets.training.naive import naive_backward
from mixture_assets.training.sequences import (
    Autocast,
    Observed,
    Passes,
    gradients_apart,
    inner_product,
    sequence_losses,
    trained_parameters,
)

Way = Literal["naive", "jvp", "finite_difference", "ghost"]
Total = Callable[[Tensor], Tensor]  # sums a tensor over data-parallel ranks


@dataclass(frozen=True)
class Alignments:
    """Inner products of groups' gradients with the specialist's, by group name."""

    value: dict[str, float]
    standard_error: dict[str, float]  # infinite where a group has a single observation
    norm: dict[str, float] | None  # of each group's mean gradient; only naive, on one rank, has it
    n_sequences: dict[str, int]  # over all ranks


@dataclass(frozen=True)
class AlignedStep:
    """What a step that measured alignments knows."""

    loss_nats: float  # sum_g w_g mean_{s in g} loss_s, over all ranks
    alignments: Alignments


def specialist_gradient(
    model: PreTrainedModel,
    batches: Iterable[Tensor],
    *,
    autocast: Autocast = contextlib.nullcontext,
    total: Total = lambda x: x,
) -> tuple[float, dict[str, Tensor]]:
    """Mean loss over all sequences of the batches, and its gradient by parameter name.

    Args:
        model: Its .grad is left as it was.
        batches: (B, C + 1) int64 tokens each; they may differ in length.
        autocast: Context of the forward passes.
        total: Sums over data-parallel ranks, each with batches of its own.
    """
    parameters = trained_parameters(model).items()
    loss_sum, n = 0.0, 0
    with gradients_apart(model):
        for tokens in batches:
            with autocast():
                losses = sequence_losses(model, tokens)
            losses.sum().backward()  # type: ignore[no-untyped-call]
            loss_sum += float(losses.detach().sum(dtype=torch.float64))
            n += len(tokens)
        gradient = {k: torch.zeros_like(p) if p.grad is None else p.grad for k, p in parameters}
    sums = total(torch.tensor([loss_sum, n], dtype=torch.float64, device=model.device)).tolist()
    if not sums[1]:
        raise MixtureError("no specialist sequence to take a gradient of")
    gradient = {name: total(g).div_(sums[1]) for name, g in gradient.items()}
    return sums[0] / sums[1], gradient


def clip_gradient(gradient: Mapping[str, Tensor], max_norm: float) -> float:
    """Scale a gradient down to `max_norm`, in place; 0 leaves it. Returns the norm it had."""
    norm = math.sqrt(inner_product(gradient, gradient))
    if 0 < max_norm < norm:
        for g in gradient.values():
            g.mul_(max_norm / norm)
    return norm


def aligned_backward(
    model: PreTrainedModel,
    tokens: Tensor,
    group: Tensor | NDArray[np.int64],
    names: Sequence[str],
    weight: Mapping[str, float],
    gradient: Mapping[str, Tensor],
    *,
    way: Way,
    micro_sequences: int,
    autocast: Autocast = contextlib.nullcontext,
    total: Total = lambda x: x,
) -> AlignedStep:
    """Add the gradient of sum_g w_g mean_{s in g} loss_s to .grad, and measure alignments.

    Both are of the same sequences at the same parameters. The gradient is exactly the training
    gradient in every way. On several ranks .grad is this rank's share: the gradient is the *sum*
    over ranks, not their mean, because n_g counts the sequences of all ranks.

    Args:
        model: Parameters and their .grad, which is added to.
        tokens: (S, C + 1).
        group: (S,) position in `names` of each sequence's group.
        names: Of all groups; the order means nothing.
        weight: Of each group's mean loss. A group of weight 0 is measured all the same.
        gradient: The specialist's, by parameter name.
        way: As `choose_way` says.
        micro_sequences: At most so many sequences go through the model at once.
        autocast: Context of the forward passes; finite differences are in fp32 always.
        total: Sums a float64 tensor over data-parallel ranks.

    Raises:
        MixtureError: A group without sequences, or a model that cannot go this way.
    """
    at = np.asarray(group.cpu() if isinstance(group, Tensor) else group, dtype=np.int64)
    count = _counts(at, names, total, tokens.device)
    w = np.array([weight[name] for name in names], dtype=np.float64)
    passes = Passes(micro_sequences, autocast)
    coefficient = torch.from_numpy((w / count)[at]).to(tokens.device)
    if way == "naive":
        seen = naive_backward(model, tokens, at, count, w, gradient, passes)
    else:
        pair = _PAIRS[way](model, tokens, coefficient, gradient, passes)
        seen = Observed.singly(*pair, at)
    loss = float(total((seen.losses * coefficient).sum()))
    return AlignedStep(loss, _alignments(seen, names, count, total))


def distributed_total() -> Total:
    """The sum over the ranks of torch.distributed, or the identity where there are none."""
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized()):
        return lambda x: x

    def total(x: Tensor) -> Tensor:
        x = x.clone()  # all_reduce works in place
        distributed.all_reduce(x)
        return x

    return total


def choose_way(model: PreTrainedModel, asked: Literal["auto"] | Way) -> Way:
    """The way that this model can go.

    "auto" is ghost where every parameterised layer is supported; else jvp, else naive, with a
    warning that names the layer.

    Raises:
        MixtureError: The model cannot go the way that was asked for; names the layer.
    """
    if asked == "auto":
        return _best_way(model)
    if asked not in get_args(Way):
        ways = shortlist(("auto", *get_args(Way)), limit=5)
        raise MixtureError(f"unknown way {asked!r} to alignments", hint=f"one of {ways}")
    obstacle = _obstacle(model, asked)
    if obstacle:
        raise MixtureError(
            f"alignments cannot be measured by {asked!r}: it does not support {obstacle}",
            hint="choose 'auto', or 'naive' or 'finite_difference', which support every model",
        )
    return asked


def _best_way(model: PreTrainedModel) -> Way:
    best: Way = "naive"
    reasons = []
    ways: tuple[Way, ...] = ("ghost", "jvp")
    for way in ways:
        obstacle = _obstacle(model, way)
        if obstacle is None:
            best = way
            break
        reasons.append(f"{way!r} does not support {obstacle}")
    if reasons:
        warnings.warn(
            f"alignments are measured by {best!r}, which costs more: {'; '.join(reasons)}",
            MixtureWarning,
            stacklevel=3,
        )
    return best


def _obstacle(model: PreTrainedModel, way: Way) -> str | None:
    """Naming a layer; None where there is none."""
    if way == "ghost":
        return ghost.obstacle(model)
    return directional.obstacle(model) if way == "jvp" else None


# Each gives the losses and the inner products of all sequences, (S,) float64.
_PAIRS = {
    "ghost": ghost.ghost_backward,
    "jvp": directional.jvp_backward,
    "finite_difference": directional.finite_difference_backward,
}


def _counts(
    at: NDArray[np.int64], names: Sequence[str], total: Total, device: torch.device
) -> NDArray[np.int64]:
    """(m,) sequences of each group, over all ranks."""
    here = torch.from_numpy(np.bincount(at, minlength=len(names))).to(device, torch.float64)
    count: NDArray[np.int64] = total(here).cpu().numpy().astype(np.int64)
    empty = [name for name, n in zip(names, count, strict=True) if n == 0]
    if empty:
        raise MixtureError(
            f"{len(empty)} of {len(names)} groups have no sequence in this step: "
            f"{shortlist(empty)}",
            hint="a step that measures alignments needs at least 2 sequences of every group",
        )
    return count


def _alignments(
    seen: Observed, names: Sequence[str], count: NDArray[np.int64], total: Total
) -> Alignments:
    """Means and their standard errors from what all ranks saw.

    From K observations v_k of n_k sequences each, n = sum_k n_k: the mean a = sum_k n_k v_k / n,
    and its standard error sqrt(sum_k n_k (v_k - a)^2 / (K - 1) / n).
    """
    here = np.zeros((4, len(names)))
    n = seen.size.astype(np.float64)
    for row, values in zip(
        here, (np.ones_like(n), n, n * seen.dots, n * seen.dots**2), strict=True
    ):
        np.add.at(row, seen.group, values)
    sums = total(torch.from_numpy(here).to(seen.losses.device)).cpu().numpy()
    n_observed, _, first, second = sums
    mean = first / count
    spread = np.maximum(second - count * mean**2, 0)
    variance = np.full(len(names), np.inf)
    np.divide(spread, (n_observed - 1) * count, out=variance, where=n_observed > 1)
    # The norm of a mean over ranks would need their whole gradients.
    norm = seen.norm if np.array_equal(here[1], count) else None
    return Alignments(
        value=_by_name(names, mean),
        standard_error=_by_name(names, np.sqrt(variance)),
        norm=None if norm is None else _by_name(names, norm),
        n_sequences={name: int(n) for name, n in zip(names, count, strict=True)},
    )


def _by_name(names: Sequence[str], values: NDArray[np.float64]) -> dict[str, float]:
    return dict(zip(names, values.tolist(), strict=True))
