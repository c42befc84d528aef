"""How fast this machine trains a model of a given shape, by training a few steps of it."""

import time

import torch

from mixture_assets.core.run import ModelSpec, TrainingSpec
from mixture_assets.training.device import probe
from mixture_assets.training.model import (
    build_model,
    count_parameters,
    flops_per_token,
    model_config,
)
from mixture_assets.training.optimizer import build_optimizer


def measure_tokens_per_second(
    model_spec: ModelSpec, training: TrainingSpec, *, vocab_size: int, steps: int = 4
) -> float:
    """Tokens per second of one process: the median of a few steps on random tokens."""
    device = probe(training, model_spec.context)
    device.apply()
    model = build_model(
        model_spec, vocab_size=vocab_size, seed=0, attention=device.attention, device=device.kind
    )
    optimizer = build_optimizer(model, training)
    batch = max(1, training.batch_tokens // model_spec.context)
    tokens = torch.randint(vocab_size, (batch, model_spec.context + 1), device=device.kind)
    seconds = []
    for _ in range(steps + 1):
        begun = time.perf_counter()
        with device.autocast():
            logits = model(input_ids=tokens[:, :-1], use_cache=False).logits.float()
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        float(loss.detach())
        seconds.append(time.perf_counter() - begun)
    return batch * model_spec.context / sorted(seconds[1:])[steps // 2]


def training_flops(model_spec: ModelSpec, *, vocab_size: int) -> float:
    """FLOPs to train on one token, without allocating the model."""
    _, n_matmul = count_parameters(model_spec, vocab_size=vocab_size)
    config = model_config(model_spec, vocab_size=vocab_size)
    return flops_per_token(n_matmul, config, model_spec.context)
