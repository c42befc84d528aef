"""Raw shards as the world delivers them: valid ones of every format, then damaged."""

import gzip
import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard
from hypothesis import strategies as st

from mixture_assets.data.shards import FORMATS

TEXTS = st.text(max_size=30)
_ODD_VALUES: list[Any] = [None, 0, -1.5, True, [], ["x"], {}, {"text": "x"}, 10**30, float("nan")]
_ODD_LINES = [
    b"",
    b"  ",
    b"\r",
    b"{}",
    b"[]",
    b'"text"',
    b"null",
    b"1e999",
    b"NaN",
    b'{"text": "a", "text": 3}',
    b'{"text": 3, "text": "b"}',
    b'{"text": "a", "n": NaN, "m": -Infinity}',
    b'{"text": "a", "n": ' + b"9" * 5000 + b"}",
    b'{"text": "\\ud83d"}',
    b'{"text": "\\ud83d\\ude00 \\u0000"}',
    b'{"text": "\x00"}',
    b'{"text": "caf\xe9"}',
    b'{"text": "caf\xc3\xa9"}',
    b'\xef\xbb\xbf{"text": "bom"}',
    b'{"text": "open',
    b'{"text": "two"} {"text": "objects"}',
    b'{"body": "x"}',
    b'{"text": "a", "deep": ' + b"[" * 600 + b"]" * 600 + b"}",
    b'{"text": "a", "deep": ' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    b'{"deep": ' * 100_000,
    b'{"text": "' + b"long " * 40_000 + b'"}',
    b"{" + b",".join(b'"key%d\\n": 1' % i for i in range(5000)) + b"}",
    b'{"text": "\xe2\x80\xa8 \xc2\x85 \x0b"}',
]
_MAGIC = [b"PAR1", b"ARROW1\0\0", b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"\xff\xfe", b"PK\x03\x04"]


def _line(value: Any) -> bytes:
    return json.dumps({"text": value}).encode()


_LINES = st.one_of(
    TEXTS.map(_line),
    TEXTS.map(lambda t: json.dumps({"text": t}, ensure_ascii=False).encode("utf-8", "replace")),
    st.sampled_from(_ODD_LINES),
    st.sampled_from(_ODD_VALUES).map(_line),
    st.binary(max_size=20),
)
_JSONL = st.lists(_LINES, max_size=6).map(b"\n".join)
_GOOD_JSONL = st.lists(TEXTS.map(_line), min_size=1, max_size=20).map(b"\n".join)
_TXT = st.lists(
    st.one_of(
        TEXTS.map(lambda t: t.encode("utf-8", "replace")),
        st.sampled_from(
            [
                b"\n\n",
                b"\x00",
                b"\xff",
                b"\xef\xbb\xbf",
                b"\xed\xa0\xbd",
                b"word " * 9000,
                b"x" * 9999,
            ]
        ),
        st.binary(max_size=9),
    ),
    max_size=8,
).map(b"".join)


def _bad_utf8() -> Any:
    return pa.array([b"one", b"caf\xe9"]).view(pa.string())


_COLUMNS: list[Any] = [
    pa.array(["one", "two"]),
    pa.array(["one", "two"], pa.large_string()),
    pa.array(["one", "two"]).dictionary_encode(),
    pa.array(["one", None]),
    pa.array(["one", None]).dictionary_encode(),
    pa.array([None, None], pa.null()),
    pa.array([None, None], pa.string()),
    pa.array([], pa.string()),
    pa.array(["", " "]),
    pa.array(["\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16"), "\0"]),
    pa.array(["long " * 20_000] * 3),
    pa.array(["same text, many rows"] * 5000),
    pa.array([1, 2]),
    pa.array([1.5, float("nan")]),
    pa.array([True, False]),
    pa.array([b"one", b"two"]),
    pa.array([["one"], []]),
    pa.array([{"text": "one"}, None]),
    pa.array([{"a": {"b": "one"}}]),
    pa.array([0, 1], pa.timestamp("ns", "UTC")),
    pa.array([2**40, -(2**60)], pa.timestamp("s")),
    pa.array([0, 1], pa.duration("s")),
    pa.array([b"x" * 4, b"y" * 4], pa.binary(4)),
    pa.MapArray.from_arrays([0, 1, 1], pa.array(["k"]), pa.array([1])),
    _bad_utf8(),
]


@st.composite
def _tables(draw: Any) -> pa.Table:
    column = draw(st.sampled_from(_COLUMNS))
    if draw(st.booleans()):
        column = pa.array(draw(st.lists(TEXTS.map(_encodable), min_size=1, max_size=9)))
    name = draw(st.sampled_from(["text"] * 8 + ["body", "Text", "te\nxt", "text.x", ""]))
    names = [name, *draw(st.sampled_from([[], [], ["text"], ["id"]]))]
    return pa.table([column] * len(names), names=names)


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


@st.composite
def _parquets(draw: Any) -> bytes:
    table = draw(_tables())
    options = draw(
        st.sampled_from(
            [
                {},
                {"compression": "zstd"},
                {"compression": "none", "use_dictionary": False},
                {"row_group_size": 1},
                {"version": "1.0", "data_page_version": "2.0"},
                {"write_statistics": False},
            ]
        )
    )
    sink = pa.BufferOutputStream()
    try:
        pq.write_table(table, sink, **options)
    except (pa.ArrowException, ValueError):  # e.g. no form in parquet, or two columns of a name
        return b"PAR1"
    return bytes(sink.getvalue())


@st.composite
def _arrows(draw: Any) -> bytes:
    table = draw(_tables())
    codec = draw(st.sampled_from([None, None, "zstd", "lz4"]))
    open_new = draw(st.sampled_from([pa.ipc.new_stream, pa.ipc.new_file]))
    sink = pa.BufferOutputStream()
    with open_new(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression=codec)) as out:
        out.write_table(table)
    return bytes(sink.getvalue())


def _packed(content: bytes, packing: str, n_members: int) -> bytes:
    """gz and zst, in one member or several."""
    size = max(1, -(-len(content) // n_members))
    parts = [content[i : i + size] for i in range(0, len(content), size)] or [b""]
    if packing == "gz":
        return b"".join(gzip.compress(part, 1, mtime=0) for part in parts)
    if packing == "zst":
        return b"".join(zstandard.compress(part, 1) for part in parts)
    return content


@st.composite
def _damaged(draw: Any, content: bytes) -> bytes:
    """Nothing, most often; else what disks, networks and people do to a file."""
    how = draw(
        st.sampled_from(["none"] * 4 + ["flip"] * 3 + ["cut", "magic", "twice", "tail", "insert"])
    )
    if not content or how == "none":
        return content
    at = draw(st.integers(0, len(content) - 1))
    if how == "flip":
        changed = bytearray(content)
        for i in range(draw(st.integers(1, 3))):
            changed[(at + 37 * i) % len(content)] ^= draw(st.integers(1, 255))
        return bytes(changed)
    if how == "cut":
        return content[:at]
    if how == "magic":
        return draw(st.sampled_from(_MAGIC)) + content[4:]
    if how == "twice":
        return content + content[at:]
    if how == "tail":
        return content + draw(st.sampled_from([b"\0" * 100, b"\n", b"{", b"\xff", *_MAGIC]))
    return content[:at] + draw(st.binary(min_size=1, max_size=8)) + content[at:]


@st.composite
def shards(draw: Any) -> tuple[str, bytes]:
    """(file name, bytes) of a shard of any format, most of them readable, many not."""
    format_ = draw(st.sampled_from(FORMATS))
    kind, _, packing = format_.partition(".")
    source = {
        "jsonl": st.one_of(_GOOD_JSONL, _JSONL),
        "txt": _TXT,
        "parquet": _parquets(),
        "arrow": _arrows(),
    }[kind]
    content = draw(source)
    if packing:  # damage inside of the archive, and to it
        content = draw(_damaged(content))
    content = draw(_damaged(_packed(content, packing, draw(st.sampled_from([1, 1, 3])))))
    claimed = draw(st.sampled_from([format_] * 30 + list(FORMATS)))
    return f"part-0.{claimed}", content
