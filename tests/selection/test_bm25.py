"""BM25 against rank_bm25 and bm25s, which hold the whole pool in memory."""

import re

import bm25s
import numpy as np
import pytest
from rank_bm25 import BM25Okapi

from mixture_assets.core.errors import MixtureError
from mixture_assets.selection.bm25 import Bm25, Frequencies, words_of
from mixture_assets.selection.scores import write_scores
from tests.selection.conftest import PLANTED, SPECIALIST, doc_id, texts_of


def words(text):
    """Written again, another way: everything that is neither ASCII punctuation nor a space."""
    return re.findall(r"[^\s!-/:-@\[-`{-~]+", text.lower())


COMMON = [f"the {w} stands in the wood" for w in ("oak", "pine", "fox", "oak oak", "rose")]


@pytest.mark.parametrize("settings", [{}, {"k1": 0.9, "b": 0.4, "epsilon": 0.1}])
def test_scores_are_the_mean_of_rank_bm25s(pool_of, documents_of, english, scores_of, settings):
    # 'the', 'stands', 'in' and 'wood' are in most of these: their idf is negative.
    texts = english[:3] + COMMON * 2 + [c + " " + "tree " * i for i, c in enumerate(COMMON)]
    pool, specialist = pool_of(texts[:7], texts[7:]), documents_of([*SPECIALIST, "the wood"])
    selector = Bm25(**settings)
    selector.prepare(specialist, pool)
    found = scores_of(selector, pool)
    truth = BM25Okapi([words(t) for t in texts], **settings)
    assert min(truth.idf.values()) == truth.epsilon * truth.average_idf > 0
    queries = [words(t) for t in [*SPECIALIST, "the wood"]]
    expected = np.mean([truth.get_scores(q) for q in queries], axis=0)
    assert len(set(expected.round(9))) > 8
    assert [found[doc_id(t)] for t in texts] == pytest.approx(expected.tolist(), rel=1e-12)


def test_scores_are_those_of_bm25s_where_no_word_is_in_most_documents(pool, specialist, scores_of):
    texts = texts_of(pool)
    selector = Bm25()
    selector.prepare(specialist, pool)
    found = scores_of(selector, pool)
    truth = bm25s.BM25(k1=1.5, b=0.75, method="atire", idf_method="robertson")
    truth.index([words(t) for t in texts.values()], show_progress=False)
    n = len(texts)
    held = {w: sum(w in words(t) for t in texts.values()) for w in words(" ".join(SPECIALIST))}
    assert max(held.values()) * 2 < n
    queries = [[w for w in words(t) if held[w]] for t in SPECIALIST]
    expected = np.mean([truth.get_scores(q) for q in queries], axis=0)
    assert [found[i] for i in texts] == pytest.approx(expected.tolist(), rel=1e-5, abs=1e-5)


def test_near_copies_of_the_specialist_set_come_first(pool, specialist, first_are_planted):
    selector = Bm25()
    selector.prepare(specialist, pool)
    assert first_are_planted(selector, pool)


def test_words_are_lower_case_without_punctuation_in_any_script():
    text = "Don't  STOP: \u00c9tude, a_b.c=1\n\t\u4e2d\u6587\u3002 \u00a0x \U0001f600!"
    assert [w.decode() for w in words_of(text.encode())] == [
        *("don", "t", "stop", "\u00e9tude", "a", "b", "c", "1"),
        *("\u4e2d\u6587\u3002", "\u00a0x", "\U0001f600"),
    ]
    assert words_of(b" .,;\n") == []


def test_thinned_words_keep_those_asked_for_and_the_mean_nearly(pool, specialist, english):
    asked = frozenset(words_of(" ".join(PLANTED).encode()))
    whole, thinned = Frequencies(asked, 10**9), Frequencies(asked, 300)
    for frequencies in (whole, thinned):
        frequencies.read(pool)
    assert thinned.every >= 2
    assert len(thinned.counts) <= 300 + len(asked)
    assert thinned.inverse(0) == whole.inverse(0)
    n = np.array(list(whole.counts.values()))
    mean = np.log((pool.n_documents - n + 0.5) / (n + 0.5)).mean()
    everywhere = Frequencies(frozenset([b"all"]), 300)
    everywhere.counts, everywhere.every = thinned.counts.copy(), thinned.every
    everywhere.counts[b"all"] = everywhere.n_documents = pool.n_documents
    assert everywhere.inverse(1.0)[b"all"] == pytest.approx(mean, rel=0.1)


def test_documents_without_a_word_score_zero(pool_of, documents_of, english, scores_of, tmp_path):
    pool = pool_of(["...", "!!", *english[:4]])
    selector = Bm25()
    selector.prepare(documents_of(["zyzzyva qwertz"]), pool)
    assert set(scores_of(selector, pool).values()) == {0.0}
    assert write_scores(tmp_path / "store", Bm25(), pool, documents_of(["...?"])).n_nan == 0
    with pytest.raises(MixtureError, match="the pool has no document"):
        write_scores(tmp_path / "store", Bm25(), pool_of(), documents_of(["a"]))
