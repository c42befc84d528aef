"""Documents of a raw shard, as text. Every way in which a shard can be bad is named here.

Documents come in lists, one per block of input, because a Python-level step per document costs
more than decompressing it.
"""

import codecs
import itertools
import json
from collections.abc import Iterable, Iterator
from typing import Any

import orjson

from mixture_assets.core.errors import MixtureError, shortlist
from mixture_assets.data.columns import arrow_texts, parquet_texts
from mixture_assets.data.compression import blocks
from mixture_assets.data.shards import RawShard

_LONGEST_LINE = 1 << 26  # bytes: 16 M tokens; a bomb unpacks to a line without an end
_BOM = b"\xef\xbb\xbf"


def documents(
    shard: RawShard, *, text_field: str = "text", txt_document_chars: int = 4000
) -> Iterator[str]:
    """Yield the texts of a shard in order, empty ones included."""
    return itertools.chain.from_iterable(
        document_lists(shard, text_field=text_field, txt_document_chars=txt_document_chars)
    )


def document_lists(
    shard: RawShard, *, text_field: str = "text", txt_document_chars: int = 4000
) -> Iterator[list[str]]:
    """The same, a list per block of input.

    Args:
        shard: The shard; MixtureError if it has no document at all.
        text_field: Field or column that holds the text; txt files have none.
        txt_document_chars: Longest document in a txt file. A longer file is cut at the end of
            a paragraph, else of a line, else of a word; 0 keeps every file whole.
    """
    kind = shard.format.partition(".")[0]
    if kind == "jsonl":
        lists: Iterable[list[str]] = _jsonl(shard, text_field)
    elif kind == "txt":
        lists = _txt(shard, txt_document_chars)
    else:
        lists = {"parquet": parquet_texts, "arrow": arrow_texts}[kind](shard, text_field)
    is_empty = True
    for texts in lists:
        is_empty = is_empty and not texts
        yield texts
    if is_empty:
        raise MixtureError(
            f"{shard.name!r} has no document", hint="remove the file, or write it again"
        )


def _jsonl(shard: RawShard, field: str) -> Iterator[list[str]]:
    first = 1  # number of the block's first line
    for lines in _lines(shard):
        if first == 1 and lines[0].startswith(_BOM):
            lines[0] = lines[0][len(_BOM) :]
        try:
            texts = [orjson.loads(line)[field] for line in lines if line]
        except (ValueError, KeyError, TypeError):
            texts = _careful_texts(shard, lines, first, field)
        if not set(map(type, texts)) <= {str}:
            texts = _careful_texts(shard, lines, first, field)
        yield texts
        first += len(lines)


def _lines(shard: RawShard) -> Iterator[list[bytes]]:
    r"""Lists of whole lines. JSON Lines end in \n only: str.splitlines would cut at U+2028."""
    parts: list[bytes] = []  # of a line that is not complete yet
    n_lines = n_bytes = 0
    for block in blocks(shard):
        head, newline, rest = block.rpartition(b"\n")
        if newline:
            yield (lines := (b"".join(parts) + head).split(b"\n"))
            parts, n_lines, n_bytes = [rest], n_lines + len(lines), len(rest)
        else:
            parts.append(block)
            n_bytes += len(block)
        if n_bytes > _LONGEST_LINE:
            raise _too_long(f"{shard.name!r} line {n_lines + 1:,}")
    if last := b"".join(parts):
        yield [last]


def _careful_texts(shard: RawShard, lines: list[bytes], first: int, field: str) -> list[str]:
    """Parse line by line: either a line is wrong, and is named, or it is only unusual.

    The standard library's parser also takes NaN and numbers of any size, which Python's own
    json writes.
    """
    numbered = [(n, line) for n, line in enumerate(lines, first) if line.strip()]
    return [_text_of(f"{shard.name!r} line {n:,}", line, field) for n, line in numbered]


def _text_of(where: str, line: bytes, field: str) -> str:
    try:
        row = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise _not_utf8(where, error) from error
    except (ValueError, RecursionError) as error:
        raise MixtureError(
            f"{where} is not JSON: {error}", hint="a jsonl shard holds one JSON object per line"
        ) from error
    if not isinstance(row, dict):
        raise MixtureError(
            f"{where} is not a JSON object but {_kind(row)}",
            hint='write every line as {"text": "..."}',
        )
    if field not in row:
        names = shortlist(row, 12) if row else "none"
        raise MixtureError(
            f"{where} has no field {field!r}: it has {names}",
            hint="name the field that holds the text: [data] text_field",
        )
    if not isinstance(text := row[field], str):
        raise MixtureError(
            f"{where} has {_kind(text)} in {field!r} instead of text",
            hint="leave the line out, or name another field: [data] text_field",
        )
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise MixtureError(
            f"{where} has half a character in {field!r}: {error.object[error.start]!r}",
            hint="replace lone surrogates before writing: text.encode('utf-8', 'replace')",
        ) from error
    return text


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    names = {dict: "an object", list: "a list", str: "a string", bool: "a truth value"}
    return names.get(type(value), "a number")


def _not_utf8(where: str, error: UnicodeDecodeError) -> MixtureError:
    bad = error.object[error.start]
    return MixtureError(
        f"{where} is not UTF-8: byte 0x{bad:02x}",
        hint="convert the file, for example with: iconv -f latin1 -t utf-8",
    )


def _too_long(where: str) -> MixtureError:
    return MixtureError(
        f"{where} is longer than {_LONGEST_LINE >> 20} MiB",
        hint="cut the document in several before writing it; txt: [data] txt_document_chars",
    )


def _txt(shard: RawShard, document_chars: int) -> Iterator[list[str]]:
    texts = _decoded(shard)
    if document_chars <= 0:
        yield from _whole(shard, texts)
        return
    rest = ""
    for text in texts:
        documents, rest = cut(rest + text, document_chars)
        yield documents
    yield [rest] if rest else []


def _whole(shard: RawShard, texts: Iterator[str]) -> Iterator[list[str]]:
    parts, n_chars = [], 0
    for text in texts:
        parts.append(text)
        n_chars += len(text)
        if n_chars > _LONGEST_LINE:
            raise _too_long(f"{shard.name!r}")
    yield [whole] if (whole := "".join(parts)) else []


def cut(text: str, document_chars: int) -> tuple[list[str], str]:
    """Cut documents off the start of `text` until at most `document_chars` are left.

    Each cut looks only at the next `document_chars` characters, so it does not matter in what
    pieces a file arrives, and nothing is lost: the documents and the rest join to `text`.
    """
    documents, start = [], 0
    while len(text) - start > document_chars:
        stop = start + document_chars
        least = start + document_chars // 2  # no scraps: look for an end in the second half
        ends = ((text.rfind(mark, least, stop), len(mark)) for mark in ("\n\n", "\n", " "))
        stop = next((at + length for at, length in ends if at >= 0), stop)
        documents.append(text[start:stop])
        start = stop
    return documents, text[start:]


def _decoded(shard: RawShard) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    line = 1
    for block, is_last in itertools.chain(((b, False) for b in blocks(shard)), [(b"", True)]):
        try:
            text = decoder.decode(block, is_last)
        except UnicodeDecodeError as error:
            line += error.object.count(b"\n", 0, error.start)
            raise _not_utf8(f"{shard.name!r} line {line:,}", error) from error
        line += text.count("\n")
        yield text
