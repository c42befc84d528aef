"""Somebody's own numbers, from a CSV or JSON file, into the methods and back."""

import csv
import io
import json
import math
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

from mixture_assets.core.errors import MixtureError, quoted, shortlist
from mixture_assets.core.names import nearest
from mixture_assets.core.units import tokens_text
from mixture_assets.methods.ddo import ddo_from_table
from mixture_assets.methods.extrapolate import Rule, extrapolate_scales
from mixture_assets.methods.joint import JointRow, joint_from_table

Fit = Literal["three_point", "joint"]
Table = tuple[tuple[str, ...], list[list[str]]]  # header, rows
_MOST_BYTES = 1 << 26
_LEAST = 1e-18  # below it, and above its inverse, is a slip; squares of these still are doubles
_LONGEST_NAME = 200


def ddo_from_csv(
    path: Path,
    *,
    objective: str,
    floor: float,
    fit: Fit = "three_point",
    read: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """DDO's fits, optimum and weights from a CSV with columns domain, factor, objective.

    A row without a domain is a base run. Rows may repeat (seeds, named in a column `seed` if there
    is one) and stand in any order.

    Args:
        path: The CSV.
        objective: Column with the number to lower; several with commas mean their mean.
        floor: Least multiple of the base amount.
        fit: 'three_point' is the paper's, one curve a domain through the objective; 'joint' fits
            every column with the additive law over all runs.
        read: What a cell of the column factor stands for: {"0.2": "1/3"} or {"reduced": "1/3"}.
    """
    columns = [name.strip() for name in objective.split(",")]
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice:
        raise MixtureError(f"the objective names {quoted(twice[0])} twice")
    factors = {text.strip(): _factor(given, text) for text, given in (read or {}).items()}
    rows: list[JointRow] = []
    used = set()
    for number, row in read_rows(path, ("domain", "factor", *columns)):
        where = f"{path.name} line {number}"
        domain, text = row["domain"].strip(), row["factor"].strip()
        used.add(text)
        factor = factors[text] if text in factors else _number(text or "1", where, "factor")
        values = {name: _number(row[name], where, name) for name in columns}
        seed = row.get("seed", "").strip()
        rows.append((_printable(domain, where) if domain else "", factor, values, seed))
    unused = sorted(factors.keys() - used)
    if unused:
        raise MixtureError(
            f"no row of {path.name} has a factor of {shortlist(unused)}",
            hint=f"its factors are {shortlist(sorted(used), 12)}",
        )
    if fit == "joint":
        return joint_from_table(rows, floor=floor).to_json()
    means = [(d, x, math.fsum(ys.values()) / len(ys), seed) for d, x, ys, seed in rows]
    return ddo_from_table(means, floor=floor).to_json()


def _factor(given: str, text: str) -> float:
    """A factor as people write one: 0.3333 or 1/3."""
    try:
        factor = float(Fraction(given.strip()))
    except (ValueError, ZeroDivisionError, OverflowError) as error:
        raise MixtureError(
            f"{quoted(text)} cannot be read as {quoted(given)}, not a factor",
            hint="for example 0.2=1/3 or reduced=0.3333",
        ) from error
    return factor


def extrapolate_from_json(
    path: Path, *, budget_tokens: float, rule: Rule, floor: float
) -> dict[str, Any]:
    """AutoScale's weights from a file {"small": {domain: tokens}, "large": {...}}.

    Or of any number of scales, in any order: {"scales": [{domain: tokens}, ...]}.
    """
    value = read_json(path)
    scales = [
        {_printable(n, where): _tokens(where, n, x) for n, x in table.items()}
        for where, table in _scales_of(value, path)
    ]
    answer = extrapolate_scales(scales, budget_tokens=budget_tokens, rule=rule, floor=floor)
    return answer.to_json()


def _scales_of(value: Any, path: Path) -> list[tuple[str, dict[str, Any]]]:
    """Each scale's table with its name for messages, smallest first if they are a list."""
    known = value if isinstance(value, dict) else {}
    found: dict[str, Any] = {key: known.get(key) for key in ("small", "large")}
    if "scales" in known:
        listed = known["scales"] if isinstance(known["scales"], list) else [None]
        found = {f"scale {number}": table for number, table in enumerate(listed, start=1)}
    for key, table in found.items():
        if not isinstance(table, dict) or not table:
            raise MixtureError(
                f"{path.name} lacks {key!r}",
                hint='it must hold {"small": {domain: tokens}, "large": {domain: tokens}}, or '
                '{"scales": [{domain: tokens}, ...]}',
            )
    scales = [(f"{path.name}: {key}", table) for key, table in found.items()]
    return sorted(scales, key=_size) if "scales" in known else scales


def _size(scale: tuple[str, dict[str, Any]]) -> float:
    where, table = scale
    return math.fsum(_tokens(where, n, x) for n, x in table.items())


def ddo_table(answer: Mapping[str, Any]) -> Table:
    """Header and rows of what `ddo_from_csv` answers, largest weight first."""
    shared = [
        [name, f"{answer['optimum'][name]:.4f}", f"{weight:.4f}"]
        for name, weight in _largest_first(answer["weights"])
    ]
    header = ("domain", "x base", "weight")
    if not answer["fits"].keys() >= answer["weights"].keys():  # joint: by metric
        return header, shared
    rows = []
    for row in shared:
        fit = answer["fits"][row[0]]
        rows.append([*row, *("-" if fit[k] is None else f"{fit[k]:.4f}" for k in "abc")])
    return (*header, "a", "b", "c"), rows


def extrapolate_table(answer: Mapping[str, Any]) -> Table:
    """Header and rows of what `extrapolate_from_json` answers, largest weight first."""
    rows = [
        [name, f"{weight:.4f}", tokens_text(answer["tokens"][name])]
        for name, weight in _largest_first(answer["weights"])
    ]
    return ("domain", "weight", "tokens"), rows


def _largest_first(weights: Mapping[str, float]) -> list[tuple[str, float]]:
    return sorted(weights.items(), key=lambda item: -item[1])


def _read_text(path: Path) -> str:
    """A file's text, if it is one that a person could have written."""
    try:
        with open(path, "rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise MixtureError(f"{path.name} cannot be read: {error.strerror}") from error
    if len(content) > _MOST_BYTES:
        raise MixtureError(f"{path.name} is larger than {_MOST_BYTES >> 20} MiB")
    return content.decode("utf-8-sig")


def read_json(path: Path) -> Any:
    """What somebody's JSON file holds, of which no key is there twice."""
    try:
        return json.loads(_read_text(path), object_pairs_hook=_object)
    except MixtureError:
        raise
    except (ValueError, RecursionError) as error:
        raise MixtureError(f"{path.name} is not JSON: {error}") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, of which no key is there twice: json itself would keep the last."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = [name for i, (name, _) in enumerate(pairs) if name in dict(pairs[:i])]
        raise ValueError(f"{quoted(twice[0])} is there twice")
    return found


def read_rows(path: Path, columns: tuple[str, ...]) -> list[tuple[int, dict[str, str]]]:
    """Rows of a CSV that has these columns once, each with the number of its last line.

    Without columns every name must be there once.
    """
    try:
        reader = csv.reader(io.StringIO(_read_text(path), newline=""), strict=True)
        table = [(reader.line_num, cells) for cells in reader if cells]
    except (UnicodeDecodeError, csv.Error) as error:
        raise MixtureError(f"{path.name} is not a CSV in UTF-8: {error}") from error
    header = table[0][1] if table else []
    for column in columns:
        if header.count(column) != 1:
            what = "two columns" if column in header else "no column"
            close = "" if column in header else nearest(column, header)
            raise MixtureError(
                f"{path.name} has {what} {column!r}{close}",
                hint=f"its columns are {shortlist(header, 12)}",
            )
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice and not columns:
        raise MixtureError(f"{path.name} has two columns {quoted(twice[0])}")
    if not table[1:]:
        raise MixtureError(f"{path.name} has no rows")
    for number, cells in table[1:]:
        if len(cells) != len(header):
            raise MixtureError(
                f"{path.name} line {number}: {len(cells)} cells under {len(header)} columns",
                hint="a decimal comma, or a comma in a name, needs quotes or another form",
            )
    return [(number, dict(zip(header, cells, strict=True))) for number, cells in table[1:]]


def _number(text: str, where: str, column: str) -> float:
    try:
        value = float(text)
    except ValueError as error:
        raise MixtureError(f"{where}: {column} is {quoted(text)}, not a number") from error
    if not math.isfinite(value):
        raise MixtureError(
            f"{where}: {column} is {value}", hint="leave out runs that crashed or diverged"
        )
    if value and not _LEAST < abs(value) < 1 / _LEAST:
        raise MixtureError(f"{where}: {column} is {value:g}, which is no amount of anything")
    return value


def _tokens(where: str, domain: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise MixtureError(f"{where} {quoted(domain)} is {quoted(value)}, not a token count")
    if value and not _LEAST < abs(value) < 1 / _LEAST:
        raise MixtureError(f"{where} {quoted(domain)} is no token count that there can be")
    return float(value)


def _printable(name: str, where: str) -> str:
    """A domain's name, if a table can show it on one line."""
    if not name.isprintable() or not 0 < len(name) <= _LONGEST_NAME:
        raise MixtureError(
            f"{where}: {quoted(name)} is not a name of a domain",
            hint=f"at most {_LONGEST_NAME} characters that can be printed",
        )
    return name
