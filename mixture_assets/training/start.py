"""Models that runs go on from: taken into the store once, loaded by every run that names one.

A model is named by its weights and its architecture, in fp32: neither where it lay nor how its
files were cut counts.
"""

import hashlib
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import torch
from transformers import PretrainedConfig, PreTrainedModel

from mixture_assets.core.digest import digest
from mixture_assets.core.errors import MixtureError
from mixture_assets.core.files import atomic_path
from mixture_assets.core.run import ModelSpec, RunSpec
from mixture_assets.data.frozen import FrozenTokenizer
from mixture_assets.data.tokenizer import same_tokenizer
from mixture_assets.training.architecture import describe
from mixture_assets.training.device import Device
from mixture_assets.training.lora import add_adapters
from mixture_assets.training.model_files import load_checked, load_model, read_config

_TOKENIZER = "tokenizer.json"


def model_folder(store: Path, name: str) -> Path:
    """Where a model that was adopted lies: a folder that transformers' Auto classes read."""
    return store / "models" / name


def adopt_model(store: Path, folder: Path) -> tuple[str, ModelSpec]:
    """Take a local causal LM into the store, unless it is there.

    Args:
        store: Root of the store.
        folder: config.json and safetensors, as transformers or a finished run wrote them. The
            tokenizer beside them, where there is one, is kept to be compared with a run's.

    Returns:
        Its name for StartSpec, and what it is, for RunSpec.

    Raises:
        MixtureError: The folder is not such a model, or holds weights as pickle only.
    """
    model = load_checked(folder)
    spec = describe(model.config)
    vocab_size = model.config.vocab_size
    said = asdict(spec) | {"vocab_size": vocab_size, "weights": _weights_digest(model)}
    name = digest(said)
    target = model_folder(store, name)
    if not target.exists():
        try:
            _keep(model, folder, target)
        except OSError:  # somebody else was quicker
            if not target.exists():
                raise
    return name, spec


def _keep(model: PreTrainedModel, folder: Path, target: Path) -> None:
    with atomic_path(target) as aside:
        model.save_pretrained(aside)
        for file in (_TOKENIZER, "tokenizer_config.json"):
            if (folder / file).exists():
                shutil.copyfile(folder / file, aside / file)


def started_model(store: Path, spec: RunSpec, device: Device, *, eos_id: int) -> PreTrainedModel:
    """The model that a run goes on from, ready to be trained on tokens with this end-of-text.

    Raises:
        MixtureError: The store has no such model, or it is not what the run says it is.
    """
    assert spec.start is not None
    folder = model_folder(store, spec.start.model)
    if not folder.exists():
        raise MixtureError(
            f"there is no model {spec.start.model} in {folder.parent}",
            hint="adopt it again: training.start.adopt_model",
        )
    config = read_config(folder)
    _require_vocabulary(store, spec, folder, config)
    _require_described(spec, config)
    model = load_model(folder, attention=device.attention)
    for each in (model.config, model.generation_config):
        each.bos_token_id = each.eos_token_id = eos_id
    if spec.start.lora is not None:
        add_adapters(model, spec.start.lora, seed=spec.seed)
    torch.nn.Module.to(model, device.kind)  # in place; transformers hides the type of its own `to`
    model.train()
    return model


# --- what a model is --------------------------------------------------------------------------


def _weights_digest(model: PreTrainedModel) -> str:
    """Of names, shapes and fp32 values, in the order of the names."""
    seen = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        seen.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        seen.update(tensor.contiguous().view(-1).view(torch.uint8).numpy())
    return seen.hexdigest()


def _require_vocabulary(store: Path, spec: RunSpec, folder: Path, config: PretrainedConfig) -> None:
    """Refuse tokens that mean something else to the model, by number or by name."""
    hint = "prepare the tokens with the model's own tokenizer, or start from another model"
    if config.vocab_size != spec.vocab_size:
        raise MixtureError(
            f"model {folder.name} has a vocabulary of {config.vocab_size:,} tokens, the run's "
            f"tokenizer one of {spec.vocab_size:,}",
            hint=hint,
        )
    theirs, ours = folder / _TOKENIZER, store / "tokenizers" / spec.tokenizer
    known = theirs.exists() and (ours / _TOKENIZER).exists()
    if known and not same_tokenizer(theirs, FrozenTokenizer.open(ours)):
        raise MixtureError(
            f"model {folder.name} has another tokenizer.json than {spec.tokenizer}, of as many "
            "tokens, or one that cannot be read",
            hint=hint,
        )


def _require_described(spec: RunSpec, config: PretrainedConfig) -> None:
    """A run names its architecture; only its windows may be shorter than the model's."""
    found = describe(config)
    if replace(spec.model, context=found.context) != found:
        raise MixtureError(
            f"the run says it trains {spec.model}, the model it starts from is {found}",
            hint="take [model] from what adopt_model returns",
        )
    if spec.model.context > found.context:
        raise MixtureError(
            f"a context of {spec.model.context:,} tokens is longer than the model's "
            f"{found.context:,}",
            hint=f"set the run's context to {found.context} or less",
        )
