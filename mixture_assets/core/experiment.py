"""An experiment: one TOML file, read into frozen dataclasses, with every mistake named.

Paths are relative to the TOML file, so a file means the same from any working directory.
"""

import dataclasses
import math
import tomllib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from mixture_assets.core.errors import MixtureError, quoted
from mixture_assets.core.experiment_rules import check
from mixture_assets.core.names import nearest
from mixture_assets.core.problem import Constraints, Objective
from mixture_assets.core.run import AlignmentWay, ModelSpec, TrainingSpec

Way = Literal["full", "extend", "reuse"]  # see mixture_assets.search
_MOST = (1 << 63) - 1  # what the database holds


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
    """The proxy runs: DDO at one or two scales, or a swarm of random mixtures."""

    method: Literal["ddo", "swarm"] = "ddo"  # ddo at two scales is AutoScale
    swarm_runs: int = 32  # mixtures of a swarm, each as long as the last of budgets_tokens
    budgets_tokens: tuple[int, ...] = (300_000, 900_000)  # base run of each scale
    grow: float = 3.0
    shrink: float = 0.2
    floor: float = 0.2  # of the uniform share
    seeds: tuple[int, ...] = (0,)  # the whole design is repeated for each
    base_seeds: tuple[int, ...] = (1, 2)  # further repeats of the base run: the noise floor
    rule: Literal["safe", "paper", "additive"] = "safe"
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
class SpecialistSpec:
    """Text that says what the model should be good at: a folder or file, or a domain's share."""

    path: str = ""  # folder or file; files as in a domain
    domain: str = ""  # instead: the documents of this domain that are held out of training
    judging_fraction: float = 0.5  # of the documents; the others steer
    most_tokens: int = 65_536  # of each of the two parts


@dataclass(frozen=True, kw_only=True)
class OnlineSettings:
    """How full runs named 'dga' or 'doge' steer themselves."""

    start: Literal["natural", "uniform", "importance"] = "natural"
    alignment: AlignmentWay = "auto"
    specialist_tokens: int = 0  # of the batch behind each update; 0: half of batch_tokens, or 256
    group_tokens: int = 256  # of each domain in an update step, or what a tenth holds
    clip_norm: float = 1.0  # of gradients before the inner product; 0: none
    clip_by: Literal["training", "domain"] = "training"
    basis: Mapping[str, str] = field(default_factory=dict)  # name -> text: distributions to mix
    dga: Mapping[str, Any] = field(default_factory=dict)  # settings of the method
    doge: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class SelectionSpec:
    """What is chosen from which pool, by what, and how it is found out whether that pays.

    Every model is first trained on the natural mixture of the domains for `base_tokens`, or is
    a folder named in `base`; then it goes on from there on each subset.
    """

    pool: str = ""  # folder, file or URL of documents to choose from; empty: the domains' own
    domains: tuple[str, ...] = ()  # without a pool: the domains whose documents it is; empty: all
    pool_tokens: int = 0  # a sample of so many; 0: the whole pool
    methods: tuple[str, ...] = ("random", "bm25", "embedding", "perplexity", "gradient")
    shares: tuple[float, ...] = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0)  # of the pool's tokens
    pilot_shares: tuple[float, ...] = (0.025, 0.05, 0.1)  # trained first, to predict the others
    budget_share: float = 0.5  # one of shares: the budget that is planned for, in whole pools
    seeds: tuple[int, ...] = (0, 1, 2)
    models: Mapping[str, ModelSpec] = field(default_factory=dict)  # empty: [model], as 'model'
    selector: str = ""  # which of the models scores; empty: the first by name
    base_tokens: int = 1_000_000
    base: Mapping[str, str] = field(default_factory=dict)  # model -> folder to go on from
    learning_rate: float = 0.0  # of going on; 0: as [training]
    batch_tokens: int = 0  # likewise
    lora_rank: int = 0  # 0: all weights are trained
    embedding: str = "tfidf"
    order: Literal["middle", "lowest", "highest"] = "middle"  # of perplexities
    dimensions: int = 8192  # of projected gradients
    reference_epochs: int = 25  # of the selector over the documents that steer: perplexity
    warmup_share: float = 0.05  # of the pool, at random: gradient
    warmup_epochs: int = 4  # each leaves a snapshot


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
    specialist: SpecialistSpec | None = None
    online: OnlineSettings = field(default_factory=OnlineSettings)
    selection: SelectionSpec | None = None

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
    table = _read_toml(path)
    experiment: Experiment = _build(Experiment, table, path.name)
    experiment = dataclasses.replace(experiment, folder=str(path.parent))
    check(experiment, path.name)
    return experiment


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        if path.exists() and not path.is_file():  # reading a pipe or a device may never end
            raise MixtureError(f"{str(path)!r} is not a file", hint="pass --experiment FILE")
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except MixtureError:
        raise
    except FileNotFoundError as error:
        raise MixtureError(
            f"no experiment file at {str(path)!r}", hint="pass --experiment FILE"
        ) from error
    except OSError as error:
        raise MixtureError(f"{str(path)!r} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # also a number of 5,000 digits
        raise MixtureError(
            f"{path.name} is not valid TOML: {error}", hint="see experiments/demo.toml"
        ) from error


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
                f"{where} must be one of {', '.join(map(repr, args))}, got {quoted(value)}"
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
        return _json_value(value, where)
    if type(value) is int and abs(value) > _MOST:
        raise MixtureError(f"{where} must be a number of at most 64 bits")
    if hint is int and isinstance(value, float) and value.is_integer() and abs(value) <= _MOST:
        return int(value)  # 5e9 is a float in TOML
    if hint is float and type(value) is int:
        return float(value)
    is_table = dataclasses.is_dataclass(hint) or typing.get_origin(hint) is Mapping
    kind = "a table" if is_table else getattr(hint, "__name__", str(hint))
    if not (isinstance(hint, type) and type(value) is hint):
        raise MixtureError(f"{where} must be {kind}, got {quoted(value)}")
    if type(value) is float and not math.isfinite(value):
        raise MixtureError(f"{where} must be a finite number, got {value}")
    return value


def _json_value(value: Any, where: str) -> Any:
    """A value that goes into a run's name, and so must be one that JSON can say."""
    if isinstance(value, dict):
        return {key: _json_value(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list):
        return [_json_value(item, where) for item in value]
    kind: type = type(value)
    if kind not in (bool, int, float, str):
        raise MixtureError(f"{where} must be a number, a text, a list or a table, got {value}")
    return _scalar(kind, value, where)
