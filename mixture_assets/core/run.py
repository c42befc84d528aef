"""What names a training run: everything that its folder depends on."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from mixture_assets.core.digest import digest

TRAINING_VERSION = 1  # raise when a change of code changes a run's numbers
METRIC_VERSION = 1  # raise when a change of code changes a measured loss
_LATER_FIELDS = {"online": None, "start": None, "snapshots": 0}  # of RunSpec: not in JSON if unset
AlignmentWay = Literal["auto", "naive", "jvp", "finite_difference", "ghost"]  # training.alignment


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """Shape of a decoder: a Hugging Face architecture by family name, and its scale."""

    family: str = "llama"  # 'llama', 'gpt2', or any causal LM config of transformers by model type
    width: int = 64
    layers: int = 2
    heads: int = 2
    context: int = 64  # tokens
    tie_embeddings: bool = True
    overrides: Mapping[str, Any] = field(default_factory=dict)  # passed to the config as they are


@dataclass(frozen=True, kw_only=True)
class TrainingSpec:
    """Hyper-parameters of one run."""

    batch_tokens: int = 2048
    learning_rate: float = 3e-3
    schedule: Literal["cosine", "wsd"] = "cosine"
    warmup_fraction: float = 0.1
    final_fraction: float = 0.1  # of the peak learning rate, at the last step
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.95
    clip_norm: float = 1.0
    precision: Literal["fp32", "bf16", "auto"] = "fp32"  # auto: bf16 where the machine has it
    compile: bool = False
    threads: int = 1  # on CPU; one process per core beats one process on all of them


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What a run is measured on. Not part of its name: its weights do not depend on it.

    A finished run that is asked for another measurement is not trained again: its model is kept.
    """

    validation_sets: Mapping[str, str]  # domain -> digest of its validation documents
    evaluations: int = 1  # scheduled during training, the one at the end included
    metric_version: int = METRIC_VERSION

    def to_json(self) -> dict[str, Any]:
        """A JSON value that `from_json` reads back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Measurement":
        """The inverse of `to_json`."""
        return cls(**value)


@dataclass(frozen=True, kw_only=True)
class OnlineSpec:
    """How a run steers its own mixture towards a specialist set while it trains."""

    method: str  # a name in methods.online
    settings: Mapping[str, Any]  # of the method
    specialist: str  # digest of the token set that steers, of the domain SPECIALIST
    specialist_tokens: int  # of the batch behind each gradient of the specialist set
    group_tokens: int = 0  # of each group in an update step: see OnlineLayout.planned
    alignment: AlignmentWay = "auto"  # to the inner products
    clip_norm: float = 1.0  # of gradients before the inner product; 0: none
    clip_by: str = "training"  # whose norm scales a domain's gradient: 'training' or 'domain'
    most_tokens: Mapping[str, int] = field(default_factory=dict)  # by domain: max_epochs
    basis: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # empty: the domains


@dataclass(frozen=True, kw_only=True)
class LoraSpec:
    """Low-rank adapters that are trained in the place of a model's own weights."""

    rank: int = 8
    alpha: float = 16.0  # an adapter is scaled by alpha / rank
    targets: tuple[str, ...] = ()  # last names of layers; empty: every linear layer of the blocks


@dataclass(frozen=True, kw_only=True)
class StartSpec:
    """The model whose weights a run goes on from, instead of fresh ones."""

    model: str  # digest of a model in the store: training.start.adopt_model
    lora: LoraSpec | None = None  # None: every weight is trained

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "StartSpec":
        """What `dataclasses.asdict` made a JSON value of."""
        lora = value["lora"]
        if lora is not None:
            lora = LoraSpec(**(lora | {"targets": tuple(lora["targets"])}))
        return cls(model=value["model"], lora=lora)


@dataclass(frozen=True, kw_only=True)
class RunSpec:
    """One training run: all that its weights depend on. Its digest is its name and its folder.

    The tokens of a run that steers itself are those of its first mixture, kept to the end.
    """

    tokens: Mapping[str, int]  # requested tokens by domain
    seed: int
    model: ModelSpec
    training: TrainingSpec
    vocab_size: int
    token_sets: Mapping[str, str]  # domain -> digest of its training tokens
    numeric_path: str  # device, precision and kernels: see training.device
    tokenizer: str = ""  # digest
    training_version: int = TRAINING_VERSION
    online: OnlineSpec | None = None
    start: StartSpec | None = None
    snapshots: int = 0  # with the optimizer's moments, at the ends of so many equal parts

    @property
    def budget_tokens(self) -> int:
        """Tokens that the run asks for, over all domains."""
        return sum(self.tokens.values())

    @property
    def digest(self) -> str:
        """The run's name."""
        return digest(self.to_json())

    def to_json(self) -> dict[str, Any]:
        """A JSON value that `from_json` reads back."""
        value = dataclasses.asdict(self)
        for name, unset in _LATER_FIELDS.items():
            if value[name] == unset:
                del value[name]  # runs without one keep the names that they had before it
        return value

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "RunSpec":
        """The inverse of `to_json`."""
        fields = dict(value)
        if fields.get("online") is not None:
            fields["online"] = OnlineSpec(**fields["online"])
        if fields.get("start") is not None:
            fields["start"] = StartSpec.from_json(fields["start"])
        fields["model"] = ModelSpec(**fields["model"])
        fields["training"] = TrainingSpec(**fields["training"])
        return cls(**fields)
