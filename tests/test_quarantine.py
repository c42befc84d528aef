"""A bad domain stops nothing else, keeps its last good state, and comes back by itself."""

import json
import re
import shutil

import pytest
from click.testing import CliRunner

from mixture_assets import quarantine
from mixture_assets.cli import cli
from mixture_assets.core.errors import MixtureError, MixtureWarning
from mixture_assets.corpus import (
    Workspace,
    build_corpus,
    discover_shards,
    landed,
    tokenize_domain,
)
from mixture_assets.data import tokenize
from mixture_assets.quarantine import quarantined
from mixture_assets.store.query import query

BASE = ["animals", "numbers", "plants"]


@pytest.fixture
def workspace(tiny):
    """The tiny experiment with a tokenizer by name; its three domains are known and good."""
    name = f"store/tokenizers/{build_corpus(Workspace.open(tiny)).tokenizer.digest}"
    tiny.write_text(tiny.read_text().replace("vocab_size = 320", f'name = "{name}"'))
    opened = Workspace.open(tiny)
    build_corpus(opened)
    return opened


@pytest.fixture
def raw(tiny):
    return tiny.parent / "raw"


def write(folder, n_documents, text="word {} and {} more\n"):
    folder.mkdir(exist_ok=True)
    rows = [json.dumps({"text": text.format(i, i * i) * 5}) for i in range(n_documents)]
    (folder / "a.jsonl").write_text("\n".join(rows) + "\n")


def events(workspace, domain):
    sql = f"SELECT event FROM domain_event WHERE domain = '{domain}' ORDER BY number"
    return [event for (event,) in query(workspace.store, sql).rows]


def build(workspace, *patterns):
    """A corpus that warns of the quarantined, and of nothing else."""
    with pytest.warns(MixtureWarning) as caught:
        corpus = build_corpus(workspace)
    said = {str(warning.message) for warning in caught}
    assert len(said) == len(patterns)
    for pattern in patterns:
        assert any(pattern in line for line in said), said
    return corpus


BAD = {
    "half-written": (lambda f: (f / "a.jsonl").write_text('{"text": "tw'), "line 1 is not JSON"),
    "not UTF-8": (lambda f: (f / "a.txt").write_bytes(b"caf\xe9"), "is not UTF-8"),
    "a damaged archive": (lambda f: (f / "a.jsonl.gz").write_bytes(b"no"), "is not valid gzip"),
    "no text": (lambda f: (f / "a.jsonl").write_text('{"text": ""}\n'), "no document with text"),
    "too small": (lambda f: write(f, 3), "less than one batch"),
    "nothing to validate": (
        lambda f: (f / "a.txt").write_text("x " * 1900),
        "has no validation document",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_domain_is_left_out_with_its_reason_and_comes_back(workspace, raw, case):
    make, problem = BAD[case]
    (raw / "bad").mkdir()
    make(raw / "bad")
    for _ in range(2):
        corpus = build(workspace, problem)
        assert list(corpus.domains) == BASE
    assert events(workspace, "bad") == ["landed", "quarantined"]
    assert quarantined(workspace)["bad"].hint
    assert "bad" not in landed(workspace)
    shutil.rmtree(raw / "bad")
    write(raw / "bad", 400)
    assert list(build_corpus(workspace).domains) == ["animals", "bad", "numbers", "plants"]
    assert events(workspace, "bad") == ["landed", "quarantined", "changed", "released"]
    assert not quarantined(workspace)


def test_a_bad_domain_is_not_read_again_until_its_files_or_settings_change(
    workspace, raw, tiny, monkeypatch
):
    (raw / "bad").mkdir()
    (raw / "bad" / "a.jsonl").write_text('{"body": "x"}\n' * 400)
    build(workspace, "has no field 'text'")
    opened = []
    original = tokenize.document_lists
    monkeypatch.setattr(
        tokenize, "document_lists", lambda *a, **k: opened.append(a) or original(*a, **k)
    )
    build(workspace, "has no field 'text'")
    assert not opened
    tiny.write_text(tiny.read_text().replace("[data]", "[data]\ntxt_document_chars = 3000"))
    build(Workspace.open(tiny), "has no field 'text'")
    assert opened


def test_one_bad_shard_retrains_nothing(workspace, raw):
    """A known domain goes on with the tokens that it had."""
    before = build_corpus(workspace)
    (raw / "plants" / "b.jsonl").write_text('{"text": "tw')
    after = build(workspace, "'plants' is quarantined and goes on with its last good state")
    assert after.domains == before.domains
    assert events(workspace, "plants") == ["landed", "grew", "quarantined"]
    (raw / "plants" / "b.jsonl").unlink()
    assert build_corpus(workspace).domains == before.domains
    assert events(workspace, "plants")[-2:] == ["shrank", "released"]


def test_a_domain_that_was_emptied_does_not_come_back_from_an_earlier_state(workspace, raw):
    before = build_corpus(workspace).domains["plants"]
    text = (raw / "plants" / "part-00000.jsonl").read_bytes()
    (raw / "plants" / "part-00000.jsonl").unlink()
    assert list(build_corpus(workspace).domains) == ["animals", "numbers"]
    for _ in range(2):
        corpus = build(workspace, "'plants' is quarantined and is left out")
        assert list(corpus.domains) == ["animals", "numbers"]
        assert "plants" not in landed(workspace)
    (raw / "plants" / "part-00000.jsonl").write_bytes(text)
    assert build_corpus(workspace).domains["plants"] == before
    assert events(workspace, "plants") == [
        *("landed", "vanished", "quarantined", "returned", "released")
    ]


@pytest.mark.parametrize("content", [None, b"caf\xe9"], ids=["empty", "bad"])
def test_a_new_folder_of_an_old_name_does_not_bring_back_deleted_text(workspace, raw, content):
    shutil.rmtree(raw / "plants")
    assert list(build_corpus(workspace).domains) == ["animals", "numbers"]
    (raw / "plants").mkdir()
    if content:
        (raw / "plants" / "a.txt").write_bytes(content)
    for _ in range(2):
        corpus = build(workspace, "'plants' is quarantined and is left out")
        assert list(corpus.domains) == ["animals", "numbers"]


def test_an_earlier_state_by_another_tokenizer_is_no_state(workspace, raw, tiny):
    (raw / "plants" / "b.jsonl").write_text('{"text": "tw')
    tiny.write_text(re.sub('name = "store.*"', "vocab_size = 300", tiny.read_text()))
    with pytest.warns(MixtureWarning, match="'plants' is quarantined"):
        corpus = build_corpus(Workspace.open(tiny))
    assert list(corpus.domains) == ["animals", "numbers"]


def test_a_bad_sample_does_not_stop_the_first_tokenizer(tiny, raw):
    shutil.rmtree(tiny.parent / "store")
    (raw / "bad").mkdir()
    (raw / "bad" / "a.txt").write_bytes(b"caf\xe9")
    corpus = build(Workspace.open(tiny), "is not UTF-8")
    assert list(corpus.domains) == BASE


def test_of_two_that_share_documents_the_newer_is_left_out(workspace, raw):
    shutil.copytree(raw / "plants", raw / "aaa_copy")
    corpus = build(workspace, "'aaa_copy' and 'plants' have")
    assert list(corpus.domains) == BASE
    assert list(build(workspace, "'aaa_copy' and 'plants' have").domains) == BASE
    assert events(workspace, "aaa_copy") == ["landed", "quarantined"]
    write(raw / "aaa_copy", 400)
    (raw / "aaa_copy" / "part-00000.jsonl").unlink()
    assert "aaa_copy" in build_corpus(workspace).domains


def test_the_states_are_not_read_once_per_domain(workspace, monkeypatch):
    """A thousand domains would take seconds for every corpus."""
    corpus, reads = build_corpus(workspace), []
    original = quarantine.read_domains
    monkeypatch.setattr(quarantine, "read_domains", lambda *a: reads.append(a) or original(*a))
    maker = corpus.tokenizer.digest
    assert quarantine.without_overlaps(workspace, corpus.domains, maker=maker) == corpus.domains
    assert len(reads) < len(corpus.domains)


def test_a_domain_that_grew_into_another_goes_back_to_what_it_was(workspace, raw):
    before = build_corpus(workspace)
    shutil.copy(raw / "plants" / "part-00000.jsonl", raw / "animals" / "b.jsonl")
    after = build(workspace, "'animals' is quarantined and goes on with its last good state")
    assert after.domains == before.domains


def test_a_domain_that_the_file_names_is_an_error(tiny, raw):
    names = '["animals", "bad", "plants"]'
    tiny.write_text(tiny.read_text().replace("[data]", f"[data]\ndomains = {names}"))
    (raw / "bad").mkdir()
    (raw / "bad" / "a.txt").write_bytes(b"caf\xe9")
    with pytest.raises(MixtureError, match="is not UTF-8"):
        build_corpus(Workspace.open(tiny))
    assert events(Workspace.open(tiny), "bad") == ["landed"]


def test_fewer_than_two_good_domains_are_an_error(tiny, raw):
    shutil.rmtree(tiny.parent / "store")
    for domain in ("animals", "numbers"):
        (raw / domain / "part-00000.jsonl").write_text('{"text": "tw')
    for _ in range(2):
        with pytest.warns(MixtureWarning), pytest.raises(MixtureError, match="is not JSON"):
            build_corpus(Workspace.open(tiny))


def test_a_full_disk_is_nobodys_quarantine(workspace, raw, monkeypatch):
    def full(*arguments, **keywords):
        raise OSError(28, "No space left on device")

    write(raw / "songs", 400)
    monkeypatch.setattr(tokenize.pq, "ParquetWriter", full)
    with pytest.raises(MixtureError, match="no space left"):
        build_corpus(workspace)
    assert events(workspace, "songs") == ["landed"]


def test_a_shard_that_changes_while_it_is_read_is_not_kept(workspace, raw, monkeypatch):
    write(raw / "songs", 400)
    path = raw / "songs" / "a.jsonl"
    original = tokenize.document_lists

    def meddled(*arguments, **keywords):
        yield from original(*arguments, **keywords)
        path.write_text(path.read_text().replace("word", "ward"))

    found = discover_shards(workspace)["songs"]
    tokenizer = build_corpus(workspace).tokenizer
    shutil.rmtree(workspace.store / "tokens" / "songs")
    monkeypatch.setattr(tokenize, "document_lists", meddled)
    with pytest.raises(MixtureError, match=r"'songs/a\.jsonl' changed while it was read"):
        tokenize_domain(workspace, tokenizer, found)
    assert not list((workspace.store / "tokens").glob("songs/*"))


def test_a_change_of_mode_while_a_shard_is_read_is_no_change(workspace, raw, monkeypatch):
    write(raw / "songs", 400)
    original = tokenize.document_lists

    def meddled(*arguments, **keywords):
        yield from original(*arguments, **keywords)
        (raw / "songs" / "a.jsonl").chmod(0o600)

    monkeypatch.setattr(tokenize, "document_lists", meddled)
    assert "songs" in build_corpus(workspace).domains


def test_status_names_the_quarantined_with_what_to_do(workspace, raw, tiny):
    (raw / "bad").mkdir()
    (raw / "bad" / "a.txt").write_bytes(b"caf\xe9")
    (raw / "plants" / "b.jsonl").write_text('{"text": "tw')
    with pytest.warns(MixtureWarning):
        build_corpus(workspace)
    said = CliRunner().invoke(cli, ["status", "--experiment", str(tiny)]).output
    assert "quarantined: bad: 'bad/a.txt' line 1 is not UTF-8" in said
    assert "left out; hint: " in said
    told = CliRunner().invoke(cli, ["status", "--experiment", str(tiny), "--json"]).stdout
    rows = {row["domain"]: row for row in json.loads(told)["quarantined"]}
    assert rows.keys() == {"bad", "plants"}
    assert rows["plants"]["fate"].startswith("goes on with ")
    assert "iconv" in rows["bad"]["hint"]
