"""Draw the figures about somebody's own runs: one function a figure, in the style of the others."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from mixture_assets.report.style import (
    FAINT,
    INK,
    MUTED,
    PALETTE,
    PAPER,
    add_legend,
    new_figure,
    shortened,
)
from mixture_assets.report.swarm_figures import (
    Effects,
    PredictedRuns,
    PriceBars,
    SwarmFigure,
    WeightRanges,
)

_BETTER_WORSE = LinearSegmentedColormap.from_list("effect", [PALETTE[0], PAPER, PALETTE[1]])
_ROW = 0.19  # inches of a line of text
_MARK: dict[str, Any] = {"ls": "", "clip_on": False}  # whole at 0 too
_NATURAL: dict[str, Any] = _MARK | {"marker": "D", "ms": 4.0, "color": PALETTE[1], "mew": 0}
_BARE: dict[str, Any] = _MARK | {"marker": "o", "ms": 5.0, "mfc": "none", "mec": INK, "mew": 0.9}
_INTERVAL: dict[str, Any] = {"color": INK, "lw": 1.0}


def draw_swarm(data: SwarmFigure) -> Figure:
    """The figure of any figure data about somebody's own runs."""
    match data:
        case PredictedRuns():
            return draw_predicted(data)
        case WeightRanges():
            return draw_weight_ranges(data)
        case Effects():
            return draw_effects(data)
        case PriceBars():
            return draw_prices(data)


def draw_predicted(data: PredictedRuns) -> Figure:
    """A point a run, the diagonal, and how far noise alone would take a run from it."""
    figure = new_figure(5.5)
    figure.set_figwidth(5.2)  # a square, and its keys above it
    ax = figure.subplots()
    n = len(data.held_out)
    size = 5.0 if n <= 60 else 3.5
    xs, ys = [p.measured for p in data.held_out], [p.predicted for p in data.held_out]
    low, high = min(*xs, *ys), max(*xs, *ys)
    margin = 0.04 * (high - low) or 1.0
    ends = [low - margin, high + margin]
    sd = data.noise_sd
    ax.fill_between(
        ends, [e - sd for e in ends], [e + sd for e in ends], color=FAINT, lw=0, zorder=1
    )
    ax.plot(ends, ends, color=MUTED, lw=0.8, zorder=2)
    ax.plot(xs, ys, "o", ms=size, color=PALETTE[0], mew=0, alpha=0.75, zorder=3)
    ax.set(xlim=ends, ylim=ends, aspect="equal")
    ax.xaxis.set_major_locator(MaxNLocator(6))
    ax.yaxis.set_major_locator(MaxNLocator(6))
    ax.set_xlabel(f"{shortened(data.objective, 40)}, measured")
    ax.set_ylabel(f"{shortened(data.objective, 40)}, predicted")
    ax.set_title(f"Spearman {_number(data.spearman)}, R2 {_number(data.r2)} over {n} held-out runs")
    keys: list[Line2D | Patch] = [
        Line2D([], [], color=PALETTE[0], marker="o", ms=5, mew=0, ls="", label="held-out run"),
        Line2D([], [], color=MUTED, lw=0.8, label="predicted = measured"),
        Patch(color=FAINT, lw=0, label=f"noise (sd {sd:.2g})"),
    ]
    add_legend(figure, keys)
    return figure


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def draw_weight_ranges(data: WeightRanges) -> Figure:
    """Bars of the proposal with 90 % intervals, marks at natural and at the bare optimum."""
    n = len(data.rows)
    figure = new_figure(max(1.3, _ROW * n + 0.9))
    ax = figure.subplots()
    for y, row in enumerate(data.rows):
        ax.barh(y, row.weight, 0.62, color=PALETTE[0], alpha=0.55)
        ax.plot([row.low, row.high], [y, y], **_INTERVAL)
        ax.plot(row.natural, y, **_NATURAL)
        ax.plot(row.bare, y, **_BARE)
    ax.set_xlim(0, 1.03 * max(max(r.high, r.natural, r.bare) for r in data.rows))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{100 * v:g}%"))
    ax.set_xlabel("share of training tokens")
    _name_rows(ax, [f"{shortened(r.domain, 32)}  {r.weight:6.1%}" for r in data.rows], pad=6.5)
    keys = [
        Line2D([], [], color=PALETTE[0], alpha=0.55, lw=7, label="proposal", solid_capstyle="butt"),
        Line2D([], [], label="90 % interval", **_INTERVAL),
        Line2D([], [], label="natural", **_NATURAL),
        Line2D([], [], label="bare optimum", **_BARE),
    ]
    add_legend(figure, keys)
    return figure


def _name_rows(ax: Axes, labels: list[str], pad: float = 3.5) -> None:
    """Names on the left, the first on top."""
    ax.set_yticks(range(len(labels)), labels)
    ax.tick_params(axis="y", length=0, labelcolor=INK, labelsize=8.5, pad=pad)
    ax.set_ylim(len(labels) - 0.4, -0.6)
    ax.grid(visible=False, axis="y")


def draw_effects(data: Effects) -> Figure:
    """A cell a domain and metric, coloured on the metric's own scale: units may differ."""
    n, m = len(data.domains), len(data.metrics)
    figure = new_figure(max(1.6, _ROW * n + 1.2))
    figure.set_figwidth(max(5.4, 2.4 + 0.42 * m) if m in (1, 2) or m > 12 else 7.4)
    ax = figure.subplots()
    largest = [max(abs(row[j]) for row in data.change) or 1.0 for j in range(m)]
    shares = [[x / largest[j] for j, x in enumerate(row)] for row in data.change]
    ax.imshow(shares, cmap=_BETTER_WORSE, vmin=-1, vmax=1, aspect="auto")
    size = 8.0 if m <= 8 else 6.0
    for i, row in enumerate(data.change):
        for j, x in enumerate(row):
            colour = PAPER if abs(shares[i][j]) > 0.75 else INK
            ax.text(
                j, i, _change(x, largest[j]), ha="center", va="center", fontsize=size, color=colour
            )
    ax.grid(visible=False)
    _name_rows(ax, [shortened(name, 32) for name in data.domains])
    ax.set_ylim(n - 0.5, -0.5)
    ax.set_xticks(range(m), [shortened(name, 24) for name in data.metrics])
    ax.tick_params(axis="x", length=0, labelcolor=INK, top=True, labeltop=True, labelbottom=False)
    if m > 3:
        ax.tick_params(axis="x", rotation=40)
        for label in ax.get_xticklabels():
            label.set(ha="left", rotation_mode="anchor")
    ax.spines[:].set_visible(False)
    ax.set_xlabel(
        "change of the metric if 1 % of tokens moves\n"
        "from natural to the domain; blue: lower, better"
    )
    return figure


def _change(value: float, largest: float) -> str:
    """Two digits of a column's largest, and as many decimals in all of its cells."""
    if value == 0:
        return "0"
    if 1e-3 <= largest < 1e4:
        decimals = 1
        while largest * 10**decimals < 10 and decimals < 6:
            decimals += 1
        text = f"{value:+.{decimals}f}"
        return text if float(text) else "0"
    return f"{value:+.0e}"


def draw_prices(data: PriceBars) -> Figure:
    """A bar a bound, with its price."""
    n = len(data.bars)
    figure = new_figure(max(1.3, 0.24 * n + 0.8))
    ax = figure.subplots()
    ax.barh(range(n), [b.per_percent for b in data.bars], 0.62, color=PALETTE[0])
    for y, bar in enumerate(data.bars):
        ax.annotate(
            f"{bar.per_percent:.2g}",
            (bar.per_percent, y),
            (5, 0),
            textcoords="offset points",
            va="center",
        )
    ax.set_xlim(0, 1.18 * data.bars[0].per_percent)
    ax.xaxis.set_major_locator(MaxNLocator(6))
    ax.set_xlabel(
        f"{shortened(data.objective, 40)}\nfor each 1 % of weight that the bound gives way"
    )
    _name_rows(ax, [f"{shortened(b.domain, 28)}{b.bound}" for b in data.bars])
    return figure
