"""A Hugging Face causal LM from a family name and a scale."""

import inspect
from typing import Any

import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from mixture_assets.core.errors import MixtureError
from mixture_assets.core.names import nearest
from mixture_assets.core.run import ModelSpec

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

_MOST_LAYERS = 1000


def model_config(spec: ModelSpec, *, vocab_size: int, eos_id: int = 0) -> PretrainedConfig:
    """The configuration of `spec`; families other than llama and gpt2 take `overrides` only."""
    config = unchecked_config(spec, vocab_size=vocab_size, eos_id=eos_id)
    _check_overrides(spec, config)
    return config


def unchecked_config(spec: ModelSpec, *, vocab_size: int, eos_id: int = 0) -> PretrainedConfig:
    """The same, though it may be one that no run may have."""
    shape = {
        "llama": _llama_shape,
        "gpt2": _gpt2_shape,
    }.get(spec.family, lambda _: {})(spec)
    common = {
        "vocab_size": vocab_size,
        "bos_token_id": eos_id,
        "eos_token_id": eos_id,
        "tie_word_embeddings": spec.tie_embeddings,
    }
    try:
        return AutoConfig.for_model(spec.family, **{**common, **shape, **spec.overrides})
    except StrictDataclassError as error:
        raise MixtureError(
            f"[model] does not make a {spec.family!r}: {_words(error)}",
            hint="see overrides in the experiment file",
        ) from error
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        if spec.family in transformers.models.auto.configuration_auto.CONFIG_MAPPING:
            raise _unbuildable(spec, error) from error
        known = sorted(transformers.models.auto.configuration_auto.CONFIG_MAPPING)
        raise MixtureError(
            f"unknown model family {spec.family!r}{nearest(spec.family, known)}",
            hint="[model] family is 'llama', 'gpt2' or a model type of transformers",
        ) from error


def _from_config(spec: ModelSpec, config: PretrainedConfig, **options: Any) -> PreTrainedModel:
    """The model of a configuration; overrides can ask for one that cannot be built."""
    try:
        return AutoModelForCausalLM.from_config(config, **options)  # type: ignore[no-any-return]
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise _unbuildable(spec, error) from error
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise _unbuildable(spec, error) from error


def _unbuildable(spec: ModelSpec, error: Exception) -> MixtureError:
    return MixtureError(
        f"[model] does not make a {spec.family!r}: {_words(error)}",
        hint="see family, sizes and overrides in the experiment file",
    )


def _words(error: Exception) -> str:
    """Another library's error on one line, its kind first, without the full stop."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(". ")


def build_model(
    spec: ModelSpec,
    *,
    vocab_size: int,
    seed: int,
    attention: str,
    eos_id: int = 0,
    device: str = "cpu",
) -> PreTrainedModel:
    """A freshly initialised model; the same seed gives the same weights on every device."""
    config = model_config(spec, vocab_size=vocab_size, eos_id=eos_id)
    torch.manual_seed(seed)
    model = _from_config(spec, config, attn_implementation=attention)
    torch.nn.Module.to(model, device)  # in place; transformers hides the type of its own `to`
    return model


def count_parameters(spec: ModelSpec, *, vocab_size: int) -> tuple[int, int]:
    """(all parameters, those that take part in a matrix product), without allocating any."""
    with torch.device("meta"):
        model = _from_config(spec, model_config(spec, vocab_size=vocab_size))
    return parameters_of(model)


def parameters_of(model: PreTrainedModel) -> tuple[int, int]:
    """(all parameters, those that take part in a matrix product).

    A tied embedding counts in both: it is the output projection too.
    """
    n_all = sum(p.numel() for p in model.parameters())
    return n_all, n_all - sum(p.numel() for p in _looked_up(model))


def frozen_of(model: PreTrainedModel) -> int:
    """Parameters that take part in a matrix product and are not trained."""
    looked_up = {id(p) for p in _looked_up(model)}
    frozen = (p for p in model.parameters() if not p.requires_grad)
    return sum(p.numel() for p in frozen if id(p) not in looked_up)


def _looked_up(model: PreTrainedModel) -> list[torch.Tensor]:
    """Embeddings that no matrix product has."""
    head = model.get_output_embeddings()
    tied = head.weight if head is not None else None
    tables = [m.weight for m in model.modules() if isinstance(m, torch.nn.Embedding)]
    return [weight for weight in tables if weight is not tied]


def flops_per_token(
    n_matmul: int, config: PretrainedConfig, context: int, *, n_frozen: int = 0
) -> float:
    """Training FLOPs per token: 6 N, and 12 L d C for the attention products (not halved).

    Of the 6, two are forward, two are the gradient of what goes in and two that of the weight:
    the last are not computed for the `n_frozen` of the parameters that are not trained. That the
    lowest layers' inputs need no gradient either is not counted.
    """
    layers = getattr(config, "num_hidden_layers", 0)
    width = getattr(config, "hidden_size", 0)
    return 6.0 * n_matmul - 2.0 * n_frozen + 12.0 * layers * width * context


def _llama_shape(spec: ModelSpec) -> dict[str, Any]:
    return {
        "hidden_size": spec.width,
        "intermediate_size": max(16, round(spec.width * 8 / 3 / 16) * 16),
        "num_hidden_layers": spec.layers,
        "num_attention_heads": spec.heads,
        "num_key_value_heads": spec.heads,
        "max_position_embeddings": spec.context,
    }


def _gpt2_shape(spec: ModelSpec) -> dict[str, Any]:
    # Dropout off: a step must not depend on a random state that a resume would have to restore.
    keys = ("resid_pdrop", "embd_pdrop", "attn_pdrop", "summary_first_dropout")
    off = dict.fromkeys(keys, 0.0)
    return off | {
        "n_embd": spec.width,
        "n_layer": spec.layers,
        "n_head": spec.heads,
        "n_positions": spec.context,
    }


def known_keys(config: PretrainedConfig) -> set[str]:
    """What a configuration of this class can be told; it keeps everything else in silence."""
    of_class = type(config)
    signature = inspect.signature(of_class.__init__).parameters
    return {*signature, *getattr(of_class, "__dataclass_fields__", ()), *config.attribute_map}


def _check_overrides(spec: ModelSpec, config: PretrainedConfig) -> None:
    """Refuse keys that transformers would keep in silence while it trains another model."""
    known = known_keys(config)
    for key in spec.overrides:
        if key not in known:
            raise MixtureError(
                f"[model] overrides has {key!r}, which {type(config).__name__} does not know"
                f"{nearest(key, known)}",
                hint=f"see the documentation of {type(config).__name__}",
            )
    n_layers = getattr(config, "num_hidden_layers", 0)
    if isinstance(n_layers, int) and n_layers > _MOST_LAYERS:  # each is built before it is counted
        raise MixtureError(
            f"[model] overrides asks for {n_layers:,} layers, more than {_MOST_LAYERS:,}",
            hint="mend the number of layers in the experiment file",
        )
    on = {k: v for k, v in config.to_dict().items() if "drop" in k and _is_positive(v)}
    if on:
        raise MixtureError(
            f"{spec.family!r} is configured with dropout ({', '.join(sorted(on))}), "
            "which exact resume does not allow",
            hint=f"set [model] overrides = {{{', '.join(f'{k} = 0.0' for k in sorted(on))}}}",
        )


def _is_positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0
