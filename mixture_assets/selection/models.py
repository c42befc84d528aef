"""Models that score: causal LMs in local folders, in the arithmetic of training."""

from dataclasses import dataclass
from pathlib import Path

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from mixture_assets.core.digest import digest, file_digest
from mixture_assets.core.errors import MixtureError
from mixture_assets.core.run import TrainingSpec
from mixture_assets.data.frozen import FrozenTokenizer
from mixture_assets.data.tokenizer import same_tokenizer
from mixture_assets.training.device import Device, probe
from mixture_assets.training.model import flops_per_token, parameters_of

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

_CONTEXT = 512  # where a model does not say
# Small enough for the logits of a few thousand tokens to stay near the core; a GPU wants more.
_BATCH_TOKENS = {"cpu": 2048, "cuda": 32_768}


@dataclass(frozen=True)
class Machine:
    """How a model is run here."""

    context: int
    device: Device
    batch_tokens: int

    @classmethod
    def for_model(cls, folder: Path, training: TrainingSpec, batch_tokens: int) -> "Machine":
        """Settings from what the machine can do and the model's own context."""
        config = AutoConfig.from_pretrained(_folder(folder), local_files_only=True)
        context = int(getattr(config, "max_position_embeddings", None) or _CONTEXT)
        device = probe(training, context)
        return cls(context, device, batch_tokens or _BATCH_TOKENS[device.kind])


def open_model(folder: Path, tokenizer: FrozenTokenizer, machine: Machine) -> PreTrainedModel:
    """A causal LM that scores documents of this tokenizer; it trains nothing.

    Raises:
        MixtureError: It has another tokenizer, or is no model with safetensors.
    """
    try:
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            _folder(folder),
            attn_implementation=machine.device.attention,
            dtype=torch.float32,
            local_files_only=True,
            use_safetensors=True,
        )
    except (OSError, ValueError) as error:
        raise MixtureError(
            f"{folder} is no causal language model: {' '.join(str(error).split())}",
            hint="give a folder with config.json and model.safetensors",
        ) from error
    require_tokenizer(folder, model, tokenizer)
    machine.device.apply()
    torch.nn.Module.to(model, machine.device.kind)  # in place; transformers hides its own type
    model.requires_grad_(False)
    model.eval()
    return model


def require_tokenizer(folder: Path, model: PreTrainedModel, tokenizer: FrozenTokenizer) -> None:
    """Refuse a model to which the pool's tokens mean something else.

    Raises:
        MixtureError: Another size of vocabulary, or another tokenizer.json beside the model.
    """
    hint = "tokenize the pool with the model's tokenizer, or score with another model"
    if model.config.vocab_size != tokenizer.vocab_size:
        raise MixtureError(
            f"{folder} has a vocabulary of {model.config.vocab_size:,} tokens, the pool's "
            f"tokenizer one of {tokenizer.vocab_size:,}",
            hint=hint,
        )
    theirs = folder / "tokenizer.json"
    if theirs.exists() and not same_tokenizer(theirs, tokenizer):
        raise MixtureError(
            f"{folder} has another tokenizer than the pool, {tokenizer.digest}, with as many "
            "tokens",
            hint=hint,
        )


def model_digest(folder: Path) -> str:
    """Of a model's configuration and weights, wherever it lies."""
    files = [folder / "config.json", *sorted(_folder(folder).glob("*.safetensors"))]
    return digest([file_digest(file) for file in files])


def forward_flops(model: PreTrainedModel, context: int) -> float:
    """FLOPs of a forward pass per token: 2 N, and attention's."""
    return flops_per_token(parameters_of(model)[1], model.config, context) / 3


def gradient_flops(model: PreTrainedModel, taken: int, length: int) -> float:
    """FLOPs of a forward and a backward pass per token, with weight gradients of `taken` numbers.

    Both passes multiply with every weight, 2 N each; attention's products are three times those
    of its forward pass.
    """
    attention = flops_per_token(0, model.config, length)
    return 4.0 * parameters_of(model)[1] + 2.0 * taken + attention


def _folder(folder: Path) -> Path:
    if not (folder / "config.json").is_file():
        raise MixtureError(
            f"there is no model in {folder}: it has no config.json",
            hint="give the folder that a finished run or save_pretrained left",
        )
    return folder
