"""Documents that share rare words with the specialist documents: BM25, summed over their words.

Source: A. Trotman, A. Puurula, B. Burgess, "Improvements to BM25 and Language Models Examined",
    ADCS 2014: ATIRE's BM25; the settings of rank_bm25's BM25Okapi, which J. O. Yin, A. M. Rush,
    "Compute-Constrained Data Selection", ICLR 2025, arXiv:2410.16208, scores with.

For a document d with f words w among its |d| words, N documents of which n_w have w, and c_w the
mean number of times that a specialist document has w:

    score = sum_w c_w idf_w f (k1 + 1) / (f + k1 (1 - b + b |d| / mean |d|))
    idf_w = log((N - n_w + 1/2) / (n_w + 1/2)), or epsilon times its mean over words where negative

Scores are sums over the words of a query, so that the mean of the scores for each specialist
document is the score for their mean.

Differs from the source: a mean over all specialist documents, not one per sub-task; whole
    documents, not a first turn. Words are split at ASCII punctuation and white space, where the
    source drops punctuation and so joins `a.b`. The pool is read twice, for the document
    frequencies and for the scores, and never indexed: an index holds every word of every document.
    bm25s and rank_bm25 hold the whole pool in memory, so the tests use them as truths.
"""

import string
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixture_assets.selection.documents import Documents, Pool
from mixture_assets.selection.selector import OnCpu

_BLANKED = bytes.maketrans(string.punctuation.encode(), b" " * len(string.punctuation))


@dataclass
class Bm25(OnCpu):
    """The mean BM25 score over the specialist documents; 0 for a document without their words."""

    k1: float = 1.5  # how soon more of the same word adds little
    b: float = 0.75  # how much a long document is held against it
    epsilon: float = 0.25  # of the mean idf: what words in most documents count
    most_words: int = 2_000_000  # counted at once, about 200 bytes each
    name: str = "bm25"
    _pool: Pool | None = field(default=None, repr=False)
    _query: dict[bytes, int] = field(default_factory=dict, repr=False)  # word -> place
    _weight: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0), repr=False)
    _mean_length: float = field(default=0.0, repr=False)  # words of a document of the pool

    @property
    def settings(self) -> Mapping[str, Any]:
        """The constants."""
        return {"k1": self.k1, "b": self.b, "epsilon": self.epsilon} | {
            "most_words": self.most_words
        }

    def prepare(self, specialist: Documents, pool: Pool) -> None:
        """Read the pool once for document frequencies and lengths."""
        self._pool = pool
        counts = Counter(w for text in pool.texts(specialist) for w in words_of(text))
        frequencies = Frequencies(frozenset(counts), self.most_words)
        frequencies.read(pool)
        idf = frequencies.inverse(self.epsilon)
        self._mean_length = frequencies.n_words / max(1, frequencies.n_documents)
        self._query = {word: place for place, word in enumerate(sorted(idf))}
        self._weight = np.array([counts[w] * idf[w] / len(specialist) for w in self._query])

    def score(self, documents: Documents) -> NDArray[np.float64]:
        """One number for each document."""
        assert self._pool is not None  # prepared
        places, lengths = self._places(self._pool.texts(documents))
        rows = np.repeat(np.arange(len(lengths)), lengths)
        known = places >= 0
        keys = rows[known] * len(self._query) + places[known]
        pairs, frequency = np.unique(keys, return_counts=True)
        row, place = np.divmod(pairs, max(1, len(self._query)))
        long = self.k1 * (1 - self.b + self.b * lengths[row] / self._mean_length)
        gains = self._weight[place] * frequency * (self.k1 + 1) / (frequency + long)
        scores: NDArray[np.float64] = np.bincount(row, gains, len(lengths)).astype(np.float64)
        return scores

    def _places(self, texts: Sequence[bytes]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Places of all words among the specialist's (-1: none), and words of each text."""
        query, found, lengths = self._query, [], []
        for text in texts:
            words = words_of(text)
            lengths.append(len(words))
            found += [query.get(word, -1) for word in words]
        return np.array(found, np.int64), np.array(lengths, np.int64)


def words_of(text: bytes) -> list[bytes]:
    """Lower-case words of a text in UTF-8."""
    lower = text.lower() if text.isascii() else text.decode("utf-8", "replace").lower().encode()
    return lower.translate(_BLANKED).split()


@dataclass
class Frequencies:
    """In how many documents words stand: the ones asked for, and as many others as may be held.

    Beyond `most` the others are thinned to those whose checksum is a multiple of 2, 4, ...: as good
    as a random sample of words, and only the mean idf, which epsilon multiplies, is taken of it.
    """

    asked: frozenset[bytes]
    most: int
    counts: Counter[bytes] = field(default_factory=Counter)
    every: int = 1
    n_documents: int = 0
    n_words: int = 0

    def read(self, pool: Pool) -> None:
        """Count a whole pool."""
        for shard in sorted(pool.shards):
            for documents in pool.pieces(shard):
                self.n_documents += len(documents)
                for text in pool.texts(documents):
                    words = words_of(text)
                    self.n_words += len(words)
                    different = set(words)
                    self.counts.update(
                        different if self.every == 1 else filter(self._is_counted, different)
                    )
                    if len(self.counts) > self.most + len(self.asked):
                        self._thin()

    def inverse(self, epsilon: float) -> dict[bytes, float]:
        """The idf of the words that are asked for and stand in the pool."""
        sample = [n for word, n in self.counts.items() if self._is_sampled(word)]
        sizes, n_words = np.unique(np.array(sample, np.int64), return_counts=True)
        least = epsilon * float(self._idf(sizes) @ n_words) / max(1, len(sample))
        known = sorted(word for word in self.asked if word in self.counts)
        idf = self._idf(np.array([self.counts[word] for word in known], np.int64))
        return dict(zip(known, np.where(idf < 0, least, idf).tolist(), strict=True))

    def _idf(self, n: NDArray[np.int64]) -> NDArray[np.float64]:
        ratio: NDArray[np.float64] = (self.n_documents - n + 0.5) / (n + 0.5)
        return np.log(ratio)

    def _is_sampled(self, word: bytes) -> bool:
        return self.every == 1 or zlib.crc32(word) % self.every == 0

    def _is_counted(self, word: bytes) -> bool:
        return word in self.asked or self._is_sampled(word)

    def _thin(self) -> None:
        self.every *= 2
        kept = {word: n for word, n in self.counts.items() if self._is_counted(word)}
        self.counts = Counter(kept)
