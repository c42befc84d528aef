"""Raw shard -> token shard: one parquet file, one row per document.

gigatoken does the work. It is young, so 32 documents of every shard are encoded by
`tokenizers` too; if the ids differ, `tokenizers` does the whole shard again.
"""

import hashlib
import heapq
import json
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mixture_assets.core.digest import DIGEST_CHARS, digest
from mixture_assets.core.errors import MixtureError, MixtureWarning
from mixture_assets.data.files import atomic_write
from mixture_assets.data.frozen import FrozenTokenizer
from mixture_assets.data.readers import document_lists
from mixture_assets.data.shards import RawShard, require_unchanged

TOKENIZE_VERSION = 1  # raise when a change of code changes a token shard
SAMPLE_DOCUMENTS = 32  # of every shard, encoded by both engines
SAMPLE_CHARS = 4096  # of each: bounds the check to 0.03 s, `tokenizers` does 4 MB/s
_ROW_GROUP_BYTES = 8 << 20  # of text: about 2 M tokens
_METADATA = b"mixture_assets"


@dataclass(frozen=True)
class TokenShard:
    """A parquet file of tokens, and where it came from."""

    domain: str
    digest: str
    raw: RawShard
    tokenizer: str  # digest
    n_tokens: int
    n_documents: int
    n_empty_documents: int  # without text, so without a row
    n_bytes: int  # of UTF-8
    engine: str  # 'gigatoken' or 'tokenizers'
    path: Path


@dataclass
class _Counts:
    n_tokens: int = 0
    n_documents: int = 0
    n_empty_documents: int = 0
    n_bytes: int = 0


class _Disagreement(Exception):
    """The two engines gave different ids."""


def tokenize_shard(
    shard: RawShard,
    tokenizer: FrozenTokenizer,
    *,
    store: Path,
    text_field: str = "text",
    txt_document_chars: int = 4000,
) -> TokenShard:
    """Tokenize one raw shard, unless that was done before."""
    kind = shard.format.partition(".")[0]
    name = digest(
        {
            "version": TOKENIZE_VERSION,
            "raw": shard.digest,
            "kind": kind,  # the same bytes read as jsonl and as txt are different documents
            "tokenizer": tokenizer.digest,
            "text_field": text_field,
            "txt_document_chars": txt_document_chars,
        }
    )
    path = store / "tokens" / shard.domain / f"{name}.parquet"
    if found := _described(path, shard, tokenizer):
        return found
    settings = {"text_field": text_field, "txt_document_chars": txt_document_chars}
    try:
        _write(path, shard, tokenizer, tokenizer.engine, settings)
    except _Disagreement as error:
        warnings.warn(
            f"gigatoken and `tokenizers` disagree about {shard.name!r}: {error}; `tokenizers` "
            "tokenizes this shard, about 30 times slower",
            MixtureWarning,
            stacklevel=2,
        )
        _write(path, shard, tokenizer, "tokenizers", settings)
    made = _described(path, shard, tokenizer)
    assert made is not None
    return made


def document_id(text: bytes) -> str:
    """What a document is known by: its content, in UTF-8."""
    return hashlib.sha256(text).hexdigest()[:DIGEST_CHARS]


def _described(path: Path, shard: RawShard, tokenizer: FrozenTokenizer) -> TokenShard | None:
    """A finished shard, from the footer of its file; None if it is missing or damaged."""
    try:
        metadata = pq.read_metadata(path).metadata
    except (FileNotFoundError, pa.ArrowInvalid):
        return None
    about = json.loads(metadata[_METADATA])
    return TokenShard(
        domain=shard.domain,
        digest=path.stem,
        raw=shard,
        tokenizer=tokenizer.digest,
        path=path,
        **about,
    )


def _write(
    path: Path, shard: RawShard, tokenizer: FrozenTokenizer, engine: str, settings: dict[str, Any]
) -> None:
    counts, sample = _Counts(), _Sample()
    with atomic_write(path) as file, _writer(file, tokenizer) as writer:
        for texts in _row_groups(shard, settings, counts):
            ids, lengths = tokenizer.encode_flat(texts, engine=engine)
            if not lengths.all():  # a normalizer can leave nothing of a text
                counts.n_empty_documents += int((lengths == 0).sum())
                texts = [t for t, n in zip(texts, lengths, strict=True) if n]
                lengths = lengths[lengths > 0]
            doc_ids = list(map(document_id, texts))
            writer.write_table(_table(tokenizer, doc_ids, texts, ids, lengths))
            sample.add(doc_ids, texts, ids, lengths)
            counts.n_documents += len(texts)
            counts.n_tokens += len(ids)
            counts.n_bytes += sum(map(len, texts))
        if not counts.n_documents:
            raise MixtureError(
                f"{shard.name!r} has no document with text in it: all "
                f"{counts.n_empty_documents:,} are empty",
                hint="remove the file, or name another field: [data] text_field",
            )
        if engine == "gigatoken":
            sample.check(tokenizer)
        require_unchanged(shard)
        about = json.dumps({**asdict(counts), "engine": engine}, sort_keys=True)
        writer.add_key_value_metadata({_METADATA: about.encode()})


def _schema(tokenizer: FrozenTokenizer) -> Any:
    return pa.schema(
        [
            pa.field("doc_id", pa.string(), nullable=False),
            pa.field("input_ids", pa.list_(pa.from_numpy_dtype(tokenizer.dtype)), nullable=False),
            pa.field("n_tokens", pa.int32(), nullable=False),
            pa.field("n_bytes", pa.int32(), nullable=False),
        ]
    )


def _writer(file: Any, tokenizer: FrozenTokenizer) -> Any:
    return pq.ParquetWriter(
        file,
        _schema(tokenizer),
        compression="zstd",
        compression_level=1,  # 3 saves 7 % and takes 13 % longer
        use_dictionary=False,
    )


def _row_groups(
    shard: RawShard, settings: dict[str, Any], counts: _Counts
) -> Iterator[list[bytes]]:
    """Documents with text in them, as UTF-8, about 8 MiB at a time; the others are counted."""
    group: list[bytes] = []
    size = 0
    for texts in document_lists(shard, **settings):
        for text in texts:
            if not text or text.isspace():
                counts.n_empty_documents += 1
                continue
            group.append(encoded := text.encode("utf-8"))
            size += len(encoded)
            if size >= _ROW_GROUP_BYTES:
                yield group
                group, size = [], 0
    if group:
        yield group


def _table(
    tokenizer: FrozenTokenizer,
    doc_ids: Sequence[str],
    texts: Sequence[bytes],
    ids: NDArray[np.uint32],
    lengths: NDArray[np.int64],
) -> Any:
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    columns = [
        pa.array(doc_ids, pa.string()),
        pa.ListArray.from_arrays(
            pa.array(offsets, pa.int32()), pa.array(ids.astype(tokenizer.dtype))
        ),
        pa.array(lengths, pa.int32()),
        pa.array([len(t) for t in texts], pa.int32()),
    ]
    return pa.Table.from_arrays(columns, schema=_schema(tokenizer))


class _Sample:
    """The documents of a shard with the highest hashes: the same ones every time.

    The highest, because the lowest are the validation set.
    """

    def __init__(self) -> None:
        self.kept: dict[str, tuple[bytes, NDArray[np.uint32]]] = {}

    def add(
        self,
        doc_ids: Sequence[str],
        texts: Sequence[bytes],
        ids: NDArray[np.uint32],
        lengths: NDArray[np.int64],
    ) -> None:
        ends = np.cumsum(lengths)
        rows = heapq.nlargest(SAMPLE_DOCUMENTS, range(len(doc_ids)), key=doc_ids.__getitem__)
        for row in rows:
            document_ids = ids[ends[row] - lengths[row] : ends[row]]
            self.kept[doc_ids[row]] = (texts[row], document_ids.copy())
        for doc_id in sorted(self.kept)[:-SAMPLE_DOCUMENTS]:
            del self.kept[doc_id]

    def check(self, tokenizer: FrozenTokenizer) -> None:
        """Compare the stored ids of short documents, and the start of long ones."""
        texts = [text.decode("utf-8")[:SAMPLE_CHARS] for text, _ in self.kept.values()]
        given = tokenizer.encode_batch(texts)
        expected = [
            e.ids for e in tokenizer.reference.encode_batch_fast(texts, add_special_tokens=False)
        ]
        for doc_id, ids, right in zip(self.kept, given, expected, strict=True):
            whole, stored = self.kept[doc_id]
            ours = stored if len(whole.decode("utf-8")) <= SAMPLE_CHARS else ids
            if ours.tolist() != right:
                raise _Disagreement(f"document {doc_id}")
