"""Embeddings by name: learned from the text itself, or of a model in a folder.

| Name | What it is |
|---|---|
| tfidf | TF-IDF and SVD, learned from a sample of the text |
| proxy:RUN | the mean last hidden state of a finished run's model, by its run or its folder |
| model2vec:FOLDER | a static embedding, where model2vec is installed |
| sentence-transformers:FOLDER | SBERT and its like, where sentence-transformers is installed |
"""

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixture_assets.core.digest import digest, file_digest
from mixture_assets.core.errors import MixtureError
from mixture_assets.core.names import nearest
from mixture_assets.methods.embedding import (
    EMBEDDING_VERSION,
    Embedding,
    TfidfSvd,
    fit_tfidf,
    tfidf_settings,
    unit_length,
)

NAMES = ("tfidf", "proxy", "model2vec", "sentence-transformers")


def settings_of(name: str, *, seed: int = 0, store: Path | None = None) -> dict[str, Any]:
    """What names the embedding: for a model, a digest of its files, and never a path."""
    kind = _kind(name)
    if not 0 <= seed < 1 << 32:
        raise MixtureError(f"a seed is from 0 to {(1 << 32) - 1:,}, got {seed:,}")
    if kind == "tfidf":
        return tfidf_settings(seed=seed)
    folder = _folder(name, store)
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    content = {str(p.relative_to(folder)): file_digest(p) for p in files}
    return {"name": kind, "version": EMBEDDING_VERSION, "model": digest(content)}


def learn(
    name: str, sample: Sequence[str], *, seed: int = 0, store: Path | None = None
) -> Embedding:
    """The embedding of that name; `sample` is what `tfidf` learns from.

    Raises:
        MixtureError: There is no such embedding, folder, run or library.
    """
    settings = settings_of(name, seed=seed, store=store)
    kind = settings["name"]
    if kind == "tfidf":
        return fit_tfidf(sample, seed=seed)
    folder = _folder(name, store)
    if kind == "proxy":
        from mixture_assets.evaluation.embedding import ModelEmbedding  # loads torch

        return ModelEmbedding(folder, settings=settings)
    return _Encoder(_library_model(kind, folder), settings)


def arrays_of(embedding: Embedding) -> dict[str, NDArray[Any]]:
    """What was learned from the text, to be kept in a file; nothing for a model in a folder."""
    if not isinstance(embedding, TfidfSvd):
        return {}
    terms = np.frombuffer("\n".join(embedding.terms).encode(), np.uint8)
    return {"terms": terms, "idf": embedding.idf_V, "components": embedding.components_KV}


def restore(
    name: str,
    settings: Mapping[str, Any],
    arrays: Mapping[str, NDArray[Any]],
    *,
    store: Path | None = None,
) -> Embedding:
    """The embedding that has these settings, from what was kept of it.

    Raises:
        MixtureError: `name` is another one.
    """
    asked = settings_of(name, seed=settings.get("seed", 0), store=store)
    if asked != settings:
        same_kind = " of another model or version" if asked["name"] == settings["name"] else ""
        raise MixtureError(
            f"the clusters were made with the embedding {settings['name']!r}{same_kind}, "
            f"so {name!r} cannot place documents among them",
            hint="name the embedding that `mixture cluster` was given, or make the clusters again",
        )
    if settings["name"] != "tfidf":
        return learn(name, [], store=store)
    terms = tuple(arrays["terms"].tobytes().decode().split("\n"))
    return TfidfSvd(terms, arrays["idf"], arrays["components"], settings)


def _kind(name: str) -> str:
    kind, colon, where = name.partition(":")
    if kind not in NAMES:
        raise MixtureError(
            f"there is no embedding {name!r}{nearest(kind, NAMES)}",
            hint="tfidf, proxy:RUN, model2vec:FOLDER or sentence-transformers:FOLDER",
        )
    if (kind == "tfidf") is bool(colon) or (kind != "tfidf" and not where):
        raise MixtureError(
            f"the embedding {name!r} "
            + ("takes no model" if kind == "tfidf" else "does not say which model"),
            hint="tfidf" if kind == "tfidf" else f"{kind}:FOLDER, a folder on this machine",
        )
    return kind


def _folder(name: str, store: Path | None) -> Path:
    kind, _, where = name.partition(":")
    folder = Path(where)
    if kind == "proxy" and store is not None and not folder.is_dir():
        folder = store / "runs" / where
    if kind == "proxy" and (folder / "model").is_dir():
        folder = folder / "model"
    if not folder.is_dir() or (kind == "proxy" and not (folder / "config.json").is_file()):
        raise MixtureError(
            f"there is no model for the embedding {name!r}",
            hint="a finished run keeps one until `mixture gc --models` removes it"
            if kind == "proxy"
            else "give a folder on this machine: nothing is downloaded",
        )
    return folder


def _library_model(kind: str, folder: Path) -> Any:
    module, loader = {
        "model2vec": ("model2vec", "StaticModel.from_pretrained"),
        "sentence-transformers": ("sentence_transformers", "SentenceTransformer"),
    }[kind]
    try:
        found: Any = importlib.import_module(module)
    except ImportError as error:
        raise MixtureError(
            f"the embedding {kind!r} needs a library that is not installed: {error}",
            hint=f"pip install {kind}, or use the embedding tfidf",
        ) from error
    for part in loader.split("."):
        found = getattr(found, part)
    return found(str(folder))


class _Encoder:
    """A model of another library, which encodes a list of texts."""

    def __init__(self, model: Any, settings: Mapping[str, Any]) -> None:
        self._model = model
        self.settings = settings

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """N x K, float32, of length 1."""
        if not texts:
            return np.zeros((0, len(self.embed(["a"])[0])), np.float32)
        return unit_length(np.asarray(self._model.encode(list(texts))))
