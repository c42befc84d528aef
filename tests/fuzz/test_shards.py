"""Thousands of odd and damaged shards: each becomes tokens, or one sentence."""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from mixture_assets.data.frozen import FrozenTokenizer, freeze
from mixture_assets.data.shards import RawShard, discover
from mixture_assets.data.tokenize import TokenShard, tokenize_shard
from tests.fuzz.endings import Endings, fuzz_settings
from tests.fuzz.shards import shards


@pytest.fixture(scope="module")
def endings() -> Iterator[Endings]:
    counted = Endings("shards")
    yield counted
    counted.report()
    assert counted.n_succeeded > 20  # else the inputs are all of one sort
    assert counted.n_refused > 20


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> FrozenTokenizer:
    """One token per byte: cheap, and its ids are easily counted."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=257,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator([], trainer)
    return freeze(bpe, eos_token="<|endoftext|>", store=tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@given(shard=shards())
@fuzz_settings(0.4, small=250)
def test_a_shard_becomes_tokens_or_one_sentence(
    shard: tuple[str, bytes], folder: Path, tokenizer: FrozenTokenizer, endings: Endings
) -> None:
    name, content = shard
    raw, store = folder / "raw", folder / "store"
    (raw / "books").mkdir(parents=True, exist_ok=True)
    path = raw / "books" / name
    path.write_bytes(content)

    def attempt() -> TokenShard:
        (found,) = discover(str(raw), cache=store / "shards.json")["books"]
        return tokenize_shard(found, tokenizer, store=store)

    try:
        made = endings.of(attempt)
        left = sorted(p.name for p in store.rglob("*") if p.is_file() and p.name != "shards.json")
        assert left == ([made.path.name] if made else [])
        if made:
            check_counts(made, content)
    finally:
        path.unlink()
        for token_shard in store.rglob("*.parquet"):
            token_shard.unlink()


def check_counts(made: TokenShard, content: bytes) -> None:
    """What is recorded, against the file that was written and against another reader."""
    table = pq.read_table(made.path)
    assert table.num_rows == made.n_documents
    assert sum(table["n_tokens"].to_pylist()) == made.n_tokens
    assert sum(map(len, table["input_ids"].to_pylist())) == made.n_tokens
    if (texts := naive_texts(made.raw, content)) is not None:
        full = [t.encode() for t in texts if t.strip()]
        assert made.n_documents == len(full)
        assert made.n_empty_documents == len(texts) - len(full)
        assert made.n_bytes == sum(map(len, full))


def naive_texts(raw: RawShard, content: bytes) -> list[str] | None:
    """The documents, by the simplest reader there is; None where there is none as simple."""
    if raw.format == "jsonl":
        lines = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
        return [json.loads(line)["text"] for line in lines if line.strip()]
    if raw.format == "parquet":
        return list(pq.read_table(io.BytesIO(content))["text"].to_pylist())
    if raw.format == "arrow":
        open_ = pa.ipc.open_file if content.startswith(b"ARROW1") else pa.ipc.open_stream
        return list(open_(io.BytesIO(content)).read_all()["text"].to_pylist())
    return None
