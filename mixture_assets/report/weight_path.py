"""How a run that steers itself moved its weights: figure data, and the figure.

A domain has the same colour in every run over the same domains.

Units: tokens trained on; weights are shares of training tokens; an alignment is the inner
product of clipped gradients.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from mixture_assets.core.units import tokens_text
from mixture_assets.report.style import (
    DASHES,
    MUTED,
    PALETTE,
    label_ends,
    new_figure,
    shortened,
)

_MOST_LINES = 10  # more cannot be told apart: the rest is one line
_PARTS = 10  # of the updates: a line is the mean over one of them
REST = "all others"


@dataclass(frozen=True)
class PathLine:
    """One domain: weights from a token of training on, and the alignments behind them."""

    domain: str
    weights: tuple[tuple[float, float], ...]  # (tokens, weight)
    alignments: tuple[tuple[float, float, float], ...]  # (tokens, alignment, standard error)


@dataclass(frozen=True)
class WeightPath:
    """The weights of one run, the largest at the end first."""

    title: str
    lines: tuple[PathLine, ...]
    until_tokens: float
    domains: tuple[str, ...]  # all of the run, sorted


def weight_path(rows: Sequence[Mapping[str, Any]], title: str, *, budget_tokens: int) -> WeightPath:
    """Lines of the domains with the largest weights at any time, and one for the others.

    Args:
        rows: With tokens, domain, weight, and alignment and alignment_se where measured.
        title: Of the figure.
        budget_tokens: Length of the run: where the last weights end.
    """
    by_domain: dict[str, list[Mapping[str, Any]]] = {}
    for row in sorted(rows, key=lambda r: (r["tokens"], r["domain"])):
        by_domain.setdefault(row["domain"], []).append(row)
    order = sorted(by_domain, key=lambda d: (-max(r["weight"] for r in by_domain[d]), d))
    own = order if len(order) <= _MOST_LINES else order[: _MOST_LINES - 1]
    lines = [_line(d, by_domain[d], budget_tokens) for d in own]
    lines.sort(key=lambda line: (-line.weights[-1][1], line.domain))
    if rest := order[len(own) :]:
        sums: dict[float, float] = {}
        for row in (r for d in rest for r in by_domain[d]):
            sums[row["tokens"]] = sums.get(row["tokens"], 0.0) + row["weight"]
        points = [*sorted(sums.items()), (budget_tokens, sums[max(sums)])]
        lines.append(PathLine(f"{REST} ({len(rest)})", tuple(points), ()))
    return WeightPath(title, tuple(lines), budget_tokens, tuple(sorted(by_domain)))


def _line(domain: str, rows: Sequence[Mapping[str, Any]], budget_tokens: int) -> PathLine:
    points = [(r["tokens"], r["weight"]) for r in rows]
    measured = [
        (r["tokens"], r["alignment"], r.get("alignment_se") or 0.0)
        for r in rows
        if r.get("alignment") is not None
    ]
    return PathLine(domain, (*points, (budget_tokens, points[-1][1])), tuple(measured))


def draw_weight_path(data: WeightPath) -> Figure:
    """Steps of the weights above; below, alignments with standard errors, and moving means."""
    has_alignments = any(line.alignments for line in data.lines)
    figure = new_figure(5.4 if has_alignments else 3.6)
    axes = figure.subplots(1 + has_alignments, 1, sharex=True, squeeze=False)[:, 0]
    colours, styles = [], []
    for line in data.lines:
        i = data.domains.index(line.domain) if line.domain in data.domains else 0
        colour = PALETTE[i % len(PALETTE)] if line.domain in data.domains else MUTED
        dashes = DASHES[i // len(PALETTE) % len(DASHES)]
        xs, ys = zip(*line.weights, strict=True)
        axes[0].step(xs, ys, where="post", color=colour, ls=dashes, lw=1.6)
        colours.append(colour)
        styles.append(dashes)
        if line.alignments:
            xs, ys, errors = zip(*line.alignments, strict=True)
            axes[1].errorbar(xs, ys, errors, fmt=".", color=colour, ms=3, elinewidth=0.5, alpha=0.3)
            axes[1].plot(*_smoothed(xs, ys), color=colour, ls=dashes, lw=1.4)
    axes[0].set_title(data.title, loc="left")
    axes[0].set_ylabel("share of training tokens")
    axes[0].set_ylim(bottom=0)
    axes[0].yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:.0%}"))
    if has_alignments:
        axes[1].axhline(0, color=MUTED, lw=0.8)
        axes[1].set_ylabel("alignment ± s.e.; lines: moving mean")
    axes[-1].set_xlabel("training tokens")
    axes[-1].set_xlim(0, data.until_tokens)
    axes[-1].xaxis.set_major_formatter(FuncFormatter(lambda v, _: tokens_text(v)))
    labels = [shortened(line.domain, 18) for line in data.lines]
    ends = [line.weights[-1][1] for line in data.lines]
    label_ends(axes[0], labels, ends, colours, line_height=0.075, styles=styles)
    return figure


def _smoothed(xs: Sequence[float], ys: Sequence[float]) -> tuple[list[float], list[float]]:
    """Means of a tenth of the points each, one after the other, in the middle of them."""
    n = max(1, round(len(xs) / _PARTS))
    starts = range(len(xs) - n + 1)
    return [sum(xs[i : i + n]) / n for i in starts], [sum(ys[i : i + n]) / n for i in starts]
