"""Losses of a model on validation sets: during training, and of a finished run later.

A run is named by what its weights depend on. What it is measured on may change afterwards: a
domain that lands has validation documents of its own, and every earlier run can be asked for
its loss on them, for the price of a forward pass.
"""

import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from mixture_assets.core.run import RunSpec
from mixture_assets.data.token_store import load_validation
from mixture_assets.evaluation.losses import DomainLoss, ValidationStream, evaluate, lay_out
from mixture_assets.store.files import atomic_write_json
from mixture_assets.store.runs import RunFolder, now_text
from mixture_assets.training.device import Device, probe
from mixture_assets.training.model import flops_per_token, parameters_of

_EVALUATION_TOKENS = 8192  # in one forward pass


def streams_of(
    store: Path, validation_sets: Mapping[str, str], *, eos_id: int, context: int
) -> dict[str, ValidationStream]:
    """Validation documents by domain, laid out for a model of one context length."""
    streams = {}
    for domain, name in sorted(validation_sets.items()):
        documents = load_validation(store, domain, name)
        streams[domain] = lay_out(
            documents.input_ids,
            documents.offsets,
            documents.n_bytes,
            eos_id=eos_id,
            context=context,
        )
    return streams


def losses_on(
    model: PreTrainedModel, streams: Mapping[str, ValidationStream], device: Device, *, context: int
) -> dict[str, DomainLoss]:
    """Loss of every domain, in the arithmetic of training."""
    with device.autocast():
        return evaluate(model, streams, batch=max(1, _EVALUATION_TOKENS // context))


def evaluation_flops(training_flops_per_token: float, n_tokens: int) -> float:
    """FLOPs to score tokens: a forward pass is a third of training."""
    return training_flops_per_token / 3 * n_tokens


def measure_missing(store: Path, run_id: str) -> list[str]:
    """Measure a finished run, whose model is there, on all that it was asked for since.

    The caller holds the run's lock. Each loss is a file of its own, so that what is done stays
    done. Returns the domains measured.
    """
    folder = RunFolder(store, run_id)
    missing = folder.missing_losses()
    if not missing:
        return []
    spec = RunSpec.from_json(folder.spec()["spec"])
    device = probe(spec.training, spec.model.context)
    device.apply()
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        folder.model_path, attn_implementation=device.attention
    )
    torch.nn.Module.to(model, device.kind)  # in place; transformers hides the type of its own
    for (name, version), domain in missing.items():
        _measure(folder, model, device, spec, domain, name, version)
    return sorted(missing.values())


def _measure(
    folder: RunFolder,
    model: PreTrainedModel,
    device: Device,
    spec: RunSpec,
    domain: str,
    validation_set: str,
    metric_version: int,
) -> None:
    begun, context = time.monotonic(), spec.model.context
    store = folder.path.parents[1]
    eos_id = model.config.eos_token_id
    streams = streams_of(store, {domain: validation_set}, eos_id=eos_id, context=context)
    loss = losses_on(model, streams, device, context=context)[domain]
    per_token = flops_per_token(parameters_of(model)[1], model.config, context)
    row = {
        "run_id": folder.run_id,
        "domain": domain,
        "validation_id": validation_set,
        "metric_version": metric_version,
        "loss": asdict(loss),
        "flops_eval": evaluation_flops(per_token, loss.n_tokens),
        "seconds": round(time.monotonic() - begun, 3),
        "device": device.name,
        "finished_at": now_text(),
    }
    atomic_write_json(folder.loss_path(validation_set, metric_version), row)
