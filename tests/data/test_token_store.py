import itertools
import random
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mixture_assets.core.errors import MixtureError
from mixture_assets.data.overlap import overlap_table, read_hashes, worst_overlap
from mixture_assets.data.split import is_validation
from mixture_assets.data.token_store import (
    _ARRAY_TOKENS,
    DomainTokens,
    _grouped,
    build_domain,
    load_validation,
)
from mixture_assets.data.tokenize import tokenize_shard

LIMITS = {
    "validation_fraction": 0.3,
    "validation_tokens": 200,
    "context": 4,
    "min_train_tokens": 8,
}


@pytest.fixture
def store(tmp_path):
    return tmp_path / "store"


@pytest.fixture
def build(found, store, tokenizer):
    """build('books') takes a domain from raw shards to its token set."""

    def make(domain, **changes):
        shards = [tokenize_shard(s, tokenizer, store=store) for s in found(domain)]
        return build_domain(shards, store=store, eos_id=tokenizer.eos_id, **{**LIMITS, **changes})

    return make


def sentences(n, seed=0):
    words = "cat dog horse runs sleeps eats slowly quickly and or the a".split()
    rng = random.Random(seed)
    return [f"{' '.join(rng.choices(words, k=rng.randint(1, 30)))} {i}" for i in range(n)]


def train_documents(tokens, store, tokenizer):
    """The texts in a domain's arrays."""
    texts = []
    for array in tokens.windows(store):
        ids = array.tolist()
        assert ids[-1] == tokens.eos_id
        is_eos = (i == tokens.eos_id for i in ids)
        for end, group in itertools.groupby(zip(ids, is_eos, strict=True), key=lambda x: x[1]):
            if not end:
                texts.append(tokenizer.decode([i for i, _ in group]))
    return texts


drawn = st.lists(st.sampled_from(sentences(60)), max_size=60)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(drawn, drawn)
def test_nothing_is_lost_and_no_validation_document_is_trained_on(
    tmp_path, land, build, store, tokenizer, books, news
):
    """With duplicates within a domain, across its shards, and across domains."""
    shutil.rmtree(tmp_path / "raw", ignore_errors=True)
    domains = {"books": sentences(30) + books, "news": sentences(40) + news}
    built = {}
    for domain, texts in domains.items():
        land(domain, "a.jsonl", texts[::2])
        land(domain, "b.jsonl", [*texts[1::2], "only here"])
        built[domain] = build(domain)
    held_out = set()
    for domain, tokens in built.items():
        documents = load_validation(store, domain, tokens.validation_digest)
        ends = itertools.pairwise(documents.offsets.tolist())
        held_out |= {tokenizer.decode(documents.input_ids[a:b]) for a, b in ends}
    for domain, tokens in built.items():
        trained = train_documents(tokens, store, tokenizer)
        assert not held_out & set(trained)
        doc_ids, n_tokens, all_tokens = [], [], 0
        for path in tokens.shard_paths(store):
            table = pq.read_table(path)
            doc_ids += table["doc_id"].to_pylist()
            n_tokens += table["n_tokens"].to_pylist()
        all_tokens = sum(n_tokens)
        sides = [is_validation(d, LIMITS["validation_fraction"]) for d in doc_ids]
        not_trained = sum(n for n, side in zip(n_tokens, sides, strict=True) if side)
        assert tokens.available_tokens + not_trained == all_tokens + sides.count(False)
        assert tokens.n_train_documents == sides.count(False) == len(trained)
        assert tokens.n_documents == len(domains[domain]) + 1
        assert tokens.n_duplicate_documents == len(doc_ids) - len(set(doc_ids))


def test_the_validation_set_is_the_lowest_hashes_each_once(land, build, store, tokenizer):
    texts = sentences(400)
    land("books", "a.jsonl", texts)
    land("books", "b.jsonl", [*texts[:100], "more"])
    tokens = build("books")
    documents = load_validation(store, "books", tokens.validation_digest)
    every = {
        row["doc_id"]: row
        for p in tokens.shard_paths(store)
        for row in pq.read_table(p).to_pylist()
    }
    lowest = sorted(every)[: len(documents.doc_ids)]
    assert documents.doc_ids == lowest
    assert documents.n_bytes.tolist() == [every[d]["n_bytes"] for d in lowest]
    assert documents.input_ids.tolist() == [i for d in lowest for i in every[d]["input_ids"]]
    lengths = np.diff(documents.offsets)
    assert lengths.tolist() == [every[d]["n_tokens"] for d in lowest]
    assert tokens.validation_documents == len(lowest)
    assert lengths.sum() == tokens.validation_tokens >= 200 > lengths[:-1].sum()


def test_the_same_content_gives_the_same_bytes_whatever_the_files_are_called(
    land, found, build, store, tmp_path
):
    """Renamed, in another order, in another store."""
    parts = [sentences(100, seed) for seed in range(3)]
    for name, texts in zip("abc", parts, strict=True):
        land("books", f"{name}.jsonl", texts)
    first = build("books")
    made = {p.relative_to(store): p.read_bytes() for p in store.rglob("*") if p.is_file()}
    shutil.rmtree(store)
    shutil.rmtree(tmp_path / "raw")
    for name, texts in zip("xzy", parts, strict=True):
        land("books", f"{name}.jsonl", texts)
    assert build("books") == first
    assert {p.relative_to(store): p.read_bytes() for p in store.rglob("*") if p.is_file()} == made


def test_a_finished_domain_is_only_looked_up(land, build, store):
    land("books", "a.jsonl", sentences(100))
    first = build("books")
    before = {p: p.stat().st_mtime_ns for p in store.rglob("*")}
    assert build("books") == first
    assert {p: p.stat().st_mtime_ns for p in store.rglob("*")} == before
    assert DomainTokens.load(store, "books", first.digest) == first
    with pytest.raises(MixtureError, match="less than one batch"):
        build("books", min_train_tokens=10**6)


def test_damaged_files_are_made_again(land, build, store):
    land("books", "a.jsonl", sentences(100))
    first = build("books")
    array = store / first.arrays[0][0]
    validation = store / "validation/books" / f"{first.validation_digest}.parquet"
    for path in (array, validation):
        good = path.read_bytes()
        path.write_bytes(good[: len(good) // 2])
        assert build("books") == first
        assert path.read_bytes() == good
        path.unlink()
        assert build("books") == first
        assert path.read_bytes() == good


def test_settings_that_matter_change_the_digest(land, build):
    land("books", "a.jsonl", sentences(200))
    first = build("books")
    fraction, tokens = build("books", validation_fraction=0.4), build("books", validation_tokens=50)
    assert len({first.digest, fraction.digest, tokens.digest}) == 3
    assert first.arrays != fraction.arrays
    assert first.arrays == tokens.arrays  # the same documents are held out of training
    assert build("books", context=8, min_train_tokens=16) == first


def test_arrays_are_memory_maps_of_the_narrow_type(land, build, store):
    land("books", "a.jsonl", sentences(200))
    tokens = build("books")
    (array,) = tokens.windows(store)
    assert isinstance(array, np.memmap)
    assert array.dtype == np.uint16
    assert len(array) == tokens.available_tokens == tokens.arrays[0][1]


def test_many_short_files_share_an_array(land, build, store):
    """Each alone is shorter than a window, and would be lost."""
    for number, text in enumerate(sentences(60)):
        land("poems", f"{number}.txt", text.encode())
    tokens = build("poems", context=200)
    assert len(tokens.token_shards) == 60
    assert len(tokens.arrays) == 1
    assert tokens.available_tokens > 200


@given(st.lists(st.integers(0, 3 * _ARRAY_TOKENS)))
def test_shards_share_arrays_in_order(sizes):
    groups = _grouped(sizes)
    assert [i for group in groups for i in group] == [i for i, n in enumerate(sizes) if n]
    totals = [sum(sizes[i] for i in group) for group in groups]
    assert all(total >= _ARRAY_TOKENS for total in totals[:-1])
    lone = [sum(sizes[i] for i in group[:-1]) for group in groups]
    assert all(total < _ARRAY_TOKENS for total in lone)


@given(st.dictionaries(st.sampled_from("abcde"), st.lists(st.integers(0, 12), min_size=1)))
def test_the_overlap_table_counts_distinct_shared_documents(values):
    hashes = {name: np.array(v, np.uint64) for name, v in values.items()}
    shared = {
        (a, b): len(set(values[a]) & set(values[b]))
        for a, b in itertools.combinations(sorted(values), 2)
    }
    assert overlap_table(hashes) == {pair: n for pair, n in shared.items() if n}


def test_the_pair_that_shares_most_is_named(land, build, store):
    texts = sentences(200)
    land("books", "a.jsonl", texts)
    land("copy", "a.jsonl", [*texts[:50], *sentences(50, seed=1)])
    land("news", "a.jsonl", [*texts[-5:], *sentences(150, seed=2)])
    hashes = {d: read_hashes(build(d).shard_paths(store)) for d in ("news", "copy", "books")}
    found = worst_overlap(hashes, max_shared=0.1)
    assert (found.first, found.second) == ("books", "copy")
    said, limit = str(found.error).split("; ")
    assert said == "'books' and 'copy' have 50 documents in common, 50 % of those of 'copy'"
    assert limit == "max_shared is 10 %"
    assert "max_shared" in found.error.hint
    assert worst_overlap(hashes, max_shared=0.5) is None
    del hashes["copy"]
    assert worst_overlap(hashes, max_shared=0.1) is None
    assert overlap_table(hashes) == {("books", "news"): 5}


@pytest.mark.parametrize(
    ("changes", "problem", "hint"),
    [
        (
            {"min_train_tokens": 10**6},
            r"has [\d,]+ training tokens, less than one batch of 1,000,000",
            "batch_tokens",
        ),
        ({"context": 10**6}, "less than one window of 1,000,000", "context"),
        ({"validation_fraction": 1e-9}, "has no validation document", "validation_fraction"),
        ({"validation_fraction": 1 - 1e-9}, "has 0 training tokens, less than", "add data"),
        ({"validation_fraction": 1.5}, "validation_fraction must be between 0 and 1", "0.05"),
    ],
)
def test_a_domain_that_is_too_small_leaves_nothing_behind(
    land, build, store, changes, problem, hint
):
    land("books", "a.jsonl", sentences(100))
    with pytest.raises(MixtureError, match=problem) as caught:
        build("books", **changes)
    assert hint in caught.value.hint
    assert not (store / "token_sets").exists()
    assert not (store / "validation").exists()
    assert not list(store.rglob("*.npy"))


def test_says_what_the_store_lacks(store):
    with pytest.raises(MixtureError, match="no training tokens 00 of 'books'"):
        DomainTokens.load(store, "books", "00")
    with pytest.raises(MixtureError, match="no validation set 00 of 'books'"):
        load_validation(store, "books", "00")
