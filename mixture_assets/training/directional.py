"""Per-sequence derivatives of the loss along a gradient, by forward passes of their own.

    <grad loss_s, G> = d/d eps loss_s(theta + eps G) at eps = 0

`jvp` carries the derivative along in one dual forward pass (exact; attention must be in a form
that torch can differentiate forwards: matrix products, never a fused kernel).
`finite_difference` takes two plain forward passes, on either side; every model can, and what
it loses is accuracy: up to 1e-3 of an alignment in fp32.

Shapes:
    S sequences of C + 1 tokens; derivatives (S,) float64.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import PreTrainedModel

from mixture_assets.core.errors import MixtureError
from mixture_assets.training.sequences import (
    Passes,
    backward,
    inner_product,
    proof_tokens,
    sequence_losses,
    trained_parameters,
)

# Of the parameters' norm. With it the error of rounding falls and that of curvature grows; worst
# of ten small models, relative to each alignment: 3e-3 at 2e-5, 4e-4 at 5e-5, 1e-3 at 1e-4.
RELATIVE_STEP = 5e-5
_REFUSAL = "forward-mode derivatives do not support "


def jvp_backward(
    model: PreTrainedModel,
    tokens: Tensor,
    coefficient: Tensor,
    gradient: Mapping[str, Tensor],
    passes: Passes,
) -> tuple[Tensor, Tensor]:
    """Train backward on sum_s coefficient_s loss_s, then measure: losses and dots, (S,) each."""
    losses = backward(model, tokens, np.arange(len(tokens)), coefficient, passes)
    return losses, jvp_dots(model, tokens, gradient, passes)


def finite_difference_backward(
    model: PreTrainedModel,
    tokens: Tensor,
    coefficient: Tensor,
    gradient: Mapping[str, Tensor],
    passes: Passes,
) -> tuple[Tensor, Tensor]:
    """Train backward on sum_s coefficient_s loss_s, then measure: losses and dots, (S,) each."""
    losses = backward(model, tokens, np.arange(len(tokens)), coefficient, passes)
    return losses, finite_difference_dots(model, tokens, gradient, passes)


def jvp_dots(
    model: PreTrainedModel,
    tokens: Tensor,
    gradient: Mapping[str, Tensor],
    passes: Passes,
) -> Tensor:
    """Inner products of each sequence's gradient with `gradient`, by a dual forward pass.

    Raises:
        MixtureError: A layer has no forward-mode derivative; it is named.
    """
    parameters = {name: p.detach() for name, p in trained_parameters(model).items()}
    tangents = {name: gradient[name] for name in parameters}

    def derivative(part: Tensor) -> Tensor:
        def losses(values: dict[str, Tensor]) -> Tensor:
            with passes.autocast():
                return cast(Tensor, functional_call(_Losses(model), _inside(values), (part,)))

        return cast(Tensor, jvp(losses, (parameters,), (tangents,))[1])

    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), _naming_the_layer(model):
        return _in_pieces(derivative, tokens, passes)


def finite_difference_dots(
    model: PreTrainedModel,
    tokens: Tensor,
    gradient: Mapping[str, Tensor],
    passes: Passes,
) -> Tensor:
    """Central difference of the losses along `gradient`, in fp32 whatever the training is in.

    (loss_s(theta + h G) - loss_s(theta - h G)) / 2h, with h |G| a small share of |theta|. The
    parameters come back bit for bit: they are copied, never added to and subtracted from.
    """
    parameters = trained_parameters(model)
    length = math.sqrt(inner_product(gradient, gradient))
    if length == 0:
        return torch.zeros(len(tokens), dtype=torch.float64, device=tokens.device)
    step = RELATIVE_STEP * math.sqrt(inner_product(parameters, parameters)) / length
    sides: list[Tensor] = []
    with torch.no_grad(), _restored(parameters) as origin:
        for h in (step, -step):
            for name, p in parameters.items():
                torch.add(origin[name], gradient[name], alpha=h, out=p.data)
            sides.append(_in_pieces(lambda t: _fine_losses(model, t), tokens, passes))
    above, below = sides
    return (above - below) / (2 * step)


def obstacle(model: PreTrainedModel) -> str | None:
    """What keeps this model from forward-mode derivatives; None if nothing does."""
    parameters = trained_parameters(model)
    zeros = {name: torch.zeros_like(p) for name, p in parameters.items()}
    try:
        jvp_dots(model, proof_tokens(model), zeros, Passes(3))
    except MixtureError as error:
        return str(error).removeprefix(_REFUSAL)
    return None


def _fine_losses(model: PreTrainedModel, tokens: Tensor) -> Tensor:
    """The sequences' losses from fp32 logits, with no rounding after the exponentials.

    A loss of 5 nats in fp32 is a multiple of 5e-7: ten times the other errors of the difference.
    """
    logits = model(input_ids=tokens[:, :-1], use_cache=False).logits.float()
    top = logits.amax(dim=-1, keepdim=True)
    hit = logits.gather(-1, tokens[:, 1:, None])
    normaliser = (logits - top).exp_().sum(dim=-1, dtype=torch.float64).log()
    losses: Tensor = normaliser + (top.double() - hit.double()).squeeze(-1)
    return losses.mean(dim=1)


class _Losses(nn.Module):
    """The losses as a module, which is what `functional_call` wants."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        return sequence_losses(self.model, tokens)


def _inside(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"model.{name}": value for name, value in values.items()}


def _in_pieces(value: Callable[[Tensor], Tensor], tokens: Tensor, passes: Passes) -> Tensor:
    """`value` of some sequences at a time, (S,) float64."""
    parts = torch.split(tokens, passes.micro_sequences)
    return torch.cat([value(part).double() for part in parts])


@contextmanager
def _restored(parameters: Mapping[str, nn.Parameter]) -> Iterator[dict[str, Tensor]]:
    origin = {name: p.detach().clone() for name, p in parameters.items()}
    try:
        yield origin
    finally:
        with torch.no_grad():
            for name, p in parameters.items():
                p.copy_(origin[name])


@contextmanager
def _naming_the_layer(model: PreTrainedModel) -> Iterator[None]:
    """Turn torch's refusal of a forward-mode derivative into ours, with the innermost layer."""
    inside: list[str] = []
    handles = []
    for name, module in model.named_modules():
        label = f"layer {name!r} ({type(module).__name__})" if name else type(module).__name__
        enter = lambda *_, label=label: inside.append(label)  # noqa: E731
        handles.append(module.register_forward_pre_hook(enter))
        handles.append(module.register_forward_hook(lambda *_: inside.pop() and None))
    try:
        yield
    except (NotImplementedError, RuntimeError) as error:
        if isinstance(error, torch.OutOfMemoryError) or not inside:
            raise
        raise MixtureError(_REFUSAL + inside[-1]) from error
    finally:
        for handle in handles:
            handle.remove()
