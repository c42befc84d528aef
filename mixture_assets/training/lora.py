"""Low-rank adapters on the linear layers of a model's blocks, through peft, and merged back.

    y = W x + (alpha / rank) B A x,    W frozen, A (rank, in) random, B (out, rank) zero at first

Source: E. Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021,
    arXiv:2106.09685, section 4.1.
Differs from the source: every linear layer of the blocks is adapted unless told otherwise, not
the query and value projections alone; no dropout, because a step must not depend on a random
state that a resume would have to restore.
"""

from collections.abc import Mapping

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from mixture_assets.core.errors import MixtureError, shortlist
from mixture_assets.core.names import nearest
from mixture_assets.core.run import LoraSpec


def add_adapters(model: PreTrainedModel, lora: LoraSpec, *, seed: int) -> None:
    """Freeze the model, in place, and give it adapters, which the seed draws and which are trained.

    The model computes what it did, until the first step. Adapters are parameters named
    `<layer>.lora_A.default.weight` and `<layer>.lora_B.default.weight`.

    Raises:
        MixtureError: A rank, a scale or a target that makes no adapter.
    """
    if lora.rank < 1 or not lora.alpha > 0:
        raise MixtureError(
            f"adapters need a rank of at least 1 and an alpha above 0, "
            f"got {lora.rank} and {lora.alpha:g}",
            hint="8 and 16 are usual",
        )
    layers = _targets(model, lora)
    torch.manual_seed(seed)
    inject_adapters(model, layers, rank=lora.rank, alpha=lora.alpha)


def inject_adapters(
    model: PreTrainedModel, layers: Mapping[str, nn.Module], *, rank: int, alpha: float
) -> None:
    """Put adapters beside some layers, by their full names, and freeze the rest, in place."""
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,  # type: ignore[arg-type]  # peft says int, and divides it
        lora_dropout=0.0,
        target_modules=list(layers),
        fan_in_fan_out=all(isinstance(layer, Conv1D) for layer in layers.values()),
    )
    inject_adapter_in_model(config, model)


def merge_adapters(model: PreTrainedModel) -> None:
    """Add every adapter into the layer that it adapts, in place; others keep their weights.

    The model is an ordinary one again, the same function up to the rounding of one addition.
    """
    for name, module in list(model.named_modules()):
        if isinstance(module, LoraLayer):
            module.merge()
            model.set_submodule(name, module.get_base_layer())
    if hasattr(model, "peft_config"):
        del model.peft_config


def adapter_parameters(model: PreTrainedModel) -> int:
    """How many parameters the adapters have; 0 for an ordinary model."""
    layers = [m for m in model.modules() if isinstance(m, LoraLayer)]
    return sum(p.numel() for layer in layers for p in layer.parameters() if p.requires_grad)


def _targets(model: PreTrainedModel, lora: LoraSpec) -> dict[str, nn.Module]:
    """Layers to adapt, by their full names."""
    head = model.get_output_embeddings()
    layers = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and module is not head
    }
    known = {name.rpartition(".")[2] for name in layers}
    if strange := set(lora.targets) - known:
        raise MixtureError(
            f"no linear layer of the blocks is named {shortlist(strange)}"
            f"{nearest(min(strange), known)}",
            hint=f"targets are among {shortlist(known, limit=12)}; none means all of them",
        )
    wanted = set(lora.targets) or known
    return {name: m for name, m in layers.items() if name.rpartition(".")[2] in wanted}
