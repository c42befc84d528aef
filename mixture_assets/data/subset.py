"""A subset of a pool as a training stream: the chosen documents, each with its end-of-text."""

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mixture_assets.core.digest import digest
from mixture_assets.core.errors import MixtureError
from mixture_assets.core.names import SELECTED
from mixture_assets.data.doc_index import flat_ids, hashes_of, row_groups
from mixture_assets.data.files import atomic_write, write_json
from mixture_assets.data.token_store import DomainTokens

SUBSET_VERSION = 1  # raise when a change of code changes a stream


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
    stream, n_found = _stream(hashes_of(ids), shards, eos_id)
    if n_found != len(ids):
        raise MixtureError(
            f"{len(ids) - n_found} of {len(ids)} chosen documents are not in the pool",
            hint="score the pool again: it has changed since",
        )
    if len(stream) <= context:
        raise MixtureError(
            f"the subset has {len(stream):,} tokens, less than one window of {context:,} + 1",
            hint="raise the smallest of [selection] shares, or name a larger pool",
        )
    array = f"tokens/{SELECTED}/{name}.npy"
    with atomic_write(store / array) as file:
        np.lib.format.write_array(file, stream, version=(1, 0), allow_pickle=False)
    tokens = DomainTokens(
        domain=SELECTED,
        digest=name,
        tokenizer=tokenizer,
        eos_id=eos_id,
        available_tokens=len(stream),
        n_documents=len(ids),
        n_train_documents=len(ids),
        n_duplicate_documents=0,
        arrays=[(array, len(stream))],
        validation_digest="",  # measured on the specialist set, never on itself
        validation_tokens=0,
        validation_documents=0,
        token_shards=sorted(shards),
    )
    write_json(manifest, json.loads(json.dumps(asdict(tokens))))
    return tokens


def _stream(
    chosen: NDArray[np.uint64], shards: Mapping[str, Path], eos_id: int
) -> tuple[NDArray[np.integer], int]:
    """Chosen documents in the pool's order, and how many were found."""
    parts = list(_parts(chosen, shards, eos_id))
    if not parts:
        return np.zeros(0, np.uint16), 0
    return np.concatenate([stream for stream, _ in parts]), sum(n for _, n in parts)


def _parts(
    chosen: NDArray[np.uint64], shards: Mapping[str, Path], eos_id: int
) -> Iterator[tuple[NDArray[np.integer], int]]:
    for _, path in sorted(shards.items()):
        for table in row_groups(path):
            rows = table.filter(np.isin(hashes_of(table["doc_id"].to_pylist()), chosen))
            if rows.num_rows:
                ids, ends = flat_ids(rows), np.cumsum(rows["n_tokens"].to_numpy().astype(np.int64))
                yield np.insert(ids, ends, ids.dtype.type(eos_id)), rows.num_rows
