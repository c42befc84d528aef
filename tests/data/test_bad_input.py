"""Every bad shard: one sentence that names it, a hint, nothing half-written, no harm to others."""

import gzip
import json
import os
import random
import struct
import subprocess
import sys
import textwrap

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from mixture_assets.core.errors import MixtureError
from mixture_assets.data.tokenize import tokenize_shard

GOOD = b'{"text": "one"}\n'


def lines(n=3000):
    """Too varied to fit into one block of an archive."""
    texts = (random.Random(i).randbytes(100).hex() for i in range(n))
    return b"".join(json.dumps({"text": t}).encode() + b"\n" for t in texts)


def parquet(column="text", values=("one", "two")):
    pq.write_table(pa.table({column: list(values)}), sink := pa.BufferOutputStream())
    return sink.getvalue().to_pybytes()


def not_utf8_parquet():
    bad = pa.array([b"one", b"caf\xe9"]).view(pa.string())
    pq.write_table(pa.table({"text": bad}), sink := pa.BufferOutputStream())
    return sink.getvalue().to_pybytes()


def arrow(batch=None):
    batch = batch or pa.record_batch({"text": ["one " * 1000, "two " * 1000]})
    with pa.ipc.new_stream(sink := pa.BufferOutputStream(), batch.schema) as writer:
        writer.write_batch(batch)
    return sink.getvalue().to_pybytes()


def foreign_offsets():
    """A text that ends 2 GB behind its buffer: Arrow would read it, and die of it."""
    content = arrow(pa.record_batch({"text": ["one", "two"]}))
    offsets, foreign = struct.pack("<3i", 0, 3, 6), struct.pack("<3i", 0, 3, 2**31 - 2)
    assert content.count(offsets) == 1
    return content.replace(offsets, foreign)


def half(content):
    return content[: len(content) // 2]


def flipped(content):
    return content[:-300] + bytes(255 - b for b in content[-300:-290]) + content[-290:]


CASES = {
    "truncated gzip": (
        "a.jsonl.gz",
        half(gzip.compress(lines())),
        "ends in the middle of its gzip",
        "rename it",
    ),
    "truncated zstd": (
        "a.jsonl.zst",
        half(zstandard.compress(lines())),
        "ends in the middle of its zstd",
        "rename it",
    ),
    "truncated zstd text": (
        "a.txt.zst",
        half(zstandard.compress(lines())),
        "ends in the middle",
        "rename it",
    ),
    "damaged gzip": ("a.jsonl.gz", flipped(gzip.compress(lines())), "is not valid gzip", "again"),
    "damaged zstd": ("a.jsonl.zst", b"not zstd at all", "is not valid zstd", "again"),
    "truncated parquet": (
        "a.parquet",
        half(parquet()),
        "cannot be read as parquet",
        "half-written",
    ),
    "damaged parquet": (
        "a.parquet",
        b"PAR1" + b"x" * 100 + b"PAR1",
        "cannot be read as parquet",
        "again",
    ),
    "truncated arrow": ("a.arrow", half(arrow()), "cannot be read as arrow", "half-written"),
    "half-written jsonl": (
        "a.jsonl",
        GOOD + b'{"text": "tw',
        r"line 2 is not JSON",
        "one JSON object",
    ),
    "not UTF-8": (
        "a.jsonl",
        GOOD * 2 + b'{"text": "caf\xe9"}\n',
        r"line 3 is not UTF-8: byte 0xe9",
        "iconv",
    ),
    "not UTF-8 text": (
        "a.txt",
        b"one\ntwo\nth\xffree\n",
        r"line 3 is not UTF-8: byte 0xff",
        "iconv",
    ),
    "cut in a character": ("a.txt", "one\nä".encode()[:-1], r"line 2 is not UTF-8", "iconv"),
    "not UTF-8 parquet": ("a.parquet", not_utf8_parquet(), "has text that is not UTF-8", "again"),
    "not JSON": ("a.jsonl", GOOD + b"two\n", r"line 2 is not JSON", "one JSON object per line"),
    "not an object": (
        "a.jsonl",
        GOOD + b'["two"]\n',
        "line 2 is not a JSON object but a list",
        '"text"',
    ),
    "no text field": (
        "a.jsonl",
        GOOD * 4 + b'{"body": "x"}\n',
        r"line 5 has no field 'text': it has 'body'",
        "text_field",
    ),
    "text is null": (
        "a.jsonl",
        GOOD + b'{"text": null}\n',
        "line 2 has null in 'text'",
        "text_field",
    ),
    "text is a number": (
        "a.jsonl",
        b'{"text": 1}\n',
        "line 1 has a number in 'text'",
        "text_field",
    ),
    "half a character": (
        "a.jsonl",
        b'{"text": "\\ud83d"}\n',
        "line 1 has half a character",
        "surrogates",
    ),
    "no text column": (
        "a.parquet",
        parquet("body"),
        "has no column 'text': it has 'body'",
        "text_field",
    ),
    "null in a column": (
        "a.parquet",
        parquet(values=["one", None]),
        "row 2 has nothing in 'text'",
        "text_field",
    ),
    "empty shard": ("a.jsonl", b"", "has no document", "remove the file"),
    "empty archive": ("a.jsonl.gz", gzip.compress(b""), "has no document", "remove the file"),
    "empty parquet": (
        "a.parquet",
        parquet(values=[""][:0] or pa.array([], pa.string())),
        "has no document",
        "remove",
    ),
    "blank lines only": ("a.jsonl", b"\n\n", "has no document", "remove the file"),
    "empty txt": ("a.txt", b"", "has no document", "remove the file"),
    "offsets into foreign memory": (
        "a.arrow",
        foreign_offsets(),
        "cannot be read as arrow",
        "write or download it again",
    ),
    "two text columns": (
        "a.arrow",
        arrow(pa.record_batch([pa.array(["one"])] * 2, names=["text", "text"])),
        "has 2 columns 'text': it has 'text', 'text'",
        "text_field",
    ),
    "thousands of other fields": (
        "a.jsonl",
        json.dumps({f"key{i}\n": i for i in range(5000)}).encode(),
        r"has no field 'text': it has 'key0\\n', .*, \.\.\.",
        "text_field",
    ),
    "a line without an end": (
        "a.jsonl.gz",
        gzip.compress(b'{"text": "' + b"x" * (65 << 20), 1),
        "line 1 is longer than 64 MiB",
        "cut the document",
    ),
    "no text in any": (
        "a.jsonl",
        b'{"text": " "}\n{"text": ""}\n',
        "has no document with text in it: all 2",
        "text_field",
    ),
}


@pytest.fixture
def store(tmp_path):
    return tmp_path / "store"


def files(folder):
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def check_message(error):
    problem = str(error)
    assert "\n" not in problem
    assert not problem.endswith(".") or problem.endswith("...")
    assert error.hint


@pytest.mark.parametrize("case", CASES)
def test_a_bad_shard_is_named_and_nothing_is_left_behind(land, found, store, tokenizer, case):
    name, content, problem, hint = CASES[case]
    land("good", "a.jsonl", GOOD)
    tokenize_shard(found("good")[0], tokenizer, store=store)
    before = files(store)
    land("bad", name, content)
    with pytest.raises(MixtureError, match=problem) as caught:
        tokenize_shard(found("bad")[0], tokenizer, store=store)
    assert str(caught.value).startswith(f"'bad/{name}' ")
    assert hint in caught.value.hint
    check_message(caught.value)
    assert files(store) == before
    assert tokenize_shard(found("good")[0], tokenizer, store=store).n_documents == 1


FILL = """
import resource, sys
from pathlib import Path
from mixture_assets.core.errors import MixtureError
from mixture_assets.data.shards import discover
from mixture_assets.data.token_store import build_domain
from mixture_assets.data.tokenize import tokenize_shard
from mixture_assets.data.tokenizer import load_tokenizer

root, tokenizer_path, store, step, limit = sys.argv[1:]
store = Path(store)
tokenizer = load_tokenizer(tokenizer_path, store=store)
(raw,) = discover(root, cache=store / "shards.json")["books"]
if step == "array":
    shard = tokenize_shard(raw, tokenizer, store=store)
if int(limit):
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
try:
    if step == "array":
        build_domain([shard], store=store, eos_id=tokenizer.eos_id, validation_fraction=0.1,
                     validation_tokens=100, context=8, min_train_tokens=8)
    else:
        tokenize_shard(raw, tokenizer, store=store)
except MixtureError as error:
    print(error, "|", error.hint)
"""


def fill(tmp_path, tokenizer, store, step, limit):
    arguments = [str(tmp_path / "raw"), str(tokenizer.path), str(store), step, str(limit)]
    command = [sys.executable, "-c", textwrap.dedent(FILL), *arguments]
    out = subprocess.run(command, capture_output=True, text=True, check=False)
    assert out.returncode == 0, out.stderr
    return out.stdout


def left_behind(store):
    return [p.name for p in store.rglob("*") if p.name.endswith((".tmp", ".npy"))]


@pytest.mark.parametrize(("step", "name"), [("parquet", r"\.parquet"), ("array", r"\.npy")])
def test_a_file_size_limit_is_a_full_disk(land, tmp_path, tokenizer, store, step, name):
    land("books", "a.jsonl", lines(2000))
    said = fill(tmp_path, tokenizer, store, step, 100_000)
    assert said.startswith("no space left while writing ")
    assert name.replace("\\", "") in said
    assert "free some space" in said
    assert not left_behind(store)
    assert len(list((store / "tokens").rglob("*.parquet"))) == (step == "array")


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 400 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(folder)]
    try:
        mounted = os.geteuid() == 0 and subprocess.run(mount, capture_output=True).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("needs the right to mount a tmpfs")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_named_and_freed_again(land, tmp_path, tokenizer, small_disk):
    land("books", "a.jsonl", lines(6000))
    said = fill(tmp_path, tokenizer, small_disk / "store", "parquet", 0)
    assert said.startswith("no space left while writing ")
    assert not left_behind(small_disk)
    assert not list(small_disk.rglob("*.parquet"))
    assert os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize > 200_000
    land("books", "a.jsonl", lines(20))
    assert fill(tmp_path, tokenizer, small_disk / "store", "parquet", 0) == ""
