"""The specialist set of an experiment: which documents, and how much of them is trained on."""

import dataclasses
import warnings
from collections.abc import Collection, Sequence
from pathlib import Path

from mixture_assets.core.digest import digest
from mixture_assets.core.errors import MixtureError, MixtureWarning
from mixture_assets.core.experiment import SpecialistSpec
from mixture_assets.core.names import SPECIALIST, STEERING, nearest
from mixture_assets.corpus import Corpus, Workspace, tokenize_domain
from mixture_assets.data.readers import document_lists
from mixture_assets.data.shards import shards_at
from mixture_assets.data.specialist import SpecialistSet, build_specialist
from mixture_assets.data.token_store import DomainTokens
from mixture_assets.data.tokenize import document_id
from mixture_assets.data.validation import load_validation
from mixture_assets.data.verbatim import VERBATIM_VERSION, verbatim_share
from mixture_assets.lineage import domain_rows
from mixture_assets.store.files import atomic_write_json, read_json_object
from mixture_assets.store.records import write_record

_PASSING = 0.01  # of the judging text: a stock phrase or a header


def with_specialist(workspace: Workspace, path: str) -> Workspace:
    """The same experiment, with another specialist set; a path is from where one stands."""
    here = path if "://" in path else str(Path(path).resolve())
    said = workspace.experiment.specialist or SpecialistSpec()
    specialist = dataclasses.replace(said, path=here, domain="")
    return Workspace(dataclasses.replace(workspace.experiment, specialist=specialist))


def specialist_set(workspace: Workspace, corpus: Corpus) -> SpecialistSet | None:
    """Tokens and judging documents of the experiment's specialist set; None where it has none.

    Warns where documents that judge are in a domain's training tokens too, or passages of them:
    their loss is then no measure of what was learned.
    """
    said = workspace.experiment.specialist
    if said is None:
        return None
    made = _of_domain(workspace, corpus, said) if said.domain else _of_path(workspace, corpus, said)
    owner = f"experiment:{workspace.experiment.name}"
    edges = [
        {"child": made.judging, "parent": made.steering, "role": "judges_beside"},
        {"child": owner, "parent": made.judging, "role": "judged_on"},
    ]
    write_record(workspace.store, "specialist", digest(edges), {"edge": edges})
    for domain, tokens in corpus.domains.items():
        share = _verbatim_share(workspace, made.judging, tokens)
        if share > _PASSING:
            _warn(
                f"at least {share:.0%} of the text that judges stands word for word in the "
                f"training text of {domain!r}: the specialist loss looks better than it is"
            )
    if made.n_left_out:
        _warn(
            f"{made.n_left_out} documents of the specialist set are beyond most_tokens and are "
            "left out"
        )
    return made


def _verbatim_share(workspace: Workspace, judging: str, tokens: DomainTokens) -> float:
    """As `data.verbatim` finds it, once for each pair: a large domain takes a while to read."""
    store, fraction = workspace.store, workspace.experiment.data.validation_fraction
    name = digest([VERBATIM_VERSION, judging, tokens.digest, fraction])
    path = store / "verbatim" / f"{name}.json"
    known = read_json_object(path)
    if known is None:
        documents = load_validation(store, SPECIALIST, judging)
        known = {"share": verbatim_share(documents, tokens, store, fraction=fraction)}
        atomic_write_json(path, known)
    return float(known["share"])


def steering_texts(workspace: Workspace, corpus: Corpus, specialist: SpecialistSet) -> list[str]:
    """The documents that steer, as text."""
    documents = load_validation(workspace.store, STEERING, specialist.steering)
    pairs = zip(documents.offsets, documents.offsets[1:], strict=False)
    return [corpus.tokenizer.decode(documents.input_ids[a:b].tolist()) for a, b in pairs]


def warn_of_judging(
    workspace: Workspace, specialist: SpecialistSet, name: str, texts: Sequence[str]
) -> None:
    """Warn where texts that a run is steered by are among the documents that judge it."""
    judging = load_validation(workspace.store, SPECIALIST, specialist.judging).doc_ids
    ids = {document_id(text.encode("utf-8", "surrogatepass")) for text in texts}
    if n := len(ids & set(judging)):
        _warn(
            f"{n} of the {len(judging)} documents that judge are in the [online] basis text "
            f"{name!r}: the specialist loss looks better than it is"
        )


def _of_path(workspace: Workspace, corpus: Corpus, said: SpecialistSpec) -> SpecialistSet:
    path = said.path if "://" in said.path else workspace.experiment.beside(said.path)
    raw = shards_at(path, SPECIALIST, cache=workspace.store / "shards.json")
    token_shards = tokenize_domain(workspace, corpus.tokenizer, raw)
    made = _built(workspace, corpus, said, {s.digest: s.path for s in token_shards})
    write_record(
        workspace.store, "domain", made.tokens.digest, domain_rows(made.tokens, token_shards)
    )
    return made


def _of_domain(workspace: Workspace, corpus: Corpus, said: SpecialistSpec) -> SpecialistSet:
    """The documents of a domain that its training never sees; those it is measured on judge."""
    tokens = corpus.domains.get(said.domain)
    if tokens is None:
        raise MixtureError(
            f"specialist: domain names {said.domain!r}, which is no domain"
            f"{nearest(said.domain, corpus.domains)}",
            hint=f"the domains are {', '.join(sorted(corpus.domains))}",
        )
    paths = tokens.shard_paths(workspace.store)
    fraction = workspace.experiment.data.validation_fraction
    shards = dict(zip(tokens.token_shards, paths, strict=True))
    measured = load_validation(workspace.store, said.domain, tokens.validation_digest).doc_ids
    return _built(workspace, corpus, said, shards, held_out=fraction, never_steers=measured)


def _built(
    workspace: Workspace,
    corpus: Corpus,
    said: SpecialistSpec,
    shards: dict[str, Path],
    held_out: float | None = None,
    never_steers: Collection[str] = (),
) -> SpecialistSet:
    return build_specialist(
        shards,
        store=workspace.store,
        tokenizer=corpus.tokenizer.digest,
        eos_id=corpus.tokenizer.eos_id,
        context=workspace.experiment.model.context,
        judging_fraction=said.judging_fraction,
        most_tokens=said.most_tokens,
        held_out=held_out,
        never_steers=never_steers,
    )


def _warn(text: str) -> None:
    warnings.warn(text, MixtureWarning, stacklevel=3)


def texts_at(workspace: Workspace, path: str) -> list[str]:
    """The documents of a folder or file, as text."""
    data = workspace.experiment.data
    where = path if "://" in path else workspace.experiment.beside(path)
    shards = shards_at(where, SPECIALIST, cache=workspace.store / "shards.json")
    lists = (
        document_lists(s, text_field=data.text_field, txt_document_chars=data.txt_document_chars)
        for s in shards
    )
    texts = [text for several in lists for part in several for text in part if text]
    if not texts:
        raise MixtureError(f"{path!r} has no text", hint="name a folder or file with documents")
    return texts
