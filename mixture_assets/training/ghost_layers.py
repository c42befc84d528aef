"""Inner products of a layer's parameter gradient with a target, one per sequence, by layer class.

Every layer here is linear in its own parameters, y = f(x; W), so that <dL/dW, G> is
<dL/dy, f(x; G)>. Layers are known by the forward method that they run, and norms of whatever
class by a numerical probe; all others are refused.

Shapes:
    S sequences of T tokens; x (S, ..., in), dy (S, ..., out); each inner product (S,), fp32.
"""

from collections.abc import Callable, Mapping
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import Parameter
from transformers.pytorch_utils import Conv1D

Dot = Callable[[Tensor, Tensor], Tensor]  # (x, dy) -> (S,)
Target = Mapping[Parameter, Tensor]  # what of G belongs to a parameter; absent where it is frozen

_PROBE_TOLERANCE = 1e-4  # relative; fp32 norms are linear in their gains to 1e-6


def dot_of(module: nn.Module, target: Target) -> Dot | None:
    """How the inner product of this layer is had, or None where we do not know."""
    forward = type(module).forward
    weight, bias = (_part(module, name, target) for name in ("weight", "bias"))
    if forward is nn.Linear.forward:
        return lambda x, dy: _product(x, dy, None if weight is None else weight.T, bias)
    if forward is Conv1D.forward:
        return lambda x, dy: _product(x, dy, weight, bias)
    if isinstance(module, nn.Embedding):
        return _embedding(module, weight) if is_table(module) else None
    return _norm(module, target) if is_norm(module) else None


def _part(module: nn.Module, name: str, target: Target) -> Tensor | None:
    parameter = module._parameters.get(name)
    return None if parameter is None else target.get(parameter)


def _product(x: Tensor, dy: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """<dy, x W + b>, with W (in, out), through the side that is narrower: dy W' or x W."""
    dots = torch.zeros(len(dy), device=dy.device)
    if weight is not None:
        weight, x = weight.to(dy.dtype), x.to(dy.dtype)  # autocast's product is in dy's type
        narrower_in = weight.shape[0] < weight.shape[1]
        dots += _inner(dy @ weight.T, x) if narrower_in else _inner(x @ weight, dy)
    if bias is not None:
        dots += _over_tokens(dy) @ bias
    return dots


def _embedding(module: nn.Embedding, weight: Tensor | None) -> Dot:
    """<dy, f(tokens; G)>; a row that is never trained (padding) counts nothing."""
    if weight is None:
        return lambda _, dy: torch.zeros(len(dy), device=dy.device)
    if module.padding_idx is not None:
        weight = weight.clone()
        weight[module.padding_idx] = 0
    table = {"weight": weight}
    return lambda tokens, dy: _inner(functional_call(module, table, (tokens,)), dy)


def _norm(module: nn.Module, target: Target) -> Dot:
    """<dy, f(x; G) - f(x; 0)>: f(x; 0) is not zero where the gain is 1 + w."""
    with_target = {k: target.get(p, torch.zeros_like(p)) for k, p in module.named_parameters()}
    without = {k: torch.zeros_like(p) for k, p in module.named_parameters()}
    probe = torch.ones(1, 1, next(module.parameters()).numel(), device=_device(module))
    offset = bool(functional_call(module, without, (probe,)).any())

    def dot(x: Tensor, dy: Tensor) -> Tensor:
        tangent = functional_call(module, with_target, (x,))
        if offset:
            tangent = tangent - functional_call(module, without, (x,))
        return _inner(tangent, dy)

    return dot


def is_table(module: nn.Embedding) -> bool:
    """Whether each token's row is looked up, and perhaps multiplied by a number (Gemma)."""
    if module.max_norm is not None or module.scale_grad_by_freq or module.sparse:
        return False
    tokens = torch.arange(6, device=module.weight.device).view(3, 2) % module.num_embeddings
    plain = type(module).forward is nn.Embedding.forward
    return plain or _is_linear(module, tokens, (3, 2, module.embedding_dim))


def is_norm(module: nn.Module) -> bool:
    """Whether vectors of one width go in and come out, linear in a gain and perhaps a bias."""
    shapes = {p.shape for p in module.parameters()}
    if len(shapes) != 1 or len(next(iter(shapes))) != 1 or any(True for _ in module.children()):
        return False
    (width,) = next(iter(shapes))
    x = torch.randn(3, 5, width, generator=torch.Generator().manual_seed(0))
    return _is_linear(module, x.to(_device(module)), (3, 5, width))


# What the probe said: asked of every norm at every update, it would cost a small model's step.
_PROBED: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


def _is_linear(module: nn.Module, x: Tensor, shape: tuple[int, ...]) -> bool:
    """Whether a module is linear in its parameters; it is asked once."""
    if module not in _PROBED:
        _PROBED[module] = _probe(module, x, shape)
    return _PROBED[module]


def _probe(module: nn.Module, x: Tensor, shape: tuple[int, ...]) -> bool:
    """Ask the module itself, on random numbers.

    f(x; u + v) - f(x; 0) must be the sum of f(x; u) - f(x; 0) and f(x; v) - f(x; 0), and no
    sequence may see another.
    """
    random = torch.Generator().manual_seed(1)
    u, v = (
        {k: torch.randn(p.shape, generator=random).to(p) for k, p in module.named_parameters()}
        for _ in range(2)
    )
    try:
        with torch.no_grad():
            none = functional_call(module, {k: torch.zeros_like(t) for k, t in u.items()}, (x,))
            one, two = (functional_call(module, part, (x,)) - none for part in (u, v))
            both = functional_call(module, {k: u[k] + v[k] for k in u}, (x,)) - none
            alone = functional_call(module, u, (x[1:2],)) - none[1:2]
    except Exception:  # whatever a stranger's forward raises says no
        return False
    scale = _PROBE_TOLERANCE * float(both.abs().max())
    return both.shape == shape and bool(
        (one + two - both).abs().max() < scale and (alone - one[1:2]).abs().max() < scale
    )


def _inner(a: Tensor, b: Tensor) -> Tensor:
    """Sum of a * b over all but the first dimension, in fp32 or better."""
    a, b = (t.reshape(len(t), 1, -1) for t in (a, b))
    if a.dtype in (torch.bfloat16, torch.float16):
        a, b = a.float(), b.float()
    return torch.bmm(a, b.to(a.dtype).transpose(1, 2)).view(-1)


def _over_tokens(dy: Tensor) -> Tensor:
    """(S, out) sums in fp32."""
    return dy.reshape(len(dy), -1, dy.shape[-1]).sum(dim=1, dtype=torch.float32)


def _device(module: nn.Module) -> torch.device:
    return next(module.parameters()).device
