"""What a sweep of selections says: verdicts, tables and figures, beside the report."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from mixture_assets.core.errors import MixtureError
from mixture_assets.core.units import flops_text, seconds_text
from mixture_assets.report.images import png
from mixture_assets.report.markdown import markdown_table
from mixture_assets.report.selection_figures import (
    OverlapFigure,
    UtilityFigure,
    UtilityLine,
    UtilityPanel,
    UtilityPoint,
)
from mixture_assets.running import result_of
from mixture_assets.selection.costs import forward_flops
from mixture_assets.selection.curve_draws import Parameter, UtilityFit
from mixture_assets.selection.points import Point, cells, fits_of_utility
from mixture_assets.selection.scores import ScoreSet
from mixture_assets.selection.verdict import Verdict, verdict
from mixture_assets.selection_points import overlap
from mixture_assets.selection_runs import Sweep
from mixture_assets.selection_table import (
    break_even_rows,
    break_even_table,
    frontier_rows,
    frontier_table,
)
from mixture_assets.store.files import atomic_write_bytes, atomic_write_text

Table = tuple[Sequence[str], list[list[str]]]
UNIT = "performance: minus the loss on judging documents (nats)"
_CURVE_POINTS = 60
_PARAMETERS: tuple[Parameter, ...] = ("rate", "zero", "ceiling")


def curves(
    points: Mapping[str, Sequence[Point]], *, say: Callable[[str], None] = lambda line: None
) -> dict[str, dict[str, UtilityFit]]:
    """Model -> method -> curve, where there are shares enough; told of each that has none."""

    def refuse(method: str, error: MixtureError) -> None:
        say(f"no curve: {error}")

    return {model: fits_of_utility(own, refuse=refuse) for model, own in points.items()}


def verdict_lines(sweep: Sweep) -> list[str]:
    """A sentence for each model, when every run is done."""
    known = {v.model: v.sentence for v in verdicts(sweep)}
    share = sweep.scored.selection.spec.budget_share
    without = (
        f"no verdict: within {share:g} trainings on the whole pool there are no random documents, "
        "or nothing beside them"
    )
    models = sorted(sweep.points) if sweep.is_done else []
    return [known.get(model, f"{model}: {without}") for model in models]


def verdicts(sweep: Sweep) -> list[Verdict]:
    """One for each model, when every run is done; a pilot has forecasts instead."""
    if not sweep.is_done:
        return []
    budget = sweep.scored.selection.spec.budget_share
    every = (verdict(model, own, budget) for model, own in sorted(sweep.points.items()))
    return [found for found in every if found is not None]


def point_table(points: Sequence[Point]) -> Table:
    """Means over seeds, cheapest first."""
    rows = []
    for cell in cells(points):
        p = cell.point
        half = "" if cell.half is None else f" ± {cell.half:.3f}"
        rows.append(
            [
                p.method,
                f"{100 * (p.share or 0):g} %",
                flops_text(p.selection_flops or 0.0),
                flops_text(p.total_flops),
                f"{p.cost:.3f}",
                f"{-p.performance:.3f}{half}",
                str(cell.n_seeds),
            ]
        )
    header = ("method", "share", "selection", "in all", "of full", "judged loss (nats)", "seeds")
    return header, rows


def subset_table(sweep: Sweep) -> Table:
    """What each method chose at each share, with its first seed."""
    rows, seen = [], set()
    for cell in sweep.cells:
        if (cell.method, cell.share) not in seen:
            seen.add((cell.method, cell.share))
            (tokens,) = cell.run.spec.token_sets.values()
            n = f"{len(cell.documents):,}"
            size = f"{cell.run.spec.budget_tokens:,}"
            rows.append([cell.method, f"{100 * cell.share:g} %", n, size, tokens])
    return ("method", "share", "documents", "tokens trained on", "token set"), rows


def fit_rows(fits: Mapping[str, UtilityFit]) -> Table:
    """Medians with intervals, fastest first, and where a curve is not what the points follow."""
    rows = []
    for method, fit in sorted(fits.items(), key=lambda item: -item[1].curve.rate):
        values = [_with_interval(fit, name) for name in _PARAMETERS]
        rows.append([method, *values, "; ".join(fit.notes)])
    return ("method", "rate", "at no training", "ceiling", "notes"), rows


def _with_interval(fit: UtilityFit, name: Parameter) -> str:
    low, high = fit.interval(name)
    return f"{fit.median(name):.3g} ({low:.3g} .. {high:.3g})"


def utility_figure(sweep: Sweep, fits: Mapping[str, Mapping[str, UtilityFit]]) -> UtilityFigure:
    """Points, curves and frontier of every model."""
    panels = []
    for model, own in sorted(sweep.points.items()):
        frontier = {(r["method"], round(r["total_flops"])) for r in frontier_rows(own)}
        lines = []
        for method in sorted({p.method for p in own}):
            marks = [
                UtilityPoint(
                    flops=c.point.total_flops,
                    performance=c.point.performance,
                    half=c.half or 0.0,
                    share=c.point.share or 0.0,
                    is_frontier=(method, round(c.point.total_flops)) in frontier,
                )
                for c in cells(own)
                if c.point.method == method
            ]
            lines.append(
                UtilityLine(method, tuple(marks), _curve(fits.get(model, {}), method, own))
            )
        n_params = own[0].train_params or 0.0
        title = f"{model}: {n_params / 1e6:.3g} M parameters"
        panels.append(UtilityPanel(title, tuple(lines), sweep.untrained.get(model)))
    return UtilityFigure(tuple(panels), "minus judged loss (nats); bars: 90 %")


def _curve(
    fits: Mapping[str, UtilityFit], method: str, own: Sequence[Point]
) -> tuple[tuple[float, float], ...]:
    if method not in fits:
        return ()
    costs = [p.cost for p in own if p.method == method]
    full = own[0].full_flops
    grid = np.geomspace(min(costs), max(costs), _CURVE_POINTS)
    return tuple((float(c) * full, fits[method].curve.value(float(c))) for c in grid)


def overlap_figure(sweep: Sweep) -> OverlapFigure:
    """What methods chose alike, at up to three shares below the whole pool."""
    methods = sweep.scored.selection.spec.methods
    shares = [s for s in sweep.scored.selection.spec.shares if s < 1]
    picked = shares if len(shares) <= 3 else [shares[0], shares[len(shares) // 2], shares[-1]]
    panels = [(s, tuple(tuple(row) for row in overlap(sweep.cells, s, methods))) for s in picked]
    return OverlapFigure(tuple(methods), tuple(panels))


def write_page(sweep: Sweep, notes: Sequence[str] = ()) -> Path:
    """Markdown, figures and points.csv in the folder of the experiment's report.

    Args:
        sweep: Its finished runs count.
        notes: Further sentences, as about a prediction.
    """
    workspace = sweep.scored.selection.workspace
    folder = workspace.store / "reports" / workspace.experiment.name
    points = sweep.points
    fits = curves(points)
    atomic_write_bytes(folder / "selection.png", png(utility_figure(sweep, fits)))
    atomic_write_bytes(folder / "selection_overlap.png", png(overlap_figure(sweep)))
    atomic_write_text(folder / "selection_points.csv", points_csv(points))
    path = folder / "selection.md"
    atomic_write_text(path, _markdown(sweep, fits, notes))
    return path


def points_csv(points: Mapping[str, Sequence[Point]]) -> str:
    """All points, one a row, as `mixture select fit` reads them."""
    out = io.StringIO()
    rows = [asdict(p) for _, own in sorted(points.items()) for p in own]
    if rows:
        writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return out.getvalue()


def _markdown(
    sweep: Sweep, fits: Mapping[str, Mapping[str, UtilityFit]], notes: Sequence[str]
) -> str:
    pool = sweep.scored.selection.pool
    lines = [
        f"# {sweep.scored.selection.workspace.experiment.name}: what selecting documents is worth",
        "",
        f"A pool of {pool.n_documents:,} documents and {pool.n_tokens:,} tokens; left out: "
        f"{pool.n_leaked:,} documents of the specialist set, {pool.n_held_out:,} held out for "
        f"validation, {pool.n_repeated:,} repeats, {pool.n_beyond:,} beyond pool_tokens.",
        "",
        *(f"- **{line}**" for line in verdict_lines(sweep)),
        *(f"- {note}" for note in notes),
        "",
        "A choice is a method at a share. Losses are on documents that judge, and ± is half of a "
        "90 % interval over seeds. *In all* is selection and training; a selector without matrix "
        "products is charged its seconds at this machine's rate of training. The pilot's sure "
        "choice is the best that it can tell from random documents, its favourite the best that "
        "it expects.",
        "",
        "![Performance against all compute](selection.png)",
        "",
        "![What methods choose alike](selection_overlap.png)",
    ]
    for model, own in sorted(sweep.points.items()):
        lines += ["", f"## {model}", "", *_section(own, fits.get(model, {}))]
    lines += ["", "## Cost of selection", "", *markdown_table(*_score_table(sweep)), ""]
    return "\n".join(lines)


def _section(own: Sequence[Point], fits: Mapping[str, UtilityFit]) -> list[str]:
    lines = ["Means over seeds, with 90 % intervals:", "", *markdown_table(*point_table(own))]
    rows = frontier_rows(own)
    lines += ["", "On the frontier, and how often noise leaves it there:", ""]
    lines += markdown_table(*frontier_table(rows))
    if fits:
        lines += ["", "Curves through the points, all parameters free, 90 % intervals:", ""]
        lines += markdown_table(*fit_rows(fits))
        lines += ["", "Budgets, and ratios of trained to scoring parameters, that pay:", ""]
        lines += markdown_table(*break_even_table(break_even_rows(own)))
    return lines


def _score_table(sweep: Sweep) -> Table:
    rows = []
    seen = set()
    for (method, _), scores in sorted(sweep.scored.sets.items()):
        if method in seen:  # random: one for each seed
            continue
        seen.add(method)
        rows.append(
            [
                method,
                f"{scores.n_documents:,}",
                flops_text(scores.flops),
                seconds_text(scores.seconds),
                f"{scores.n_nan:,}",
                _passes(sweep, scores),
            ]
        )
    for run in sweep.scored.runs.planned:
        result = result_of(sweep.scored.selection.workspace, run)
        if result is not None:
            flops, seconds = flops_text(result["flops_train"]), seconds_text(result["seconds"])
            rows.append([f"training of {run.label}", "", flops, seconds, "", ""])
    header = ("method", "documents", "FLOPs", "time", "without a score", "forward passes")
    return header, rows


def _passes(sweep: Sweep, scores: ScoreSet) -> str:
    """FLOPs of scoring in forward passes of the model over the pool, as counted; '' for none."""
    sizes = {p.selector_params for own in sweep.points.values() for p in own} - {None}
    if not scores.flops or not sizes:
        return ""
    per_pass = forward_flops(max(n for n in sizes if n is not None), scores.n_tokens)
    return f"{scores.flops / per_pass:.2f}"
