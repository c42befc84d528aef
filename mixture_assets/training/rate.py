"""How fast this machine trains a model of a given shape, by training a few steps of it."""

import time

import torch

from mixture_assets.core.run import LoraSpec, ModelSpec, TrainingSpec
from mixture_assets.training.device import probe
from mixture_assets.training.lora import add_adapters
from mixture_assets.training.model import (
    build_model,
    flops_per_token,
    frozen_of,
    parameters_of,
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


def training_flops(
    model_spec: ModelSpec, *, vocab_size: int, lora: LoraSpec | None = None
) -> float:
    """FLOPs to train on one token, without allocating the model; with `lora`, its adapters."""
    with torch.device("meta"):
        model = build_model(
            model_spec, vocab_size=vocab_size, seed=0, attention="eager", device="meta"
        )
        if lora is not None:
            add_adapters(model, lora, seed=0)
    n_matmul, n_frozen = parameters_of(model)[1], frozen_of(model)
    return flops_per_token(n_matmul, model.config, model_spec.context, n_frozen=n_frozen)
