"""What a configuration of transformers says about the model, as a ModelSpec.

Differs from reading config.json: what does not change the function of the model or its gradient
(how it is stored, initialised, or asked to generate) is left out, so that it names nothing.
"""

from dataclasses import replace
from typing import Any

from transformers import PretrainedConfig

from mixture_assets.core.errors import MixtureError, shortlist
from mixture_assets.core.run import ModelSpec
from mixture_assets.training.model import known_keys, model_config, unchecked_config

_NO_ARCHITECTURE = {
    "architectures",
    "bos_token_id",
    "chunk_size_feed_forward",
    "dtype",
    "eos_token_id",
    "id2label",
    "initializer_range",
    "label2id",
    "output_attentions",
    "output_hidden_states",
    "pad_token_id",
    "problem_type",
    "return_dict",
    "transformers_version",
    "use_cache",
    "vocab_size",  # a run has it from its tokenizer
}


def describe(config: PretrainedConfig) -> ModelSpec:
    """The ModelSpec that `model_config` makes the same architecture of.

    Raises:
        MixtureError: There is none, as for a model with dropout.
    """
    spec = ModelSpec(
        family=config.model_type,
        width=int(getattr(config, "hidden_size", 0)),
        layers=int(getattr(config, "num_hidden_layers", 0)),
        heads=int(getattr(config, "num_attention_heads", 0)),
        context=int(getattr(config, "max_position_embeddings", 0)),
        tie_embeddings=bool(config.tie_word_embeddings),
    )
    said, vocab_size = _architecture(config), config.vocab_size
    plain = _architecture(unchecked_config(spec, vocab_size=vocab_size))
    overrides = {k: v for k, v in said.items() if k not in plain or plain[k] != v}
    spec = replace(spec, overrides=overrides)
    again = _architecture(model_config(spec, vocab_size=vocab_size))
    if lost := [k for k in {*said, *again} if said.get(k) != again.get(k)]:
        raise MixtureError(f"a {spec.family!r} with its {shortlist(lost)} cannot be described")
    return spec


def _architecture(config: PretrainedConfig) -> dict[str, Any]:
    known = known_keys(config) - _NO_ARCHITECTURE
    return {k: v for k, v in sorted(config.to_dict().items()) if k in known}
