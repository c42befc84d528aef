"""Tables of somebody's own runs, as spreadsheets and scripts write them."""

import csv
import io
import json
import math
from typing import Any

from hypothesis import strategies as st

_DOMAINS = [
    "a",
    "b",
    "wiki",
    "",
    " ",
    "a b",
    "ä",
    "\U0001f600",
    "x" * 200,
    "a\nb",
    'q"q',
    "\x1b[0m",
]
_ODD_CELLS = [
    "",
    " ",
    "nan",
    "inf",
    "-inf",
    "1e308",
    "1e-308",
    "5e-324",
    "1e999",
    "0",
    "-1",
    "1,5",
    "1_000",
    "0x10",
    "true",
    "None",
    "\u0661",
    "9" * 400,
    "x" * 140_000,
    "\0",
    "=1+1",
    "1e150",
    "1e-150",
]
_NUMBERS = st.one_of(
    st.floats(0.1, 40).map(lambda x: f"{x:.4g}"),
    st.floats().map(repr),
    st.sampled_from(_ODD_CELLS),
)
_FACTORS = st.sampled_from(["0.2", "3", "1", "0.5", "2", "0.2", "3"])


@st.composite
def _rows(draw: Any) -> list[list[str]]:
    """A good design for two or three domains, in which some cells are changed."""
    names = draw(st.lists(st.sampled_from(_DOMAINS[:3]), min_size=1, max_size=3, unique=True))
    base = draw(st.floats(0.5, 50))
    design = [("", "1", 1.0), *((n, f, y) for n in names for f, y in (("0.2", 1.2), ("3", 0.9)))]
    rows = [[name, factor, f"{base * y:.6g}"] for name, factor, y in design]
    for _ in range(draw(st.sampled_from([0, 0, 1, 1, 2, 5]))):
        row = draw(st.sampled_from(rows))
        column = draw(st.integers(0, len(row) - 1)) if row else 0
        change = draw(
            st.sampled_from(["number", "number", "name", "factor", "drop", "extra", "add"])
        )
        if change == "number" and row:
            row[column] = draw(_NUMBERS)
        elif change == "name" and row:
            row[0] = draw(st.sampled_from(_DOMAINS))
        elif change == "factor" and len(row) > 1:
            row[1] = draw(_FACTORS)
        elif change == "drop" and row:
            row.pop()
        elif change == "extra":
            row.append(draw(_NUMBERS))
        else:
            rows.append([draw(st.sampled_from(_DOMAINS)), draw(_FACTORS), draw(_NUMBERS)])
    return rows


@st.composite
def csv_files(draw: Any) -> bytes:
    """The bytes of a CSV for `mixture ddo --objective loss`."""
    header = draw(
        st.sampled_from(
            [["domain", "factor", "loss"]] * 12
            + [
                ["domain", "factor", "loss", "loss"],
                ["domain", "factor", "los"],
                ["Domain", "factor", "loss"],
                ["domain", "factor"],
                [],
                ["domain", "domain", "factor", "loss"],
                ["loss", "factor", "domain"],
                ["domain", "factor", "loss", ""],
                ["domain ", "factor", "loss"],
            ]
        )
    )
    table = [header, *draw(_rows())]
    if draw(st.integers(0, 9)) == 0:
        table.insert(draw(st.integers(0, len(table))), header)
    dialect = draw(st.sampled_from([{}] * 6 + [{"delimiter": ";"}, {"quoting": csv.QUOTE_ALL}]))
    csv.writer(text := io.StringIO(), **dialect).writerows(table)
    return draw(_torn(text.getvalue()))


@st.composite
def _torn(draw: Any, text: str) -> bytes:
    how = draw(
        st.sampled_from(["none"] * 10 + ["cut", "flip", "latin1", "utf16", "bom", "quote", "cr"])
    )
    content = text.encode()
    at = draw(st.integers(0, max(0, len(content) - 1)))
    if how == "cut":
        return content[:at]
    if how == "flip":
        return content[:at] + draw(st.binary(min_size=1, max_size=2)) + content[at + 1 :]
    if how == "quote":
        return content[:at] + b'"' + content[at:]
    if how == "cr":
        return content.replace(b"\r\n", b"\r")
    if how == "bom":
        return b"\xef\xbb\xbf" + content
    if how in ("latin1", "utf16"):
        return text.encode(how.replace("utf16", "utf-16"), "replace")
    return content


_TOKENS = st.one_of(
    st.floats(1, 1e12),
    st.integers(0, 10**12),
    st.sampled_from(
        [0, -1, 1, 1e308, 1e-308, 5e-324, 10**400, math.nan, math.inf, True, None, "1"]
    ),
    st.sampled_from([[], {}, [1], 1.0, 1.0000000000000002, 2**53, 2**53 + 1]),
)
_KEYS = st.sampled_from(["a", "b", "c", "", "\ud83d", "a\nb", "\x1b[0m", "x" * 5000])
_SCALES = st.dictionaries(_KEYS, _TOKENS, max_size=3)


@st.composite
def _optima(draw: Any) -> Any:
    kind = draw(st.integers(0, 9))
    if kind == 0:
        return draw(st.sampled_from([[], 1, None, "x", {}, {"small": []}, {"small": {"a": 1}}]))
    if kind <= 2:
        return {"small": draw(_SCALES), "large": draw(_SCALES)}
    names = draw(st.lists(st.sampled_from("abcd"), min_size=1, max_size=4, unique=True))
    if draw(st.integers(0, 5)) == 0:
        names.append(draw(_KEYS))
    small = {n: draw(st.floats(1, 1e9)) for n in names}
    large = {n: x * draw(st.floats(0.1, 10)) for n, x in small.items()}
    for _ in range(draw(st.sampled_from([0, 0, 1, 1, 2]))):
        draw(st.sampled_from([small, large]))[draw(st.sampled_from(names))] = draw(_TOKENS)
    return {"small": small, "large": large}


@st.composite
def json_files(draw: Any) -> bytes:
    """The bytes of a JSON file for `mixture extrapolate`."""
    how = draw(st.integers(0, 19))
    if how == 0:
        return b"[" * draw(st.sampled_from([10, 100_000]))
    if how == 1:
        return b'{"small": {"a": ' + b"9" * 5000 + b'}, "large": {"a": 1}}'
    if how == 2:
        return b'{"small": {"a": 1, "a": 2}, "large": {"a": 4}}'
    return draw(
        _torn(
            json.dumps(draw(_optima()), ensure_ascii=draw(st.booleans()))
            .encode("utf-8", "replace")
            .decode()
        )
    )


BUDGETS = st.one_of(
    st.floats(1e8, 1e11),
    st.floats(1e8, 1e11),
    st.sampled_from([0, -1, 1, 1e-300, 1e17, 1e300, 1.7e308, math.nan, math.inf]),
)
FLOORS = st.one_of(
    st.just(0.2),
    st.just(0.2),
    st.floats(0, 0.99),
    st.sampled_from([0.0, 1 - 1e-16, 1.0, -1.0, math.nan, math.inf]),
)
