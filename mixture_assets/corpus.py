"""From raw shards to training tokens: the data steps of the pipeline, on one experiment."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mixture_assets import quarantine
from mixture_assets.arrivals import Arrivals, Say, await_landing, not_settled, survey
from mixture_assets.core.digest import digest
from mixture_assets.core.errors import MixtureError
from mixture_assets.core.names import RESERVED, validate_domain
from mixture_assets.data.audit import DomainAudit, audit_domain
from mixture_assets.data.datasets_source import land_dataset
from mixture_assets.data.harvest import harvest
from mixture_assets.data.landing import Root, look
from mixture_assets.data.shards import RawShard, discover
from mixture_assets.data.token_store import DomainTokens, build_domain
from mixture_assets.data.tokenize import TokenShard, tokenize_shard
from mixture_assets.data.tokenizer import (
    FrozenTokenizer,
    load_tokenizer,
    train_tokenizer,
    unreadable_samples,
)
from mixture_assets.inputs import Inputs, record_inputs, setting_inputs
from mixture_assets.lineage import cluster_edges, corpus_inputs, domain_rows
from mixture_assets.store.files import atomic_write_json, read_json_object
from mixture_assets.store.records import write_record
from mixture_assets.workspace import Workspace

__all__ = ["Corpus", "Workspace", "build_corpus", "land"]


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
    """Domain -> fingerprint of its raw shards, without opening one; '' if still to come.

    Without those that are bad, or never settle, and have no earlier state to go on with.
    """
    found = survey(workspace)
    names = {*found.landed, *found.pending} - quarantine.left_out(workspace)
    return {name: found.landed.get(name, "") for name in sorted(names)}


def discover_shards(workspace: Workspace, *, say: Say | None = None) -> dict[str, list[RawShard]]:
    """Raw shards by domain: what has landed under the root, and landed datasets.

    Those that are quarantined or do not settle are left out, with a MixtureWarning for each.
    """
    data, cache = workspace.experiment.data, workspace.store / "shards.json"
    arrivals = await_landing(workspace, say)
    awaited = {n: not_settled(workspace, n, change) for n, change in arrivals.pending.items()}
    for name, error in awaited.items():
        quarantine.give_up(workspace, name, error)
    for name, error in arrivals.refused.items():
        if quarantine.is_named(workspace, name):
            raise error
    unread = {*quarantine.not_worth_reading(workspace, arrivals.landed), *arrivals.refused}
    quarantine.warn_of(workspace, sorted(unread - awaited.keys()))
    left_out = {*unread, *awaited, *data.datasets}
    names = [n for n, mark in arrivals.landed.items() if mark or n in data.domains]
    names = [n for n in names if n not in left_out]
    found: dict[str, list[RawShard]] = {}
    if data.root and (names or not left_out):
        refuse = functools.partial(_refuse, workspace, arrivals)
        root = workspace.experiment.data_root
        found |= discover(root, cache=cache, domains=names, refuse=refuse)
    if data.datasets:
        found |= _fetched_shards(workspace, cache)
    for name in RESERVED:  # its losses would not count towards the objective
        if name in found:
            raise MixtureError(
                f"no domain can be called {name!r}: that is the specialist set",
                hint="rename its folder",
            )
    quarantine.require_two(workspace, found, awaited)
    return dict(sorted(found.items()))


def _fetched_shards(workspace: Workspace, cache: Path) -> dict[str, list[RawShard]]:
    names = sorted(workspace.experiment.data.datasets)
    root = look(workspace.experiment.data_root) if workspace.experiment.data.root else Root(False)
    if both := [name for name in names if name in root.folders]:
        raise MixtureError(
            f"domain {both[0]!r} is a folder under [data] root and a dataset too",
            hint="rename one of them",
        )
    return discover(str(workspace.store / "landed"), cache=cache, domains=names)


def _refuse(workspace: Workspace, arrivals: Arrivals, domain: str, error: MixtureError) -> None:
    """Quarantine a domain until its files change."""
    mark = arrivals.landed.get(domain, "")
    quarantine.leave_out(workspace, domain, error, fingerprint=mark)


def freeze_tokenizer(
    workspace: Workspace, shards: Mapping[str, Sequence[RawShard]]
) -> FrozenTokenizer:
    """The experiment's tokenizer: loaded by name, pinned, or trained on a balanced sample."""
    e = workspace.experiment
    if e.tokenizer.name:
        tokenizer = load_tokenizer(e.beside(e.tokenizer.name), store=workspace.store)
    elif pinned := _pinned_tokenizer(workspace):
        tokenizer = pinned
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


def unpin_tokenizer(workspace: Workspace) -> None:
    """Let the experiment have another tokenizer, trained on all text that is here now."""
    _pin_path(workspace).unlink(missing_ok=True)


def pin_tokenizer(workspace: Workspace, tokenizer: FrozenTokenizer) -> None:
    """Keep this tokenizer for the experiment from now on: something is about to rest on it.

    A domain that lands later would otherwise give another one, and with it another name to every
    token and every run.
    """
    pin = {"tokenizer": tokenizer.digest, "settings": _tokenizer_settings(workspace)}
    path = _pin_path(workspace)
    if not workspace.experiment.tokenizer.name and read_json_object(path) != pin:
        atomic_write_json(path, pin)


def _pinned_tokenizer(workspace: Workspace) -> FrozenTokenizer | None:
    pin = read_json_object(_pin_path(workspace))
    if pin is None or pin["settings"] != _tokenizer_settings(workspace):
        return None
    return load_tokenizer(pin["tokenizer"], store=workspace.store)


def _pin_path(workspace: Workspace) -> Path:
    return workspace.store / "tokenizers" / "pinned" / f"{workspace.experiment.name}.json"


def _tokenizer_settings(workspace: Workspace) -> dict[str, Any]:
    """What the experiment says of its tokenizer: an edit trains another one."""
    e = workspace.experiment
    text = {"text_field": e.data.text_field, "txt_document_chars": e.data.txt_document_chars}
    return dataclasses.asdict(e.tokenizer) | text


def frozen_tokenizer(
    workspace: Workspace, shards: Mapping[str, Sequence[RawShard]]
) -> FrozenTokenizer:
    """The tokenizer, trained without the domains whose sample cannot be read."""
    try:
        return freeze_tokenizer(workspace, shards)
    except MixtureError:
        e = workspace.experiment
        bad = unreadable_samples(
            shards,
            text_field=e.data.text_field,
            txt_document_chars=e.data.txt_document_chars,
            sample_bytes_per_domain=e.tokenizer.sample_bytes_per_domain,
        )
        if not bad:
            raise
    for name, error in bad.items():
        _refuse(workspace, survey(workspace), name, error)
    rest = {name: files for name, files in shards.items() if name not in bad}
    quarantine.require_two(workspace, rest)
    return freeze_tokenizer(workspace, rest)


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
    rows = domain_rows(tokens, token_shards)
    rows["edge"] += cluster_edges(e.data_root, token_shards)
    write_record(workspace.store, "domain", tokens.digest, rows)
    return tokens


def build_corpus(workspace: Workspace, *, say: Say | None = None) -> Corpus:
    """Everything from raw shards to training tokens; finished parts are only looked up."""
    shards = discover_shards(workspace, say=say)
    tokenizer = frozen_tokenizer(workspace, shards)
    return finish_corpus(workspace, tokenizer, store_domains(workspace, tokenizer, shards))


def store_domains(
    workspace: Workspace,
    tokenizer: FrozenTokenizer,
    shards: Mapping[str, Sequence[RawShard]],
) -> dict[str, DomainTokens]:
    """Training and validation tokens of every domain that is given, bad ones left out."""
    stored = {}
    for name, raw in shards.items():
        try:
            stored[name] = store_domain(
                workspace, tokenizer, tokenize_domain(workspace, tokenizer, raw)
            )
        except MixtureError as error:
            _refuse(workspace, survey(workspace), name, error)
    return stored


def finish_corpus(
    workspace: Workspace, tokenizer: FrozenTokenizer, domains: Mapping[str, DomainTokens]
) -> Corpus:
    """Check the domains against each other; those in quarantine go on with their last state."""
    bad = {n for n in quarantine.quarantined(workspace) if n not in domains}
    given = dict(domains) | quarantine.last_good(workspace, bad, maker=tokenizer.digest)
    enough = quarantine.without_too_small(workspace, given)
    distinct = quarantine.without_overlaps(workspace, enough, maker=tokenizer.digest)
    quarantine.require_two(workspace, distinct)
    fresh = {n: d.digest for n, d in distinct.items() if n in domains and d == domains[n]}
    quarantine.remember(workspace, fresh, maker=tokenizer.digest)
    corpus = Corpus(tokenizer, dict(sorted(distinct.items())))
    record_inputs(workspace.experiment, "corpus", corpus_inputs(tokenizer.digest, corpus.domains))
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
    validate_domain(corpus_id, noun="name of a corpus")
    content = read_json_object(workspace.store / "corpora" / f"{corpus_id}.json")
    if content is None or content["experiment"] != workspace.experiment.name:
        return None
    return Corpus(
        load_tokenizer(content["tokenizer"], store=workspace.store),
        {n: DomainTokens.load(workspace.store, n, d) for n, d in content["domains"].items()},
    )
