"""A subset of a pool as a training stream: the chosen documents, each with its end-of-text.

Documents stand in the order of their content hashes, whatever pool and shards they came from, and
are written where they belong one row group at a time: the stream never has to fit into memory.
"""

import json
import os
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from mixture_assets.core.digest import digest
from mixture_assets.core.errors import MixtureError
from mixture_assets.core.names import SELECTED
from mixture_assets.data.doc_index import DocIndex, flat_ids, hashes_of, row_groups
from mixture_assets.data.files import atomic_write, write_json
from mixture_assets.data.token_store import DomainTokens

SUBSET_VERSION = 2  # raise when a change of code changes a stream


def build_subset(
    chosen: Collection[str],
    shards: Mapping[str, Path],
    *,
    store: Path,
    tokenizer: str,
    eos_id: int,
    context: int,
) -> DomainTokens:
    """Write the stream of some documents, unless it is there.

    The name depends on the documents alone, so two methods that choose the same share a run.

    Args:
        chosen: Ids of the documents.
        shards: Token shards of the pool, by digest.
        store: Root of the store.
        tokenizer: Digest of the tokenizer that made the shards.
        eos_id: Token that ends every document.
        context: Tokens of a training window: the stream must hold one.

    Raises:
        MixtureError: A document is not in the pool, or the subset is shorter than one window.
    """
    ids = sorted(set(chosen))
    name = digest([SUBSET_VERSION, tokenizer, eos_id, ids])
    manifest = store / "token_sets" / SELECTED / f"{name}.json"
    if manifest.exists():
        found = DomainTokens.load(store, SELECTED, name)
        if all((store / path).exists() for path, _ in found.arrays):
            return found
    places = _places(hashes_of(ids), shards)
    if places.n_missing:
        raise MixtureError(
            f"{places.n_missing} of {len(ids)} chosen documents are not in the pool",
            hint="score the pool again: it has changed since",
        )
    if places.n_tokens <= context:
        raise MixtureError(
            f"the subset has {places.n_tokens:,} tokens, less than one window of {context:,} + 1",
            hint="raise the smallest of [selection] shares, or name a larger pool",
        )
    array = f"tokens/{SELECTED}/{name}.npy"
    with atomic_write(store / array) as file:
        _write(file, places, shards, eos_id)
    tokens = DomainTokens(
        domain=SELECTED,
        digest=name,
        tokenizer=tokenizer,
        eos_id=eos_id,
        available_tokens=places.n_tokens,
        n_documents=len(ids),
        n_train_documents=len(ids),
        n_duplicate_documents=0,
        arrays=[(array, places.n_tokens)],
        validation_digest="",  # measured on the specialist set, never on itself
        validation_tokens=0,
        validation_documents=0,
        token_shards=sorted(shards),
    )
    write_json(manifest, json.loads(json.dumps(asdict(tokens))))
    return tokens


@dataclass(frozen=True)
class _Places:
    """Where each chosen document begins in the stream."""

    hashes: NDArray[np.uint64]  # ascending
    begins: NDArray[np.int64]
    n_tokens: int  # ends of text included
    n_missing: int


def _places(chosen: NDArray[np.uint64], shards: Mapping[str, Path]) -> _Places:
    chosen = np.sort(chosen)
    lengths = np.zeros(len(chosen), np.int64)
    for _, path in sorted(shards.items()):
        index = DocIndex.read(path)
        at, is_chosen = _found(chosen, index.hashes)
        lengths[at] = index.n_tokens[is_chosen] + 1
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    return _Places(chosen, ends - lengths, total, int((lengths == 0).sum()))


def _write(file: BinaryIO, places: _Places, shards: Mapping[str, Path], eos_id: int) -> None:
    """The stream as .npy, a document at a time."""
    header = 0
    for _, path in sorted(shards.items()):
        for table in row_groups(path):
            ids = flat_ids(table)
            ends = np.cumsum(table["n_tokens"].to_numpy().astype(np.int64))
            at, is_chosen = _found(places.hashes, hashes_of(table["doc_id"].to_pylist()))
            if not header:
                header = _write_header(file, ids.dtype, places.n_tokens)
            for row, begin in zip(np.flatnonzero(is_chosen), places.begins[at], strict=True):
                document = ids[(ends[row - 1] if row else 0) : ends[row]]
                file.seek(header + int(begin) * ids.dtype.itemsize)
                file.write(np.append(document, ids.dtype.type(eos_id)).data)
    file.seek(0, os.SEEK_END)


def _write_header(file: BinaryIO, dtype: np.dtype[Any], size: int) -> int:
    """Returns its length in bytes."""
    descr = np.lib.format.dtype_to_descr(dtype)
    about = {"descr": descr, "fortran_order": False, "shape": (size,)}
    np.lib.format.write_array_header_1_0(file, about)
    return file.tell()


def _found(
    chosen: NDArray[np.uint64], hashes: NDArray[np.uint64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Places in `chosen` (ascending) of the hashes that are there, and which these are."""
    at = np.searchsorted(chosen, hashes).clip(max=max(0, len(chosen) - 1))
    is_there = chosen[at] == hashes if len(chosen) else np.zeros(len(hashes), bool)
    return at[is_there].astype(np.int64), is_there
