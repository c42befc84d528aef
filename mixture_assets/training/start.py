"""Models that runs go on from: taken into the store once, loaded by every run that names one.

A model is named by its weights and its architecture, in fp32: neither where it lay nor how its
files were cut counts. Dropout is off, because a step must not depend on a random state that a
resume would have to restore; no token is padding, because training pads nothing.
"""

import hashlib
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from mixture_assets.core.digest import digest
from mixture_assets.core.errors import MixtureError, shortlist
from mixture_assets.core.files import atomic_path
from mixture_assets.core.run import ModelSpec, RunSpec
from mixture_assets.training.architecture import describe
from mixture_assets.training.device import Device
from mixture_assets.training.lora import add_adapters

_PICKLES = (".bin", ".pt", ".pth", ".ckpt")
_TOKENIZER = "tokenizer.json"
# What transformers raises about a folder whose files are not what they should be.
_BROKEN = (
    ArithmeticError,
    AttributeError,
    LookupError,
    OSError,
    RuntimeError,
    SafetensorError,
    StrictDataclassError,
    TypeError,
    ValueError,
)


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
    _require_model_files(folder)
    model = _load_all(folder)
    _require_finite(folder, model)
    spec = describe(model.config)
    vocab_size = model.config.vocab_size
    said = asdict(spec) | {"vocab_size": vocab_size, "weights": _weights_digest(model)}
    name = digest(said)
    target = model_folder(store, name)
    if not target.exists():
        with atomic_path(target) as aside:
            model.save_pretrained(aside)
            for file in (_TOKENIZER, "tokenizer_config.json"):
                if (folder / file).exists():
                    shutil.copyfile(folder / file, aside / file)
    return name, spec


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
    config = _config(folder)
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


def load_model(folder: Path, *, attention: str) -> PreTrainedModel:
    """A causal LM of a local folder in fp32, in evaluation mode, on the CPU; never from pickle."""
    return _loaded(folder, attention)[0]


# --- reading a folder -------------------------------------------------------------------------


def _require_model_files(folder: Path) -> None:
    """Refuse what transformers would fetch, unpickle or complete on its own."""
    if not (folder / "config.json").is_file():
        what = "an adapter, not a model" if (folder / "adapter_config.json").exists() else ""
        raise MixtureError(
            f"{folder} is {what or 'no model: it has no config.json'}",
            hint="give a folder that save_pretrained wrote of a whole causal language model",
        )
    names = sorted(p.name for p in folder.iterdir())
    if not any(n.endswith(".safetensors") for n in names):
        pickles = [n for n in names if n.endswith(_PICKLES)]
        problem = f"its weights are pickle ({shortlist(pickles)})" if pickles else "has no weights"
        raise MixtureError(
            f"{folder}: {problem}, and only safetensors are read",
            hint="load it where you trust it, and save_pretrained writes safetensors",
        )
    if (folder / "adapter_config.json").exists():
        raise MixtureError(
            f"{folder} holds an adapter beside a model",
            hint="merge the adapter first, or remove adapter_config.json",
        )


def _config(folder: Path) -> PretrainedConfig:
    try:
        config: PretrainedConfig = AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except _BROKEN as error:
        raise _unreadable(folder, error) from error
    if getattr(config, "quantization_config", None):
        raise MixtureError(
            f"{folder} is quantized, and a run trains weights in fp32",
            hint="give the model that it was made from",
        )
    values = config.to_dict()
    for key in values:
        if "drop" in key and isinstance(values[key], float):
            setattr(config, key, 0.0)
    config.pad_token_id = None  # that row of the embedding would never be trained
    return config


def _load_all(folder: Path) -> PreTrainedModel:
    """The model, if its files hold every weight of it and nothing else."""
    model, missing, unexpected = _loaded(folder, "eager")
    for what, names in (("lacks", missing), ("has", unexpected)):
        if names:
            raise MixtureError(
                f"{folder} {what} {len(names)} weights {_EXPECTATION[what]}: {shortlist(names)}",
                hint="give a causal language model that is whole",
            )
    return model


_EXPECTATION = {"lacks": "that its config.json asks for", "has": "that its config.json has not"}


def _loaded(folder: Path, attention: str) -> tuple[PreTrainedModel, set[str], set[str]]:
    """The model, and the names of weights that its files lack, and that they have too many."""
    options: dict[str, Any] = {
        "config": _config(folder),
        "dtype": torch.float32,
        "attn_implementation": attention,
        "use_safetensors": True,
        "local_files_only": True,
        "trust_remote_code": False,
        "output_loading_info": True,
    }
    load: Any = AutoModelForCausalLM.from_pretrained  # whose type knows no loading info
    try:
        model, found = load(folder, **options)
    except _BROKEN as error:
        raise _unreadable(folder, error) from error
    return model, set(found["missing_keys"]), set(found["unexpected_keys"])


def _unreadable(folder: Path, error: Exception) -> MixtureError:
    words = f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(". ")
    return MixtureError(
        f"{folder} is no causal language model that transformers reads: {words}",
        hint="give a folder that save_pretrained wrote",
    )


# --- what a model is --------------------------------------------------------------------------


def _require_finite(folder: Path, model: PreTrainedModel) -> None:
    broken = [name for name, p in model.named_parameters() if not bool(p.isfinite().all())]
    if broken:
        raise MixtureError(
            f"{folder} has NaN or infinite weights in {shortlist(broken)}",
            hint="take a checkpoint from before it diverged",
        )


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
    theirs, ours = folder / _TOKENIZER, store / "tokenizers" / spec.tokenizer / _TOKENIZER
    if theirs.exists() and ours.exists() and _vocabulary(theirs) != _vocabulary(ours):
        raise MixtureError(
            f"model {folder.name} was trained with another tokenizer than {spec.tokenizer}, of "
            "as many tokens",
            hint=hint,
        )


def _vocabulary(path: Path) -> dict[str, int]:
    vocabulary: dict[str, int] = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(path)
    ).get_vocab()
    return vocabulary


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
