"""Sequences one by one: their losses, and gradients that leave a step's own alone.

Shapes:
    S sequences of C + 1 tokens (C inputs and their C next tokens); P parameters.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import Parameter
from transformers import PreTrainedModel

Autocast = Callable[[], contextlib.AbstractContextManager[object]]


@dataclass(frozen=True)
class Passes:
    """How sequences go through a model."""

    micro_sequences: int  # at most so many at once
    autocast: Autocast = contextlib.nullcontext  # of the forward pass

    def pieces(self, indices: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
        """Consecutive runs of the indices that go through at once."""
        for start in range(0, len(indices), self.micro_sequences):
            yield indices[start : start + self.micro_sequences]


def sequence_losses(model: PreTrainedModel, tokens: Tensor, **inputs: Tensor) -> Tensor:
    """Mean cross entropy of each sequence's next tokens in nats, (S,), from (S, C + 1) tokens."""
    logits = model(input_ids=tokens[:, :-1], use_cache=False, **inputs).logits.float()
    losses = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten(), reduction="none")
    return losses.view(len(tokens), -1).mean(dim=1)


@dataclass(frozen=True)
class Observed:
    """What one rank saw: losses of its sequences, inner products of these or of parts of groups."""

    losses: Tensor  # (S,) nats, float64
    dots: NDArray[np.float64]  # (K,) each the mean over its sequences
    group: NDArray[np.int64]  # (K,) the group of each observation
    size: NDArray[np.int64]  # (K,) sequences behind each
    norm: NDArray[np.float64] | None = None  # (m,) of the groups' mean gradients

    @classmethod
    def singly(cls, losses: Tensor, dots: Tensor, group: NDArray[np.int64]) -> "Observed":
        """An inner product of every sequence."""
        return cls(losses, dots.cpu().numpy(), group, np.ones_like(group))


def trained_parameters(model: torch.nn.Module) -> dict[str, Parameter]:
    """What training moves, by name; a tied parameter is there once."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def backward(
    model: PreTrainedModel,
    tokens: Tensor,
    indices: NDArray[np.int64],
    coefficient: Tensor,
    passes: Passes,
    *,
    watch: Callable[[NDArray[np.int64], Tensor], Mapping[str, Tensor]] = lambda *_: {},
) -> Tensor:
    """Add the gradient of sum_s coefficient_s loss_s over `indices` to .grad, in pieces.

    Args:
        model: With parameters that require gradients.
        tokens: (S, C + 1) of all sequences.
        indices: Those to go through.
        coefficient: (S,) of all sequences.
        passes: How they go through the model.
        watch: Is told the indices of each piece, and all tokens, before its forward pass;
            gives further inputs of the model.

    Returns:
        (S,) float64 losses in nats, zero outside of `indices`.
    """
    losses = torch.zeros(len(tokens), dtype=torch.float64, device=tokens.device)
    for piece in passes.pieces(indices):
        at = torch.from_numpy(piece).to(tokens.device)
        inputs = watch(piece, tokens)
        with passes.autocast():
            loss = sequence_losses(model, tokens[at], **inputs)
        (loss * coefficient[at].to(loss.dtype)).sum().backward()  # type: ignore[no-untyped-call]
        losses[at] = loss.detach().double()
    return losses


@contextlib.contextmanager
def gradients_apart(model: torch.nn.Module) -> Iterator[None]:
    """Start from no .grad, and give back what was there."""
    parameters = list(trained_parameters(model).values())
    before = [p.grad for p in parameters]
    for p in parameters:
        p.grad = None
    try:
        yield
    finally:
        for p, grad in zip(parameters, before, strict=True):
            p.grad = grad


def inner_product(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    """<one, other> over the names of both, summed in float64."""
    with torch.no_grad():
        sums = [(one[n] * other[n]).sum(dtype=torch.float64) for n in other if n in one]
        return float(torch.stack(sums).sum()) if sums else 0.0


def proof_tokens(model: PreTrainedModel) -> Tensor:
    """Three short sequences to try a way on, (3, 6): sizes that no width has."""
    table = model.get_input_embeddings()
    assert isinstance(table, torch.nn.Embedding)
    return (torch.arange(18, device=model.device) ** 2 % table.num_embeddings).view(3, 6)
