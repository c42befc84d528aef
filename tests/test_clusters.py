"""Clusters as domains: nothing is lost, everything says where it came from, twice is once."""

import importlib.util
import json
import random
import sys
import types
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import zstandard
from click.testing import CliRunner
from sklearn.metrics import adjusted_rand_score

from mixture_assets.cli import cli
from mixture_assets.clusters import ClusterOptions, read_manifest, write_clusters
from mixture_assets.core.errors import MixtureError
from mixture_assets.data import cluster_shards
from mixture_assets.data.document_sample import (
    content_hash,
    placed_documents,
    sample_texts,
    some_shards,
)
from mixture_assets.data.readers import documents
from mixture_assets.data.shards import RawShard, discover

OPTIONS = ClusterOptions(n_clusters=6, shard_bytes=9_000)


def topical(topic, rng):
    return " ".join(f"{'abcdef'[topic]}{rng.randrange(60)}" for _ in range(40))


def write_source(root, *, seed=None):
    """Two domains of six topics, with empty documents; `seed` shuffles documents and files."""
    rng = random.Random(5)
    texts = {
        name: [topical(i % 6, rng) for i in range(n)] for name, n in {"x": 150, "y": 90}.items()
    }
    texts["x"] += ["", " \n"]
    texts["y"].append(texts["x"][0])  # the same document in two domains
    order = random.Random(seed)
    for name, found in texts.items():
        (root / name).mkdir(parents=True)
        if seed is not None:
            order.shuffle(found)
        half = len(found) // (2 if seed is None else 3)
        for part, rows in enumerate([found[:half], found[half:]]):
            lines = "".join(json.dumps({"text": text}) + "\n" for text in rows)
            (root / name / f"{'p' if seed is None else 'q'}{part}.jsonl").write_text(lines)
    return texts


def rows_of(out):
    """Every row below an output folder, with its cluster."""
    found = discover(str(out), cache=out.parent / "cache.json")
    return [
        (name, json.loads(line))
        for name, shards in found.items()
        for shard in shards
        for line in zstandard.decompress(Path(shard.url).read_bytes()).decode().splitlines()
    ]


def content(out):
    files = [p for p in sorted(out.rglob("*")) if p.is_file() and p.name[0] != "."]
    return {str(p.relative_to(out)): p.read_bytes() for p in files}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clusters")
    texts = write_source(folder / "raw")
    manifest = write_clusters(folder / "raw", folder / "out", OPTIONS)
    return folder, texts, manifest


def test_every_document_is_in_one_cluster_and_says_where_it_came_from(made):
    folder, texts, manifest = made
    rows = [row for _, row in rows_of(folder / "out")]
    given = Counter(t for found in texts.values() for t in found if t.strip())
    assert Counter(row["text"] for row in rows) == given
    shards = discover(str(folder / "raw"), cache=folder / "cache.json")
    at = {
        (d.domain, d.shard, d.number): d.text
        for found in shards.values()
        for d in placed_documents(found)
    }
    places = [(r["source_domain"], r["source_shard"], r["source_document"]) for r in rows]
    assert len(set(places)) == len(rows)
    assert all(at[place] == row["text"] for place, row in zip(places, rows, strict=True))
    assert manifest["source"] == {n: [s.digest for s in found] for n, found in shards.items()}


def test_counts_add_up_and_empty_documents_are_counted(made):
    folder, _, manifest = made
    assert manifest["domains"] == {
        "x": {"n_documents": 150, "n_empty": 2},
        "y": {"n_documents": 91, "n_empty": 0},
    }
    rows = rows_of(folder / "out")
    for name, row in manifest["clusters"].items():
        own = [r for cluster, r in rows if cluster == name]
        assert row["n_documents"] == len(own)
        assert row["n_bytes"] == sum(len(r["text"].encode()) for r in own)
        assert row["from"] == Counter(r["source_domain"] for r in own)
        assert len(row["shards"]) > 1  # shard_bytes is small here
        assert (folder / "out" / name / "_SUCCESS").exists()


def test_planted_topics_come_back_and_the_words_tell_them(made):
    folder, _, manifest = made
    rows = rows_of(folder / "out")
    topics = [row["text"][0] for _, row in rows]
    assert adjusted_rand_score(topics, [name for name, _ in rows]) > 0.95
    for name, row in manifest["clusters"].items():
        own = {r["text"][0] for cluster, r in rows if cluster == name}
        assert {term[0] for term in row["terms"]} == own


def test_the_same_inputs_give_the_same_bytes(made, tmp_path):
    folder, _, _ = made
    write_clusters(folder / "raw", tmp_path / "again", OPTIONS)
    assert content(tmp_path / "again") == content(folder / "out")


def test_order_of_documents_and_names_of_shards_leave_every_document_in_its_cluster(made, tmp_path):
    folder, _, _ = made
    write_source(tmp_path / "raw", seed=3)
    write_clusters(tmp_path / "raw", tmp_path / "out", OPTIONS)
    where = [
        sorted((r["text"], name) for name, r in rows_of(f / "out")) for f in (folder, tmp_path)
    ]
    assert where[0] == where[1]


def test_a_second_call_does_nothing_and_a_torn_one_is_finished(tmp_path, monkeypatch):
    write_source(tmp_path / "raw")
    out = tmp_path / "out"
    real = cluster_shards.atomic_write
    calls = []

    def power_cut(path):
        calls.append(path)
        if len(calls) == 9:
            raise KeyboardInterrupt
        return real(path)

    monkeypatch.setattr(cluster_shards, "atomic_write", power_cut)
    with pytest.raises(KeyboardInterrupt):
        write_clusters(tmp_path / "raw", out, OPTIONS)
    assert read_manifest(out) is None
    assert not list(out.glob("[!.]*/"))  # no half of a cluster can land as a domain
    manifest = write_clusters(tmp_path / "raw", out, OPTIONS)
    whole = content(out)
    n_calls = len(calls)
    assert write_clusters(tmp_path / "raw", out, OPTIONS) == manifest
    assert len(calls) == n_calls
    (out / "cluster-002" / "part-00000.jsonl.zst").unlink()
    write_clusters(tmp_path / "raw", out, OPTIONS)
    assert content(out) == whole


def test_lines_held_over_all_clusters_are_bounded(made, tmp_path):
    folder, _, _ = made
    options = ClusterOptions(n_clusters=6, held_bytes=9_000)
    manifest = write_clusters(folder / "raw", tmp_path / "out", options)
    assert max(len(row["shards"]) for row in manifest["clusters"].values()) > 1
    names = [name for name, _ in rows_of(tmp_path / "out")]
    assert Counter(names) == {n: r["n_documents"] for n, r in manifest["clusters"].items()}


def test_small_clusters_are_dissolved_with_a_note(made, tmp_path):
    folder, _, _ = made
    options = ClusterOptions(n_clusters=30, least_documents=20)
    manifest = write_clusters(folder / "raw", tmp_path / "out", options)
    assert min(row["n_documents"] for row in manifest["clusters"].values()) >= 20
    assert sum(row["n_documents"] for row in manifest["clusters"].values()) == 241
    (note, empty) = manifest["notes"]
    assert "clusters of fewer than 20 documents were dissolved: " in note
    assert empty == "2 empty documents are in no cluster"


def test_what_cannot_be_clustered_is_one_sentence(made, tmp_path):
    folder, _, _ = made
    with pytest.raises(MixtureError, match="500 clusters cannot be made of 241 documents, 240 of"):
        write_clusters(folder / "raw", tmp_path / "out", ClusterOptions(n_clusters=500))
    (tmp_path / "raw" / "x").mkdir(parents=True)
    (tmp_path / "raw" / "x" / "a.jsonl").write_text('{"text": " "}\n')
    with pytest.raises(MixtureError, match="cannot be learned from 0 documents"):
        write_clusters(tmp_path / "raw", tmp_path / "out", OPTIONS)
    with pytest.raises(MixtureError, match="no folder at"):
        write_clusters(tmp_path / "nowhere", tmp_path / "out", OPTIONS)


def test_folders_of_others_are_left_alone(made, tmp_path):
    folder, _, _ = made
    with pytest.raises(MixtureError, match="holds other clusters: 'options' differ"):
        write_clusters(folder / "raw", folder / "out", ClusterOptions(n_clusters=5))
    with pytest.raises(MixtureError, match="one is inside the other"):
        write_clusters(folder / "raw", folder / "raw" / "out", OPTIONS)
    (tmp_path / "out" / "mine").mkdir(parents=True)
    with pytest.raises(MixtureError, match="folders that are no clusters: 'mine'"):
        write_clusters(folder / "raw", tmp_path / "out", OPTIONS)
    assert (tmp_path / "out" / "mine").is_dir()


def test_clusters_are_domains_that_can_be_read(made):
    folder, texts, manifest = made
    found = discover(str(folder / "out"), cache=folder / "cache.json")
    assert list(found) == sorted(manifest["clusters"])
    n = sum(1 for shards in found.values() for shard in shards for _ in documents(shard))
    assert n == sum(bool(t.strip()) for own in texts.values() for t in own)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("bert", "there is no embedding 'bert'"),
        ("tfidf:x", "takes no model"),
        ("proxy", "does not say which model"),
        ("proxy:nowhere", "there is no model for the embedding 'proxy:nowhere'"),
        ("model2vec:nowhere", "there is no model for the embedding"),
    ],
)
def test_embeddings_that_are_not_there_are_named(made, tmp_path, name, problem):
    with pytest.raises(MixtureError, match=problem):
        write_clusters(made[0] / "raw", tmp_path / "out", OPTIONS, embedding=name)


@pytest.mark.parametrize("seed", [-1, 1 << 32])
def test_a_seed_out_of_range_is_named(made, tmp_path, seed):
    with pytest.raises(MixtureError, match="a seed is from 0 to 4,294,967,295, got"):
        write_clusters(made[0] / "raw", tmp_path / "out", ClusterOptions(n_clusters=6, seed=seed))


@pytest.mark.parametrize("library", ["model2vec", "sentence-transformers"])
def test_a_library_that_is_missing_is_named(made, tmp_path, library):
    if importlib.util.find_spec(library.replace("-", "_")):
        pytest.skip(f"{library} is installed here")
    (tmp_path / "model").mkdir()
    name = f"{library}:{tmp_path / 'model'}"
    with pytest.raises(MixtureError, match="needs a library that is not installed") as caught:
        write_clusters(made[0] / "raw", tmp_path / "out", OPTIONS, embedding=name)
    assert caught.value.hint.startswith(f"pip install {library}")


def test_another_library_s_model_takes_part(made, tmp_path, monkeypatch):
    """Anything with `encode`: here letters, counted."""

    class StaticModel:
        @classmethod
        def from_pretrained(cls, folder):
            assert folder == str(tmp_path / "model")
            return cls()

        def encode(self, texts):
            return np.array([[text.count(letter) for letter in "abcdef"] for text in texts])

    monkeypatch.setitem(sys.modules, "model2vec", types.SimpleNamespace(StaticModel=StaticModel))
    (tmp_path / "model").mkdir()
    name = f"model2vec:{tmp_path / 'model'}"
    manifest = write_clusters(made[0] / "raw", tmp_path / "out", OPTIONS, embedding=name)
    rows = rows_of(tmp_path / "out")
    topics = [row["text"][0] for _, row in rows]
    assert adjusted_rand_score(topics, [cluster for cluster, _ in rows]) == 1
    assert str(tmp_path) not in json.dumps(manifest)


def test_the_command_prints_a_table_and_json(made, tmp_path):
    asked = ["cluster", "--root", f"{made[0] / 'raw'}", "--out", f"{tmp_path / 'o'}", "--clusters"]
    result = CliRunner().invoke(cli, [*asked, "6"])
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["cluster", "documents", "bytes", "telling", "words"]
    assert sum(line.startswith("cluster-00") for line in lines) == 6
    assert "note: 2 empty documents are in no cluster" in lines
    told = json.loads(CliRunner().invoke(cli, [*asked, "6", "--json"]).stdout)
    assert told == read_manifest(tmp_path / "o")
    bad = CliRunner().invoke(cli, [*asked, "7"])
    assert bad.exit_code == 1
    assert "holds other clusters" in bad.output


def test_a_sample_is_the_same_for_any_order_and_has_nothing_twice():
    texts = [f"text {i}" for i in range(50)]
    found = sample_texts([*texts, *texts[::-1]], 10, seed=1, chars=100)
    assert list(found.items()) == list(sample_texts(texts[::-1], 10, seed=1, chars=100).items())
    every = {content_hash(text, 1): text for text in texts}
    assert found == {key: every[key] for key in sorted(every)[:10]}
    assert found.values() != sample_texts(texts, 10, seed=2, chars=100).values()
    assert list(sample_texts(texts, 99, chars=4).values()) == ["text"] * 50


def test_some_shards_are_as_many_as_it_takes():
    shards = [RawShard("x", f"/x/{i}", "jsonl", 10, f"{i:016}") for i in range(8)]
    assert len(some_shards(shards, 25)) == 3
    assert len(some_shards(shards, 0)) == 1
    assert some_shards(shards, 25) == some_shards(shards[::-1], 25)
