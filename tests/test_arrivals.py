"""Folders that are still being copied are waited for, and never read by halves."""

import json
import shutil
import subprocess
import sys
import threading
import time

import pytest
from click.testing import CliRunner

from mixture_assets.arrivals import await_landing, survey
from mixture_assets.cli import cli
from mixture_assets.core.errors import MixtureError, MixtureWarning
from mixture_assets.corpus import (
    Workspace,
    build_corpus,
    discover_shards,
    landed,
    pin_tokenizer,
)
from mixture_assets.quarantine import quarantined
from mixture_assets.store.query import query


@pytest.fixture
def settling(tiny):
    """The tiny experiment, where a folder settles in half a second."""
    tiny.write_text(tiny.read_text().replace("settle_seconds = 0", "settle_seconds = 0.5"))
    workspace = Workspace.open(tiny)
    await_landing(workspace, say=lambda line: None)
    return workspace


@pytest.fixture
def raw(tiny):
    return tiny.parent / "raw"


def events(workspace, domain):
    sql = f"SELECT event FROM domain_event WHERE domain = '{domain}' ORDER BY number"
    return [event for (event,) in query(workspace.store, sql).rows]


WRITE = """
import sys, time
with open(sys.argv[1], "w", buffering=1) as file:
    while True:
        file.write("on and on\\n")
        time.sleep(0.02)
"""


@pytest.fixture
def restless():
    """Writes to a file without end; returns what stops it.

    A process of its own: a thread would wait while a library keeps the interpreter to itself.
    """
    writing = []

    def end():
        for process in writing:
            process.kill()
            process.wait()

    def start(path):
        writing.append(subprocess.Popen([sys.executable, "-c", WRITE, str(path)]))
        while not path.exists() or not path.read_text():
            time.sleep(0.01)
        return end

    yield start
    end()


def write_songs(raw, text=""):
    (raw / "songs").mkdir(exist_ok=True)
    rows = [json.dumps({"text": f"la {i} lu {i * i} " * 8}) for i in range(300)]
    (raw / "songs" / "a.jsonl").write_text(text or "\n".join(rows))


def copy_slowly(source, target, seconds):
    """The way a network copy looks: the file grows."""
    target.mkdir()
    content = (source / "part-00000.jsonl").read_bytes().replace(b"plants", b"copied")
    with open(target / "part-00000.jsonl", "wb", buffering=0) as file:
        for i in range(20):
            file.write(content[i * len(content) // 20 : (i + 1) * len(content) // 20])
            time.sleep(seconds / 20)


def test_a_folder_lands_when_it_has_settled(settling, raw):
    (raw / "songs").mkdir()
    (raw / "songs" / "a.txt").write_text("la " * 100)
    found = survey(settling)
    assert list(found.pending) == ["songs"]
    assert "songs" not in found.landed
    assert "'songs/a.txt' changed" in found.pending["songs"]
    time.sleep(0.6)
    found = survey(settling)
    assert found.landed["songs"]
    assert not found.pending
    assert events(settling, "songs") == ["landed"]


def test_a_marked_folder_lands_at_once(settling, raw):
    (raw / "songs").mkdir()
    (raw / "songs" / "a.txt").write_text("la " * 100)
    (raw / "songs" / "_SUCCESS").touch()
    assert survey(settling).landed["songs"]


def test_a_known_folder_that_changes_keeps_its_fingerprint_until_it_settles(settling, raw):
    before = survey(settling).landed["plants"]
    shutil.copy(raw / "plants" / "part-00000.jsonl", raw / "plants" / "more.jsonl")
    found = survey(settling)
    assert found.landed["plants"] == before
    assert list(found.pending) == ["plants"]
    time.sleep(0.6)
    assert survey(settling).landed["plants"] != before
    assert events(settling, "plants") == ["landed", "grew"]


def test_a_corpus_waits_for_a_copy_and_takes_all_of_it(settling, raw):
    said = []
    copying = threading.Thread(target=copy_slowly, args=(raw / "plants", raw / "copied", 1.5))
    copying.start()
    time.sleep(0.1)
    corpus = build_corpus(settling, say=said.append)
    copying.join()
    assert said == ["waiting until 'copied' did not change for 0.5 s"]
    assert corpus.domains["copied"].n_documents == corpus.domains["plants"].n_documents
    assert events(settling, "copied") == ["landed"]


def test_a_folder_that_never_settles_is_left_out_by_name(settling, raw, restless):
    (raw / "endless").mkdir()
    stop = restless(raw / "endless" / "a.txt")
    with pytest.warns(MixtureWarning, match="'endless' has not landed yet and is left out"):
        found = discover_shards(settling, say=lambda line: None)
    started = time.monotonic()
    with pytest.warns(MixtureWarning, match=r"was still changing after 5\.0 s"):
        discover_shards(settling)
    assert time.monotonic() - started < 2  # not waited for again
    assert "endless" not in landed(settling)
    stop()
    assert sorted(found) == ["animals", "numbers", "plants"]
    assert events(settling, "endless") == []  # nothing is wrong with it
    assert not quarantined(settling)
    time.sleep(0.6)
    assert "endless" in discover_shards(settling)
    assert events(settling, "endless") == ["landed"]
    (raw / "endless" / "b.txt").write_text("more\n")
    said = []
    assert await_landing(settling, say=said.append).landed["endless"]
    assert said, "not waited for, though it had settled since it was given up"


def test_a_quarantined_domain_that_is_mended_is_waited_for(settling, raw):
    write_songs(raw, '{"text": "tw')
    time.sleep(0.6)
    with pytest.warns(MixtureWarning, match="'songs' is quarantined and is left out: .* not JSON"):
        build_corpus(settling)
    write_songs(raw)
    said = []
    assert "songs" in build_corpus(settling, say=said.append).domains
    assert said == ["waiting until 'songs' did not change for 0.5 s"]
    assert events(settling, "songs") == ["landed", "quarantined", "changed", "released"]


def test_a_quarantine_keeps_its_reason_while_the_domain_is_changed(settling, raw, restless):
    write_songs(raw, '{"text": "tw')
    time.sleep(0.6)
    with pytest.warns(MixtureWarning, match="not JSON"):
        build_corpus(settling)
    restless(raw / "songs" / "b.txt")
    with pytest.warns(MixtureWarning, match="'songs' has changed again and is left out: .* still"):
        build_corpus(settling, say=lambda line: None)
    assert "is not JSON" in quarantined(settling)["songs"].problem
    assert events(settling, "songs") == ["landed", "quarantined"]


def test_a_known_domain_that_never_settles_goes_on_as_it_was(settling, raw, restless):
    corpus = build_corpus(settling)
    pin_tokenizer(settling, corpus.tokenizer)
    restless(raw / "plants" / "b.txt")
    with pytest.warns(MixtureWarning, match="'plants' is quarantined and goes on with its last"):
        assert build_corpus(settling, say=lambda line: None).domains == corpus.domains
    assert "was still changing after 5.0 s" in quarantined(settling)["plants"].problem


def test_too_few_domains_are_an_error_that_names_the_one_to_come(tiny, raw, restless):
    for domain in ("animals", "numbers"):
        shutil.rmtree(raw / domain)
    shutil.rmtree(tiny.parent / "store")
    tiny.write_text(tiny.read_text().replace("settle_seconds = 0", "settle_seconds = 0.2"))
    (raw / "endless").mkdir()
    restless(raw / "endless" / "a.txt")
    with (
        pytest.warns(MixtureWarning, match="'endless' has not landed yet"),
        pytest.raises(MixtureError, match="'endless' was still changing after 2"),
    ):
        build_corpus(Workspace.open(tiny), say=lambda line: None)


def test_domains_that_went_long_ago_are_not_waited_for(settling, raw):
    shutil.rmtree(raw / "plants")
    time.sleep(0.6)
    survey(settling)
    (raw / "songs").mkdir()
    assert list(survey(settling).pending) == ["songs"]


def test_a_missing_root_says_nothing_about_domains(settling, raw):
    """A disk that is not mounted must not make everything vanish."""
    before = survey(settling).landed
    raw.rename(raw.with_name("elsewhere"))
    found = survey(settling)
    assert not found.has_root
    assert found.landed == before
    raw.mkdir()
    assert not survey(settling).has_root
    assert events(settling, "plants") == ["landed"]
    with pytest.raises(MixtureError, match="no domain under"):
        build_corpus(settling)


def test_a_folder_that_went_is_gone_when_its_root_has_settled(settling, raw):
    shutil.rmtree(raw / "plants")
    found = survey(settling)
    assert found.pending == {"plants": "its folder is gone"}
    assert "plants" in found.landed
    time.sleep(0.6)
    assert "plants" not in survey(settling).landed
    assert events(settling, "plants") == ["landed", "vanished"]


def test_a_folder_without_a_shard_and_a_bad_name_are_told(settling, raw):
    (raw / "empty").mkdir()
    (raw / "not a domain").mkdir()
    (raw / "not a domain" / "a.txt").write_text("x")
    time.sleep(0.6)
    assert set(survey(settling).refused) == {"empty", "not a domain"}
    with pytest.warns(MixtureWarning) as caught:
        assert len(discover_shards(settling)) == 3
    said = {str(w.message) for w in caught}
    assert "'empty' is quarantined and is left out: domain 'empty' has no shard" in said
    assert any(line.endswith("'not a domain' is not a domain name") for line in said)
    (raw / "empty").rmdir()
    time.sleep(0.6)
    survey(settling)
    assert events(settling, "empty") == ["quarantined", "vanished"]


def test_a_folder_that_cannot_be_read_is_told_and_stops_nothing_else(settling, raw, tiny):
    (raw / "loop").symlink_to("loop")
    assert set(survey(settling).refused) == {"loop"}
    with pytest.warns(MixtureWarning, match="'loop' is quarantined and is left out: the folder"):
        assert list(build_corpus(settling).domains) == ["animals", "numbers", "plants"]
    for verb in ("plan", "status"):
        told = CliRunner().invoke(cli, [verb, "--experiment", str(tiny)])
        assert told.exit_code == 0, told.output
    assert "'loop' cannot be read: Too many levels of symbolic links" in told.output
    (raw / "loop").unlink()
    time.sleep(0.6)
    survey(settling)
    assert events(settling, "loop") == ["quarantined", "vanished"]


def test_a_known_folder_that_cannot_be_read_goes_on_as_it_was(settling, raw):
    corpus = build_corpus(settling)
    pin_tokenizer(settling, corpus.tokenizer)
    before = corpus.domains
    (raw / "plants").rename(raw / ".aside")
    (raw / "plants").symlink_to("plants")
    time.sleep(0.6)
    with pytest.warns(MixtureWarning, match="'plants' is quarantined and goes on with its last"):
        assert build_corpus(settling).domains == before
    (raw / "plants").unlink()
    (raw / ".aside").rename(raw / "plants")
    time.sleep(0.6)
    assert build_corpus(settling).domains == before
    assert events(settling, "plants") == ["landed", "quarantined", "released"]


def test_a_folder_that_is_named_and_cannot_be_read_is_an_error(tiny, raw):
    names = '["animals", "loop", "plants"]'
    tiny.write_text(tiny.read_text().replace("[data]", f"[data]\ndomains = {names}"))
    (raw / "loop").symlink_to("loop")
    with pytest.raises(MixtureError, match="'loop' cannot be read: Too many levels"):
        build_corpus(Workspace.open(tiny))
    assert events(Workspace.open(tiny), "loop") == []
