"""Somebody's own numbers, from a CSV or JSON file, into the methods and back."""

import csv
import io
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mixture_assets.core.errors import MixtureError, quoted, shortlist
from mixture_assets.core.names import nearest
from mixture_assets.core.units import tokens_text
from mixture_assets.methods.autoscale import Rule, extrapolate
from mixture_assets.methods.ddo import ddo_from_table

Table = tuple[tuple[str, ...], list[list[str]]]  # header, rows
_MOST_BYTES = 1 << 26
_LEAST = 1e-18  # below it, and above its inverse, is a slip; squares of these still are doubles
_LONGEST_NAME = 200


def ddo_from_csv(path: Path, *, objective: str, floor: float) -> dict[str, Any]:
    """DDO's fits, optimum and weights from a CSV with columns domain, factor, objective.

    A row without a domain is a base run. Rows may repeat (seeds) and stand in any order.
    """
    rows: list[tuple[str | None, float | None, float]] = []
    for number, row in read_rows(path, ("domain", "factor", objective)):
        where = f"{path.name} line {number}"
        factor = _number(row["factor"].strip() or "1", where, "factor")
        value = _number(row[objective], where, objective)
        domain = row["domain"].strip()
        rows.append((_printable(domain, where) if domain else "", factor, value))
    return ddo_from_table(rows, floor=floor).to_json()


def extrapolate_from_json(
    path: Path, *, budget_tokens: float, rule: Rule, floor: float
) -> dict[str, Any]:
    """AutoScale's weights from a file {"small": {domain: tokens}, "large": {...}}."""
    value = read_json(path)
    scales = {}
    for key in ("small", "large"):
        table = value.get(key) if isinstance(value, dict) else None
        if not isinstance(table, dict) or not table:
            raise MixtureError(
                f"{path.name} lacks {key!r}",
                hint='it must hold {"small": {domain: tokens}, "large": {domain: tokens}}',
            )
        where = f"{path.name}: {key}"
        scales[key] = {_printable(n, where): _tokens(where, n, x) for n, x in table.items()}
    answer = extrapolate(
        scales["small"], scales["large"], budget_tokens=budget_tokens, rule=rule, floor=floor
    )
    return answer.to_json()


def ddo_table(answer: Mapping[str, Any]) -> Table:
    """Header and rows of what `ddo_from_csv` answers, largest weight first."""
    rows = []
    for name, weight in _largest_first(answer["weights"]):
        fit = answer["fits"][name]
        numbers = ["-" if fit[k] is None else f"{fit[k]:.4f}" for k in "abc"]
        rows.append([name, f"{answer['optimum'][name]:.4f}", f"{weight:.4f}", *numbers])
    return ("domain", "x base", "weight", "a", "b", "c"), rows


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
