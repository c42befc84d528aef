"""Small corpora written in any format, and one tokenizer for all tests of the data package."""

import gzip
import inspect
import json
import textwrap
import types
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from mixture_assets.data.shards import RawShard, discover
from mixture_assets.data.tokenizer import FrozenTokenizer, train_tokenizer

Land = Callable[..., Path]


def encoded(name: str, texts: Sequence[str], field: str = "text") -> bytes:
    """The bytes of a shard called `name` that holds `texts`."""
    kind = name.partition(".")[2]
    if kind == "parquet":
        pq.write_table(pa.table({field: list(texts)}), sink := pa.BufferOutputStream())
        return sink.getvalue().to_pybytes()
    if kind == "arrow":
        batch = pa.record_batch({field: pa.array(list(texts))})
        with pa.ipc.new_stream(sink := pa.BufferOutputStream(), batch.schema) as writer:
            writer.write_batch(batch)
        return sink.getvalue().to_pybytes()
    if kind.startswith("txt"):
        plain = "".join(texts).encode()
    else:
        plain = b"".join(json.dumps({field: t}).encode() + b"\n" for t in texts)
    if kind.endswith(".gz"):
        return gzip.compress(plain, mtime=0)
    return zstandard.compress(plain) if kind.endswith(".zst") else plain


@pytest.fixture
def land(tmp_path: Path) -> Land:
    """land('books', 'a.jsonl', texts) or land('books', 'a.jsonl', bytes) writes one raw shard."""

    def write(domain: str, name: str, content: Sequence[str] | bytes) -> Path:
        path = tmp_path / "raw" / domain / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else encoded(path.name, content))
        return path

    return write


@pytest.fixture
def found(tmp_path: Path) -> Callable[..., list[RawShard]]:
    """found('books') discovers the shards of one domain."""

    def look(domain: str) -> list[RawShard]:
        root = str(tmp_path / "raw")
        return discover(root, cache=tmp_path / "shards.json", domains=[domain])[domain]

    return look


@pytest.fixture(scope="session")
def english() -> list[str]:
    """Real text: the documentation of the standard library's own modules, line by line."""
    modules = [m for m in (json, gzip, textwrap, inspect, types) if m.__doc__]
    return [inspect.getsource(m)[i : i + 900] for m in modules for i in range(0, 9000, 900)]


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory, english: list[str]) -> FrozenTokenizer:
    """A byte-level BPE of 512 tokens."""
    folder = tmp_path_factory.mktemp("tokenizer")
    (folder / "raw/code").mkdir(parents=True)
    (folder / "raw/code/a.jsonl").write_bytes(encoded("a.jsonl", english))
    shards = discover(str(folder / "raw"), cache=folder / "shards.json")
    return train_tokenizer(shards, vocab_size=512, store=folder / "store")
