"""Which documents a token shard holds: their content hashes and sizes, without the tokens."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray


@dataclass(frozen=True)
class DocIndex:
    """One entry per document, in the order of the file."""

    hashes: NDArray[np.uint64]
    n_tokens: NDArray[np.int64]

    @classmethod
    def read(cls, path: Path) -> "DocIndex":
        """Read the small columns of a token shard."""
        table = pq.read_table(path, columns=["doc_id", "n_tokens"])
        return cls(
            hashes_of(table["doc_id"].to_pylist()),
            table["n_tokens"].to_numpy().astype(np.int64),
        )


def hashes_of(doc_ids: list[str]) -> NDArray[np.uint64]:
    """Document ids as numbers that sort the same way."""
    raw = bytes.fromhex("".join(doc_ids))
    return np.frombuffer(raw, ">u8").astype(np.uint64)


def row_groups(path: Path) -> Iterator[Any]:
    """A token shard's row groups as tables, one in memory at a time."""
    with pq.ParquetFile(path) as file:
        for number in range(file.num_row_groups):
            yield file.read_row_group(number, use_threads=False)


def flat_ids(table: Any) -> NDArray[np.integer]:
    """The tokens of all documents of a table, one after the other."""
    column = table["input_ids"].combine_chunks()
    ids: NDArray[np.integer] = column.flatten().to_numpy(zero_copy_only=False)
    return ids
