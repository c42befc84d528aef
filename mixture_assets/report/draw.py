"""Draw figure data: one function a figure. What they look like is in style.py."""

import math
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from mixture_assets.core.units import tokens_text
from mixture_assets.report.figures import (
    DDOCurves,
    FigureData,
    LossCurves,
    ObjectiveCurves,
    ScaleFit,
    ScaleLine,
    WeightBars,
    WeightsOverScale,
    spread,
)
from mixture_assets.report.style import (
    DASHES,
    INK,
    MARKERS,
    MUTED,
    PALETTE,
    PAPER,
    add_legend,
    label_ends,
    label_outside,
    log_tokens,
    log_values,
    mixture_colour,
    mixture_key,
    new_figure,
    panel_grid,
    plot_runs,
    shortened,
)
from mixture_assets.report.trend import WeightTrend

_TREND_LABELS = 8  # dates below the figure: more run into each other
_UNIFORM: dict[str, Any] = {"color": INK, "lw": 1.0, "ls": (0, (2, 1.5))}
_INTERVAL: dict[str, Any] = {"color": INK, "lw": 1.1, "marker": "|", "ms": 6.0}
_FACTOR_TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 3, 5, 10, 20, 50, 100)


def draw(data: FigureData) -> Figure:
    """The figure of any figure data."""
    match data:
        case WeightBars():
            return draw_weights(data)
        case WeightsOverScale():
            return draw_weights_over_scale(data)
        case WeightTrend():
            return draw_weight_trend(data)
        case LossCurves():
            return draw_loss_curves(data)
        case ObjectiveCurves():
            return draw_objective_curves(data)
        case DDOCurves():
            return draw_ddo_curves(data)


def draw_weights(data: WeightBars) -> Figure:
    """Bars of the proposal with whiskers, thin bars of natural, a line at uniform."""
    n = len(data.bars)
    figure = new_figure(0.42 * n + 1.0)
    ax = figure.subplots()
    ys = list(range(n))
    ends = [max(b.weight, b.high or 0.0) for b in data.bars]
    ax.barh([y - 0.14 for y in ys], [b.weight for b in data.bars], 0.42, color=PALETTE[0])
    ax.barh([y + 0.22 for y in ys], [b.natural for b in data.bars], 0.2, color=PALETTE[1])
    for y, bar, end in zip(ys, data.bars, ends, strict=True):
        ax.plot([bar.uniform] * 2, [y - 0.42, y + 0.4], **_UNIFORM)
        if bar.low is not None and bar.high is not None:
            ax.plot([bar.low, bar.high], [y - 0.14] * 2, **_INTERVAL)
        text = ax.annotate(
            f"{bar.weight:.1%}", (end, y - 0.14), (6, 0), textcoords="offset points", va="center"
        )
        text.set_bbox({"facecolor": PAPER, "edgecolor": "none", "pad": 1.0})
    ax.set_yticks(ys, [shortened(b.domain, 30) for b in data.bars])
    ax.tick_params(axis="y", length=0, labelcolor=INK, labelsize=9)
    ax.set_ylim(n - 0.4, -0.6)
    ax.grid(visible=False, axis="y")
    ax.set_xlim(0, 1.12 * max([*ends, *(b.natural for b in data.bars)]))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:.0%}"))
    ax.set_xlabel("share of training tokens")
    keys = [
        Line2D([], [], color=PALETTE[0], lw=7.0, label="proposal", solid_capstyle="butt"),
        Line2D([], [], color=PALETTE[1], lw=4.0, label="natural", solid_capstyle="butt"),
        Line2D([], [], label="uniform", **_UNIFORM),
    ]
    if any(b.low is not None for b in data.bars):
        keys.append(Line2D([], [], label="90 % interval", **_INTERVAL))
    add_legend(figure, keys)
    return figure


def draw_weights_over_scale(data: WeightsOverScale) -> Figure:
    """Lines over log tokens, filled where measured, hollow beyond."""
    height = max(3.4, 0.19 * len(data.lines) + 1.4)
    figure = new_figure(height)
    ax = figure.subplots()
    colours = [PALETTE[i % len(PALETTE)] for i in range(len(data.lines))]
    for i, (line, colour) in enumerate(zip(data.lines, colours, strict=True)):
        _plot_scale_line(ax, line, colour, DASHES[i // len(PALETTE) % len(DASHES)])
    tokens = sorted({p.tokens for line in data.lines for p in line.points})
    ax.set_xscale("log")
    ax.set_xlim(tokens[0] / 1.12, tokens[-1] * 1.04)
    ax.xaxis.set_major_locator(FixedLocator(tokens))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: tokens_text(v)))
    ax.set_xlabel("training tokens (log scale)")
    ax.set_ylim(0, 1.08 * max(p.weight for line in data.lines for p in line.points))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:.0%}"))
    ax.set_ylabel("share of training tokens")
    if tokens[-1] > data.measured_until_tokens:
        _mark_end_of_measurement(ax, data.measured_until_tokens)
    labels = [f"{shortened(x.domain, 26)}  {x.points[-1].weight:.1%}" for x in data.lines]
    ends = [line.points[-1].weight for line in data.lines]
    label_ends(ax, labels, ends, colours, line_height=0.17 / (height - 0.8))
    return figure


def _plot_scale_line(ax: Axes, line: ScaleLine, colour: str, dashes: Any) -> None:
    xs, ys = [p.tokens for p in line.points], [p.weight for p in line.points]
    ax.plot(xs, ys, color=colour, ls=dashes)
    for p in line.points:
        face = colour if p.is_measured else PAPER
        ax.plot([p.tokens], [p.weight], "o", ms=6, mfc=face, mec=colour, mew=1.4, clip_on=False)


def _mark_end_of_measurement(ax: Axes, tokens: float) -> None:
    ax.axvline(tokens, color=MUTED, lw=0.9, ls=(0, (4, 2)))
    place: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "va": "bottom"}
    place |= {"textcoords": "offset points", "color": MUTED, "fontsize": 8.0}
    ax.annotate("measured", (tokens, 1.0), (-5, 2), ha="right", **place)
    ax.annotate("extrapolated", (tokens, 1.0), (5, 2), ha="left", **place)


def draw_weight_trend(data: WeightTrend) -> Figure:
    """A line a domain over proposals, evenly spaced: what matters is the order."""
    height = max(3.4, 0.19 * len(data.lines) + 1.4)
    figure = new_figure(height)
    ax = figure.subplots()
    colours = [PALETTE[i % len(PALETTE)] for i in range(len(data.lines))]
    for i, (line, colour) in enumerate(zip(data.lines, colours, strict=True)):
        ys = [math.nan if w is None else w for w in line.weights]
        dashes = DASHES[i // len(PALETTE) % len(DASHES)]
        ax.plot(ys, "o", ms=4.5, color=colour, ls=dashes, clip_on=False)
        if line.weights[-1] is None:  # gone: its name stands where it ends
            last = max(k for k, w in enumerate(line.weights) if w is not None)
            name = shortened(line.domain, 26)
            ax.annotate(name, (last, ys[last]), (7, 0), textcoords="offset points", va="center")
    n = len(data.proposals)
    ticks = sorted({n - 1 - k for k in range(0, n, -(-n // _TREND_LABELS))})
    ax.set_xticks(ticks, [data.proposals[k] for k in ticks])
    ax.set_xlim(-0.1 * (n - 1), n - 1)
    known = [w for line in data.lines for w in line.weights if w is not None]
    ax.set_ylim(0, 1.08 * max(known))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:.0%}"))
    ax.set_ylabel("share of training tokens")
    ax.set_xlabel("proposal, oldest first (UTC)")
    ended = [(line, c) for line, c in zip(data.lines, colours, strict=True) if line.weights[-1]]
    label_ends(
        ax,
        [f"{shortened(line.domain, 26)}  {line.weights[-1]:.1%}" for line, _ in ended],
        [line.weights[-1] or 0.0 for line, _ in ended],
        [colour for _, colour in ended],
        line_height=0.17 / (height - 0.8),
    )
    return figure


def draw_loss_curves(data: LossCurves) -> Figure:
    """One panel a domain, one colour a mixture, seeds as thin lines."""
    figure, axes = panel_grid(len(data.panels))
    for ax, panel in zip(axes, data.panels, strict=True):
        for line in panel.lines:
            plot_runs(ax, line)
        ax.set_title(shortened(panel.domain, 24))
        ax.yaxis.set_major_locator(MaxNLocator(4))
        log_tokens(ax, [t for line in panel.lines for seed in line.seeds for t, _ in seed])
    label_outside(axes, "tokens (log scale)", "nats per token")
    keys = [mixture_key(name) for name in data.mixtures]
    if any(len(line.seeds) > 1 for panel in data.panels for line in panel.lines):
        keys.append(Line2D([], [], color=MUTED, lw=0.6, label="one seed"))
    add_legend(figure, keys)
    return figure


def draw_objective_curves(data: ObjectiveCurves) -> Figure:
    """The objective, and where the proposal meets each baseline's final value."""
    figure = new_figure(3.9)
    ax = figure.subplots()
    for line in data.lines:
        plot_runs(ax, line)
    points = [point for line in data.lines for seed in line.seeds for point in seed]
    values = [y for _, y in points]
    if data.is_perplexity:
        log_values(ax, min(values), max(values))
    log_tokens(ax, [t for t, _ in points])
    _draw_targets(ax, data)
    ax.set_xlabel("training tokens (log scale)")
    note = " (log scale)" if data.is_perplexity else ""
    ax.set_ylabel(f"{data.name}{note}, lower is better")
    ended = [line for line in data.lines if line.mean]
    label_ends(
        ax,
        [f"{line.mixture}  {line.mean[-1][1]:.4g}" for line in ended],
        [line.mean[-1][1] for line in ended],
        [mixture_colour(line.mixture) for line in ended],
        line_height=0.055,
    )
    return figure


def _draw_targets(ax: Axes, data: ObjectiveCurves) -> None:
    """A dashed line at each baseline's final value, and a ring where the proposal gets there."""
    low, high = ax.get_xlim()
    ax.set_xlim(low, high)
    to_share = ax.transAxes.inverted()
    heights = []
    for target in data.targets:
        colour = mixture_colour(target.baseline)
        ax.plot([low, high], [target.value] * 2, color=colour, lw=0.8, ls=(0, (4, 3)), zorder=1)
        if target.reached_tokens is not None:
            at = [target.reached_tokens], [target.value]
            ax.plot(*at, "o", ms=6, mfc=PAPER, mec=INK, mew=1.2, zorder=5)
        in_axes = to_share.transform(ax.transData.transform((low, target.value)))
        heights.append(float(in_axes[1]))
    for target, place in zip(data.targets, spread(heights, 0.07), strict=True):
        text = ax.text(
            0.02, place, _target_text(target.baseline, target.speed_up), transform=ax.transAxes
        )
        text.set(va="center", fontsize=8.5, color=mixture_colour(target.baseline))
        text.set_bbox({"facecolor": PAPER, "edgecolor": "none", "pad": 1.5})


def _target_text(baseline: str, speed_up: float | None) -> str:
    if speed_up is None:
        return f"{baseline}'s final value: not reached"
    return f"{baseline}'s final value: reached {speed_up:.0%} sooner"


def draw_ddo_curves(data: DDOCurves) -> Figure:
    """One panel a domain: every run at every scale, the fitted curve, its optimum."""
    figure, axes = panel_grid(len(data.panels))
    xs = [x for p in data.panels for fit in p.fits for x, _ in fit.points] or [0.2, 3.0]
    low, high = min(xs) / 1.15, max(xs) * 1.15
    for ax, panel in zip(axes, data.panels, strict=True):
        ax.axhline(1.0, color=MUTED, lw=0.6)
        for fit in panel.fits:
            k = data.scales.index(fit.scale)
            _plot_fit(ax, fit, PALETTE[k % len(PALETTE)], MARKERS[k % len(MARKERS)], (low, high))
        ax.set_xscale("log")
        ax.set_xlim(low, high)
        ax.xaxis.set_major_locator(FixedLocator([t for t in _FACTOR_TICKS if low <= t <= high]))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
        ax.yaxis.set_major_locator(MaxNLocator(4))
        ax.set_title(shortened(panel.domain, 24))
    label_outside(axes, "times the base amount (log scale)", "objective / base run")
    keys = [_scale_key(k, scale) for k, scale in enumerate(data.scales)]
    keys.append(Line2D([], [], color=INK, marker="*", ms=9, ls="", label="optimum"))
    add_legend(figure, keys)
    return figure


def _scale_key(k: int, scale: str) -> Line2D:
    marker = MARKERS[k % len(MARKERS)]
    return Line2D(
        [], [], color=PALETTE[k % len(PALETTE)], marker=marker, ms=5, label=f"{scale} scale"
    )


def _plot_fit(
    ax: Axes, fit: ScaleFit, colour: str, marker: str, limits: tuple[float, float]
) -> None:
    if fit.points:
        ax.plot(*zip(*fit.points, strict=True), marker, ms=4.5, color=colour, mew=0, alpha=0.85)
    curve = fit.sample(*limits)
    if curve:
        ax.plot(*zip(*curve, strict=True), color=colour, lw=1.4)
    best = fit.value(fit.optimum)
    if best is not None and limits[0] <= fit.optimum <= limits[1]:
        ax.plot([fit.optimum], [best], "*", ms=10, color=colour, mec=INK, mew=0.7, zorder=5)
