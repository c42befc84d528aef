"""One backward per group: the way of the paper, and what the other ways are measured against.

Each group's sequences go through in two halves, so that there are two observations and with
them a standard error, of one degree of freedom. The training gradient is put together from the
groups' gradients, so no further backward is needed.
"""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from mixture_assets.training.sequences import (
    Observed,
    Passes,
    backward,
    gradients_apart,
    inner_product,
    trained_parameters,
)


def naive_backward(
    model: PreTrainedModel,
    tokens: Tensor,
    group: NDArray[np.int64],
    count: NDArray[np.int64],
    weight: NDArray[np.float64],
    gradient: Mapping[str, Tensor],
    passes: Passes,
) -> Observed:
    """Add the gradient of sum_g w_g mean_{s in g} loss_s to .grad, group by group.

    Args:
        model: Its .grad is added to.
        tokens: (S, C + 1).
        group: (S,) of 0..m-1.
        count: (m,) sequences of each group, over all ranks.
        weight: (m,) of the groups' mean losses.
        gradient: G by parameter name.
        passes: How sequences go through the model.
    """
    losses = torch.zeros(len(tokens), dtype=torch.float64, device=tokens.device)
    rows: list[tuple[int, int, float]] = []  # group, size, mean inner product
    norm = np.zeros(len(count))
    for g in np.unique(group):
        share = torch.full_like(losses, 1 / count[g])
        before = 0.0
        with gradients_apart(model):
            for half in _halves(np.flatnonzero(group == g)):
                losses += backward(model, tokens, half, share, passes)
                grads = _gradients(model)
                so_far = inner_product(grads, gradient)
                rows.append((g, len(half), (so_far - before) * count[g] / len(half)))
                before = so_far
        norm[g] = inner_product(grads, grads) ** 0.5
        _add(model, grads, weight[g])
    owner, size, dots = zip(*rows, strict=True)
    return Observed(losses, np.array(dots), np.array(owner), np.array(size), norm)


def _halves(members: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    return [half for half in np.array_split(members, 2) if len(half)]


def _gradients(model: PreTrainedModel) -> dict[str, Tensor]:
    return {n: p.grad for n, p in trained_parameters(model).items() if p.grad is not None}


def _add(model: PreTrainedModel, grads: Mapping[str, Tensor], weight: float) -> None:
    """Add `weight` times a gradient, whose tensors may be used up, to .grad."""
    for name, p in trained_parameters(model).items():
        if name not in grads:
            continue
        if p.grad is None:
            p.grad = grads[name].mul_(weight)
        else:
            p.grad.add_(grads[name], alpha=weight)
