"""Importance sampling (CRISP) on text: which domain is each document of a specialist set like?

A domain is stood for by its centroid: that of its cluster, where the raw root holds clusters that
`mixture cluster` made, and else the mean vector of a sample of its documents.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mixture_assets.clusters import Places, read_manifest, read_places
from mixture_assets.core.digest import digest
from mixture_assets.core.errors import MixtureError, shortlist
from mixture_assets.core.mixture import Mixture
from mixture_assets.corpus import discover_shards
from mixture_assets.data.document_sample import placed_documents, sample_texts, some_shards
from mixture_assets.data.shards import RawShard
from mixture_assets.embeddings import learn, settings_of
from mixture_assets.methods.clusters import CLUSTER_VERSION, histogram
from mixture_assets.methods.crisp import specialist_mixture, standard_errors
from mixture_assets.methods.embedding import MAX_CHARS
from mixture_assets.store.files import atomic_write_json, read_json_object
from mixture_assets.workspace import Workspace

SAMPLE_DOCUMENTS = 500  # of each domain, where it is no cluster
_SAMPLE_BYTES = 256_000_000  # of a domain's shards, as stored, that they are chosen from


@dataclass(frozen=True, kw_only=True)
class Importance:
    """Static weights from a specialist set, and the counts that they come from."""

    mixture: Mixture
    counts: Mapping[str, int]  # specialist documents by nearest domain, zeros included
    standard_error: Mapping[str, float]  # of the weights, multinomial
    notes: Sequence[str]
    digest: str  # of everything that this depends on


def importance_mixture(
    workspace: Workspace,
    domains: Sequence[str],
    specialist_texts: Sequence[str],
    *,
    embedding: str = "tfidf",
    seed: int = 0,
) -> Importance:
    """The share of the specialist set that is nearest to each domain.

    Kept in the store: the same question is answered without reading text. Where the domains are
    no clusters, centroids are of samples from up to 256 MB of each domain's shards; validation
    documents may be among them, which nothing is trained on here.

    Args:
        workspace: Its raw root has the domains.
        domains: Those that get a weight.
        specialist_texts: Documents of the specialist set that steers; their order is nothing.
        embedding: See `embeddings`; that of `mixture cluster` where the domains are clusters.
        seed: Of the samples and the embedding; clusters have their own.

    Raises:
        MixtureError: A domain has no text, or no specialist document can be placed.
    """
    clusters = _clusters_with(workspace, domains)
    shards = {} if clusters else _shards(workspace, domains)
    sources = _sources(workspace, clusters, shards, embedding, seed)
    texts = sorted(hashlib.sha256(text.encode()).hexdigest() for text in specialist_texts)
    name = digest(sources | {"domains": sorted(domains), "specialist": texts})
    path = workspace.store / "importance" / f"{name}.json"
    answer = read_json_object(path)
    if answer is None:
        if clusters:
            root, store = _root(workspace), workspace.store
            places = read_places(root, clusters, embedding=embedding, store=store)
        else:
            places = _centroids_of(workspace, shards, embedding, seed)
        answer = _answer(places, sorted(domains), specialist_texts)
        atomic_write_json(path, answer)
    return _importance(answer, name)


def _sources(
    workspace: Workspace,
    clusters: Mapping[str, Any] | None,
    shards: Mapping[str, Sequence[RawShard]],
    embedding: str,
    seed: int,
) -> dict[str, Any]:
    """What the centroids depend on: clusters as they were made, or samples of shards."""
    used_seed = clusters["options"]["seed"] if clusters else seed
    used = {
        "version": CLUSTER_VERSION,
        "embedding": settings_of(embedding, seed=used_seed, store=workspace.store),
    }
    if clusters:
        return used | {"clusters": clusters["digest"]}
    return used | {
        "shards": {name: [s.digest for s in found] for name, found in sorted(shards.items())},
        "sample": [SAMPLE_DOCUMENTS, _SAMPLE_BYTES, seed],
        "text": _text_settings(workspace),
    }


def importance_counts(
    texts_by_domain: Mapping[str, Sequence[str]],
    specialist_texts: Sequence[str],
    *,
    embedding: str = "tfidf",
    seed: int = 0,
    store: Path | None = None,
) -> dict[str, int]:
    """Specialist documents by nearest domain, a domain being the mean of the texts given."""
    places = _mean_places(texts_by_domain, embedding, seed, store)
    counts: dict[str, int] = _answer(places, sorted(texts_by_domain), specialist_texts)["counts"]
    return counts


def _root(workspace: Workspace) -> Path:
    return Path(workspace.experiment.data_root)


def _clusters_with(workspace: Workspace, domains: Sequence[str]) -> dict[str, Any] | None:
    """The manifest under the raw root, if all domains are clusters of it."""
    manifest = read_manifest(_root(workspace))
    is_whole = manifest is not None and set(domains) <= set(manifest["clusters"])
    return manifest if is_whole else None


def _shards(workspace: Workspace, domains: Sequence[str]) -> dict[str, list[RawShard]]:
    found = discover_shards(workspace)
    if missing := [name for name in domains if name not in found]:
        raise MixtureError(
            f"there is no text to compare the specialist set with for {shortlist(missing)}",
            hint="`mixture status` lists the domains that have data",
        )
    return {name: found[name] for name in domains}


def _text_settings(workspace: Workspace) -> dict[str, Any]:
    data = workspace.experiment.data
    return {"text_field": data.text_field, "txt_document_chars": data.txt_document_chars}


def _centroids_of(
    workspace: Workspace, shards: Mapping[str, Sequence[RawShard]], embedding: str, seed: int
) -> Places:
    settings = _text_settings(workspace)
    samples = {}
    for name, found in sorted(shards.items()):
        documents = placed_documents(some_shards(found, _SAMPLE_BYTES, seed=seed), **settings)
        texts = (d.text for d in documents if not d.is_empty)
        sample = sample_texts(texts, SAMPLE_DOCUMENTS, seed=seed, chars=MAX_CHARS)
        samples[name] = list(sample.values())
    return _mean_places(samples, embedding, seed, workspace.store)


def _mean_places(
    texts_by_domain: Mapping[str, Sequence[str]], embedding: str, seed: int, store: Path | None
) -> Places:
    names = sorted(texts_by_domain)
    if empty := [n for n in names if not any(t.strip() for t in texts_by_domain[n])]:
        raise MixtureError(f"there is no text to know {shortlist(empty)} by", hint="add documents")
    sample = [text for name in names for text in texts_by_domain[name]]
    model = learn(embedding, sample, seed=seed, store=store)
    centroids = [model.embed(texts_by_domain[name]).mean(axis=0) for name in names]
    return Places(names, np.array(centroids), model)


def _answer(
    places: Places, domains: Sequence[str], specialist_texts: Sequence[str]
) -> dict[str, Any]:
    """Counts over the domains, and what the reader should know of them."""
    vectors = places.embedding.embed([text[:MAX_CHARS] for text in specialist_texts])
    is_placed = np.any(vectors != 0, axis=1)
    n, n_placed = len(vectors), int(is_placed.sum())
    if not n_placed:
        raise MixtureError(
            f"none of the {n} specialist documents has a word that the domains have"
            if n
            else "the specialist set has no documents",
            hint="give documents in the languages of the domains",
        )
    rows = [places.names.index(name) for name in domains]
    counts = histogram(vectors[is_placed], places.centroids_KD[rows], domains)
    notes = [
        f"{n_placed} specialist documents, nearest to {sum(map(bool, counts.values()))} of "
        f"{len(counts)} domains"
    ]
    if n > n_placed:
        notes.append(f"{n - n_placed} more are empty, or have no word that the domains have")
    return {"counts": counts, "notes": notes}


def _importance(answer: Mapping[str, Any], name: str) -> Importance:
    return Importance(
        mixture=specialist_mixture(answer["counts"]),
        counts=answer["counts"],
        standard_error=standard_errors(answer["counts"]),
        notes=answer["notes"],
        digest=name,
    )
