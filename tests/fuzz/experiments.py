"""Experiment files as people mistype them: a good one, with some of its keys changed."""

import datetime
import json
import math
from typing import Any

from hypothesis import strategies as st

BASE: dict[str, Any] = {
    "name": "fuzz",
    "store": "store",
    "data": {
        "root": "raw",
        "domains": [],
        "harvest": False,
        "text_field": "text",
        "txt_document_chars": 4000,
        "validation_fraction": 0.2,
        "validation_tokens": 600,
        "max_shared": 0.1,
        "datasets": {},
    },
    "tokenizer": {"vocab_size": 320, "name": "", "sample_bytes_per_domain": 10_000},
    "model": {
        "family": "llama",
        "width": 16,
        "layers": 1,
        "heads": 2,
        "context": 32,
        "tie_embeddings": True,
        "overrides": {"initializer_range": 0.1},
    },
    "training": {
        "batch_tokens": 256,
        "learning_rate": 1e-2,
        "schedule": "cosine",
        "warmup_fraction": 0.1,
        "final_fraction": 0.1,
        "weight_decay": 0.1,
        "beta1": 0.9,
        "beta2": 0.95,
        "clip_norm": 1.0,
        "precision": "fp32",
        "compile": False,
        "threads": 1,
    },
    "proxy": {
        "budgets_tokens": [2048, 6144],
        "grow": 3.0,
        "shrink": 0.2,
        "floor": 0.2,
        "seeds": [0],
        "base_seeds": [1],
        "rule": "safe",
        "bootstrap": 20,
        "evaluations": 1,
    },
    "objective": {"metric": "perplexity", "weights": {}},
    "constraints": {"max_epochs": 20, "floor": 0.0},
    "compute": {"workers": 0, "attempts": 3},
    "full": {
        "budget_tokens": 10_000,
        "seeds": [0, 1],
        "mixtures": ["natural", "uniform", "proposal"],
        "evaluations": 3,
    },
}
_NUMBERS = st.one_of(
    st.sampled_from(
        [0, 1, -1, 2, 3, 2**31, 2**53, 2**63, 2**64, 10**9, 10**15, 10**30, 10**400, -(10**30)]
    ),
    st.sampled_from([0.0, -0.0, 0.5, 1.0, 1e-300, 5e-324, 1e300, 1.7e308, 1e9, 5e9, 1e15]),
    st.sampled_from([math.nan, math.inf, -math.inf]),
    st.integers(),
    st.floats(),
)
_NAMES = [
    "",
    "x",
    "natural",
    "custom",
    "animals",
    "..",
    "../up",
    "a/b",
    "/etc/passwd",
    "/dev/null",
    "/dev/null/x",
    "~",
    "a\\b",
    "a\0b",
    "a\nb",
    "\x1b[31m",
    "x" * 300,
    "x" * 5000,
    "\U0001f600",
    "s3://bucket/raw",
    "nonsense://x",
    "simplecache::file:///tmp",
    "::",
    "memory://",
    "file://",
    "http://[",
    "tiny.toml",
    "fuzz.toml",
    "-rf",
    ".hidden",
    "nan",
    "5e9",
]
_WORDS = st.one_of(st.sampled_from(_NAMES), st.text(max_size=9).map(lambda t: _plain(t)))
_DATES = st.sampled_from(
    [datetime.date(2026, 1, 1), datetime.datetime(2026, 1, 1), datetime.time(12)]
)
_SCALARS = st.one_of(_NUMBERS, _NUMBERS, _WORDS, st.booleans(), _DATES)
_OVERRIDES = st.dictionaries(
    st.sampled_from(
        [
            "hidden_size",
            "intermediate_size",
            "num_hidden_layers",
            "num_attention_heads",
            "num_key_value_heads",
            "head_dim",
            "hidden_act",
            "initializer_range",
            "rms_norm_eps",
            "rope_parameters",
            "max_position_embeddings",
            "vocab_size",
            "pad_token_id",
            "eos_token_id",
            "tie_word_embeddings",
            "attention_dropout",
            "dtype",
            "model_type",
            "architectures",
            "auto_map",
            "attn_implementation",
            "trust_remote_code",
            "quantization_config",
            "use_cache",
            "n_embd",
            "id2label",
        ]
    ),
    st.one_of(_SCALARS, st.lists(_SCALARS, max_size=2), st.just({"rope_type": "x"})),
    min_size=1,
    max_size=2,
)
_DOMAIN_WEIGHTS = st.dictionaries(
    st.sampled_from(["animals", "numbers", "plants", "plant", "../up", "a\nb", ""]),
    _SCALARS,
    max_size=4,
)
_VALUES = st.one_of(
    _SCALARS,
    _SCALARS,
    st.lists(_SCALARS, max_size=3),
    st.lists(_NUMBERS, max_size=3),
    st.lists(_WORDS, max_size=3),
    st.just([0] * 2000),
    st.just(list(range(3000))),
    st.just({}),
    _DOMAIN_WEIGHTS,
    st.recursive(_SCALARS, lambda inner: st.lists(inner, max_size=2), max_leaves=4),
)


def _plain(text: str) -> str:
    """Without halves of characters, which no TOML can hold."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _near(value: Any) -> Any:
    """Another value of the same type: gets past the types, into what they mean."""
    if isinstance(value, bool):
        return st.booleans()
    if isinstance(value, int):
        return st.one_of(_NUMBERS, st.integers(-1, 5000), st.integers(1, 64).map(lambda n: n * 64))
    if isinstance(value, float):
        return st.one_of(_NUMBERS, st.floats(0, 1), st.floats(0, 100))
    if isinstance(value, str):
        return st.one_of(
            _WORDS,
            st.sampled_from(["gpt2", "wsd", "paper", "loss", "bf16", "auto", "bert", "mamba"]),
        )
    if isinstance(value, list):
        item = _near(value[0]) if value else _WORDS
        return st.lists(item, max_size=4)
    return st.one_of(_DOMAIN_WEIGHTS, _OVERRIDES)


_DATASETS = st.dictionaries(
    _WORDS,
    st.fixed_dictionaries({"path": _WORDS}, optional={"split": _WORDS, "max_documents": _NUMBERS}),
    min_size=1,
    max_size=2,
)


@st.composite
def _changed(draw: Any) -> dict[str, Any]:
    table: dict[str, Any] = {k: dict(v) if isinstance(v, dict) else v for k, v in BASE.items()}
    for _ in range(draw(st.integers(0, 3))):
        _change(draw, table)
    extra = draw(st.integers(0, 19))
    sections = {k: v if isinstance(v, dict) else {} for k, v in table.items()}
    if extra == 0:
        sections["data"]["datasets"] = draw(_DATASETS)
    if extra == 1:
        sections["full"] |= {"weights": draw(_DOMAIN_WEIGHTS), "mixtures": ["custom"]}
    if extra == 2:
        sections["model"]["overrides"] = draw(_OVERRIDES)
    if extra == 3:
        table["proxy_model"] = table["model"]
    return table


def _change(draw: Any, table: dict[str, Any]) -> None:
    """One mistake: a value, a key, or a whole section."""
    section = draw(st.sampled_from(sorted(table)))
    inner = table[section]
    if not isinstance(inner, dict) or not inner or draw(st.integers(0, 9)) == 0:
        table[section] = draw(st.one_of(_VALUES, _WORDS))
        return
    key = draw(st.sampled_from(sorted(inner)))
    change = draw(st.sampled_from(["near"] * 6 + ["any", "any", "drop", "rename"]))
    if change == "near":
        inner[key] = draw(_near(inner[key]))
    elif change == "any":
        inner[key] = draw(_VALUES)
    elif change == "drop":
        inner.pop(key)
    else:
        inner[key + draw(st.sampled_from(["s", " ", "\n", "-x"]))] = inner.pop(key)


def toml_value(value: Any) -> str:
    """One value as TOML."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml_key(k)} = {toml_value(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml_value, value)) + "]"
    if isinstance(value, str):
        return toml_key(value)
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, int) and abs(value) > 10**300:  # more digits than str() gives away
        return ("-" if value < 0 else "") + "1" + "0" * 5000
    return repr(value)


def toml_key(text: str) -> str:
    """A quoted key, or string: JSON's escapes are TOML's, but for one character."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def toml_text(table: dict[str, Any]) -> str:
    """A TOML file."""
    scalars = [f"{toml_key(k)} = {toml_value(v)}" for k, v in table.items() if not _is_table(v)]
    sections = [
        f"[{toml_key(k)}]\n" + "\n".join(f"{toml_key(a)} = {toml_value(b)}" for a, b in v.items())
        for k, v in table.items()
        if _is_table(v)
    ]
    return "\n".join([*scalars, *sections]) + "\n"


def _is_table(value: Any) -> bool:
    return isinstance(value, dict)


@st.composite
def _torn(draw: Any, text: str) -> bytes:
    """Most often the text as it is; else cut, flipped, doubled or buried."""
    content = text.encode()
    how = draw(st.sampled_from(["none"] * 12 + ["cut", "flip", "twice", "deep", "bom", "utf16"]))
    at = draw(st.integers(0, len(content) - 1)) if how in ("cut", "flip") else 0
    if how == "cut":
        return content[:at]
    if how == "flip":
        return content[:at] + bytes([content[at] ^ draw(st.integers(1, 255))]) + content[at + 1 :]
    if how == "twice":
        return content + content
    if how == "deep":
        depth = draw(st.sampled_from([50, 3000]))
        opened = draw(st.sampled_from([("[", "]"), ("{a=", "}")]))
        return content + b"\n[deep]\nx = " + (opened[0] * depth + opened[1] * depth).encode()
    if how == "bom":
        return b"\xef\xbb\xbf" + content
    return content.decode().encode("utf-16") if how == "utf16" else content


def experiment_files() -> Any:
    """The bytes of an experiment file: most of them TOML, many of them with a mistake."""
    return _changed().map(toml_text).flatmap(_torn)
