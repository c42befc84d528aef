"""The fixed validation documents of a domain: the held-out ones with the lowest hashes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mixture_assets.core.digest import digest
from mixture_assets.core.errors import MixtureError
from mixture_assets.data.doc_index import DocIndex, flat_ids, hashes_of, row_groups
from mixture_assets.data.files import atomic_write
from mixture_assets.data.split import validation_mask

VALIDATION_VERSION = 1  # raise when a change of code changes what is held out


@dataclass(frozen=True)
class ValidationSet:
    """Documents in the order of their hashes, without end-of-text tokens."""

    input_ids: NDArray[np.integer]  # of all documents, one after the other
    offsets: NDArray[np.int64]  # where each begins and the last ends: documents + 1 numbers
    n_bytes: NDArray[np.int64]  # of UTF-8, by document
    doc_ids: list[str]


@dataclass(frozen=True)
class Choice:
    """The validation documents of a domain, before they are read."""

    hashes: NDArray[np.uint64]  # ascending
    n_tokens: int


def choose(indexes: Sequence[DocIndex], *, fraction: float, tokens: int) -> Choice:
    """The lowest hashes below `fraction`, until `tokens` are reached. Each content once."""
    hashes = np.concatenate([index.hashes for index in indexes])
    n_tokens = np.concatenate([index.n_tokens for index in indexes])
    is_held_out = validation_mask(hashes, fraction)
    unique, first = np.unique(hashes[is_held_out], return_index=True)
    total = np.cumsum(n_tokens[is_held_out][first])
    n_documents = int(np.searchsorted(total, tokens)) + 1  # the one that reaches it included
    chosen = unique[:n_documents]
    return Choice(chosen, int(total[len(chosen) - 1]) if len(chosen) else 0)


def write_validation(
    choice: Choice, paths: Sequence[Path], *, domain: str, tokenizer: str, store: Path
) -> str:
    """Write the chosen documents, unless they are there; return the digest that names them.

    Args:
        choice: The documents.
        paths: Token shards that hold them.
        domain: What they are measured as.
        tokenizer: Digest of the tokenizer that made the shards.
        store: Root of the store.
    """
    name = digest(
        {
            "version": VALIDATION_VERSION,
            "tokenizer": tokenizer,
            "documents": [f"{h:016x}" for h in choice.hashes.tolist()],
        }
    )
    path = validation_path(store, domain, name)
    if not is_written(path, len(choice.hashes)):
        table = _gather(choice, paths)
        with atomic_write(path) as file:
            pq.write_table(table, file, compression="zstd", use_dictionary=False)
    return name


def load_validation(store: Path, domain: str, name: str) -> ValidationSet:
    """Read the validation documents of a domain by their digest."""
    path = validation_path(store, domain, name)
    if not path.exists():
        raise MixtureError(
            f"the store has no validation set {name} of {domain!r}",
            hint="`mixture run` makes what is missing",
        )
    table = pq.read_table(path)
    lengths = table["input_ids"].combine_chunks().value_lengths().to_numpy()
    return ValidationSet(
        input_ids=flat_ids(table),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        n_bytes=table["n_bytes"].to_numpy().astype(np.int64),
        doc_ids=table["doc_id"].to_pylist(),
    )


def validation_path(store: Path, domain: str, name: str) -> Path:
    """Where a validation set lies."""
    return store / "validation" / domain / f"{name}.parquet"


def is_written(path: Path, n_documents: int) -> bool:
    """Whether a validation set is there and whole."""
    try:
        return bool(pq.read_metadata(path).num_rows == n_documents)
    except (FileNotFoundError, pa.ArrowInvalid):
        return False


def _gather(choice: Choice, paths: Sequence[Path]) -> pa.Table:
    """The rows of the chosen documents, first occurrence of each, in hash order."""
    parts = []
    for path in paths:
        for table in row_groups(path):
            rows = np.flatnonzero(np.isin(hashes_of(table["doc_id"].to_pylist()), choice.hashes))
            parts.append(table.take(rows).select(["doc_id", "input_ids", "n_bytes"]))
    found = pa.concat_tables(parts)
    _, first = np.unique(hashes_of(found["doc_id"].to_pylist()), return_index=True)
    return found.take(first).replace_schema_metadata(None).combine_chunks()
