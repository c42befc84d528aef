"""Pools and subsets: what is in them, what is left out, and that nothing is lost on the way."""

import hashlib
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixture_assets.core.errors import MixtureError
from mixture_assets.data.pool import build_pool
from mixture_assets.data.split import is_validation
from mixture_assets.data.subset import build_subset

EOS = 0


def doc_id(name):
    return hashlib.sha256(name.encode()).hexdigest()[:16]


def ids_of(name):
    """From 3 to 12 tokens that no other name has in this order, as good as surely."""
    seed = int(doc_id(name), 16)
    return [1 + (seed >> (4 * i)) % 500 for i in range(3 + seed % 10)]


def write(path, names, rows_in_group=4):
    table = pa.table(
        {
            "doc_id": pa.array([doc_id(n) for n in names]),
            "input_ids": pa.array([ids_of(n) for n in names], pa.list_(pa.uint16())),
            "n_tokens": pa.array([len(ids_of(n)) for n in names], pa.int32()),
            "n_bytes": pa.array([10] * len(names), pa.int32()),
        }
    )
    pq.write_table(table, path, row_group_size=rows_in_group)
    return path


@pytest.fixture
def sources(tmp_path):
    """Two shards of 30 and 20 documents, three of which are in both."""
    first = [f"a{i}" for i in range(30)]
    second = [f"b{i}" for i in range(17)] + first[:3]
    return {
        "s1": write(tmp_path / "one.parquet", first),
        "s2": write(tmp_path / "two.parquet", second),
    }


def found(pool, store):
    """Documents of a pool, by id, as its shards have them."""
    rows = [r for p in pool.paths(store).values() for r in pq.read_table(p).to_pylist()]
    assert len({r["doc_id"] for r in rows}) == len(rows)
    return {r["doc_id"]: r["input_ids"] for r in rows}


def test_every_content_is_there_once(sources, tmp_path):
    pool = build_pool(sources, store=tmp_path, tokenizer="t")
    names = [f"a{i}" for i in range(30)] + [f"b{i}" for i in range(17)]
    assert found(pool, tmp_path) == {doc_id(n): ids_of(n) for n in names}
    assert (pool.n_documents, pool.n_repeated, pool.n_leaked, pool.n_beyond) == (47, 3, 0, 0)
    assert pool.n_tokens == sum(len(ids_of(n)) for n in names)


def test_documents_of_the_specialist_set_are_left_out_and_counted(sources, tmp_path):
    leaked = frozenset(map(doc_id, ["a1", "b2", "not there"]))
    pool = build_pool(sources, store=tmp_path, tokenizer="t", leaked=leaked)
    assert pool.n_leaked == 2
    assert not leaked & found(pool, tmp_path).keys()
    assert pool.n_documents == 45


def test_documents_that_domains_are_measured_on_are_left_out(sources, tmp_path):
    pool = build_pool(sources, store=tmp_path, tokenizer="t", held_out=0.3)
    names = [f"a{i}" for i in range(30)] + [f"b{i}" for i in range(17)]
    held = {doc_id(n) for n in names if is_validation(doc_id(n), 0.3)}
    assert 0 < len(held) == pool.n_held_out
    assert found(pool, tmp_path).keys() == set(map(doc_id, names)) - held


@given(most=st.integers(1, 400))
@settings(max_examples=25)
def test_a_sample_ends_with_the_document_that_reaches_it(tmp_path_factory, most):
    folder = tmp_path_factory.mktemp("pool")
    names = [f"a{i}" for i in range(40)]
    sources = {"s": write(folder / "s.parquet", names)}
    pool = build_pool(sources, store=folder, tokenizer="t", most_tokens=most)
    sizes = {d: len(ids) for d, ids in found(pool, folder).items()}
    total = sum(len(ids_of(n)) for n in names)
    assert pool.n_tokens == sum(sizes.values()) >= min(most, total)
    assert pool.n_tokens < most + 13
    assert pool.n_beyond == 40 - pool.n_documents
    smaller = build_pool(sources, store=folder, tokenizer="t", most_tokens=max(1, most // 2))
    assert found(smaller, folder).keys() <= sizes.keys()


def test_a_sample_is_not_the_documents_with_the_lowest_hashes(tmp_path):
    """Those are the ones that the split into training and validation goes by."""
    names = [f"a{i}" for i in range(400)]
    sources = {"s": write(tmp_path / "s.parquet", names)}
    pool = build_pool(sources, store=tmp_path, tokenizer="t", most_tokens=1000)
    below = [int(d, 16) / 2**64 for d in found(pool, tmp_path)]
    assert 0.4 < np.mean(below) < 0.6
    assert max(below) > 0.9


def test_a_pool_is_named_by_what_is_in_it_and_written_once(sources, tmp_path):
    one = build_pool(sources, store=tmp_path, tokenizer="t")
    times = {p: p.stat().st_mtime_ns for p in one.paths(tmp_path).values()}
    assert build_pool(dict(reversed(sources.items())), store=tmp_path, tokenizer="t") == one
    assert {p: p.stat().st_mtime_ns for p in times} == times
    other = build_pool(sources, store=tmp_path, tokenizer="t", leaked=frozenset([doc_id("a1")]))
    assert other.digest != one.digest
    next(iter(one.paths(tmp_path).values())).unlink()  # half of it went
    assert found(build_pool(sources, store=tmp_path, tokenizer="t"), tmp_path)


def test_an_empty_pool_is_one_sentence(sources, tmp_path):
    names = [f"a{i}" for i in range(30)] + [f"b{i}" for i in range(17)]
    everything = frozenset(map(doc_id, names))
    with pytest.raises(MixtureError, match="of 50 documents, 50 are in the specialist set") as e:
        build_pool(sources, store=tmp_path, tokenizer="t", leaked=everything)
    assert "[selection] pool" in e.value.hint


# --- subsets ----------------------------------------------------------------------------------


def subset(chosen, sources, store, context=4):
    pool = build_pool(sources, store=store, tokenizer="t")
    return build_subset(
        chosen, pool.paths(store), store=store, tokenizer="t", eos_id=EOS, context=context
    )


def documents(tokens, store):
    """The stream, cut at the ends of text."""
    (stream,) = tokens.windows(store)
    assert stream[-1] == EOS
    ends = np.flatnonzero(stream == EOS)
    return [part[part != EOS].tolist() for part in np.split(stream, ends[:-1] + 1)]


def test_a_subset_is_its_documents_each_with_an_end_of_text(sources, tmp_path):
    names = ["a3", "b7", "a29", "b0"]
    tokens = subset([doc_id(n) for n in names], sources, tmp_path)
    assert sorted(documents(tokens, tmp_path)) == sorted(ids_of(n) for n in names)
    assert tokens.available_tokens == sum(len(ids_of(n)) + 1 for n in names)
    assert tokens.n_documents == 4


def test_a_subset_is_named_by_its_documents_alone(sources, tmp_path):
    names = [doc_id(n) for n in ("a3", "b7", "a29")]
    one, other = (subset(list(order), sources, tmp_path) for order in (names, reversed(names)))
    assert one == other
    assert subset(names[:2], sources, tmp_path).digest != one.digest
    manifest = tmp_path / "token_sets" / "selection" / f"{one.digest}.json"
    assert json.loads(manifest.read_text())["n_documents"] == 3


def test_the_stream_is_the_same_whatever_pool_the_documents_came_from(sources, tmp_path):
    chosen = [doc_id(n) for n in ("a3", "b7", "a29", "b0", "a11")]
    streams = []
    for store, kept in ((tmp_path / "x", sources), (tmp_path / "y", sources)):
        leaked = frozenset([doc_id("a1")]) if store.name == "y" else frozenset()
        pool = build_pool(kept, store=store, tokenizer="t", leaked=leaked)
        made = build_subset(
            chosen, pool.paths(store), store=store, tokenizer="t", eos_id=EOS, context=4
        )
        streams.append(made.windows(store)[0])
    assert (streams[0] == streams[1]).all()
    by_hash = sorted(chosen)
    assert (
        streams[0][0]
        == ids_of(next(n for n in ("a3", "b7", "a29", "b0", "a11") if doc_id(n) == by_hash[0]))[0]
    )


def test_a_document_that_the_pool_has_not_is_named_in_number(sources, tmp_path):
    with pytest.raises(MixtureError, match="1 of 2 chosen documents are not in the pool"):
        subset([doc_id("a3"), doc_id("elsewhere")], sources, tmp_path)


def test_a_subset_shorter_than_a_window_is_one_sentence(sources, tmp_path):
    with pytest.raises(MixtureError, match="less than one window of 64") as e:
        subset([doc_id("a3")], sources, tmp_path, context=64)
    assert "shares" in e.value.hint
