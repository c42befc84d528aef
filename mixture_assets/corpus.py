"""From raw shards to training tokens: the data steps of the pipeline, on one experiment."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mixture_assets.core.digest import digest
from mixture_assets.core.errors import MixtureError
from mixture_assets.core.experiment import Experiment, load_experiment
from mixture_assets.data.audit import DomainAudit, audit_domain
from mixture_assets.data.datasets_source import land_dataset
from mixture_assets.data.harvest import DOMAINS as HARVEST_DOMAINS
from mixture_assets.data.harvest import harvest
from mixture_assets.data.landing import landed_domains
from mixture_assets.data.shards import RawShard, discover
from mixture_assets.data.token_store import DomainTokens, build_domain, check_overlap
from mixture_assets.data.tokenize import TokenShard, tokenize_shard
from mixture_assets.data.tokenizer import FrozenTokenizer, load_tokenizer, train_tokenizer
from mixture_assets.inputs import Inputs, record_inputs, record_settings, setting_inputs
from mixture_assets.lineage import corpus_inputs, domain_rows
from mixture_assets.store.files import atomic_write_json, read_json_object
from mixture_assets.store.records import write_record


@dataclass(frozen=True)
class Workspace:
    """An experiment and its store: what every step is given."""

    experiment: Experiment

    @classmethod
    def open(cls, path: Path) -> "Workspace":
        """Read an experiment file, make its store, and note there what the file says."""
        workspace = cls(load_experiment(path))
        workspace.store.mkdir(parents=True, exist_ok=True)
        record_settings(workspace.experiment)
        return workspace

    @property
    def store(self) -> Path:
        """Root of the store."""
        return self.experiment.store_path


@dataclass(frozen=True)
class Corpus:
    """Tokens by domain, and the tokenizer that made them."""

    tokenizer: FrozenTokenizer
    domains: Mapping[str, DomainTokens]

    @property
    def available_tokens(self) -> dict[str, int]:
        """Training tokens by domain."""
        return {name: d.available_tokens for name, d in sorted(self.domains.items())}


def land(workspace: Workspace) -> None:
    """Fill the raw root where the experiment says so: the demo's harvest, and datasets."""
    data = workspace.experiment.data
    if data.harvest:
        harvest(Path(workspace.experiment.data_root))
    for domain, source in sorted(data.datasets.items()):
        land_dataset(
            workspace.experiment.beside(source.path),
            workspace.store / "landed" / domain,
            split=source.split,
            config_name=source.config or None,
            revision=source.revision or None,
            text_field=source.text_field,
            write_field=data.text_field,
            max_documents=source.max_documents or None,
        )


def landed(workspace: Workspace) -> dict[str, str]:
    """Domain -> fingerprint of its raw shards, without opening one; '' if still to be fetched."""
    data = workspace.experiment.data
    found = landed_domains(workspace.experiment.data_root) if data.root else {}
    fetched = landed_domains(str(workspace.store / "landed")) if data.datasets else {}
    expected = {*data.domains, *data.datasets, *(HARVEST_DOMAINS if data.harvest else ())}
    found = dict.fromkeys(expected, "") | found
    found |= {name: fetched.get(name, "") for name in data.datasets}
    names = {*data.domains, *data.datasets} if data.domains else set(found)
    return {name: found[name] for name in sorted(names)}


def discover_shards(workspace: Workspace) -> dict[str, list[RawShard]]:
    """Raw shards by domain: what lies under the root, and landed datasets."""
    data, cache = workspace.experiment.data, workspace.store / "shards.json"
    folders = [d for d in data.domains if d not in data.datasets]
    found: dict[str, list[RawShard]] = {}
    if data.root and (folders or not data.domains):
        found |= discover(workspace.experiment.data_root, cache=cache, domains=folders)
    if data.datasets:
        landed = str(workspace.store / "landed")
        fetched = discover(landed, cache=cache, domains=sorted(data.datasets))
        if both := sorted(found.keys() & fetched.keys()):
            raise MixtureError(
                f"domain {both[0]!r} is a folder under [data] root and a dataset too",
                hint="rename one of them",
            )
        found |= fetched
    return dict(sorted(found.items()))


def freeze_tokenizer(
    workspace: Workspace, shards: Mapping[str, Sequence[RawShard]]
) -> FrozenTokenizer:
    """The experiment's tokenizer: trained once on a balanced sample, or loaded by name."""
    e = workspace.experiment
    if e.tokenizer.name:
        tokenizer = load_tokenizer(e.beside(e.tokenizer.name), store=workspace.store)
    else:
        tokenizer = train_tokenizer(
            shards,
            vocab_size=e.tokenizer.vocab_size,
            store=workspace.store,
            text_field=e.data.text_field,
            txt_document_chars=e.data.txt_document_chars,
            sample_bytes_per_domain=e.tokenizer.sample_bytes_per_domain,
        )
    row = {
        "tokenizer_id": tokenizer.digest,
        "vocab_size": tokenizer.vocab_size,
        "kind": "loaded" if e.tokenizer.name else "byte-level BPE",
        "name": e.tokenizer.name,
    }
    write_record(workspace.store, "tokenizer", tokenizer.digest, {"tokenizer": [row]})
    return tokenizer


def tokenize_domain(
    workspace: Workspace, tokenizer: FrozenTokenizer, shards: Sequence[RawShard]
) -> list[TokenShard]:
    """Token shards of one domain, one per raw shard; finished ones are not done again."""
    data = workspace.experiment.data
    return [
        tokenize_shard(
            shard,
            tokenizer,
            store=workspace.store,
            text_field=data.text_field,
            txt_document_chars=data.txt_document_chars,
        )
        for shard in shards
    ]


def store_domain(
    workspace: Workspace, tokenizer: FrozenTokenizer, token_shards: Sequence[TokenShard]
) -> DomainTokens:
    """Training arrays and validation documents of one domain, and their lineage."""
    e = workspace.experiment
    tokens = build_domain(
        list(token_shards),
        store=workspace.store,
        eos_id=tokenizer.eos_id,
        validation_fraction=e.data.validation_fraction,
        validation_tokens=e.data.validation_tokens,
        context=e.model.context,
        min_train_tokens=e.training.batch_tokens,
    )
    write_record(workspace.store, "domain", tokens.digest, domain_rows(tokens, token_shards))
    return tokens


def build_corpus(workspace: Workspace) -> Corpus:
    """Everything from raw shards to training tokens; finished parts are only looked up."""
    shards = discover_shards(workspace)
    tokenizer = freeze_tokenizer(workspace, shards)
    return finish_corpus(workspace, tokenizer, store_domains(workspace, tokenizer, shards))


def store_domains(
    workspace: Workspace,
    tokenizer: FrozenTokenizer,
    shards: Mapping[str, Sequence[RawShard]],
) -> dict[str, DomainTokens]:
    """Training and validation tokens of every domain that is given."""
    return {
        name: store_domain(workspace, tokenizer, tokenize_domain(workspace, tokenizer, raw))
        for name, raw in shards.items()
    }


def finish_corpus(
    workspace: Workspace, tokenizer: FrozenTokenizer, domains: Mapping[str, DomainTokens]
) -> Corpus:
    """Check the domains against each other, and record what the experiment says now."""
    check_overlap(
        list(domains.values()),
        store=workspace.store,
        max_shared=workspace.experiment.data.max_shared,
    )
    corpus = Corpus(tokenizer, dict(domains))
    inputs = corpus_inputs(tokenizer.digest, corpus.domains)
    record_inputs(workspace.experiment, "corpus", inputs)
    return corpus


def inputs_of(workspace: Workspace, corpus: Corpus) -> Inputs:
    """What the experiment's results depend on, as it is now."""
    settings = setting_inputs(workspace.experiment)
    return settings | corpus_inputs(corpus.tokenizer.digest, corpus.domains)


def audit(workspace: Workspace, corpus: Corpus) -> list[DomainAudit]:
    """Every domain's training tokens, counted again."""
    fraction = workspace.experiment.data.validation_fraction
    return [
        audit_domain(domain, store=workspace.store, validation_fraction=fraction)
        for domain in corpus.domains.values()
    ]


def save_corpus(workspace: Workspace, corpus: Corpus) -> str:
    """Give the corpus a name under which `load_corpus` finds the same tokens again."""
    content = {
        "experiment": workspace.experiment.name,
        "tokenizer": corpus.tokenizer.digest,
        "domains": {name: d.digest for name, d in sorted(corpus.domains.items())},
    }
    corpus_id = digest(content)
    atomic_write_json(workspace.store / "corpora" / f"{corpus_id}.json", content)
    return corpus_id


def load_corpus(workspace: Workspace, corpus_id: str) -> Corpus | None:
    """A saved corpus; None if this store or this experiment never had it."""
    content = read_json_object(workspace.store / "corpora" / f"{corpus_id}.json")
    if content is None or content["experiment"] != workspace.experiment.name:
        return None
    return Corpus(
        load_tokenizer(content["tokenizer"], store=workspace.store),
        {n: DomainTokens.load(workspace.store, n, d) for n, d in content["domains"].items()},
    )
