"""Points of data selection from somebody's table, into curves and a frontier, and back."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mixture_assets.core.errors import MixtureError, quoted, shortlist
from mixture_assets.core.names import nearest
from mixture_assets.core.units import flops_text
from mixture_assets.run_tables import Cells, read_table
from mixture_assets.selection.frontier import frontier_chances, non_dominated
from mixture_assets.selection.pairs import RATIO_BUDGET, break_even_pairs
from mixture_assets.selection.points import (
    Cell,
    Point,
    by_method,
    cells,
    fits_as_published,
    fits_of_utility,
)
from mixture_assets.tables import Table

_NEEDED = ("method", "total_flops", "full_flops", "performance")
_POSITIVE = ("total_flops", "full_flops", "share", "train_params", "noise_sd")
_NOT_NEGATIVE = ("selector_params", "selection_flops")
_MOST_SHARE = 100.0  # passes over the pool; more is a share in per cent of something
_SAME = 1e-3
_LONGEST_NAME = 200
_RATIO_HEADER = ("least ratio", "90 % of it", "its chance")


def read_points(path: Path, *, train_params: float | None = None) -> list[Point]:
    """Points of a CSV or parquet file.

    Args:
        path: Columns method, total_flops, full_flops, performance; if there are any, also share,
            ceiling, seed, train_params, selector_params, selection_flops, noise_sd. Others are
            passed over.
        train_params: Only points of models of this size.
    """
    rows = read_table(path)
    for column in _NEEDED:
        if column not in rows[0]:
            raise MixtureError(
                f"{path.name} has no column {column!r}{nearest(column, list(rows[0]))}",
                hint=f"its columns are {shortlist(rows[0], 12)}",
            )
    points = [_point(row, f"{path.name} row {i}") for i, row in enumerate(rows, start=1)]
    if train_params is None:
        return points
    sizes = sorted({p.train_params for p in points if p.train_params is not None})
    chosen = [
        p for p in points if p.train_params is not None and _same(p.train_params, train_params)
    ]
    if not chosen:
        known = ", ".join(f"{size:g}" for size in sizes) or "not known"
        raise MixtureError(
            f"{path.name} has no point with train_params {train_params:g}",
            hint=f"the sizes there are {known}",
        )
    return chosen


def published_fits(points: Sequence[Point]) -> dict[str, Any]:
    """{method: {"ceiling", "zero", "rate"}}, as the authors fitted theirs."""
    return {method: curve.to_json() for method, curve in fits_as_published(points).items()}


def free_fits(points: Sequence[Point]) -> dict[str, Any]:
    """{method: fit}: zero, ceiling and rate all free, with 90 % intervals and notes."""
    return {method: fit.to_json() for method, fit in fits_of_utility(points).items()}


def frontier_rows(points: Sequence[Point]) -> list[dict[str, Any]]:
    """The non-dominated points, cheapest first; means over seeds where there are several.

    With repeats each row says how often its point is on the frontier when all are moved by
    their noise: `chance`.
    """
    by_method(points)  # refuses models of several sizes: two frontiers are not one
    found = cells(points)
    cost = [c.point.total_flops for c in found]
    performance = [c.point.performance for c in found]
    errors = [c.standard_error for c in found]
    chances: Sequence[float | None] = [None] * len(found)
    if found and None not in errors:
        chances = frontier_chances(cost, performance, [e for e in errors if e is not None])
    return [_row(found[i], chances[i]) for i in non_dominated(cost, performance)]


def break_even_rows(
    points: Sequence[Point], *, budget: float = RATIO_BUDGET
) -> list[dict[str, Any]]:
    """Every dearer method beside every cheaper one, null where it never pays.

    Args:
        points: Of models of one size.
        budget: For the ratios, in multiples of training on the whole pool.
    """
    return [
        {name: _finite(value) for name, value in asdict(pair).items()}
        for pair in break_even_pairs(points, budget=budget)
    ]


def _finite(value: Any) -> Any:
    """JSON has no infinity."""
    if isinstance(value, tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def break_even_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Header and rows of what `break_even_rows` answers."""
    body = [
        [
            row["costly"],
            row["cheap"],
            _never(row["budget_flops"], flops_text),
            " to ".join(_never(value, flops_text) for value in row["budget_interval"]),
            f"{row['chance']:.2f}",
            *_ratio_cells(row),
        ]
        for row in rows
    ]
    header = ("method", "beside", "from", "90 %", "chance", *_RATIO_HEADER)
    return header, body


def _ratio_cells(row: Mapping[str, Any]) -> list[str]:
    if row["ratio_interval"] is None:
        return ["-"] * len(_RATIO_HEADER)
    ends = (_never(value, "{:.3g}".format) for value in row["ratio_interval"])
    chance = f"{row['ratio_chance']:.2f}"
    return [_never(row["ratio"], "{:.3g}".format), " to ".join(ends), chance]


def _never(value: float | None, text: Callable[[float], str]) -> str:
    return "never" if value is None else text(value)


def fit_table(answer: Mapping[str, Mapping[str, float]]) -> Table:
    """Header and rows of what `published_fits` answers, fastest first."""
    ordered = sorted(answer.items(), key=lambda item: -item[1]["rate"])
    rows = [[m, *(f"{fit[k]:.4f}" for k in ("zero", "ceiling", "rate"))] for m, fit in ordered]
    return ("method", "zero", "ceiling", "rate"), rows


def free_fit_table(answer: Mapping[str, Mapping[str, Any]]) -> Table:
    """Header and rows of what `free_fits` answers, fastest first."""
    ordered = sorted(answer.items(), key=lambda item: -item[1]["rate"])
    names = ("zero", "ceiling", "rate")
    rows = [[m, *(_with_interval(fit, n) for n in names)] for m, fit in ordered]
    return ("method", *names), rows


def _with_interval(fit: Mapping[str, Any], name: str) -> str:
    low, high = fit[f"{name}_interval"]
    return f"{fit[name]:.4g} ({low:.4g} to {high:.4g})"


def frontier_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Header and rows of what `frontier_rows` answers."""
    body = [
        [
            row["method"],
            "-" if row.get("share") is None else f"{100 * row['share']:.3g} %",
            flops_text(row["total_flops"]),
            f"{row['performance']:.4f}",
            "-" if row.get("standard_error") is None else f"{row['standard_error']:.4f}",
            "-" if row.get("chance") is None else f"{row['chance']:.2f}",
        ]
        for row in rows
    ]
    return ("method", "share", "in all", "performance", "standard error", "chance"), body


def _row(cell: Cell, chance: float | None) -> dict[str, Any]:
    p = cell.point
    optional = {
        "share": p.share,
        "train_params": p.train_params,
        "selector_params": p.selector_params,
        "selection_flops": p.selection_flops,
        "ceiling": p.ceiling,
        "standard_error": cell.standard_error,
        "chance": chance,
    }
    return {
        "method": p.method,
        "total_flops": p.total_flops,
        "full_flops": p.full_flops,
        "performance": p.performance,
        "n_seeds": cell.n_seeds,
        **{name: value for name, value in optional.items() if value is not None},
    }


def _point(row: Cells, where: str) -> Point:
    method = str(row["method"] if row["method"] is not None else "").strip()
    if not method.isprintable() or not 0 < len(method) <= _LONGEST_NAME:
        raise MixtureError(f"{where}: {quoted(method)} is not a name of a method")

    def known(name: str) -> float | None:
        return _number(row, name, where)

    def needed(name: str) -> float:
        value = known(name)
        if value is None:
            raise MixtureError(
                f"{where} ({method}) has no {name}", hint="leave runs without a result out"
            )
        return value

    share = known("share")
    if share is not None and share > _MOST_SHARE:
        raise MixtureError(
            f"{where} ({method}): the share is {share:g}", hint="0.25 is a quarter of the pool"
        )
    seed = row.get("seed")
    return Point(
        method=method,
        total_flops=needed("total_flops"),
        full_flops=needed("full_flops"),
        performance=needed("performance"),
        share=share,
        ceiling=known("ceiling"),
        seed="" if seed is None else str(seed).strip(),
        train_params=known("train_params"),
        selector_params=known("selector_params") or None,
        selection_flops=known("selection_flops"),
        noise_sd=known("noise_sd"),
    )


def _number(row: Cells, name: str, where: str) -> float | None:
    cell = row.get(name)
    if cell is None or str(cell).strip() == "":
        return None
    try:
        value = float(str(cell))
    except ValueError as error:
        raise MixtureError(f"{where}: {name} is {quoted(cell)}, not a number") from error
    is_too_low = (name in _POSITIVE and value <= 0) or (name in _NOT_NEGATIVE and value < 0)
    if not math.isfinite(value) or is_too_low:
        raise MixtureError(
            f"{where}: {name} is {value:g}", hint="leave runs that crashed or diverged out"
        )
    return value


def _same(a: float, b: float) -> bool:
    return abs(a - b) <= _SAME * max(a, b)
