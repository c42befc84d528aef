"""Folders of transformers read as models to train: whole, local, causal, in fp32.

Dropout is off, because a step must not depend on a random state that a resume would have to
restore; no token is padding, because training pads nothing.
"""

from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from mixture_assets.core.errors import MixtureError, shortlist

_PICKLES = (".bin", ".pt", ".pth", ".ckpt")
_PROBE_TOKENS = 8
_CAUSAL_TOLERANCE = 1e-5  # of the largest logit; looking ahead moves even fresh weights by 1e-3
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
_LOCAL_ONLY: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}


def read_config(folder: Path) -> PretrainedConfig:
    """The configuration of a model that is to be trained."""
    try:
        config: PretrainedConfig = AutoConfig.from_pretrained(folder, **_LOCAL_ONLY)
    except _BROKEN as error:
        raise _unreadable(folder, error) from error
    if getattr(config, "quantization_config", None):
        raise MixtureError(
            f"{folder} is quantized, and a run trains weights in fp32",
            hint="give the model that it was made from",
        )
    if not isinstance(getattr(config, "vocab_size", None), int):
        raise MixtureError(
            f"{folder} is a {config.model_type!r}, which is more than a language model",
            hint="give the language model in it, as a folder of its own",
        )
    values = config.to_dict()
    for key in values:
        if "drop" in key and isinstance(values[key], float):
            setattr(config, key, 0.0)
    config.pad_token_id = None  # that row of the embedding would never be trained
    return config


def load_model(folder: Path, *, attention: str) -> PreTrainedModel:
    """A causal LM of a local folder in fp32, in evaluation mode, on the CPU; never from pickle."""
    return _loaded(folder, attention)[0]


def load_checked(folder: Path) -> PreTrainedModel:
    """The same of a folder that nobody has looked at yet.

    Raises:
        MixtureError: It is not a causal LM whose every weight is there, finite, in safetensors.
    """
    _require_files(folder)
    model, missing, unexpected = _loaded(folder, "eager")
    _require_names(folder, "lacks", missing, "that its config.json asks for")
    _require_names(folder, "has", unexpected, "that its config.json has not")
    _require_finite(folder, model)
    _require_causal(folder, model)
    return model


def _require_files(folder: Path) -> None:
    """Refuse what transformers would fetch, unpickle or complete on its own."""
    has_adapter = (folder / "adapter_config.json").exists()
    if not (folder / "config.json").is_file():
        what = "an adapter, not a model" if has_adapter else "no model: it has no config.json"
        raise MixtureError(
            f"{folder} is {what}",
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
    if has_adapter:
        raise MixtureError(
            f"{folder} holds an adapter beside a model",
            hint="merge the adapter first, or remove adapter_config.json",
        )


def _require_names(folder: Path, verb: str, names: set[str], which: str) -> None:
    if names:
        raise MixtureError(
            f"{folder} {verb} {len(names)} weights {which}: {shortlist(names)}",
            hint="give a causal language model that is whole",
        )


def _require_finite(folder: Path, model: PreTrainedModel) -> None:
    broken = [name for name, p in model.named_parameters() if not bool(p.isfinite().all())]
    if broken:
        raise MixtureError(
            f"{folder} has NaN or infinite weights in {shortlist(broken)}",
            hint="take a checkpoint from before it diverged",
        )


def _require_causal(folder: Path, model: PreTrainedModel) -> None:
    """Refuse a model that sees the token it is to predict, by changing the last one."""
    length = min(_PROBE_TOKENS, int(getattr(model.config, "max_position_embeddings", 8)))
    tokens = torch.arange(length).unsqueeze(0) % model.config.vocab_size
    other = tokens.clone()
    other[0, -1] = (other[0, -1] + 1) % model.config.vocab_size
    with torch.inference_mode():
        one, two = (model(input_ids=t, use_cache=False).logits[:, :-1] for t in (tokens, other))
    if not bool((one - two).abs().max() <= _CAUSAL_TOLERANCE * one.abs().max()):
        raise MixtureError(
            f"{folder} is a {model.config.model_type!r} that sees the tokens after a token",
            hint="give a causal (decoder) language model",
        )


def _loaded(folder: Path, attention: str) -> tuple[PreTrainedModel, set[str], set[str]]:
    """The model, and the names of weights that its files lack, and that they have too many."""
    options: dict[str, Any] = {
        "config": read_config(folder),
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
