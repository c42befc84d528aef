import dataclasses
import hashlib
import shutil

import datasets
import duckdb
import gigatoken
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mixture_assets.core.errors import MixtureError, MixtureWarning
from mixture_assets.data.shards import discover
from mixture_assets.data.tokenize import tokenize_shard
from mixture_assets.data.tokenizer import train_tokenizer

unicode_text = st.text(st.characters(exclude_categories=["Cs"]))


@pytest.fixture
def store(tmp_path):
    return tmp_path / "store"


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(unicode_text, min_size=1).filter(lambda texts: any(map(str.strip, texts))))
def test_rows_are_the_documents(land, found, store, tokenizer, texts):
    shutil.rmtree(store, ignore_errors=True)
    land("books", "a.parquet", texts)
    shard = tokenize_shard(found("books")[0], tokenizer, store=store)
    kept = [t for t in texts if t and not t.isspace()]
    rows = pq.read_table(shard.path).to_pylist()
    assert [tokenizer.decode(row["input_ids"]) for row in rows] == kept
    assert [row["doc_id"] for row in rows] == [
        hashlib.sha256(t.encode()).hexdigest()[:16] for t in kept
    ]
    assert [row["n_bytes"] for row in rows] == [len(t.encode()) for t in kept]
    assert [row["n_tokens"] for row in rows] == [len(row["input_ids"]) for row in rows]
    assert shard.n_tokens == sum(row["n_tokens"] for row in rows)
    assert shard.n_bytes == sum(row["n_bytes"] for row in rows)
    assert (shard.n_documents, shard.n_empty_documents) == (len(kept), len(texts) - len(kept))
    assert shard.engine == "gigatoken"


def test_the_same_input_gives_the_same_bytes(land, found, tmp_path, tokenizer, english):
    land("books", "a.jsonl.zst", english)
    shards = [tokenize_shard(found("books")[0], tokenizer, store=tmp_path / name) for name in "ab"]
    assert shards[0].path.read_bytes() == shards[1].path.read_bytes()
    assert shards[0].path.relative_to(tmp_path / "a") == shards[1].path.relative_to(tmp_path / "b")


def test_a_finished_shard_is_described_without_reading_the_raw_one(
    land, found, store, tokenizer, english
):
    path = land("books", "a.jsonl", english)
    (raw,) = found("books")
    first = tokenize_shard(raw, tokenizer, store=store)
    path.unlink()
    assert tokenize_shard(raw, tokenizer, store=store) == first
    with pytest.raises(MixtureError, match="has changed"):  # other settings are another shard
        tokenize_shard(raw, tokenizer, store=store, text_field="body")


def test_a_damaged_token_shard_is_made_again(land, found, store, tokenizer, english):
    land("books", "a.jsonl", english)
    (raw,) = found("books")
    first = tokenize_shard(raw, tokenizer, store=store)
    good = first.path.read_bytes()
    first.path.write_bytes(good[: len(good) // 2])
    assert tokenize_shard(raw, tokenizer, store=store) == first
    assert first.path.read_bytes() == good


def test_large_shards_have_several_row_groups(land, found, store, tokenizer, english):
    texts = [f"{i}\n{text}" for i in range(300) for text in english]
    land("books", "a.jsonl", texts)
    shard = tokenize_shard(found("books")[0], tokenizer, store=store)
    file = pq.ParquetFile(shard.path)
    assert file.num_row_groups > 1
    assert file.metadata.num_rows == len(texts)
    last = file.read_row_group(file.num_row_groups - 1).to_pylist()[-1]
    assert tokenizer.decode(last["input_ids"]) == texts[-1]


def test_others_can_read_it(land, found, store, tokenizer, tmp_path):
    """Sixteen bits per token, for DuckDB and `datasets` alike."""
    land("books", "a.jsonl", ["one two", "three"])
    shard = tokenize_shard(found("books")[0], tokenizer, store=store)
    assert pq.read_schema(shard.path).field("input_ids").type == pa.list_(pa.uint16())
    query = f"SELECT sum(len(input_ids)), sum(n_tokens) FROM '{shard.path}'"
    assert duckdb.sql(query).fetchall() == [(shard.n_tokens, shard.n_tokens)]
    rows = datasets.Dataset.from_parquet(str(shard.path), cache_dir=str(tmp_path / "cache"))
    assert tokenizer.decode(rows[0]["input_ids"]) == "one two"


def test_a_large_vocabulary_takes_32_bits(land, found, store, tokenizer):
    land("books", "a.jsonl", ["one two"])
    large = dataclasses.replace(tokenizer, digest="large", vocab_size=70_000)
    shard = tokenize_shard(found("books")[0], large, store=store)
    assert pq.read_schema(shard.path).field("input_ids").type == pa.list_(pa.uint32())


@pytest.fixture
def wrong(tokenizer, tmp_path):
    """The tokenizer with an engine that was built from another vocabulary."""
    (tmp_path / "poems/poems").mkdir(parents=True)
    (tmp_path / "poems/poems/a.txt").write_text("sing, goddess, the anger of Peleus' son " * 50)
    shards = discover(str(tmp_path / "poems"), cache=tmp_path / "poems/cache.json")
    other = train_tokenizer(shards, vocab_size=280, store=tmp_path / "poems/store")
    return dataclasses.replace(tokenizer, fast=gigatoken.Tokenizer(str(other.path)))


def test_engines_that_disagree_are_noticed_and_the_right_ids_are_kept(
    land, found, tmp_path, tokenizer, wrong, english
):
    land("books", "a.jsonl", english)
    (raw,) = found("books")
    with pytest.warns(MixtureWarning, match=r"disagree about 'books/a\.jsonl': document [0-9a-f]+"):
        slow = tokenize_shard(raw, wrong, store=tmp_path / "slow")
    fast = tokenize_shard(raw, tokenizer, store=tmp_path / "fast")
    assert (slow.engine, fast.engine) == ("tokenizers", "gigatoken")
    assert pq.read_table(slow.path).equals(pq.read_table(fast.path))
    assert [p.name for p in slow.path.parent.iterdir()] == [slow.path.name]


def test_a_disagreement_in_long_documents_is_noticed(land, found, store, wrong, english):
    land("books", "a.jsonl", ["".join(english)])
    with pytest.warns(MixtureWarning, match="disagree"):
        assert tokenize_shard(found("books")[0], wrong, store=store).engine == "tokenizers"


def test_every_document_of_a_small_shard_is_checked(land, found, store, tokenizer, wrong):
    """One that the two vocabularies split differently among 31 that they do not."""
    same = [str(i) for i in range(31)]
    different = " the anger of Peleus"
    raw = [t.encode() for t in same]
    assert wrong.encode_flat(raw)[0].tolist() == tokenizer.encode_flat(raw)[0].tolist()
    land("books", "a.jsonl", [*same, different])
    with pytest.warns(MixtureWarning, match="disagree"):
        tokenize_shard(found("books")[0], wrong, store=store)


def test_the_digest_names_everything_that_matters(land, found, store, tokenizer, english):
    land("books", "a.txt", english)
    (raw,) = found("books")
    other_kind = dataclasses.replace(raw, format="jsonl")
    other_content = dataclasses.replace(raw, digest="0" * 16)
    other_tokenizer = dataclasses.replace(tokenizer, digest="0" * 16)
    first = tokenize_shard(raw, tokenizer, store=store)
    variants = [
        tokenize_shard(raw, tokenizer, store=store, txt_document_chars=0),
        tokenize_shard(raw, other_tokenizer, store=store),
    ]
    assert len({first.digest, *(v.digest for v in variants)}) == 3
    for bad in (other_kind, other_content):
        with pytest.raises(MixtureError):
            tokenize_shard(bad, tokenizer, store=store)
    assert len(list((store / "tokens/books").iterdir())) == 3
