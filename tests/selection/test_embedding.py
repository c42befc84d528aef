"""Cosines to the specialist set, against scikit-learn's, pair by pair."""

import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_similarity

from mixture_assets.core.errors import MixtureError
from mixture_assets.methods.embedding import fit_tfidf
from mixture_assets.selection.embedding import MeanCosine
from tests.selection.conftest import SPECIALIST, doc_id, texts_of


class Letters:
    """Counts of letters, of length 1."""

    settings = {"name": "letters"}  # noqa: RUF012

    def embed(self, texts):
        counts = np.array([[t.lower().count(c) for c in "etaoinshr"] for t in texts], float)
        return (counts / np.maximum(1e-9, np.linalg.norm(counts, axis=1))[:, None]).astype("f4")


def test_scores_are_means_of_cosines(pool, specialist, scores_of):
    selector = MeanCosine(Letters())
    selector.prepare(specialist, pool)
    found, texts = scores_of(selector, pool), texts_of(pool)
    vectors, targets = (Letters().embed(list(t)) for t in (texts.values(), SPECIALIST))
    expected = cosine_similarity(vectors, targets).mean(axis=1)
    assert [found[i] for i in texts] == pytest.approx(expected.tolist(), abs=1e-6)


def test_near_copies_of_the_specialist_set_come_first(pool, specialist, english, first_are_planted):
    selector = MeanCosine(fit_tfidf(english + SPECIALIST, n_dimensions=16))
    selector.prepare(specialist, pool)
    assert first_are_planted(selector, pool)


def test_a_document_of_unknown_words_scores_zero(pool_of, documents_of, english, scores_of):
    selector = MeanCosine(fit_tfidf(english))
    pool = pool_of([english[0], "\u4e2d\u6587"])
    selector.prepare(documents_of(SPECIALIST), pool)
    found = scores_of(selector, pool)
    assert found[doc_id("\u4e2d\u6587")] == 0 != found[doc_id(english[0])]
    with pytest.raises(MixtureError, match="'tfidf' knows no word of the 1 specialist documents"):
        selector.prepare(documents_of(["\u4e2d\u6587"]), pool)


def test_settings_name_what_was_learned(english):
    one, same, other = (MeanCosine(fit_tfidf(t)) for t in (english, english[::-1], english[1:]))
    assert one.settings == same.settings != other.settings
    assert one.embedding.settings == other.embedding.settings
