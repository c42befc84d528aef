"""Gradients of single sequences in the linear layers of a model, from one backward of a batch.

A linear layer y = x W has for sequence s the gradient x_s' dL_s/dy_s. Module hooks see x in the
forward pass and dL/dy in the backward pass; the product is formed for one layer and a few
sequences at a time, in place of the layer's own gradient, which autograd is not asked for. So it
costs what the backward of the batch costs.

Shapes:
    S sequences of L tokens; a parameter's gradient is left' right, left (S, L, R), right (S, L, C).
"""

from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from mixture_assets.core.errors import MixtureError, shortlist

_HINT = "score with perplexity, or with another model"

# Is told a parameter's name and the factors of its gradient in each sequence.
Consumer = Callable[[str, Tensor, Tensor], None]


def linear_parameters(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """Shapes of the weights and biases of linear layers, the output projection left out."""
    head = getattr(model, "get_output_embeddings", lambda: None)()
    return {
        f"{name}.{part}": tuple(p.shape)
        for name, module in model.named_modules()
        if is_linear(module) and module is not head
        for part, p in module.named_parameters(recurse=False)
    }


def is_linear(module: nn.Module) -> bool:
    """Whether a module computes what nn.Linear or GPT-2's Conv1D compute."""
    return type(module).forward in (nn.Linear.forward, Conv1D.forward)


@contextmanager
def watched(model: PreTrainedModel, names: Container[str], consume: Consumer) -> Iterator[None]:
    """Give the factors of the gradients of `names` to `consume` in the one backward inside.

    No parameter of the model may require gradients.

    Raises:
        MixtureError: A layer does not keep sequences apart, is used twice, or took no part.
    """
    table = model.get_input_embeddings()
    assert isinstance(table, nn.Module)
    uses: Counter[str] = Counter()
    watched_layers = set()
    handles = [table.register_forward_hook(lambda *args: args[-1].requires_grad_(True))]
    for name, module in model.named_modules():
        own = {part: f"{name}.{part}" for part, _ in module.named_parameters(recurse=False)}
        own = {part: whole for part, whole in own.items() if whole in names}
        if own:
            watched_layers.add(name)
            hook = _hook(name, own, consume, uses)
            handles.append(module.register_forward_hook(hook, with_kwargs=True))
    try:
        yield
        if silent := watched_layers - uses.keys():
            raise MixtureError(
                f"gradient scores do not support {type(model).__name__}, which goes past its "
                f"layers {shortlist(silent)}",
                hint=_HINT,
            )
    finally:
        for handle in handles:
            handle.remove()


def _hook(name: str, own: Mapping[str, str], consume: Consumer, uses: Counter[str]) -> Any:
    def forward(module: nn.Module, args: Any, kwargs: Any, output: Tensor) -> None:
        uses[name] += 1
        if output.dim() != 3 or uses[name] > 1:
            does = "is used twice" if uses[name] > 1 else "does not keep sequences apart"
            raise MixtureError(
                f"gradient scores do not support layer {name!r} ({type(module).__name__}), which "
                f"{does}",
                hint=_HINT,
            )
        held = [(*args, *kwargs.values())[0].detach()]

        def backward(dy: Tensor) -> None:
            x = held.pop().to(dy.dtype)
            if "weight" in own:
                factors = (x, dy) if isinstance(module, Conv1D) else (dy, x)
                consume(own["weight"], *factors)
            if "bias" in own:
                consume(own["bias"], torch.ones_like(dy[..., :1]), dy)

        output.register_hook(backward)  # type: ignore[no-untyped-call]

    return forward
