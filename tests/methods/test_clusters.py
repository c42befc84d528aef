"""Embedding and clustering against planted topics, brute force and scikit-learn itself."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from mixture_assets.core.errors import MixtureError
from mixture_assets.methods.clusters import cluster, cluster_names, histogram, nearest
from mixture_assets.methods.crisp import specialist_mixture
from mixture_assets.methods.embedding import fit_tfidf, top_terms

TOPICS = [[f"{letter}{i}" for i in range(60)] for letter in "abcdef"]
COMMON = "the of and to in is".split()


def write(rng, topic, n_words=40):
    return " ".join(rng.choices(TOPICS[topic], k=n_words) + rng.choices(COMMON, k=n_words // 2))


@pytest.fixture(scope="module")
def planted():
    """600 documents of six vocabularies, and which one each is of."""
    rng = random.Random(0)
    topics = [i % 6 for i in range(600)]
    return [write(rng, topic) for topic in topics], topics


@pytest.fixture(scope="module")
def embedding(planted):
    return fit_tfidf(planted[0], n_dimensions=16)


@pytest.fixture(scope="module")
def points():
    return np.random.default_rng(1).normal(size=(400, 5)).astype(np.float32)


@pytest.mark.parametrize("branching", [1, 3])
def test_planted_topics_come_back(planted, embedding, branching):
    texts, topics = planted
    found = cluster(embedding.embed(texts), 6, branching=branching)
    assert adjusted_rand_score(topics, found.assignment_N) > 0.95


def test_one_level_is_scikit_learn_s_k_means(points):
    theirs = KMeans(7, n_init=20, random_state=3).fit(points[:60])
    ours = cluster(points[:60] * 1.0, 7, seed=1)
    spread = ((points[:60] - ours.centroids_KD[ours.assignment_N]) ** 2).sum()
    assert spread == pytest.approx(theirs.inertia_, rel=0.05)  # local optima are allowed


def test_a_centroid_is_the_mean_of_its_documents(points):
    found = cluster(points, 7)
    for k, centroid in enumerate(found.centroids_KD):
        assert np.allclose(centroid, points[found.assignment_N == k].mean(axis=0), atol=1e-4)


@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.integers(1, 12))
def test_nearest_is_the_least_distance(seed, n, k):
    rng = np.random.default_rng(seed)
    vectors, centroids = rng.normal(size=(n, 3)), rng.normal(size=(k, 3))
    distances = np.array([[np.linalg.norm(v - c) for c in centroids] for v in vectors])
    assert nearest(vectors, centroids).tolist() == distances.argmin(axis=1).tolist()


@pytest.mark.parametrize("branching", [None, 5])
def test_every_document_is_in_the_cluster_of_its_nearest_centroid(points, branching):
    found = cluster(points, 20, branching=branching, least=10)
    assert (found.assignment_N == nearest(points, found.centroids_KD)).all()
    assert found.sizes_K.sum() == len(points)
    assert found.sizes_K.min() >= 10
    assert (np.diff(found.sizes_K) <= 0).all()


def test_small_clusters_are_dissolved_and_the_note_says_where_they_went(points):
    far = np.full((3, 5), 40.0, np.float32) + points[:3] / 10
    found = cluster(np.concatenate([points, far]), 4, least=5)
    assert len(found.centroids_KD) == 3
    assert found.sizes_K.sum() == 403
    (note,) = found.notes
    assert note.startswith("1 clusters of fewer than 5 documents were dissolved: 3 near cluster-00")


def test_two_levels_make_as_many_clusters_as_asked(points):
    found = cluster(points, 50, branching=7)
    n_empty = int(found.notes[0].split()[0]) if found.notes else 0
    assert len(found.centroids_KD) + n_empty == 50


def test_the_same_vectors_give_the_same_bits(points):
    one, two = cluster(points, 9, seed=4), cluster(points, 9, seed=4)
    assert one.centroids_KD.tobytes() == two.centroids_KD.tobytes()
    assert cluster(points, 9, seed=5).centroids_KD.tobytes() != one.centroids_KD.tobytes()


def test_too_few_distinct_documents_are_named():
    vectors = np.repeat(np.eye(3, dtype=np.float32), 5, axis=0)
    with pytest.raises(MixtureError, match="4 clusters cannot be made of 15 documents, 3 of them"):
        cluster(vectors, 4)
    with pytest.raises(MixtureError, match="1 clusters cannot be made of 0 documents"):
        cluster(np.zeros((0, 3), np.float32), 1)
    with pytest.raises(MixtureError, match="1 or more, got 0"):
        cluster(vectors, 0)
    with pytest.raises(MixtureError, match="finite"):
        cluster(np.full((3, 2), np.nan), 1)


def test_names_sort_as_numbers_do():
    assert cluster_names(3) == ["cluster-000", "cluster-001", "cluster-002"]
    assert cluster_names(1001) == sorted(cluster_names(1001))


def test_a_specialist_set_of_one_topic_gives_that_topic_the_weight(planted, embedding):
    texts, topics = planted
    found = cluster(embedding.embed(texts), 6)
    rng = random.Random(7)
    specialist = embedding.embed([write(rng, 4) for _ in range(50)])
    counts = histogram(specialist, found.centroids_KD, found.names)
    own = found.names[found.assignment_N[topics.index(4)]]
    assert sum(counts.values()) == 50
    assert set(counts) == set(found.names)
    assert specialist_mixture(counts)[own] >= 0.98


def test_histogram_counts_by_hand():
    centroids = np.array([[0.0, 0], [10, 0], [0, 10]])
    vectors = np.array([[1.0, 1], [9, 1], [11, 0], [8, 0]])
    assert histogram(vectors, centroids, ["b", "a", "c"]) == {"a": 3, "b": 1, "c": 0}
    with pytest.raises(MixtureError, match="3 centroids have 2 distinct names"):
        histogram(vectors, centroids, ["a", "a", "b"])


def test_embedding_is_the_same_for_any_order_and_any_batch(planted, embedding):
    texts, _ = planted
    again = fit_tfidf(texts[::-1], n_dimensions=16)
    assert again.terms == embedding.terms
    assert again.components_KV.tobytes() == embedding.components_KV.tobytes()
    whole = embedding.embed(texts)
    parts = np.concatenate([embedding.embed(texts[:7]), embedding.embed(texts[7:])])
    assert whole.tobytes() == parts.tobytes()


def test_vectors_have_length_one_or_none(embedding):
    vectors = embedding.embed(["a1 a2 the", "", "unheard words only"])
    assert np.linalg.norm(vectors, axis=1) == pytest.approx([1, 0, 0], abs=1e-6)
    assert embedding.embed([]).shape == (0, 16)


def test_weights_are_tf_idf_by_hand():
    texts = ["red red blue", "red green", "green blue blue", "red red"]
    found = fit_tfidf(texts, n_dimensions=64)
    assert found.terms == ("blue", "green", "red")
    assert found.idf_V == pytest.approx(1 + np.log(5 / np.array([3, 3, 4])), rel=1e-6)
    weights = np.array([0, 0, 1 + np.log(2)]) * found.idf_V
    projected = found.components_KV @ (weights / np.linalg.norm(weights))
    expected = projected / np.linalg.norm(projected)
    assert found.embed(["red red"])[0] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("sample", [[], [""], ["one word"], ["", "!"], ["same", "same"]])
def test_too_little_text_is_one_sentence(sample):
    with pytest.raises(MixtureError, match="an embedding cannot be learned from"):
        fit_tfidf(sample)


def test_top_terms_are_of_the_topic(planted):
    texts, topics = planted
    terms = top_terms(texts, np.array(topics), 7)
    for topic in range(6):
        assert len(terms[topic]) == 6
        assert set(terms[topic]) <= set(TOPICS[topic])
    assert terms[6] == []


def test_chinese_is_not_one_long_word():
    sample = ["猫喜欢鱼", "狗喜欢骨头", "猫和狗"]
    assert "猫" in fit_tfidf(sample).terms
