"""Somebody's own numbers, from a CSV or JSON file, into the methods and back."""

import csv
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mixture_assets.core.errors import MixtureError, shortlist
from mixture_assets.core.names import nearest
from mixture_assets.core.units import tokens_text
from mixture_assets.methods.autoscale import Rule, extrapolate
from mixture_assets.methods.ddo import ddo_from_table

Table = tuple[tuple[str, ...], list[list[str]]]  # header, rows


def ddo_from_csv(path: Path, *, objective: str, floor: float) -> dict[str, Any]:
    """DDO's fits, optimum and weights from a CSV with columns domain, factor, objective.

    A row without a domain is a base run. Rows may repeat (seeds) and stand in any order.
    """
    rows: list[tuple[str | None, float | None, float]] = []
    for number, row in _read_rows(path, ("domain", "factor", objective)):
        factor = _number(row["factor"] or "1", path, number, "factor")
        value = _number(row[objective], path, number, objective)
        rows.append(((row["domain"] or "").strip(), factor, value))
    return ddo_from_table(rows, floor=floor).to_json()


def extrapolate_from_json(
    path: Path, *, budget_tokens: float, rule: Rule, floor: float
) -> dict[str, Any]:
    """AutoScale's weights from a file {"small": {domain: tokens}, "large": {...}}."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise MixtureError(f"{path.name} is not JSON: {error}") from error
    scales = {}
    for key in ("small", "large"):
        table = value.get(key) if isinstance(value, dict) else None
        if not isinstance(table, dict) or not table:
            raise MixtureError(
                f"{path.name} lacks {key!r}",
                hint='it must hold {"small": {domain: tokens}, "large": {domain: tokens}}',
            )
        scales[key] = {name: _tokens(path, key, name, x) for name, x in table.items()}
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


def _read_rows(path: Path, columns: tuple[str, ...]) -> list[tuple[int, dict[str, str]]]:
    """Numbered rows of a CSV that has these columns."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows = list(enumerate(reader, start=2))
            known = list(reader.fieldnames or ())
    except (UnicodeDecodeError, csv.Error) as error:
        raise MixtureError(f"{path.name} is not a CSV in UTF-8: {error}") from error
    missing = [c for c in columns if c not in known]
    if missing:
        raise MixtureError(
            f"{path.name} has no column {missing[0]!r}{nearest(missing[0], known)}",
            hint=f"its columns are {shortlist(known, 12)}",
        )
    if not rows:
        raise MixtureError(f"{path.name} has no rows")
    return rows


def _number(text: str | None, path: Path, row: int, column: str) -> float:
    try:
        value = float(text or "")
    except ValueError as error:
        raise MixtureError(f"{path.name} line {row}: {column} is {text!r}, not a number") from error
    if not math.isfinite(value):
        raise MixtureError(
            f"{path.name} line {row}: {column} is {value}",
            hint="leave out runs that crashed or diverged",
        )
    return value


def _tokens(path: Path, scale: str, domain: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise MixtureError(f"{path.name}: {scale} {domain!r} is {value!r}, not a token count")
    return float(value)
