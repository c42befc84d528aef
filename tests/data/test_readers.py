import gzip
import itertools
import json
import random

import datasets
import fsspec
import pyarrow as pa
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mixture_assets.core.errors import MixtureError
from mixture_assets.data.compression import blocks
from mixture_assets.data.datasets_source import land_dataset
from mixture_assets.data.readers import cut, document_lists, documents
from mixture_assets.data.shards import FORMATS, discover

TEXTS = ["one\ntwo", "", "zw\u2028ei \U0001f600", "\x00 tab\t", '{"text": 1}']
unicode_text = st.text(st.characters(exclude_categories=["Cs"]))
same_folder = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.mark.parametrize("format_", [f for f in FORMATS if not f.startswith("txt")])
def test_every_format_gives_the_same_documents(land, found, format_):
    land("books", f"a.{format_}", TEXTS)
    assert list(documents(found("books")[0])) == TEXTS


@pytest.mark.parametrize("format_", ["txt", "txt.gz", "txt.zst"])
def test_txt_is_one_document_or_many(land, found, format_):
    land("books", f"a.{format_}", [f"Paragraph {i} of the book.\n\n" for i in range(100)])
    (shard,) = found("books")
    (whole,) = documents(shard, txt_document_chars=0)
    parts = list(documents(shard, txt_document_chars=200))
    assert "".join(parts) == whole
    assert all(part.endswith("\n\n") and part.startswith("Paragraph") for part in parts)
    assert max(map(len, parts)) <= 200


@same_folder
@given(st.lists(unicode_text, min_size=1))
def test_jsonl_gives_back_what_was_written(tmp_path, texts):
    folder = tmp_path / "raw/books"
    folder.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps({"text": t}, ensure_ascii=len(t) % 2 == 0) for t in texts)
    (folder / "a.jsonl.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    (shard,) = discover(str(tmp_path / "raw"), cache=tmp_path / "cache.json")["books"]
    assert list(documents(shard)) == texts


@given(unicode_text, st.integers(1, 20))
def test_cutting_loses_nothing_and_makes_no_long_document(text, chars):
    parts, rest = cut(text, chars)
    assert "".join([*parts, rest]) == text
    assert all(0 < len(part) <= chars for part in parts)
    assert len(rest) <= chars


@given(st.text("ab \n", max_size=200), st.integers(1, 20), st.lists(st.integers(0, 200)))
def test_cuts_do_not_depend_on_how_the_file_arrives(text, chars, stops):
    documents_, rest = [], ""
    edges = [0, *sorted(min(s, len(text)) for s in stops), len(text)]
    for start, stop in itertools.pairwise(edges):
        more, rest = cut(rest + text[start:stop], chars)
        documents_ += more
    assert (documents_, rest) == cut(text, chars)


def test_lines_longer_than_a_block(land, found):
    texts = ["a" * 3_000_000, "b", "c" * 2_500_000]
    land("books", "a.jsonl", texts)
    (shard,) = found("books")
    assert sum(1 for _ in blocks(shard)) > 4
    assert list(documents(shard)) == texts


def test_unusual_jsonl_is_read(land, found):
    """What Python and Windows programs write: NaN, huge numbers, CR LF, blank lines, a BOM."""
    lines = [
        b'\xef\xbb\xbf{"text": "one", "score": NaN}\r',
        b"",
        b'{"n": 123456789012345678901234567890, "text": "two"}',
        b"  ",
        b'{"text": "three"}',
    ]
    land("books", "a.jsonl", b"\n".join(lines))
    assert list(documents(found("books")[0])) == ["one", "two", "three"]


def test_archives_of_several_members_are_read_to_the_end(land, found):
    lines = [b'{"text": "%d"}\n' % i for i in range(3)]
    land("gz", "a.jsonl.gz", b"".join(map(gzip.compress, lines)) + b"\0" * 64)
    skippable = b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd"
    land("zst", "a.jsonl.zst", skippable.join(map(zstandard.compress, lines)))
    for domain in ("gz", "zst"):
        assert list(documents(found(domain)[0])) == ["0", "1", "2"], domain


def test_text_field_is_configurable(land, found):
    land("books", "a.jsonl", b'{"text": 1, "body": "one"}\n')
    assert list(documents(found("books")[0], text_field="body")) == ["one"]


def test_arrow_files_and_other_string_types(land, found):
    for number, kind in enumerate((pa.large_string(), pa.dictionary(pa.int8(), pa.string()))):
        batch = pa.record_batch({"text": pa.array([f"one {number}", "two"]).cast(kind)})
        with pa.ipc.new_file(sink := pa.BufferOutputStream(), batch.schema) as writer:
            writer.write_batch(batch)
        land("books", f"{number}.arrow", sink.getvalue().to_pybytes())
    assert [next(documents(s)) for s in found("books")] == ["one 0", "one 1"]


def test_documents_of_a_url_root(tmp_path):
    content = zstandard.compress(b'{"text": "one"}\n{"text": "two"}\n')
    fsspec.filesystem("memory").pipe("/readers-test/books/a.jsonl.zst", content)
    (shard,) = discover("memory://readers-test", cache=tmp_path / "cache.json")["books"]
    assert list(documents(shard)) == ["one", "two"]


def test_a_shard_that_changed_since_discovery_is_refused(land, found):
    for name in ("a.jsonl", "b.parquet"):
        path = land(name[0], name, ["one", "two"])
        (shard,) = found(name[0])
        land(name[0], name, ["one", "twelve"])
        with pytest.raises(MixtureError, match=f"'{name[0]}/{name}' has changed since"):
            list(documents(shard))
        path.unlink()
        with pytest.raises(MixtureError, match="has changed since"):
            list(documents(shard))


def test_a_shard_is_read_in_pieces(land, found):
    """So that an archive larger than memory can be."""
    land("books", "a.jsonl.zst", [random.Random(i).randbytes(1000).hex() for i in range(1000)])
    assert sum(1 for _ in document_lists(found("books")[0])) > 3


# --- datasets ---------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path):
    """A `datasets` folder with two splits."""
    rows = {"body": [f"row {i}" for i in range(25)], "n": list(range(25))}
    data = datasets.Dataset.from_dict(rows)
    folder = tmp_path / "saved"
    datasets.DatasetDict(train=data, test=data.select(range(3))).save_to_disk(str(folder))
    return folder


def test_a_saved_dataset_is_a_domain(tmp_path, found):
    data = datasets.Dataset.from_dict({"text": ["one", "two", "three"]})
    data.save_to_disk(str(tmp_path / "raw/books"), num_shards=2)
    read = datasets.load_from_disk(str(tmp_path / "raw/books"))
    read.map(lambda row: {"text": row["text"] + "!"}, cache_file_name=None)
    assert [t for s in found("books") for t in documents(s)] == ["one", "two", "three"]


def test_a_dataset_lands_once(saved, tmp_path, found):
    target = tmp_path / "raw/books"
    options = {"text_field": "body", "max_documents": 21, "shard_documents": 10}
    land_dataset(str(saved), target, **options)
    names = sorted(p.name for p in target.iterdir())
    assert names == ["_SUCCESS", *(f"part-0000{i}.jsonl.zst" for i in range(3))]
    assert [t for s in found("books") for t in documents(s)] == [f"row {i}" for i in range(21)]
    before = {p: p.stat().st_mtime_ns for p in target.iterdir()}
    land_dataset(str(saved), target, **options)
    assert {p: p.stat().st_mtime_ns for p in target.iterdir()} == before
    land_dataset(str(saved), target, text_field="body", split="test")
    assert sorted(p.name for p in target.iterdir()) == ["_SUCCESS", "part-00000.jsonl.zst"]


def test_a_dataset_of_plain_files_is_streamed(tmp_path, found):
    source = tmp_path / "source"
    source.mkdir()
    (source / "train.jsonl").write_text('{"content": "one"}\n{"content": "two"}\n')
    land_dataset(str(source), tmp_path / "raw/books", text_field="content", write_field="text")
    assert list(documents(found("books")[0])) == ["one", "two"]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"split": "tran", "text_field": "body"}, r"has no split 'tran' \(did you mean 'train'"),
        ({"text_field": "boddy"}, r"has no column 'boddy' \(did you mean 'body'\?\)"),
        ({"text_field": "n"}, r"row 1 of the dataset .* has no text in 'n': 0"),
        ({"text_field": "body", "max_documents": 0}, "no document in split 'train'"),
    ],
)
def test_a_bad_dataset_leaves_nothing_behind(saved, tmp_path, options, problem):
    with pytest.raises(MixtureError, match=problem) as caught:
        land_dataset(str(saved), tmp_path / "raw/books", **options)
    assert caught.value.hint
    assert not list((tmp_path / "raw").glob("**/*"))


def test_a_dataset_that_cannot_be_opened(tmp_path):
    with pytest.raises(MixtureError, match="cannot open the dataset '/no/such/folder'"):
        land_dataset("/no/such/folder", tmp_path / "raw/books")


def test_a_dataset_does_not_replace_somebody_elses_files(saved, land):
    path = land("books", "a.jsonl", ["mine"])
    with pytest.raises(MixtureError, match="files that do not come from a dataset"):
        land_dataset(str(saved), path.parent, text_field="body")
    assert path.exists()


def test_a_dataset_that_is_damaged_further_down_is_named_and_leaves_nothing(tmp_path):
    (source := tmp_path / "source").mkdir()
    (source / "a.jsonl").write_bytes(b'{"text": "one"}\n{"text": ')
    with pytest.raises(MixtureError, match=r"source' cannot be read after row 0: JSON parse error"):
        land_dataset(str(source), tmp_path / "raw/books")
    assert list((tmp_path / "raw").iterdir()) == []
