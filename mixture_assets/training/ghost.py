"""Per-sequence inner products with a gradient, inside the backward that trains anyway.

Source: J. T. Wang, P. Mittal, D. Song, R. Jia, "Data Shapley in One Training Run", ICLR 2025,
    arXiv:2406.11011, the "ghost dot-product".

A layer that is linear in its own parameters, y = f(x; W), has for sequence s

    <dL_s/dW, G> = sum over its tokens of <dL_s/dy, f(x; G)>

so that one more matrix product beside the backward's two gives the inner product, and no
gradient of a single sequence is ever formed. Plain module hooks on an unmodified model do it:
the input is seen in the forward pass, dL/dy in the backward pass. A module used twice, or a
parameter shared by two modules (a tied head), adds up like its gradient does.

Differs from the source: the target is any gradient, not that of another sequence of the same
batch; gains and biases count too; the product goes through the layer's narrower side.
"""

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel

from mixture_assets.core.errors import MixtureError
from mixture_assets.training.ghost_layers import dot_of
from mixture_assets.training.sequences import (
    Passes,
    backward,
    gradients_apart,
    inner_product,
    proof_tokens,
    sequence_losses,
    trained_parameters,
)

# A loss whose coefficient is less than this of the largest is below rounding (6e-8) in the
# gradient, and its inner product would be lost; it is measured in a pass of its own.
_SILENT = 1e-12
_REFUSAL = "ghost alignments do not support "
_ROUNDING = 1e-8  # of the squared norm of a gradient: what a parameter's share may be by chance
_PROOF_TOLERANCE = 0.01  # fp32 gives 1e-6; a parameter left out, 1 over three inner products


def ghost_backward(
    model: PreTrainedModel,
    tokens: Tensor,
    coefficient: Tensor,
    gradient: Mapping[str, Tensor],
    passes: Passes,
) -> tuple[Tensor, Tensor]:
    """Add the gradient of sum_s coefficient_s loss_s to .grad; measure <grad loss_s, G> on the way.

    Args:
        model: Every parameterised layer must be supported: see `obstacle`.
        tokens: (S, C + 1).
        coefficient: (S,) float64, not negative.
        gradient: G by parameter name.
        passes: How sequences go through the model.

    Returns:
        (losses in nats, inner products), both (S,) float64.
    """
    silent = (coefficient <= _SILENT * coefficient.max()).cpu().numpy()
    losses, dots = tokens.new_zeros((2, len(tokens)), dtype=torch.float64)
    with _Watch(model, gradient, dots) as watch:
        for part, scale in ((silent, torch.ones_like(coefficient)), (~silent, coefficient)):
            chosen = np.flatnonzero(part)
            with gradients_apart(model) if part is silent else nullcontext():
                losses += backward(model, tokens, chosen, scale, passes, watch=watch.piece)
            dots[chosen] /= scale[chosen]
    return losses, dots


def obstacle(model: PreTrainedModel) -> str | None:
    """What keeps this model from ghost inner products, naming the layer; None if nothing does.

    Every layer must be one that we know. Then a backward of three short sequences is compared
    with each one's own gradient, which finds parameters used behind their modules' backs.
    """
    try:
        return _proof(model)
    except MixtureError as error:
        return str(error).removeprefix(_REFUSAL)


def _proof(model: PreTrainedModel) -> str | None:
    """Compare with each sequence's own gradient along a target in which every parameter counts 1.

    For g the sum of the sequences' gradients, <g_p, g_p / |g_p|^2> is 1 for each parameter p,
    except where g_p is so small that it is rounding.
    """
    tokens = proof_tokens(model)
    gradients = [_gradient_of(model, tokens[s : s + 1]) for s in range(len(tokens))]
    whole = {name: torch.stack([g[name] for g in gradients]).sum(0) for name in gradients[0]}
    rounding = _ROUNDING * inner_product(whole, whole)
    target = {name: g / (g.square().sum() + rounding) for name, g in whole.items()}
    exact = torch.tensor([inner_product(g, target) for g in gradients], dtype=torch.float64)
    with gradients_apart(model):
        once = torch.ones(len(tokens), dtype=torch.float64, device=tokens.device)
        _, dots = ghost_backward(model, tokens, once, target, Passes(len(tokens)))
    if float((exact - dots.cpu()).abs().max()) < _PROOF_TOLERANCE:
        return None
    return f"{type(model).__name__}, whose parameters are used outside of their own layers"


def _gradient_of(model: PreTrainedModel, tokens: Tensor) -> dict[str, Tensor]:
    parameters = trained_parameters(model)
    loss = sequence_losses(model, tokens).sum()
    grads = torch.autograd.grad(loss, list(parameters.values()), materialize_grads=True)
    return dict(zip(parameters, grads, strict=True))


def _layer(name: str, module: nn.Module) -> str:
    return f"layer {name!r} ({type(module).__name__})"


def _own(module: nn.Module) -> bool:
    return any(p.requires_grad for p in module.parameters(recurse=False))


class _Watch:
    """Hooks on every parameterised layer that add its inner products to `dots`."""

    def __init__(
        self, model: PreTrainedModel, gradient: Mapping[str, Tensor], dots: Tensor
    ) -> None:
        self.model, self.dots = model, dots
        named = trained_parameters(model)
        self.target = {p: gradient[name] for name, p in named.items()}
        self.at = torch.zeros(0, dtype=torch.int64)  # the piece's sequences in the batch
        # Tables beside the tokens' own (GPT-2's positions) are looked up once for a whole
        # batch, unless every sequence brings its positions along.
        tables = [m for m in model.modules() if isinstance(m, nn.Embedding)]
        self.positions = any(table is not model.get_input_embeddings() for table in tables)

    def __enter__(self) -> "_Watch":
        hooks = [(m, self._hook(name, m)) for name, m in self.model.named_modules() if _own(m)]
        self.handles = [m.register_forward_hook(hook, with_kwargs=True) for m, hook in hooks]
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self.handles:
            handle.remove()

    def piece(self, indices: NDArray[np.int64], tokens: Tensor) -> dict[str, Tensor]:
        """Note which sequences come next; the inputs that they need beside their tokens."""
        self.at = torch.from_numpy(indices).to(tokens.device)
        if not self.positions:
            return {}
        length = tokens.shape[1] - 1
        return {"position_ids": torch.arange(length, device=tokens.device).expand(len(indices), -1)}

    def _hook(self, name: str, module: nn.Module) -> Any:
        dot = dot_of(module, self.target)
        if dot is None:
            raise MixtureError(_REFUSAL + _layer(name, module))

        def forward(_: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            if not isinstance(output, Tensor) or output.shape[0] != len(self.at):
                apart = ", whose output does not keep sequences apart"
                raise MixtureError(_REFUSAL + _layer(name, module) + apart)
            if output.requires_grad:
                # Autograd holds this input too (its bf16 cast under autocast); after use it goes.
                held = [(*args, *kwargs.values())[0].detach()]
                output.register_hook(  # type: ignore[no-untyped-call]
                    lambda dy: self._add(dot(held.pop(), dy))
                )

        return forward

    def _add(self, dots: Tensor) -> None:
        self.dots.index_add_(0, self.at, dots.double())
