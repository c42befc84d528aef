"""How figures look: colours, sizes, and the parts that several figures share.

Colours are Okabe and Ito's, which people with any colour vision tell apart; mixtures also differ
in their dashes. Figures are made without pyplot, so that nothing is global.
"""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from mixture_assets.core.units import tokens_text
from mixture_assets.report.figures import RunLines, spread

INK, MUTED, FAINT, PAPER = "#26262b", "#6f6f78", "#d9d9de", "#fefefe"
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a7a7a")
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)))
MARKERS = ("o", "s", "^", "D")

_MIXTURES = ("proposal", "natural", "uniform", "custom")
_WIDTH = 7.4  # inches; text is 9 points, so figures are meant to be seen at about this size

STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same letters on every machine
    "font.size": 9.0,
    "text.parse_math": False,  # a '$' in a domain's name is a letter
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.facecolor": "none",
    "axes.labelcolor": MUTED,
    "axes.labelsize": 8.5,
    "axes.linewidth": 0.7,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 9.0,
    "axes.titlepad": 4.0,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "figure.facecolor": PAPER,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "xtick.color": MUTED,
    "xtick.labelsize": 8.0,
    "ytick.color": MUTED,
    "ytick.labelsize": 8.0,
    "lines.linewidth": 1.6,
    "svg.fonttype": "path",
    "svg.hashsalt": "mixture_assets",
}


def shortened(name: str, limit: int) -> str:
    """A name that fits, its middle left out: both ends tell names apart."""
    if len(name) <= limit:
        return name
    head = (limit - 1) * 2 // 3
    return f"{name[:head]}…{name[len(name) - (limit - 1 - head) :]}"


def new_figure(height: float) -> Figure:
    """An empty figure of the common width; `height` in inches."""
    return Figure(figsize=(_WIDTH, height), layout="constrained")


def panel_grid(n: int) -> tuple[Figure, list[Axes]]:
    """Small multiples: n panels in rows."""
    columns = 1 if n == 1 else 2 if n in (2, 4) else 3
    rows = -(-n // columns)
    figure = new_figure(1.75 * rows + 0.45 if columns > 1 else 3.2)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for ax in axes[n:]:
        figure.delaxes(ax)
    return figure, axes[:n]


def label_outside(axes: Sequence[Axes], x: str, y: str) -> None:
    """Units once a row and once a column, where the eye looks for them."""
    for i, ax in enumerate(axes):
        at = ax.get_subplotspec()
        assert at is not None
        if at.colspan.start == 0:
            ax.set_ylabel(y)
        if i + at.get_gridspec().ncols >= len(axes):
            ax.set_xlabel(x)


def add_legend(figure: Figure, handles: Sequence[Line2D | Patch]) -> None:
    """One line of keys above the figure."""
    figure.legend(
        handles=list(handles), loc="outside upper left", ncols=len(handles), handlelength=2.2
    )


def mixture_colour(name: str) -> str:
    """The same colour for a mixture in every figure."""
    return PALETTE[_MIXTURES.index(name)] if name in _MIXTURES else PALETTE[6]


def mixture_key(name: str) -> Line2D:
    """A mixture's line, for a legend."""
    return Line2D([], [], color=mixture_colour(name), ls=_dashes(name), lw=1.7, label=name)


def _dashes(name: str) -> Any:
    return DASHES[_MIXTURES.index(name)] if name in _MIXTURES else DASHES[3]


def plot_runs(ax: Axes, line: RunLines) -> None:
    """A mixture's mean over seeds, and its seeds as thin lines."""
    colour = mixture_colour(line.mixture)
    if len(line.seeds) > 1:
        for points in line.seeds:
            ax.plot(*zip(*points, strict=True), color=colour, lw=0.6, alpha=0.6)
    if line.mean:
        marker = "o" if len(line.mean) == 1 else ""
        style = {"ls": _dashes(line.mixture), "lw": 1.7, "marker": marker, "ms": 4.0}
        ax.plot(*zip(*line.mean, strict=True), color=colour, **style)


def label_ends(
    ax: Axes,
    labels: Sequence[str],
    ys: Sequence[float],
    colours: Sequence[str],
    *,
    line_height: float,
    styles: Sequence[Any] | None = None,
) -> None:
    """Names at the right end of lines, moved apart where they would overlap.

    Args:
        ax: Limits and scales must be final.
        labels: One a line.
        ys: Where the lines end.
        colours: Of the lines, for the stroke from line to name.
        line_height: As a share of the axes' height.
        styles: Dashes of the lines; by default they have none.
    """
    to_share = ax.transAxes.inverted()
    ends = [float(to_share.transform(ax.transData.transform((1.0, y)))[1]) for y in ys]
    styles = styles or ["-"] * len(labels)
    for label, end, place, colour, style in zip(
        labels, ends, spread(ends, line_height), colours, styles, strict=True
    ):
        ax.annotate(
            label,
            (1.012, end),
            (1.05, place),
            xycoords="axes fraction",
            textcoords="axes fraction",
            va="center",
            fontsize=8.5,
            color=INK,
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "ls": style,
                "lw": 1.2,
                "shrinkA": 1.0,
                "shrinkB": 0.0,
                "relpos": (0.0, 0.5),
            },
        )


def log_tokens(ax: Axes, tokens: Sequence[float]) -> None:
    """A log axis of token counts that ends where they end."""
    low, high = min(tokens), max(tokens)
    ax.set_xscale("log")
    ax.set_xlim(low / 1.03, high * 1.03)
    subs = (1.0,) if high / low > 50 else (1.0, 3.0) if high / low > 12 else (1.0, 2.0, 5.0)
    ax.xaxis.set_major_locator(LogLocator(subs=subs))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: tokens_text(v)))


def log_values(ax: Axes, low: float, high: float) -> None:
    """A log axis with ticks that people read."""
    ax.set_yscale("log")
    ax.set_ylim(low / 1.08, high * 1.05)
    subs = (1.0, 2.0, 5.0) if high / low > 4 else (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0)
    ax.yaxis.set_major_locator(LogLocator(subs=subs))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.4g}"))
