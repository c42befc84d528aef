"""Text as documents: read, cleaned, cut at natural places, judged readable or not.

Put here what knows nothing about domains. Where text comes from is in `harvest_sources`.
"""

import ast
import hashlib
import inspect
import re
from collections.abc import Iterator, Sequence

DOCUMENT_CHARS = 4000  # as [data] txt_document_chars: many short documents validate better than few
MAX_LINE_CHARS = 1000  # longer lines come from machines
MEAN_LINE_CHARS = 120
MIN_LETTERS = 0.4  # of the characters, white space left out
MIN_PROSE_WORDS = 0.55  # of the characters stand in lower-case words

# Zero-width places, best first: a block that is still too long is cut at the next kind.
_PARAGRAPH = re.compile(r"(?<=\n\n)(?=[^\n])")
_LINE = re.compile(r"(?<=\n)")
CODE_CUTS = (re.compile(r"(?<=\n\n)(?=[^\s)}\]])"), _PARAGRAPH, _LINE)  # top-level definitions
PROSE_CUTS = (_PARAGRAPH, _LINE)
HEADING_CUTS = (  # one '#' alone is mostly a comment in an example
    re.compile(r"(?<=\n)(?=#{2,6} \S|[^\n]{3,80}\n(?:={3,}|-{3,}|~{3,})\n)"),
    *PROSE_CUTS,
)

_LEADING_COMMENT = re.compile(r"\A\s*(?:/\*.*?\*/|(?:(?://|#)[^\n]*\n)+)", re.DOTALL)
_FENCE = re.compile(r"^[ \t]*(```|~~~).*?^[ \t]*\1[ \t]*$", re.DOTALL | re.MULTILINE)
_DANGLING = re.compile(r"(?:\A|\n\n)[^\n]{1,40}(?:\n[-=~]{3,}|:)\s*\Z")
_LETTER = re.compile(r"[^\W\d_]")
_LOWER_WORD = re.compile(r"\b[a-z]{2,}\b")
_MODULE_STRING = re.compile(r'\A(?:#[^\n]*\n|\s)*([rR]?)(""")(.*?)"""', re.DOTALL)
_BODY_STRING = re.compile(r':[ \t]*(?:#[^\n]*)?\n[ \t]+([rR]?)("""|\'\'\')(.*?)\2', re.DOTALL)


def decode(raw: bytes) -> str | None:
    """The text of a UTF-8 file with Unix line ends, or None if it is not one."""
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text.replace("\r\n", "\n").replace("\r", "\n")


def same_words(text: str) -> bytes:
    """Equal for two documents that differ at most in white space."""
    return hashlib.sha256(" ".join(text.split()).encode()).digest()


def is_text(text: str) -> bool:
    """Whether most of it is letters: no tables of numbers, no encoded data."""
    solid = sum(map(len, text.split()))
    return len(_LETTER.findall(text)) >= MIN_LETTERS * solid


def is_readable(code: str) -> bool:
    """Whether people wrote the code: text, in lines that people write."""
    lines = code.split("\n")
    longest, mean = max(map(len, lines)), len(code) / len(lines)
    return longest <= MAX_LINE_CHARS and mean <= MEAN_LINE_CHARS and is_text(code)


def cut(text: str, places: Sequence[re.Pattern[str]], limit: int = DOCUMENT_CHARS) -> Iterator[str]:
    """Pieces of at most `limit` characters that begin and end at the best of `places`.

    Joined, the pieces are the text. They are filled from the start, not evened out, so that
    two texts with a common beginning give common pieces, which are then found as duplicates.
    """
    if len(text) <= limit:
        yield text
        return
    if not places:  # one very long line
        yield from (text[i : i + limit] for i in range(0, len(text), limit))
        return
    piece = ""
    for block in places[0].split(text):
        if piece and len(piece) + len(block) > limit:
            yield piece
            piece = ""
        if len(block) > limit:
            *full, block = cut(block, places[1:], limit)
            yield from full
        piece += block
    yield piece


def without_licence(code: str) -> str:
    """Code without the licence comment on top, which the licence domain has already."""
    match = _LEADING_COMMENT.match(code)
    is_licence = match and re.search(r"(?i)licen[cs]e|copyright", match.group())
    return code[match.end() :] if match and is_licence else code


def docstrings(code: str) -> Iterator[str]:
    """The docstrings of a Python file, dedented.

    Found by pattern: `ast` reads 4 MB/s here, and an environment holds hundreds of megabytes.
    """
    first = _MODULE_STRING.match(code)
    start = first.end() if first else 0
    for match in ([first] if first else []) + list(_BODY_STRING.finditer(code, start)):
        prefix, quote, body = match.groups()
        if not prefix and "\\" in body:
            try:
                body = ast.literal_eval(f"{quote}{body}{quote}")
            except (SyntaxError, ValueError):
                continue
        yield inspect.cleandoc(body)


def prose(text: str) -> str:
    """The sentences of a docstring: no doctests, no code blocks, no heading left alone."""
    kept: list[str] = []
    in_block = False
    for paragraph in re.split(r"\n[ \t]*\n", _FENCE.sub("", text)):
        is_indented = paragraph.startswith((" ", "\t"))
        in_block = in_block and is_indented
        has_doctest = re.search(r"^\s*(>>>|\.\.\. |In \[\d)", paragraph, re.MULTILINE)
        if not in_block and not has_doctest and paragraph.strip():
            kept.append(paragraph.rstrip())
        in_block = in_block or paragraph.rstrip().endswith("::") or ".. code" in paragraph
    joined = "\n\n".join(kept)
    while match := _DANGLING.search(joined):
        joined = joined[: match.start()]
    return joined


def is_prose(text: str) -> bool:
    """Whether most of the characters stand in ordinary lower-case words."""
    solid = sum(map(len, text.split()))
    return sum(map(len, _LOWER_WORD.findall(text))) >= MIN_PROSE_WORDS * solid
