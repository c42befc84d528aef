import hashlib
import os

import fsspec
import pytest

from mixture_assets.core.errors import MixtureError, MixtureWarning
from mixture_assets.data.shards import FORMATS, discover


@pytest.fixture
def root(tmp_path):
    return str(tmp_path / "raw")


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "shards.json"


def test_finds_every_format_in_name_order(land, root, cache):
    for number, format_ in enumerate(reversed(FORMATS)):
        land("books", f"{number}.{format_}", ["one", format_])
    land("news", "2024/05/a.jsonl", ["nested"])
    found = discover(root, cache=cache)
    assert list(found) == ["books", "news"]
    assert [s.format for s in found["books"]] == list(reversed(FORMATS))
    (shard,) = found["news"]
    assert shard.name == "news/2024/05/a.jsonl"
    content = b'{"text": "nested"}\n'
    assert (shard.n_bytes, shard.digest) == (
        len(content),
        hashlib.sha256(content).hexdigest()[:16],
    )


def test_an_unchanged_shard_is_never_read_again(land, root, cache):
    """Its content is swapped behind discovery's back: only reading it could tell."""
    path = land("books", "a.jsonl", ["one"])
    before = discover(root, cache=cache)
    stat = path.stat()
    path.write_bytes(b"x" * stat.st_size)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert discover(root, cache=cache) == before
    os.utime(path, ns=(0, 0))
    assert discover(root, cache=cache) != before


def test_an_unchanged_shard_of_a_url_root_is_never_read_again(cache):
    fs = fsspec.filesystem("memory")
    fs.pipe("/unchanged-test/books/a.jsonl", b'{"text": "one"}\n')
    before = discover("memory://unchanged-test", cache=cache)
    fs.store["/unchanged-test/books/a.jsonl"].getbuffer()[:] = b'{"text": "two"}\n'
    assert discover("memory://unchanged-test", cache=cache) == before
    fs.pipe("/unchanged-test/books/a.jsonl", b'{"text": "two"}\n')
    assert discover("memory://unchanged-test", cache=cache) != before


def test_memory_and_file_urls_are_roots(land, root, cache):
    land("books", "a.jsonl", ["one"])
    local = discover(root, cache=cache)
    assert discover(f"file://{root}", cache=cache) == local
    fsspec.filesystem("memory").pipe("/shards-test/books/a.jsonl", b'{"text": "one"}\n')
    (shard,) = discover("memory://shards-test", cache=cache)["books"]
    assert shard.url == "memory:///shards-test/books/a.jsonl"
    assert shard.digest == local["books"][0].digest


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"a": 1}'])
def test_a_damaged_cache_is_made_again(land, root, cache, damage):
    land("books", "a.jsonl", ["one"])
    before, good = discover(root, cache=cache), cache.read_bytes()
    cache.write_text(damage)
    assert discover(root, cache=cache) == before
    if damage != '{"a": 1}':
        assert cache.read_bytes() == good


def test_other_domains_stay_in_the_cache(land, root, cache):
    land("books", "a.jsonl", ["one"])
    land("news", "a.jsonl", ["two"])
    discover(root, cache=cache)
    before = cache.read_bytes()
    discover(root, cache=cache, domains=["news"])
    assert cache.read_bytes() == before


def test_hidden_files_markers_and_other_extensions_are_passed_over(land, root, cache):
    land("books", "a.jsonl", ["one"])
    names = [".a.jsonl", "_SUCCESS", "_temporary/0/b.jsonl", "README.md", "cache-1f.arrow"]
    for name in names:
        land("books", name, b"no shard")
    land(".git", "x.jsonl", ["hidden"])
    found = discover(root, cache=cache)
    assert [s.name for shards in found.values() for s in shards] == ["books/a.jsonl"]


def test_half_written_names_are_left_out_with_a_warning(land, root, cache):
    land("books", "a.jsonl", ["one"])
    land("books", "b.jsonl.part", b"{")
    land("books", "c.jsonl.crdownload", b"{")
    with pytest.warns(MixtureWarning, match=r"'books' has half-written .*'b\.jsonl\.part'"):
        assert len(discover(root, cache=cache)["books"]) == 1


def test_a_copy_of_a_shard_is_left_out_with_a_warning(land, root, cache):
    land("books", "a.jsonl", ["one"])
    land("books", "b.jsonl", ["one"])
    with pytest.warns(MixtureWarning, match=r"'books/b\.jsonl' is an exact copy of 'books/a"):
        assert len(discover(root, cache=cache)["books"]) == 1


@pytest.mark.parametrize(
    ("domains", "problem", "hint"),
    [
        (["boks"], r"no domain 'boks' under .* \(did you mean 'books'\?\)", "books, empty"),
        (["../books"], r"'\.\./books' is not a domain name", "letters, digits"),
        (["a/b"], r"'a/b' is not a domain name", "letters, digits"),
        (["empty"], r"domain 'empty' has no shard: it holds 'notes\.md'", "jsonl.zst"),
        ([], r"domain 'empty' has no shard", "known formats"),
    ],
)
def test_says_which_domain_is_wrong(land, root, cache, domains, problem, hint):
    land("books", "a.jsonl", ["one"])
    land("empty", "notes.md", b"x")
    with pytest.raises(MixtureError, match=problem) as caught:
        discover(root, cache=cache, domains=domains)
    assert hint in caught.value.hint
    assert not cache.exists()


def test_says_that_a_folder_cannot_be_a_domain(land, root, cache):
    land("my books", "a.jsonl", ["one"])
    with pytest.raises(MixtureError, match="'my books' is not a domain name"):
        discover(root, cache=cache)


def test_says_that_there_is_no_root_or_no_domain_in_it(tmp_path, root, cache):
    with pytest.raises(MixtureError, match="no folder at"):
        discover(root, cache=cache)
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/a.jsonl").write_text("{}")
    with pytest.raises(MixtureError, match="no domain under") as caught:
        discover(root, cache=cache)
    assert "one folder per domain" in caught.value.hint


def test_a_linked_shard_is_data_like_any_other(tmp_path):
    target = tmp_path / "elsewhere" / "x.jsonl"
    target.parent.mkdir()
    target.write_text('{"text": "far away"}\n')
    folder = tmp_path / "raw" / "web"
    folder.mkdir(parents=True)
    (folder / "a.jsonl").write_text('{"text": "near"}\n')
    (folder / "b.jsonl").symlink_to(target)
    found = discover(str(tmp_path / "raw"), cache=tmp_path / "shards.json")["web"]
    assert [shard.n_bytes for shard in found] == [17, 21]
    target.write_text('{"text": "far away, and changed"}\n')
    again = discover(str(tmp_path / "raw"), cache=tmp_path / "shards.json")["web"]
    assert again[0] == found[0]
    assert again[1].digest != found[1].digest


def test_a_link_to_nothing_is_reported(tmp_path):
    folder = tmp_path / "raw" / "web"
    folder.mkdir(parents=True)
    (folder / "a.jsonl").write_text('{"text": "near"}\n')
    (folder / "b.jsonl").symlink_to(tmp_path / "gone")
    with pytest.warns(MixtureWarning, match="b.jsonl' of domain 'web' is a link to nothing"):
        assert len(discover(str(tmp_path / "raw"), cache=tmp_path / "shards.json")["web"]) == 1
