"""An experiment: one TOML file, read into frozen dataclasses, with every mistake named.

Paths are relative to the TOML file, so a file means the same from any working directory.
"""

import dataclasses
import tomllib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from mixture_assets.core.errors import MixtureError
from mixture_assets.core.names import nearest, validate_domain
from mixture_assets.core.problem import Constraints, Objective
from mixture_assets.core.run import ModelSpec, TrainingSpec

Way = Literal["full", "extend", "reuse"]  # see mixture_assets.search


@dataclass(frozen=True, kw_only=True)
class DatasetSource:
    """A domain that comes from a `datasets` dataset instead of a folder of shards."""

    path: str  # local folder or hub name
    config: str = ""
    split: str = "train"
    revision: str = ""
    text_field: str = "text"
    max_documents: int = 0  # 0: all of them


@dataclass(frozen=True, kw_only=True)
class DataSpec:
    """Where the raw shards are, and how they become training and validation tokens."""

    root: str  # folder or fsspec URL that holds one folder per domain
    domains: tuple[str, ...] = ()  # empty: every folder under root
    harvest: bool = False  # fill root from the Python installation (the demo's corpus)
    text_field: str = "text"
    txt_document_chars: int = 4000  # longer txt files are cut at paragraphs; 0 keeps them whole
    validation_fraction: float = 0.05  # of a domain's documents, by content hash
    validation_tokens: int = 16_384  # evaluated per domain
    max_shared: float = 0.1  # share of documents that two domains may have in common
    settle_seconds: float = 10.0  # a folder without a _SUCCESS has landed when unchanged so long
    datasets: Mapping[str, DatasetSource] = field(default_factory=dict)  # by domain


@dataclass(frozen=True, kw_only=True)
class TokenizerSpec:
    """A byte-level BPE trained on a balanced sample, or any fast tokenizer by path or name."""

    vocab_size: int = 4096  # used when name is empty
    name: str = ""
    sample_bytes_per_domain: int = 1_000_000


@dataclass(frozen=True, kw_only=True)
class ProxySpec:
    """The proxy runs: DDO at one or two scales."""

    budgets_tokens: tuple[int, ...] = (300_000, 900_000)  # base run of each scale
    grow: float = 3.0
    shrink: float = 0.2
    floor: float = 0.2  # of the uniform share
    seeds: tuple[int, ...] = (0,)  # the whole design is repeated for each
    base_seeds: tuple[int, ...] = (1, 2)  # further repeats of the base run: the noise floor
    rule: Literal["safe", "paper"] = "safe"
    bootstrap: int = 200
    evaluations: int = 1


@dataclass(frozen=True, kw_only=True)
class RefitSpec:
    """What happens to the proxy runs when domains come, change or go."""

    way: Way = "extend"


@dataclass(frozen=True, kw_only=True)
class FullSpec:
    """The runs that the weights are for, and their baselines."""

    budget_tokens: int
    seeds: tuple[int, ...] = (0, 1)
    mixtures: tuple[str, ...] = ("natural", "uniform", "proposal")
    weights: Mapping[str, float] = field(default_factory=dict)  # for the mixture named 'custom'
    evaluations: int = 12


@dataclass(frozen=True, kw_only=True)
class ComputeSpec:
    """How many training processes run at a time on this machine."""

    workers: int = 0  # 0: one per core on CPU, one on a GPU
    attempts: int = 3  # starts of a run that the machine broke (never of a user's mistake)


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """Everything that one TOML file says."""

    name: str
    store: str = "../data/store"
    folder: str = "."  # of the TOML file; set by load_experiment
    data: DataSpec
    full: FullSpec
    tokenizer: TokenizerSpec = field(default_factory=TokenizerSpec)
    model: ModelSpec = field(default_factory=ModelSpec)
    training: TrainingSpec = field(default_factory=TrainingSpec)
    proxy: ProxySpec = field(default_factory=ProxySpec)
    refit: RefitSpec = field(default_factory=RefitSpec)
    proxy_model: ModelSpec | None = None  # None: the full run's model, as in the paper
    objective: Objective = field(default_factory=Objective)
    constraints: Constraints = field(default_factory=Constraints)
    compute: ComputeSpec = field(default_factory=ComputeSpec)

    @property
    def store_path(self) -> Path:
        """The store's folder."""
        return (Path(self.folder) / self.store).resolve()

    @property
    def data_root(self) -> str:
        """The raw root: a URL as it is, a path made absolute."""
        root = self.data.root
        return root if "://" in root else str((Path(self.folder) / root).resolve())

    def beside(self, name: str) -> str:
        """A file or folder relative to the TOML file if it is there, else the name as it is."""
        path = Path(self.folder) / name
        return str(path.resolve()) if path.exists() else name


def load_experiment(path: Path) -> Experiment:
    """Read and check one experiment file; MixtureError names the key that is wrong."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise MixtureError(
            f"no experiment file at {str(path)!r}", hint="pass --experiment FILE"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise MixtureError(
            f"{path.name} is not valid TOML: {error}", hint="see experiments/demo.toml"
        ) from error
    experiment: Experiment = _build(Experiment, table, path.name)
    experiment = dataclasses.replace(experiment, folder=str(path.parent))
    _check(experiment, path.name)
    return experiment


def _build(cls: Any, table: Mapping[str, Any], where: str) -> Any:
    """Fill a dataclass from a TOML table, key by key."""
    hints = typing.get_type_hints(cls)
    known = [f.name for f in dataclasses.fields(cls) if f.name != "folder"]
    for key in table:
        if key not in known:
            raise MixtureError(
                f"{where} has an unknown key {key!r}{nearest(key, known)}",
                hint=f"known keys: {', '.join(known)}",
            )
    values = {k: _convert(hints[k], v, f"{where}: {k}") for k, v in table.items()}
    required = [
        f.name
        for f in dataclasses.fields(cls)
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    missing = [name for name in required if name not in values]
    if missing:
        raise MixtureError(
            f"{where} lacks {', '.join(map(repr, missing))}", hint="see experiments/demo.toml"
        )
    return cls(**values)


def _convert(hint: Any, value: Any, where: str) -> Any:
    """One TOML value as the annotated type, or MixtureError."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType:
        return _convert(next(a for a in args if a is not type(None)), value, where)
    if dataclasses.is_dataclass(hint) and isinstance(value, dict):
        return _build(hint, value, where)
    if origin is Literal:
        if value not in args:
            raise MixtureError(
                f"{where} must be one of {', '.join(map(repr, args))}, got {value!r}"
            )
        return value
    if origin is tuple and isinstance(value, list):
        return tuple(_convert(args[0], item, where) for item in value)
    if origin is not None and issubclass(origin, Mapping) and isinstance(value, dict):
        return {key: _convert(args[1], item, f"{where}.{key}") for key, item in value.items()}
    return _scalar(hint, value, where)


def _scalar(hint: Any, value: Any, where: str) -> Any:
    """A number, a text or a truth value as the annotated type, or MixtureError."""
    if hint is Any:
        return value
    if hint is int and isinstance(value, float) and value.is_integer():
        return int(value)  # 5e9 is a float in TOML
    if hint is float and type(value) is int:
        return float(value)
    if isinstance(hint, type) and type(value) is hint:
        return value
    kind = getattr(hint, "__name__", str(hint))
    raise MixtureError(f"{where} must be {kind}, got {value!r}")


def _check(experiment: Experiment, where: str) -> None:
    """What types cannot say."""
    e = experiment
    rules = [
        (0 < e.data.validation_fraction < 1, "data: validation_fraction", "between 0 and 1"),
        (e.data.validation_tokens > 0, "data: validation_tokens", "> 0"),
        (e.full.budget_tokens > 0, "full: budget_tokens", "> 0"),
        (len(e.full.seeds) > 0, "full: seeds", "at least one seed"),
        (e.full.evaluations > 0, "full: evaluations", "> 0"),
        (len(e.proxy.seeds) > 0, "proxy: seeds", "at least one seed"),
        (len(e.proxy.budgets_tokens) in (1, 2), "proxy: budgets_tokens", "one or two budgets"),
        (min(e.proxy.budgets_tokens, default=1) > 0, "proxy: budgets_tokens", "> 0"),
        (0 < e.proxy.shrink < 1 < e.proxy.grow, "proxy: shrink and grow", "around 1"),
        (0 <= e.proxy.floor < 1, "proxy: floor", "in [0, 1)"),
        (e.constraints.max_epochs > 0, "constraints: max_epochs", "> 0"),
        (0 <= e.constraints.floor < 1, "constraints: floor", "in [0, 1)"),
        (e.proxy.evaluations > 0, "proxy: evaluations", "> 0"),
        (e.proxy.bootstrap >= 0, "proxy: bootstrap", ">= 0"),
        (e.tokenizer.vocab_size >= 257, "tokenizer: vocab_size", ">= 257: bytes and end of text"),
        (e.tokenizer.sample_bytes_per_domain > 0, "tokenizer: sample_bytes_per_domain", "> 0"),
        (0 <= e.data.max_shared <= 1, "data: max_shared", "in [0, 1]"),
        (e.data.txt_document_chars >= 0, "data: txt_document_chars", ">= 0"),
        (e.data.settle_seconds >= 0, "data: settle_seconds", ">= 0"),
        (e.compute.workers >= 0, "compute: workers", ">= 0"),
        (e.training.threads > 0, "training: threads", "> 0"),
        (e.training.learning_rate > 0, "training: learning_rate", "> 0"),
        (e.training.clip_norm > 0, "training: clip_norm", "> 0"),
        (0 <= e.training.warmup_fraction < 1, "training: warmup_fraction", "in [0, 1)"),
        (0 <= e.training.final_fraction <= 1, "training: final_fraction", "in [0, 1]"),
        (0 <= e.training.weight_decay, "training: weight_decay", ">= 0"),
        (0 <= min(e.training.beta1, e.training.beta2), "training: beta1, beta2", ">= 0"),
        (max(e.training.beta1, e.training.beta2) < 1, "training: beta1, beta2", "< 1"),
        (len(set(e.full.seeds)) == len(e.full.seeds), "full: seeds", "different"),
        (len(set(e.proxy.seeds)) == len(e.proxy.seeds), "proxy: seeds", "different"),
        (min(e.objective.weights.values(), default=0) >= 0, "objective: weights", ">= 0"),
        (max(e.objective.weights.values(), default=1) > 0, "objective: weights", "> 0 somewhere"),
        (e.compute.attempts > 0, "compute: attempts", "> 0"),
    ]
    for section, model in (("model", e.model), ("proxy_model", e.proxy_model or e.model)):
        fits = e.training.batch_tokens >= model.context > 0
        rules += [
            (fits, f"{section}: context", "from 1 to [training] batch_tokens"),
            (min(model.width, model.layers, model.heads) > 0, f"{section}", "of sizes > 0"),
            (model.width % max(1, model.heads) == 0, f"{section}: width", "a multiple of heads"),
        ]
    for holds, key, expected in rules:
        if not holds:
            raise MixtureError(f"{where}: {key} must be {expected}")
    budgets = e.proxy.budgets_tokens
    if list(budgets) != sorted(set(budgets)):
        raise MixtureError(f"{where}: proxy: budgets_tokens must grow, got {list(budgets)}")
    validate_domain(e.name)
    for domain in (*e.data.domains, *e.data.datasets):
        validate_domain(domain)
    known = ("natural", "uniform", "proposal", "custom")
    for mixture in e.full.mixtures:
        if mixture not in known:
            raise MixtureError(
                f"{where}: full: mixtures has an unknown name {mixture!r}{nearest(mixture, known)}",
                hint=f"known names: {', '.join(known)}",
            )
