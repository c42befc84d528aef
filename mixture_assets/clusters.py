"""Clusters of documents as domains: one folder for each, with shards that say where rows came from.

Beside the folders lie `clusters.json`, which says what they were made of, and
`clusters.safetensors`, with which other documents can be placed among them.
"""

import importlib.metadata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save

from mixture_assets.core.digest import digest
from mixture_assets.core.errors import MixtureError, shortlist
from mixture_assets.data.cluster_shards import write_rows
from mixture_assets.data.document_sample import (
    Document,
    content_hash,
    placed_documents,
    sample_texts,
)
from mixture_assets.data.shards import RawShard, discover
from mixture_assets.embeddings import arrays_of, learn, restore, settings_of
from mixture_assets.methods.clusters import CLUSTER_VERSION, Clustering, cluster
from mixture_assets.methods.embedding import MAX_CHARS, Embedding, top_terms
from mixture_assets.store.files import atomic_write_bytes, atomic_write_json, read_json_object

MANIFEST = "clusters.json"
PLACES = "clusters.safetensors"
_LIBRARIES = ("numpy", "scikit-learn", "scipy", "zstandard")
_EMBEDDED = 2000  # documents that are embedded at a time


@dataclass(frozen=True)
class ClusterOptions:
    """How to cluster; part of the digest of what comes out."""

    n_clusters: int
    branching: int | None = None  # clusters of a first level; by default beyond 256 clusters
    least_documents: int = 20  # smaller clusters are dissolved
    sample_documents: int = 20_000  # that the embedding learns from, and terms are taken from
    seed: int = 0
    text_field: str = "text"
    txt_document_chars: int = 4000
    shard_bytes: int = 4_000_000  # of lines, before compression
    held_bytes: int = 256_000_000  # of lines in memory, over all clusters


@dataclass(frozen=True, eq=False)
class Places:
    """What it takes to place documents among clusters."""

    names: list[str]
    centroids_KD: NDArray[np.float32]
    embedding: Embedding


def write_clusters(
    source_root: str | Path,
    out_root: Path,
    options: ClusterOptions,
    *,
    embedding: str = "tfidf",
    store: Path | None = None,
) -> dict[str, Any]:
    """Cluster the documents of all domains under a raw root; returns the manifest.

    Every document that is not empty is in exactly one cluster. Documents are read three times,
    to choose the sample, to embed and to write; their vectors and hashes are kept in memory, and
    lines up to `held_bytes`. The order of documents and the names of shards do not change which
    documents share a cluster, only the order of rows. Of the source's fields only the text is
    kept.

    The same inputs give the same bytes; where they are done, nothing is done.

    Args:
        source_root: One folder per domain, as for training.
        out_root: Another folder; it gets one folder per cluster.
        options: See there.
        embedding: See `embeddings`.
        store: Where the run of `proxy:RUN` is.

    Raises:
        MixtureError: There is too little text, or `out_root` holds something else.
    """
    _keep_apart(str(source_root), out_root)
    settings = settings_of(embedding, seed=options.seed, store=store)
    shards = discover(str(source_root), cache=out_root / ".source_shards.json")
    asked = _asked(shards, options, settings)
    found = _found(out_root, asked)
    if found is not None and _is_done(out_root, found):
        return found
    texts = (d.text for d in _documents(shards, options) if not d.is_empty)
    sample = sample_texts(texts, options.sample_documents, seed=options.seed, chars=MAX_CHARS)
    model = learn(embedding, list(sample.values()), seed=options.seed, store=store)
    vectors, hashes, counts = _embed(_documents(shards, options), model, options.seed)
    clustering = _cluster_by_content(vectors, hashes, options)
    atomic_write_json(out_root / MANIFEST, asked | {"complete": False})  # the folders are ours
    clusters = _write(out_root, shards, options, clustering)
    _write_places(out_root, clustering, model)
    for row, terms in zip(clusters.values(), _terms(sample, hashes, clustering), strict=True):
        row["terms"] = terms
    notes = [*clustering.notes, *_wordless(vectors), *_empty(counts)]
    versions = {name: importlib.metadata.version(name) for name in _LIBRARIES}
    made = {"clusters": clusters, "domains": counts, "notes": notes, "libraries": versions}
    manifest = {**asked, **made, "complete": True}
    atomic_write_json(out_root / MANIFEST, manifest)
    return manifest


def _write(
    out_root: Path,
    shards: Mapping[str, Sequence[RawShard]],
    options: ClusterOptions,
    clustering: Clustering,
) -> dict[str, dict[str, Any]]:
    return write_rows(
        out_root,
        (d for d in _documents(shards, options) if not d.is_empty),
        clustering.names,
        clustering.assignment_N.tolist(),
        shard_bytes=options.shard_bytes,
        held_bytes=options.held_bytes,
    )


def _write_places(out_root: Path, clustering: Clustering, model: Embedding) -> None:
    arrays = {"centroids": clustering.centroids_KD} | arrays_of(model)
    content = save({name: np.ascontiguousarray(a) for name, a in arrays.items()})
    atomic_write_bytes(out_root / PLACES, content)


def read_manifest(root: Path) -> dict[str, Any] | None:
    """The manifest of the finished clusters under a root; None where there are none."""
    manifest = read_json_object(root / MANIFEST)
    return manifest if manifest is not None and manifest.get("complete") else None


def read_places(
    root: Path,
    manifest: Mapping[str, Any],
    *,
    embedding: str = "tfidf",
    store: Path | None = None,
) -> Places:
    """Centroids and embedding of the clusters under a root.

    Raises:
        MixtureError: They were made with another embedding.
    """
    arrays = load_file(root / PLACES)
    model = restore(embedding, manifest["embedding"], arrays, store=store)
    return Places(sorted(manifest["clusters"]), arrays["centroids"], model)


def cluster_table(manifest: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and rows for people: one cluster a row."""
    rows = [
        [name, f"{row['n_documents']:,}", f"{row['n_bytes']:,}", " ".join(row["terms"])]
        for name, row in sorted(manifest["clusters"].items())
    ]
    return ["cluster", "documents", "bytes", "telling words"], rows


def _keep_apart(source_root: str, out_root: Path) -> None:
    if "://" in source_root:
        return
    source, out = Path(source_root).resolve(), out_root.resolve()
    if source == out or source in out.parents or out in source.parents:
        raise MixtureError(
            f"clusters of {str(source_root)!r} cannot be written to {str(out_root)!r}: one is "
            "inside the other, and every folder under a root is a domain",
            hint="name a folder beside it",
        )


def _asked(
    shards: Mapping[str, Sequence[RawShard]], options: ClusterOptions, embedding: Mapping[str, Any]
) -> dict[str, Any]:
    """What the clusters depend on, and its digest."""
    asked = {
        "version": CLUSTER_VERSION,
        "options": dict(vars(options)),
        "embedding": dict(embedding),
        "source": {name: [s.digest for s in found] for name, found in sorted(shards.items())},
    }
    return asked | {"digest": digest(asked)}


def _found(out_root: Path, asked: Mapping[str, Any]) -> dict[str, Any] | None:
    """The manifest that is there; MixtureError if it, or anything else there, is not ours."""
    found = read_json_object(out_root / MANIFEST)
    if found is not None and found.get("digest") != asked["digest"]:
        changed = [key for key in asked if found.get(key) != asked[key] and key != "digest"]
        raise MixtureError(
            f"{str(out_root)!r} holds other clusters: {shortlist(changed)} differ",
            hint="name another folder; results on the old clusters stay what they are",
        )
    folders = [p.name for p in out_root.iterdir() if p.is_dir()] if out_root.is_dir() else []
    if found is None and (foreign := [n for n in folders if not n.startswith(".")]):
        raise MixtureError(
            f"{str(out_root)!r} holds folders that are no clusters: {shortlist(foreign)}",
            hint="name another folder",
        )
    return found


def _is_done(out_root: Path, manifest: Mapping[str, Any]) -> bool:
    return bool(manifest["complete"]) and all(
        (out_root / name / file).is_file()
        for name, row in manifest["clusters"].items()
        for file in (*row["shards"], "_SUCCESS")
    )


def _documents(
    shards: Mapping[str, Sequence[RawShard]], options: ClusterOptions
) -> Iterator[Document]:
    for _, found in sorted(shards.items()):
        yield from placed_documents(
            found,
            text_field=options.text_field,
            txt_document_chars=options.txt_document_chars,
        )


def _embed(
    documents: Iterator[Document], model: Embedding, seed: int
) -> tuple[NDArray[np.float32], list[bytes], dict[str, dict[str, int]]]:
    """A vector and a hash for every document that is not empty, and counts by source domain."""
    vectors, hashes = [], []
    counts: dict[str, Counter[str]] = {}
    batch: list[str] = []
    for document in documents:
        own = counts.setdefault(document.domain, Counter(n_documents=0, n_empty=0))
        own["n_empty" if document.is_empty else "n_documents"] += 1
        if document.is_empty:
            continue
        batch.append(document.text[:MAX_CHARS])
        hashes.append(content_hash(document.text, seed))
        if len(batch) == _EMBEDDED:
            vectors.append(model.embed(batch))
            batch = []
    vectors.append(model.embed(batch))
    return np.concatenate(vectors), hashes, {name: dict(c) for name, c in counts.items()}


def _wordless(vectors: NDArray[np.float32]) -> list[str]:
    n = int((~vectors.any(axis=1)).sum())
    if not n:
        return []
    return [f"{n:,} documents have no word of the sample; they count as alike"]


def _empty(counts: Mapping[str, Mapping[str, int]]) -> list[str]:
    n = sum(row["n_empty"] for row in counts.values())
    return [f"{n:,} empty documents are in no cluster"] if n else []


def _cluster_by_content(
    vectors: NDArray[np.float32], hashes: Sequence[bytes], options: ClusterOptions
) -> Clustering:
    """Clusters that do not depend on the order of the documents: k-means sees them by hash."""
    order = np.array(sorted(range(len(hashes)), key=hashes.__getitem__), np.int64)
    found = cluster(
        vectors[order],
        options.n_clusters,
        branching=options.branching,
        least=options.least_documents,
        seed=options.seed,
    )
    assignment = np.empty(len(order), np.int64)
    assignment[order] = found.assignment_N
    return Clustering(found.centroids_KD, assignment, found.notes)


def _terms(
    sample: Mapping[bytes, str], hashes: Sequence[bytes], clustering: Clustering
) -> list[list[str]]:
    places = dict(zip(hashes, clustering.assignment_N.tolist(), strict=True))
    assignment = np.array([places[key] for key in sample], np.int64)
    return top_terms(list(sample.values()), assignment, len(clustering.centroids_KD))
