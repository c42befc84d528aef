"""What selection is worth: performance against all compute, and what methods have in common.

Source: figures 2, 3 and 6 of J. O. Yin, A. M. Rush, "Compute-Constrained Data Selection", ICLR
    2025, arXiv:2410.16208, from one's own runs.

Units: FLOPs of selection and training together; performance in any unit in which more is better.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from mixture_assets.core.units import flops_text
from mixture_assets.report.style import (
    DASHES,
    INK,
    MARKERS,
    MUTED,
    PALETTE,
    PAPER,
    add_legend,
    new_figure,
)

_SHARED = LinearSegmentedColormap.from_list("shared", [PAPER, PALETTE[0]])


@dataclass(frozen=True)
class UtilityPoint:
    """One share of the pool, the mean over seeds."""

    flops: float  # selection and training
    performance: float
    half: float  # of its 90 % interval; 0: one seed
    share: float  # of the pool's tokens
    is_frontier: bool  # nothing cheaper is as good


@dataclass(frozen=True)
class UtilityLine:
    """One method: its points, cheapest first, and the curve fitted through them."""

    method: str
    points: tuple[UtilityPoint, ...]
    curve: tuple[tuple[float, float], ...]  # (FLOPs, performance)


@dataclass(frozen=True)
class UtilityPanel:
    """One size of model."""

    title: str
    lines: tuple[UtilityLine, ...]
    untrained: float | None  # performance before any of the pool is trained on


@dataclass(frozen=True)
class UtilityFigure:
    """Performance against all compute, a panel for each size."""

    panels: tuple[UtilityPanel, ...]
    unit: str  # of performance


@dataclass(frozen=True)
class OverlapFigure:
    """Shares of a row's documents that a column's method chose too, a panel for each share."""

    methods: tuple[str, ...]
    panels: tuple[tuple[float, tuple[tuple[float, ...], ...]], ...]  # (share, matrix of shares)


def draw_utility(data: UtilityFigure) -> Figure:
    """Points with intervals, curves through them, frontier points filled."""
    figure = new_figure(3.6)
    axes = figure.subplots(1, len(data.panels), squeeze=False)[0]
    methods = sorted({line.method for panel in data.panels for line in panel.lines})
    for ax, panel in zip(axes, data.panels, strict=True):
        for line in panel.lines:
            _plot_method(ax, line, methods.index(line.method))
        if panel.untrained is not None:
            ax.axhline(panel.untrained, color=MUTED, lw=0.8, ls=DASHES[2])
            at = ax.get_yaxis_transform()
            words = {"ha": "left", "va": "bottom", "size": 6.5, "color": MUTED}
            ax.text(0.01, panel.untrained, "not trained on the pool", transform=at, **words)
        ax.set_title(panel.title)
        _flops_axis(ax, [p.flops for line in panel.lines for p in line.points if p.flops > 0])
        ax.yaxis.set_major_locator(MaxNLocator(6))
    axes[0].set_ylabel(data.unit)
    keys = [
        Line2D([], [], color=_colour(i), marker=MARKERS[i % len(MARKERS)], ms=4.5, label=name)
        for i, name in enumerate(methods)
    ]
    keys.append(Line2D([], [], color=INK, marker="o", ms=5, ls="", label="filled: on the frontier"))
    add_legend(figure, keys)
    return figure


def draw_overlap(data: OverlapFigure) -> Figure:
    """Heat maps with their numbers."""
    n = len(data.methods)
    figure = new_figure(0.36 * n + 1.1)
    axes = figure.subplots(1, len(data.panels), squeeze=False)[0]
    for ax, (share, matrix) in zip(axes, data.panels, strict=True):
        ax.imshow(matrix, cmap=_SHARED, vmin=0, vmax=1)
        for i in range(n):
            for j in range(n):
                colour = PAPER if matrix[i][j] > 0.6 else INK
                ax.text(j, i, f"{matrix[i][j]:.0%}", ha="center", va="center", color=colour, size=7)
        ax.set_xticks(range(n), data.methods, rotation=40, ha="right")
        ax.set_yticks(range(n), data.methods if ax is axes[0] else [""] * n)
        ax.set_title(f"{100 * share:g} % of the pool")
        ax.set_xlabel("chose them too")
        ax.grid(visible=False)
    axes[0].set_ylabel("documents of")
    return figure


def _plot_method(ax: Axes, line: UtilityLine, place: int) -> None:
    colour, marker = _colour(place), MARKERS[place % len(MARKERS)]
    if line.curve:
        ax.plot(*zip(*line.curve, strict=True), color=colour, lw=1.2, alpha=0.8)
    for point in line.points:
        if point.flops > 0:
            ax.errorbar(
                point.flops,
                point.performance,
                point.half,
                fmt=marker,
                ms=4.5,
                color=colour,
                mfc=colour if point.is_frontier else PAPER,
                elinewidth=0.7,
            )


def _flops_axis(ax: Axes, flops: Sequence[float]) -> None:
    ax.set_xscale("log")
    if flops:
        ax.set_xlim(min(flops) / 1.2, max(flops) * 1.2)
    wide = bool(flops) and max(flops) / min(flops) > 50
    ax.xaxis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 3.0)))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: flops_text(v)))
    ax.set_xlabel("selection and training")


def _colour(place: int) -> str:
    return PALETTE[place % len(PALETTE)]
