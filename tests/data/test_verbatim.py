"""Passages that stand word for word in a training stream, against a search in plain lists."""

import dataclasses
import types

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixture_assets.data.validation import ValidationSet
from mixture_assets.data.verbatim import WINDOW, verbatim_share


def documents(*texts):
    ends = np.cumsum([0, *map(len, texts)])
    return ValidationSet(
        np.concatenate([np.array(t, np.uint16) for t in texts]),
        ends.astype(np.int64),
        np.zeros(len(texts), np.int64),
        [f"{i:016x}" for i in range(len(texts))],
    )


def stored(store, *streams, doc_ids=("f" * 16,)):
    """Arrays and a token shard of a domain, with as much of DomainTokens as is asked for."""
    arrays = []
    for i, stream in enumerate(streams):
        np.save(store / f"{i}.npy", np.array(stream, np.uint16))
        arrays.append((f"{i}.npy", len(stream)))
    shard = store / "shard.parquet"
    pq.write_table(pa.table({"doc_id": list(doc_ids), "n_tokens": [1] * len(doc_ids)}), shard)
    return types.SimpleNamespace(arrays=arrays, shard_paths=lambda store: [shard])


def share_of(texts, domain, store, doc_ids=None):
    made = documents(*texts)
    if doc_ids:
        made = dataclasses.replace(made, doc_ids=doc_ids)
    return verbatim_share(made, domain, store, fraction=0.01)


def covered(texts, streams):
    """Tokens in windows that a stream has at a multiple of WINDOW."""
    known = {
        tuple(stream[i : i + WINDOW])
        for stream in streams
        for i in range(0, len(stream) - WINDOW + 1, WINDOW)
    }
    hits, n = 0, 0
    for text in texts:
        own = set()
        for i in range(len(text) - WINDOW + 1):
            if tuple(text[i : i + WINDOW]) in known:
                own |= set(range(i, i + WINDOW))
        hits, n = hits + len(own), n + len(text)
    return hits / n


def words(rng, n):
    return rng.integers(0, 3000, n).tolist()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.lists(st.integers(0, 200), min_size=1, max_size=4))
def test_it_finds_what_a_plain_search_finds(tmp_path_factory, seed, lengths):
    rng, store = np.random.default_rng(seed), tmp_path_factory.mktemp("store")
    texts = [words(rng, n + 1) for n in lengths]
    streams = [
        words(rng, 50) + texts[0] + words(rng, 7) + texts[-1][: len(texts[-1]) // 2],
        words(rng, rng.integers(0, 100)),
    ]
    found = share_of(texts, stored(store, *streams), store)
    assert found == pytest.approx(covered(texts, streams))


def test_a_passage_of_two_windows_is_found_wherever_it_lies(tmp_path):
    rng = np.random.default_rng(0)
    for before in range(WINDOW):
        text = words(rng, 2 * WINDOW - 1)
        stream = words(rng, before) + text + words(rng, 100)
        assert share_of([text], stored(tmp_path, stream), tmp_path) > 0.5


def test_text_of_its_own_is_not_found(tmp_path):
    rng = np.random.default_rng(1)
    domain = stored(tmp_path, words(rng, 300_000))
    assert share_of([words(rng, 20_000)], domain, tmp_path) == 0
    assert share_of([words(rng, 5)], domain, tmp_path) == 0


def test_a_short_document_is_found_by_its_hash_unless_it_is_held_out(tmp_path):
    rng = np.random.default_rng(2)
    trained, held_out = "e" * 16, "0" * 16  # the lowest hashes are held out
    domain = stored(tmp_path, words(rng, 1000), doc_ids=(trained, held_out))
    texts = [words(rng, 5), words(rng, 15)]
    assert share_of(texts, domain, tmp_path, [trained, "d" * 16]) == 0.25
    assert share_of(texts, domain, tmp_path, ["d" * 16, trained]) == 0.75
    assert share_of(texts, domain, tmp_path, [held_out, "d" * 16]) == 0
