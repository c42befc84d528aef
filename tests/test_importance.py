"""Weights from a specialist set, on text."""

import random

import pytest

from mixture_assets import importance as subject
from mixture_assets.clusters import ClusterOptions, write_clusters
from mixture_assets.core.errors import MixtureError
from mixture_assets.corpus import Workspace
from mixture_assets.importance import importance_counts, importance_mixture

DOMAINS = ["animals", "numbers", "plants"]
PLANTS = "oak pine rose grass leaf root grows blooms".split()
NUMBERS = "one two three four five six plus minus".split()


def specialist(words, n, seed=0):
    rng = random.Random(seed)
    return [" ".join(rng.choices(words, k=20)) for _ in range(n)]


@pytest.fixture
def workspace(tiny):
    return Workspace.open(tiny)


def test_a_topic_s_documents_give_its_domain_the_weight(workspace):
    found = importance_mixture(workspace, DOMAINS, specialist(PLANTS, 30))
    assert found.counts == {"animals": 0, "numbers": 0, "plants": 30}
    assert found.mixture["plants"] == 1
    assert found.standard_error["plants"] == 0
    assert found.notes == ["30 specialist documents, nearest to 1 of 3 domains"]


def test_two_topics_share_in_proportion(workspace):
    texts = specialist(PLANTS, 30) + specialist(NUMBERS, 10)
    found = importance_mixture(workspace, DOMAINS, texts)
    assert found.mixture["plants"] == pytest.approx(0.75)
    assert found.mixture["numbers"] == pytest.approx(0.25)
    assert found.standard_error["plants"] == pytest.approx((0.75 * 0.25 / 40) ** 0.5)


def test_the_answer_is_kept_and_order_does_not_matter(workspace, monkeypatch):
    texts = specialist(PLANTS, 8) + specialist(NUMBERS, 3)
    first = importance_mixture(workspace, DOMAINS, texts)
    monkeypatch.setattr(subject, "learn", None)  # nothing may be learned again
    assert importance_mixture(workspace, DOMAINS[::-1], texts[::-1]) == first
    files = list((workspace.store / "importance").iterdir())
    assert [f.stem for f in files] == [first.digest]


def test_other_questions_have_other_names(workspace):
    texts = specialist(NUMBERS, 8)
    names = {
        importance_mixture(workspace, domains, asked, seed=seed).digest
        for domains, asked, seed in [
            (DOMAINS, texts, 0),
            (DOMAINS, texts, 1),
            (DOMAINS[:2], texts, 0),
            (DOMAINS, texts[:7], 0),
        ]
    }
    assert len(names) == 4


def test_documents_that_cannot_be_placed_are_told(workspace):
    texts = [*specialist(PLANTS, 4), "", "zzz qqq"]
    found = importance_mixture(workspace, DOMAINS, texts)
    assert sum(found.counts.values()) == 4
    assert found.notes[1] == "2 more are empty, or have no word that the domains have"
    with pytest.raises(MixtureError, match="none of the 1 specialist documents has a word"):
        importance_mixture(workspace, DOMAINS, ["zzz"])
    with pytest.raises(MixtureError, match="the specialist set has no documents"):
        importance_mixture(workspace, DOMAINS, [])
    with pytest.raises(MixtureError, match="no text to compare the specialist set with for 'x'"):
        importance_mixture(workspace, ["plants", "x"], texts)


@pytest.fixture
def clustered(tiny):
    """The tiny experiment on clusters of its own text."""
    write_clusters(tiny.parent / "raw", tiny.parent / "clusters", ClusterOptions(n_clusters=5))
    path = tiny.parent / "clustered.toml"
    path.write_text(tiny.read_text().replace('root = "raw"', 'root = "clusters"'))
    return Workspace.open(path)


def test_clusters_stand_for_themselves(clustered, monkeypatch):
    manifest = subject.read_manifest(subject._root(clustered))
    of_plants = {n for n, row in manifest["clusters"].items() if row["from"].get("plants")}
    assert all(set(manifest["clusters"][n]["from"]) == {"plants"} for n in of_plants)
    monkeypatch.setattr(subject, "discover_shards", None)  # no text of the domains is read
    found = importance_mixture(clustered, sorted(manifest["clusters"]), specialist(PLANTS, 20))
    assert set(found.counts) == set(manifest["clusters"])
    assert sum(found.counts[n] for n in of_plants) == 20


def test_a_document_of_a_cluster_is_nearest_to_it(clustered):
    from mixture_assets.corpus import discover_shards
    from mixture_assets.data.readers import documents

    shards = discover_shards(clustered)
    for name, own in shards.items():
        texts = [text for shard in own for text in documents(shard)]
        found = importance_mixture(clustered, sorted(shards), texts)
        assert found.counts == dict.fromkeys(shards, 0) | {name: len(texts)}


def test_clusters_and_embedding_must_agree(clustered, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    domains = sorted(subject.read_manifest(subject._root(clustered))["clusters"])
    with pytest.raises(MixtureError, match="made with the embedding 'tfidf', so 'proxy:"):
        importance_mixture(clustered, domains, ["oak"], embedding=f"proxy:{tmp_path}")


def test_counts_for_texts_at_hand():
    texts = {"plants": specialist(PLANTS, 20), "numbers": specialist(NUMBERS, 20)}
    counts = importance_counts(texts, specialist(PLANTS, 7, seed=9))
    assert counts == {"numbers": 0, "plants": 7}
    with pytest.raises(MixtureError, match="no text to know 'empty' by"):
        importance_counts(texts | {"empty": [" "]}, ["oak"])
