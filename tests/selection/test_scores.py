"""Score sets on disk, and what is chosen by them."""

import json
from dataclasses import dataclass, replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixture_assets.core.errors import MixtureError
from mixture_assets.data.doc_index import hashes_of
from mixture_assets.selection.choose import _once, _ranked, choose
from mixture_assets.selection.documents import Pool
from mixture_assets.selection.random_order import RandomOrder
from mixture_assets.selection.scores import Rows, ScoreSet, write_scores
from mixture_assets.selection.selector import OnCpu
from mixture_assets.selection.shuffle import shuffled, splitmix
from tests.selection.conftest import PLANTED, SPECIALIST, doc_id, texts_of


@dataclass
class Length(OnCpu):
    """Scores by length in tokens; can be made to fail."""

    name: str = "length"
    dies_after: int = 10**9  # documents
    without: tuple = ()  # ids that get no number
    no_number: float = float("nan")
    scored: int = 0
    prepared: int = 0
    flops: float = 0.0

    @property
    def settings(self):
        return {"without": sorted(self.without)}

    def prepare(self, specialist, pool):
        self.prepared += 1
        self.flops += 1000

    def score(self, documents):
        if self.scored >= self.dies_after:
            raise KeyboardInterrupt
        self.scored += len(documents)
        self.flops += len(documents)
        lengths = documents.n_tokens.astype(float)
        lengths[[d in self.without for d in documents.doc_ids]] = self.no_number
        return lengths


@pytest.fixture
def store(tmp_path):
    return tmp_path / "store"


def test_every_document_has_its_score_and_the_set_says_what_it_cost(store, pool, specialist):
    found = write_scores(store, Length(), pool, specialist, "plants")
    lengths = {i: len(pool.tokenizer.reference.encode(t).ids) for i, t in texts_of(pool).items()}
    tables = [pq.read_table(p) for p in (store / "scores/length" / found.digest).glob("*.parquet")]
    rows = [row for table in tables for row in table.to_pylist()]
    assert {r["doc_id"]: r["score"] for r in rows} == lengths
    assert {r["doc_id"]: r["n_tokens"] for r in rows} == lengths
    assert found.n_documents == pool.n_documents
    assert found.n_tokens == pool.n_tokens
    assert found.flops == 1000 + pool.n_documents
    assert (found.n_nan, found.specialist) == (0, "plants")
    assert found.peak_memory_bytes > 1e6
    said = json.loads((found.path / "set.json").read_text())
    assert "path" not in said  # of this machine
    assert ScoreSet.load(store, "length", found.digest) == found


def test_scoring_goes_on_after_a_kill_between_shards(store, pool, specialist):
    whole = write_scores(store / "other", Length(), pool, specialist)
    first = sorted(pool.shards)[0]
    n_first = sum(len(p) for p in pool.pieces(first))
    with pytest.raises(KeyboardInterrupt):
        write_scores(store, Length(dies_after=n_first), pool, specialist)
    names = [p.name for p in (store / "scores/length" / whole.digest).iterdir()]
    assert names == [f"{first}.parquet"]
    selector = Length()
    found = write_scores(store, selector, pool, specialist)
    assert selector.scored == pool.n_documents - n_first
    assert found.flops == whole.flops + 1000  # prepared twice: it was paid twice
    assert choose(found, 0.4).doc_ids == choose(whole, 0.4).doc_ids
    again = Length()
    assert write_scores(store, again, pool, specialist) == found
    assert (again.prepared, again.scored) == (0, 0)


def test_a_damaged_shard_is_scored_again(store, pool, specialist):
    found = write_scores(store, Length(), pool, specialist)
    (found.path / "set.json").unlink()
    damaged = found.path / f"{found.shards[1]}.parquet"
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[: len(whole) // 2])
    selector = Length()
    write_scores(store, selector, pool, specialist)
    assert selector.scored == sum(len(p) for p in pool.pieces(found.shards[1]))


def test_names_follow_content_and_nothing_else(store, pool, specialist, documents_of, english):
    def name(selector=None, pool=pool, specialist=specialist):
        return write_scores(store, selector or Length(), pool, specialist).digest

    same = name()
    turned = Pool(dict(reversed(pool.shards.items())), pool.tokenizer)
    assert name(pool=turned) == same
    assert name(specialist=documents_of(SPECIALIST[::-1])) == same
    others = [
        name(Length(without=(doc_id(english[0]),))),
        name(pool=replace(pool, excluded=frozenset([doc_id(english[0])]))),
        name(pool=Pool(dict(list(pool.shards.items())[:1]), pool.tokenizer)),
        name(specialist=documents_of(SPECIALIST[:2])),
    ]
    assert len({same, *others}) == 5


def test_excluded_documents_are_never_scored(store, pool_of, specialist, english):
    pool = pool_of(english[:9] + SPECIALIST, english[9:], SPECIALIST[:2], excluded=SPECIALIST)
    found = write_scores(store, Length(), pool, specialist)
    subset = choose(found, 1.0)
    chosen, n_tokens = subset.doc_ids, subset.n_tokens
    assert set(chosen) == {doc_id(t) for t in english}
    assert n_tokens == pool.n_tokens


@pytest.mark.parametrize("no_number", [float("nan"), float("inf"), -float("inf")])
def test_documents_without_a_number_are_recorded_and_never_chosen(
    store, pool, specialist, english, no_number
):
    without = tuple(map(doc_id, english[:7]))
    found = write_scores(store, Length(without=without, no_number=no_number), pool, specialist)
    assert found.n_nan == 7
    assert set(found.nan_doc_ids) == set(without)
    subset = choose(found, 1.0)
    chosen, n_tokens = subset.doc_ids, subset.n_tokens
    assert set(chosen) == set(texts_of(pool)) - set(without)
    lost = sum(len(pool.tokenizer.reference.encode(t).ids) for t in english[:7])
    assert n_tokens == pool.n_tokens - lost


def test_most_documents_without_a_number_are_an_error(store, pool, specialist):
    without = tuple(texts_of(pool))[: pool.n_documents // 2 + 1]
    for _ in range(2):  # the second time from the files
        with pytest.raises(MixtureError, match=f"gave {len(without)} of {pool.n_documents} doc"):
            write_scores(store, Length(without=without), pool, specialist)
    half = tuple(texts_of(pool))[: pool.n_documents // 2]
    assert write_scores(store, Length(without=half), pool, specialist).n_nan == len(half)


def test_nothing_to_score_or_to_choose_for_is_said(store, pool_of, specialist, documents_of):
    with pytest.raises(MixtureError, match="the pool has no document to score beside the 3"):
        write_scores(store, RandomOrder(), pool_of(SPECIALIST, excluded=SPECIALIST), specialist)
    with pytest.raises(MixtureError, match="the pool has no document to score\n"):
        write_scores(store, RandomOrder(), pool_of(), specialist)
    with pytest.raises(MixtureError, match="the specialist set has no document"):
        write_scores(store, RandomOrder(), pool_of(PLANTED), documents_of([]))
    strange = replace(specialist, input_ids=specialist.input_ids + np.uint16(400))
    with pytest.raises(MixtureError, match=r"tokenizer [0-9a-f]{16} has 400 tokens"):
        write_scores(store, RandomOrder(), pool_of(PLANTED), strange)
    with pytest.raises(MixtureError, match="no finished scores abc of 'random'"):
        ScoreSet.load(store, "random", "abc")


@pytest.mark.parametrize("share", [0, -0.1, 1.01, float("nan")])
def test_a_share_is_a_share(store, pool, specialist, share):
    with pytest.raises(MixtureError, match="a share of the pool is above 0 and at most 1"):
        choose(write_scores(store, Length(), pool, specialist), share)


@pytest.mark.parametrize("order", ["highest", "lowest", "middle"])
def test_a_share_is_reached_by_its_last_document_and_contains_smaller_ones(
    store, pool, specialist, order
):
    selector = Length()
    selector.order = order
    found = write_scores(store, selector, pool, specialist)
    assert found.order == order
    lengths = {i: len(pool.tokenizer.reference.encode(t).ids) for i, t in texts_of(pool).items()}
    before = []
    for share in (1e-9, 0.025, 0.1, 0.5, 0.9, 1.0):
        subset = choose(found, share)
        chosen, n_tokens = subset.doc_ids, subset.n_tokens
        assert n_tokens == sum(lengths[i] for i in chosen)
        assert n_tokens >= share * pool.n_tokens > n_tokens - lengths[chosen[-1]]
        assert chosen[: len(before)] == before
        before = chosen
    assert len(before) == pool.n_documents


def test_the_order_of_a_selector_does_not_score_again(store, pool, specialist):
    high, low = Length(), Length()
    low.order = "lowest"
    up, down = (write_scores(store, s, pool, specialist) for s in (high, low))
    assert low.scored == 0
    lengths = {i: len(pool.tokenizer.reference.encode(t).ids) for i, t in texts_of(pool).items()}
    assert [lengths[i] for i in choose(up, 1.0).doc_ids] == sorted(lengths.values())[::-1]
    assert [lengths[i] for i in choose(down, 1.0).doc_ids] == sorted(lengths.values())


def test_equal_documents_are_chosen_once_and_counted_once(store, pool_of, specialist, english):
    pool = pool_of(english[:6] * 2, english[3:9])
    found = write_scores(store, Length(), pool, specialist)
    assert found.n_documents == 18
    subset = choose(found, 1.0)
    chosen, n_tokens = subset.doc_ids, subset.n_tokens
    assert len(chosen) == len(set(chosen)) == 9
    assert n_tokens == pool.n_tokens


ROWS = st.lists(
    st.tuples(st.integers(0, 2**64 - 1), st.sampled_from([0.0, 1.0, 2.5, float("nan")])),
    min_size=1,
    max_size=40,
    unique_by=lambda row: row[0],
)


@given(ROWS, st.integers(0, 5), st.sampled_from(["highest", "lowest", "middle"]), st.randoms())
def test_no_order_of_rows_matters(rows, seed, order, random):
    def ranked(rows):
        table = Rows(
            np.array([h for h, _ in rows], np.uint64),
            np.array([s for _, s in rows]),
            np.ones(len(rows), np.int64),
        )
        once = _once(table)
        return once.hashes[_ranked(once, order, seed)].tolist()

    mixed = rows * 2
    random.shuffle(mixed)
    first = ranked(rows)
    assert ranked(mixed) == first
    score = dict(rows)
    got = [score[h] for h in first]
    expected = sorted((s for _, s in rows if s == s), reverse=order == "highest")
    if order != "middle":
        assert got == expected
        return
    n, by_score = len(expected), expected
    cut = [[x for i, x in enumerate(by_score) if i * 3 // n == third] for third in (1, 0, 2)]
    sizes = np.cumsum([0, *map(len, cut)])
    for third, a, b in zip(cut, sizes[:-1], sizes[1:], strict=True):
        assert sorted(got[a:b]) == third


def test_the_middle_third_is_shuffled_by_the_seed(store, pool, specialist):
    found = replace(write_scores(store, Length(), pool, specialist), order="middle")
    one, other = (choose(found, 1.0, seed=s).doc_ids for s in (1, 2))
    third = -(-2 * len(one) // 3) - -(-len(one) // 3)
    assert one != other
    assert set(one[:third]) == set(other[:third])


def test_splitmix_gives_the_published_numbers():
    """Rosetta Code, "Pseudo-random numbers/Splitmix64", seed 1234567."""
    state, step = 1234567, 0x9E3779B97F4A7C15
    states = np.array([(state + i * step) % 2**64 for i in range(5)], np.uint64)
    assert splitmix(states).tolist() == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


def test_random_is_uniform_and_knows_only_seed_and_content(pool, specialist, scores_of):
    hashes = np.arange(20_000, dtype=np.uint64) << np.uint64(40)  # as alike as hashes never are
    uniform = shuffled(hashes, 3) / 2.0**64
    counts = np.bincount((uniform * 20).astype(int), minlength=20)
    assert ((counts - 1000) ** 2 / 1000).sum() < 43.8  # chi-square, 19 degrees, p = 0.001
    other = shuffled(hashes, 4) / 2.0**64
    assert abs(np.corrcoef(uniform, other)[0, 1]) < 0.03
    scores = scores_of(RandomOrder(seed=3), pool)
    alone = {i: shuffled(hashes_of([i]), 3)[0] / 2.0**64 for i in scores}
    assert scores == alone
    assert scores_of(RandomOrder(seed=4), pool) != scores
