"""Corpora that are fixed, and found again; domains that are expected before they land."""

import shutil

from mixture_assets.corpus import Workspace, build_corpus, landed, load_corpus, save_corpus


def test_a_saved_corpus_is_found_again_when_the_raw_root_has_changed(tiny):
    workspace = Workspace.open(tiny)
    corpus = build_corpus(workspace)
    corpus_id = save_corpus(workspace, corpus)
    shutil.rmtree(tiny.parent / "raw")
    again = load_corpus(workspace, corpus_id)
    assert again is not None
    assert again.domains == corpus.domains
    assert again.tokenizer == corpus.tokenizer


def test_another_experiments_corpus_is_not_taken(tiny):
    workspace = Workspace.open(tiny)
    corpus_id = save_corpus(workspace, build_corpus(workspace))
    tiny.write_text(tiny.read_text().replace('name = "tiny"', 'name = "other"'))
    assert load_corpus(Workspace.open(tiny), corpus_id) is None
    assert load_corpus(workspace, "0000000000000000") is None


def test_datasets_and_the_harvest_are_expected_before_they_land(tiny):
    text = tiny.read_text().replace('root = "raw"', 'root = "nowhere"\nharvest = true')
    tiny.write_text(text + '[data.datasets.poems]\npath = "poems"\n')
    found = landed(Workspace.open(tiny))
    assert {"poems", "python_stdlib"} <= set(found)
    assert set(found.values()) == {""}


def test_only_the_domains_that_are_named_count(tiny):
    text = tiny.read_text().replace('root = "raw"', 'root = "raw"\ndomains = ["plants", "gone"]')
    tiny.write_text(text)
    found = landed(Workspace.open(tiny))
    assert found["gone"] == ""
    assert found["plants"]
    assert list(found) == ["gone", "plants"]
