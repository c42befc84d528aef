"""Documents as short vectors whose distances mean likeness: TF-IDF, reduced by an SVD.

Source:
    Latent semantic analysis: Deerwester, Dumais, Furnas, Landauer and Harshman, "Indexing by
    Latent Semantic Analysis", JASIS 1990.

Shapes:
    N documents, V terms, K dimensions.

Differs from the source:
    Terms are words of two characters or more, and single Chinese and Japanese characters, of the
    first 20,000 characters of a document; counts are 1 + log(count); vectors have length 1, so
    that squared distances are 2 - 2 cos. CRISP, whose clusters these are for, embeds with SBERT:
    see `Embedding` for how another embedding takes this one's place.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from threadpoolctl import threadpool_limits

from mixture_assets.core.errors import MixtureError

Vectors = NDArray[np.float32]

EMBEDDING_VERSION = 1  # raise it when the same texts would give other vectors
MAX_CHARS = 20_000  # read of each document
_BATCH = 1000  # documents whose term counts are held at a time
_IDEOGRAPHS = "\u3040-\u30ff\u3400-\u9fff"
_TERM = f"[{_IDEOGRAPHS}]|[^\\W_{_IDEOGRAPHS}]{{2,}}"


class Embedding(Protocol):
    """Anything that turns texts into vectors.

    A text that it can say nothing about has a vector of zeros; all others have length 1.
    """

    @property
    def settings(self) -> Mapping[str, Any]:
        """What names this embedding: JSON, the same for two that give the same vectors."""

    def embed(self, texts: Sequence[str]) -> Vectors:
        """N x K, float32; a row depends on its own text alone."""


@dataclass(frozen=True, eq=False)
class TfidfSvd:
    """Weights of terms, and the directions in which a sample of documents varies most."""

    terms: tuple[str, ...]  # V, sorted
    idf_V: NDArray[np.float32]  # log((1 + documents) / (1 + documents with the term)) + 1
    components_KV: NDArray[np.float32]
    settings: Mapping[str, Any] = field(default_factory=dict)

    def embed(self, texts: Sequence[str]) -> Vectors:
        """N x K, float32, of length 1; zeros for a text without a known term."""
        parts = [np.zeros((0, len(self.components_KV)), np.float32)]
        for first in range(0, len(texts), _BATCH):
            batch = [text[:MAX_CHARS] for text in texts[first : first + _BATCH]]
            parts.append(unit_length(self._vectorizer.transform(batch) @ self.components_KV.T))
        return np.concatenate(parts)

    @cached_property
    def _vectorizer(self) -> Any:
        vectorizer = TfidfVectorizer(**_OPTIONS, vocabulary=self.terms)
        vectorizer.idf_ = self.idf_V
        return vectorizer


_OPTIONS: dict[str, Any] = {
    "token_pattern": _TERM,
    "sublinear_tf": True,
    "dtype": np.float32,
}


def fit_tfidf(
    sample: Sequence[str], *, n_dimensions: int = 64, max_terms: int = 50_000, seed: int = 0
) -> TfidfSvd:
    """Learn terms and directions from a sample; its order does not matter.

    Args:
        sample: Documents; a few thousand are enough.
        n_dimensions: Of the vectors; fewer where the sample has not so many directions.
        max_terms: The most frequent ones are kept.
        seed: Of the randomised SVD.

    Raises:
        MixtureError: The sample has fewer than two terms, or fewer than two documents.
    """
    least = 2 if len(sample) >= 100 else 1  # documents that have a term: misspellings say little
    vectorizer = TfidfVectorizer(**_OPTIONS, min_df=least, max_features=max_terms)
    try:
        weights_NV = vectorizer.fit_transform([text[:MAX_CHARS] for text in sorted(sample)])
    except ValueError:  # scikit-learn's words for an empty vocabulary
        weights_NV = np.zeros((len(sample), 0))
    if min(weights_NV.shape) < 2:
        raise MixtureError(
            f"an embedding cannot be learned from {len(sample)} documents and "
            f"{weights_NV.shape[1]} words{' that two of them have' if least > 1 else ''}",
            hint="give more text",
        )
    kept = min(n_dimensions, *(n - 1 for n in weights_NV.shape))
    with threadpool_limits(1):  # sums in one order: the same bits on any number of cores
        svd = TruncatedSVD(kept, random_state=seed).fit(weights_NV)
    terms = tuple(str(term) for term in vectorizer.get_feature_names_out())
    settings = tfidf_settings(n_dimensions=n_dimensions, max_terms=max_terms, seed=seed)
    return TfidfSvd(
        terms, vectorizer.idf_.astype(np.float32), svd.components_.astype(np.float32), settings
    )


def tfidf_settings(
    *, n_dimensions: int = 64, max_terms: int = 50_000, seed: int = 0
) -> dict[str, Any]:
    """What names a `TfidfSvd`, beside the sample that it is learned from."""
    return {
        "name": "tfidf",
        "version": EMBEDDING_VERSION,
        "n_dimensions": n_dimensions,
        "max_terms": max_terms,
        "seed": seed,
    }


def unit_length(vectors_NK: NDArray[Any]) -> Vectors:
    """Rows of length 1, float32; rows of zeros stay, and so do rows that are not numbers."""
    exact = np.asarray(vectors_NK, np.float64)
    length = np.linalg.norm(exact, axis=1, keepdims=True)
    unit: Vectors = (exact / np.where(length > 0, length, 1)).astype(np.float32)
    return unit


def top_terms(
    texts: Sequence[str], assignment_N: NDArray[np.integer], n_clusters: int, *, n_terms: int = 6
) -> list[list[str]]:
    """Words that tell each cluster's texts from the others', for people to read.

    For a term t of a cluster c: p(t | c) log(p(t | c) / p(t)), p the share of documents with it.
    A cluster without a text has none.
    """
    vectorizer = TfidfVectorizer(**_OPTIONS | {"sublinear_tf": False}, binary=True, use_idf=False)
    vectorizer.norm = None
    try:
        found_NV = vectorizer.fit_transform([text[:MAX_CHARS] for text in texts]).tocsr()
    except ValueError:
        return [[] for _ in range(n_clusters)]
    names = vectorizer.get_feature_names_out()
    share_V = np.asarray(found_NV.mean(axis=0)).ravel()
    return [
        [str(names[i]) for i in _telling(found_NV, np.flatnonzero(assignment_N == c), share_V)][
            :n_terms
        ]
        for c in range(n_clusters)
    ]


def _telling(found_NV: Any, rows: NDArray[np.integer], share_V: NDArray[Any]) -> Iterator[int]:
    """Terms that are more frequent in the rows than in all, the most telling first."""
    if not len(rows):
        return
    own_V = np.asarray(found_NV[rows].mean(axis=0)).ravel()
    seen = np.flatnonzero(own_V > share_V)
    gain = own_V[seen] * np.log(own_V[seen] / share_V[seen])
    yield from (int(i) for i in seen[np.lexsort((seen, -gain))])
