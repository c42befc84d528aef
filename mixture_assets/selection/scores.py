"""Score sets: what one selector says of every document of a pool, a parquet file per shard.

A score set is named by all that its numbers depend on, so that scoring the same pool again finds
what is there, and what was interrupted goes on with the next shard.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mixture_assets.core.digest import digest
from mixture_assets.core.errors import MixtureError, shortlist
from mixture_assets.core.process import peak_resident_bytes
from mixture_assets.data.doc_index import hashes_of
from mixture_assets.data.files import atomic_write, write_json
from mixture_assets.selection.documents import Documents, Pool
from mixture_assets.selection.selector import Order, Selector

SCORES_VERSION = 1  # raise when a change of code changes a score
_SHOWN = 100  # ids without a score that set.json lists; the shards have them all
_METADATA = b"mixture_assets"


@dataclass(frozen=True)
class ScoreSet:
    """The scores of one selector over one pool, and what they cost."""

    method: str
    digest: str
    path: Path  # the folder
    order: Order  # which scores are chosen first
    specialist: str  # what the caller calls the specialist set
    settings: Mapping[str, Any]
    shards: tuple[str, ...]  # digests
    n_documents: int  # rows: equal documents are counted each
    n_tokens: int  # of these
    n_nan: int  # documents that got no finite number: never chosen
    nan_doc_ids: tuple[str, ...]  # the first of these
    seconds: float  # of preparing, as often as that was done, and of scoring
    flops: float  # of matrix products
    device: str
    peak_memory_bytes: int  # resident, of the process that finished it

    @classmethod
    def load(cls, store: Path, method: str, name: str) -> "ScoreSet":
        """A finished score set.

        Raises:
            MixtureError: There is none of that name.
        """
        path = store / "scores" / method / name
        try:
            fields = json.loads((path / "set.json").read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise MixtureError(
                f"the store has no finished scores {name} of {method!r}",
                hint="score the pool again: shards that are finished are kept",
            ) from error
        listed = {k: tuple(fields[k]) for k in ("shards", "nan_doc_ids")}
        return cls(**fields | listed | {"path": path})

    def rows(self) -> "Rows":
        """Every document's hash, score and tokens, in the order of shards and files."""
        return _read(self.path, self.shards)


@dataclass(frozen=True, eq=False)
class Rows:
    """One entry per document."""

    hashes: NDArray[np.uint64]  # doc_ids as numbers
    scores: NDArray[np.float64]
    n_tokens: NDArray[np.int64]


def write_scores(
    store: Path, selector: Selector, pool: Pool, specialist: Documents, name: str = ""
) -> ScoreSet:
    """Score a pool, unless that was done before; what was interrupted goes on.

    Args:
        store: Root of the store.
        selector: What scores; prepared only if a shard is missing.
        pool: What to score.
        specialist: The documents to choose for.
        name: What the caller calls the specialist set; its content is what counts.

    Raises:
        MixtureError: The pool or the specialist set is empty, the specialist set is of another
            tokenizer, or more than half of the documents got no finite number.
    """
    _require_documents(pool, specialist)
    key = _name(selector, pool, specialist)
    folder = store / "scores" / selector.name / key
    if (folder / "set.json").exists():
        found = ScoreSet.load(store, selector.name, key)
        return replace(found, order=selector.order)  # the numbers do not depend on it
    missing = [s for s in sorted(pool.shards) if not _is_whole(folder / f"{s}.parquet")]
    begun = time.monotonic(), selector.flops
    if missing:
        selector.prepare(specialist, pool)
    for shard in missing:
        tables = [_table(documents, selector) for documents in pool.pieces(shard)]
        ended = time.monotonic(), selector.flops
        cost = {"seconds": ended[0] - begun[0], "flops": ended[1] - begun[1]}
        _write_shard(folder / f"{shard}.parquet", tables, cost)
        begun = ended  # the first shard bears the cost of preparing
    return _finish(folder, selector, pool, name)


def _require_documents(pool: Pool, specialist: Documents) -> None:
    if not pool.n_documents:
        excluded = f" beside the {len(pool.excluded):,} that are excluded" if pool.excluded else ""
        raise MixtureError(
            f"the pool has no document to score{excluded}",
            hint="give a pool with documents that are not in the specialist set",
        )
    if not len(specialist):
        raise MixtureError(
            "the specialist set has no document to choose for",
            hint="give at least one document of the target",
        )
    if (highest := int(specialist.input_ids.max())) >= pool.tokenizer.vocab_size:
        raise MixtureError(
            f"the specialist set has token {highest:,}, the pool's tokenizer "
            f"{pool.tokenizer.digest} has {pool.tokenizer.vocab_size:,} tokens",
            hint="tokenize the specialist set with the pool's tokenizer",
        )


def _name(selector: Selector, pool: Pool, specialist: Documents) -> str:
    return digest(
        {
            "version": SCORES_VERSION,
            "selector": selector.name,
            "settings": dict(selector.settings),
            "tokenizer": pool.tokenizer.digest,
            "shards": sorted(pool.shards),
            "excluded": sorted(pool.excluded),
            "specialist": sorted(specialist.doc_ids),
        }
    )


def _table(documents: Documents, selector: Selector) -> Any:
    scores = np.asarray(selector.score(documents), np.float64)
    assert scores.shape == (len(documents),)
    columns = [
        pa.array(documents.doc_ids, pa.string()),
        pa.array(np.where(np.isfinite(scores), scores, np.nan), from_pandas=False),
        pa.array(documents.n_tokens.astype(np.int32)),
    ]
    return pa.Table.from_arrays(columns, schema=_SCHEMA)


_SCHEMA = pa.schema(
    [
        pa.field("doc_id", pa.string(), nullable=False),
        pa.field("score", pa.float64(), nullable=False),  # NaN: got none
        pa.field("n_tokens", pa.int32(), nullable=False),
    ]
)


def _write_shard(path: Path, tables: list[Any], cost: Mapping[str, float]) -> None:
    metadata = {_METADATA: json.dumps(dict(cost), sort_keys=True).encode()}
    with atomic_write(path) as file, pq.ParquetWriter(file, _SCHEMA, compression="zstd") as writer:
        for table in tables:
            writer.write_table(table)
        writer.add_key_value_metadata(metadata)


def _is_whole(path: Path) -> bool:
    try:
        return bool(pq.read_metadata(path).metadata)
    except (FileNotFoundError, pa.ArrowInvalid):
        return False


def _finish(folder: Path, selector: Selector, pool: Pool, name: str) -> ScoreSet:
    shards = tuple(sorted(pool.shards))
    rows = _read(folder, shards)
    without = np.flatnonzero(np.isnan(rows.scores))
    _require_numbers(selector, rows, without)
    footers = [pq.read_metadata(folder / f"{s}.parquet").metadata[_METADATA] for s in shards]
    costs = [json.loads(footer) for footer in footers]
    found = ScoreSet(
        method=selector.name,
        digest=folder.name,
        path=folder,
        order=selector.order,
        specialist=name,
        settings=dict(selector.settings),
        shards=shards,
        n_documents=len(rows.scores),
        n_tokens=int(rows.n_tokens.sum()),
        n_nan=len(without),
        nan_doc_ids=tuple(f"{h:016x}" for h in rows.hashes[without[:_SHOWN]].tolist()),
        seconds=round(sum(c["seconds"] for c in costs), 3),
        flops=sum(c["flops"] for c in costs),
        device=selector.device,
        peak_memory_bytes=peak_resident_bytes(),
    )
    said = {k: v for k, v in asdict(found).items() if k != "path"}
    write_json(folder / "set.json", said)  # last: its presence means done
    return found


def _require_numbers(selector: Selector, rows: Rows, without: NDArray[np.integer]) -> None:
    if 2 * len(without) <= len(rows.scores):
        return
    ids = shortlist(f"{h:016x}" for h in rows.hashes[without[:4]].tolist())
    raise MixtureError(
        f"{selector.name!r} gave {len(without):,} of {len(rows.scores):,} documents no finite "
        f"number: {ids}",
        hint="check the model or the settings that it scores with: scores of a few documents may "
        "be missing, those of most may not",
    )


def _read(folder: Path, shards: tuple[str, ...]) -> Rows:
    table = pa.concat_tables([pq.read_table(folder / f"{shard}.parquet") for shard in shards])
    return Rows(
        hashes_of(table["doc_id"].to_pylist()),
        table["score"].to_numpy(),
        table["n_tokens"].to_numpy().astype(np.int64),
    )
