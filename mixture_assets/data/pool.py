"""The pool: documents to choose from, each content once, without those that must not be chosen.

Left out, and counted: documents that are in the specialist set (what judges would be learned by
heart), those that a domain holds out for validation, repeats, and what is beyond `most_tokens`.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mixture_assets.core.digest import digest
from mixture_assets.core.errors import MixtureError
from mixture_assets.core.names import POOL
from mixture_assets.data.doc_index import DocIndex, hashes_of, row_groups
from mixture_assets.data.files import atomic_write, write_json
from mixture_assets.data.split import validation_mask

POOL_VERSION = 1  # raise when a change of code changes which documents are in a pool
_ROW_GROUP_DOCUMENTS = 4096
_STIR = np.uint64(0x9E3779B97F4A7C15)  # odd: a bijection, so that a sample is not the lowest hashes


@dataclass(frozen=True)
class PoolSet:
    """A pool as token shards of its own, and what was left out of it."""

    digest: str
    tokenizer: str  # digest
    n_documents: int
    n_tokens: int  # without end-of-text tokens
    n_leaked: int  # documents that are in the specialist set
    n_held_out: int  # that a domain holds out for validation
    n_repeated: int
    n_beyond: int  # beyond most_tokens
    shards: list[str]  # digests of token shards below tokens/pool
    sources: list[str]  # digests of the token shards that they were taken from

    def paths(self, store: Path) -> dict[str, Path]:
        """Token shards by digest."""
        return {name: store / "tokens" / POOL / f"{name}.parquet" for name in self.shards}


def build_pool(
    sources: Mapping[str, Path],
    *,
    store: Path,
    tokenizer: str,
    leaked: frozenset[str] = frozenset(),
    held_out: float | None = None,
    most_tokens: int = 0,
) -> PoolSet:
    """Write the documents to choose from as token shards, unless they are there.

    Args:
        sources: Token shards by digest; all of one tokenizer.
        store: Root of the store.
        tokenizer: Digest of the tokenizer.
        leaked: Ids of documents that must not be chosen.
        held_out: Share of content hashes that is never trained on, where the sources are domains.
        most_tokens: A sample of so many tokens, by content; 0: everything.

    Raises:
        MixtureError: No document is left.
    """
    asked = {
        "version": POOL_VERSION,
        "sources": sorted(sources),
        "leaked": sorted(leaked),
        "held_out": held_out,
        "most_tokens": most_tokens,
    }
    name = digest(asked)
    manifest = store / "pools" / f"{name}.json"
    found = _found(manifest, store)
    if found is not None:
        return found
    hashes, n_tokens, first = _index(sources)
    is_leaked = (
        np.isin(hashes, hashes_of(sorted(leaked))) if leaked else np.zeros(len(hashes), bool)
    )
    is_held = np.zeros(len(hashes), bool) if held_out is None else validation_mask(hashes, held_out)
    is_open = first & ~is_leaked & ~is_held
    is_kept = is_open & _sampled(hashes, n_tokens, is_open, most_tokens)
    if not is_kept.any():
        raise MixtureError(
            f"the pool is empty: of {len(hashes):,} documents, {int(is_leaked.sum()):,} are in the "
            f"specialist set and {int(is_held.sum()):,} are held out for validation",
            hint="name a pool with other documents: [selection] pool",
        )
    shards = _write(sources, is_kept, name, store)
    made = PoolSet(
        digest=name,
        tokenizer=tokenizer,
        n_documents=int(is_kept.sum()),
        n_tokens=int(n_tokens[is_kept].sum()),
        n_leaked=int((first & is_leaked).sum()),
        n_held_out=int((first & is_held & ~is_leaked).sum()),
        n_repeated=int((~first).sum()),
        n_beyond=int((is_open & ~is_kept).sum()),
        shards=shards,
        sources=sorted(sources),
    )
    write_json(manifest, asdict(made))  # last: its presence means done
    return made


def _found(manifest: Path, store: Path) -> PoolSet | None:
    if not manifest.exists():
        return None
    found = PoolSet(**json.loads(manifest.read_text(encoding="utf-8")))
    return found if all(path.exists() for path in found.paths(store).values()) else None


def _index(
    sources: Mapping[str, Path],
) -> tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.bool_]]:
    """Hashes and tokens of all documents, and whether each is the first of its content."""
    indexes = [DocIndex.read(path) for _, path in sorted(sources.items())]
    hashes = np.concatenate([i.hashes for i in indexes]) if indexes else np.zeros(0, np.uint64)
    n_tokens = np.concatenate([i.n_tokens for i in indexes]) if indexes else np.zeros(0, np.int64)
    first = np.zeros(len(hashes), bool)
    first[np.unique(hashes, return_index=True)[1]] = True
    return hashes, n_tokens, first


def _sampled(
    hashes: NDArray[np.uint64], n_tokens: NDArray[np.int64], is_open: NDArray[np.bool_], most: int
) -> NDArray[np.bool_]:
    """The open documents, in an order by content that is not the split's, until `most` tokens."""
    if not most:
        return is_open
    places = np.flatnonzero(is_open)
    stirred = hashes[places] * _STIR
    order = places[np.argsort(stirred ^ (stirred >> np.uint64(29)), kind="stable")]
    n_kept = int(np.searchsorted(np.cumsum(n_tokens[order]), most)) + 1
    kept = np.zeros(len(hashes), bool)
    kept[order[:n_kept]] = True
    return kept


def _write(
    sources: Mapping[str, Path], is_kept: NDArray[np.bool_], pool: str, store: Path
) -> list[str]:
    """One token shard for each source that has documents left; returns their digests."""
    names, begin = [], 0
    for source, path in sorted(sources.items()):
        end = begin + pq.read_metadata(path).num_rows
        part, begin = is_kept[begin:end], end
        if not part.any():
            continue
        names.append(digest([pool, source]))
        target = store / "tokens" / POOL / f"{names[-1]}.parquet"
        schema = pq.read_schema(path).remove_metadata()
        with (
            atomic_write(target) as file,
            pq.ParquetWriter(file, schema, compression="zstd", use_dictionary=False) as writer,
        ):
            for table in _kept_rows(path, part):
                writer.write_table(table, row_group_size=_ROW_GROUP_DOCUMENTS)
    return names


def _kept_rows(path: Path, is_kept: NDArray[np.bool_]) -> Iterator[Any]:
    begin = 0
    for table in row_groups(path):
        end = begin + table.num_rows
        rows = table.filter(pa.array(is_kept[begin:end])).replace_schema_metadata(None)
        begin = end
        if rows.num_rows:
            yield rows
