"""What selectors read: a pool of documents to choose from, a row group at a time.

The unit of selection is a document of a token shard. Its tokens have no end-of-text; training
adds one.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mixture_assets.data.detokenize import document_bytes
from mixture_assets.data.doc_index import DocIndex, flat_ids, hashes_of, row_groups
from mixture_assets.data.frozen import FrozenTokenizer


@dataclass(frozen=True, eq=False)
class Documents:
    """Documents in the order of their file."""

    doc_ids: Sequence[str]  # 16 hex characters of the content's hash
    input_ids: NDArray[np.integer]  # of all documents, one after the other
    offsets: NDArray[np.int64]  # where each begins and the last ends: documents + 1 numbers
    n_bytes: NDArray[np.int64]  # of UTF-8, by document

    @classmethod
    def read(cls, path: Path) -> "Documents":
        """All documents of a token shard or a validation set at once: for a specialist set."""
        return cls.of_table(pq.read_table(path))

    @classmethod
    def of_table(cls, table: Any) -> "Documents":
        """Rows of a token shard."""
        n_tokens = table["input_ids"].combine_chunks().value_lengths().to_numpy()
        return cls(
            doc_ids=table["doc_id"].to_pylist(),
            input_ids=flat_ids(table),
            offsets=np.concatenate([[0], np.cumsum(n_tokens)]).astype(np.int64),
            n_bytes=table["n_bytes"].to_numpy().astype(np.int64),
        )

    @property
    def n_tokens(self) -> NDArray[np.int64]:
        """By document."""
        return np.diff(self.offsets)

    def __len__(self) -> int:
        return len(self.doc_ids)

    def __getitem__(self, row: int) -> NDArray[np.integer]:
        """The tokens of one document."""
        return self.input_ids[self.offsets[row] : self.offsets[row + 1]]


@dataclass(frozen=True, eq=False)
class Pool:
    """Token shards to choose from, less the documents that may not be chosen."""

    shards: Mapping[str, Path]  # by digest
    tokenizer: FrozenTokenizer  # what made them
    excluded: frozenset[str] = frozenset()  # doc_ids, as of the specialist set: never scored

    def pieces(self, shard: str) -> Iterator[Documents]:
        """The documents of a shard, one row group in memory at a time."""
        for table in row_groups(self.shards[shard]):
            if self.excluded:
                kept = [doc_id not in self.excluded for doc_id in table["doc_id"].to_pylist()]
                table = table.filter(kept)
            if table.num_rows:
                yield Documents.of_table(table)

    def texts(self, documents: Documents) -> list[bytes]:
        """The UTF-8 of documents that this pool's tokenizer made."""
        return document_bytes(self.tokenizer, documents.input_ids, documents.offsets)

    @property
    def n_documents(self) -> int:
        """Different documents that may be chosen."""
        return len(self._sizes)

    @property
    def n_tokens(self) -> int:
        """Of all different documents that may be chosen."""
        return int(self._sizes.sum())

    @cached_property
    def _sizes(self) -> NDArray[np.int64]:
        """Tokens of every different document, each once."""
        indexes = [DocIndex.read(path) for path in self.shards.values()]
        hashes = np.concatenate([np.zeros(0, np.uint64), *(i.hashes for i in indexes)])
        n_tokens = np.concatenate([np.zeros(0, np.int64), *(i.n_tokens for i in indexes)])
        unique, first = np.unique(hashes, return_index=True)
        return n_tokens[first][~np.isin(unique, hashes_of(sorted(self.excluded)))]
