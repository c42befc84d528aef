"""AdamW and its learning rate, a pure function of the step."""

import math

import torch
from transformers import PreTrainedModel

from mixture_assets.core.run import TrainingSpec

_WSD_DECAY_FRACTION = 0.2  # of all steps, at the end


def build_optimizer(model: PreTrainedModel, spec: TrainingSpec) -> torch.optim.AdamW:
    """Fused AdamW on what is trained; weight decay on matrices, none on gains and biases."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": spec.weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=spec.learning_rate,
        betas=(spec.beta1, spec.beta2),
        fused=True,
    )


def learning_rate(spec: TrainingSpec, step: int, n_steps: int) -> float:
    """Linear warm-up, then cosine decay, or a plateau and a linear decay (wsd).

    Args:
        spec: Hyper-parameters.
        step: From 0.
        n_steps: Length of the run.
    """
    warmup = max(1, round(spec.warmup_fraction * n_steps))
    if step < warmup:
        return spec.learning_rate * (step + 1) / warmup
    if spec.schedule == "cosine":
        done = (step - warmup + 1) / max(1, n_steps - warmup)
        left = 0.5 * (1 + math.cos(math.pi * done))
    else:
        decay = max(1, round(_WSD_DECAY_FRACTION * n_steps))
        left = min(1.0, (n_steps - step - 1) / decay)
    return spec.learning_rate * (spec.final_fraction + (1 - spec.final_fraction) * left)
