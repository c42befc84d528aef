"""What a finished run leaves beside its numbers: a model that transformers reads."""

from pathlib import Path

import torch
import transformers
from transformers import PreTrainedModel

from mixture_assets.core.files import atomic_path
from mixture_assets.core.process import peak_resident_bytes
from mixture_assets.core.run import RunSpec
from mixture_assets.store.runs import RunFolder
from mixture_assets.training.device import Device
from mixture_assets.training.lora import merge_adapters


def keep_model(store: Path, folder: RunFolder, model: PreTrainedModel, spec: RunSpec) -> None:
    """Write a folder that transformers' Auto classes read, tokenizer included.

    Adapters are merged for good: afterwards the model is an ordinary one.
    """
    if folder.model_path.exists():
        return
    merge_adapters(model)
    with atomic_path(folder.model_path) as aside:
        model.save_pretrained(aside)
        path = store / "tokenizers" / spec.tokenizer / "tokenizer.json"
        tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(path))
        tokenizer.eos_token = tokenizer.convert_ids_to_tokens(model.config.eos_token_id)
        tokenizer.model_max_length = spec.model.context
        tokenizer.save_pretrained(aside)


def peak_memory_bytes(device: Device) -> int:
    """The most that this process held: of the GPU, or resident."""
    if device.kind == "cuda":
        return int(torch.cuda.max_memory_allocated())
    return peak_resident_bytes()
