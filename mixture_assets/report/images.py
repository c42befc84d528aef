"""Figures as files: SVG for the page, PNG for Markdown and Dagster, the same bytes every time."""

import io
import re

import matplotlib
from matplotlib.figure import Figure
from PIL import Image

from mixture_assets.core.errors import MixtureError
from mixture_assets.report.draw import draw
from mixture_assets.report.figures import FigureData
from mixture_assets.report.selection_figures import (
    OverlapFigure,
    UtilityFigure,
    draw_overlap,
    draw_utility,
)
from mixture_assets.report.style import FAINT, INK, MUTED, PALETTE, PAPER, STYLE
from mixture_assets.report.swarm_draw import draw_swarm
from mixture_assets.report.swarm_figures import SwarmFigure
from mixture_assets.report.weight_path import WeightPath, draw_weight_path

AnyFigure = FigureData | SwarmFigure | WeightPath | UtilityFigure | OverlapFigure
SMALL_BYTES = 60_000  # what Dagster's page shows as embedded Markdown without complaint

_DPI = 160
_SMALL_DPIS = (110, 90, 72, 60, 50, 40, 32, 24)
_COLOURS = 64  # lines and letters need no more, and PNG is a third of the size

# Inline, a figure follows the page's colours: light, dark, printed.
_VARIABLES = {INK: "ink", MUTED: "muted", FAINT: "faint", PAPER: "paper"} | {
    colour: f"series-{k}" for k, colour in enumerate(PALETTE)
}
_COLOUR = re.compile("|".join(_VARIABLES), re.IGNORECASE)


def small_png(data: AnyFigure) -> bytes:
    """A PNG of less than SMALL_BYTES, whatever it costs in sharpness."""
    with matplotlib.rc_context(STYLE):
        figure = _laid_out(data)
        for dpi in _SMALL_DPIS:
            content = _png(figure, dpi)
            if len(content) < SMALL_BYTES:
                return content
    raise MixtureError(
        f"a figure of {len(content):,} bytes does not fit into {SMALL_BYTES:,}",
        hint="it has too many domains to be shown small: see the report",
    )


def page_images(data: FigureData, name: str) -> tuple[str, bytes]:
    """A figure as an <svg> element for HTML, and as a PNG for Markdown."""
    with matplotlib.rc_context(STYLE):
        figure = _laid_out(data)
        return _inline_svg(figure, name), _png(figure, _DPI)


def png(data: SwarmFigure | UtilityFigure | OverlapFigure) -> bytes:
    """A figure as a PNG as sharp as the report's, with all its colours."""
    with matplotlib.rc_context(STYLE):
        return _saved(_laid_out(data), "png", _DPI, {"Software": None})


def _laid_out(data: AnyFigure) -> Figure:
    """Drawn, and placed once for all formats: placing takes longer than saving."""
    match data:
        case WeightPath():
            figure = draw_weight_path(data)
        case UtilityFigure():
            figure = draw_utility(data)
        case OverlapFigure():
            figure = draw_overlap(data)
        case _:
            figure = draw_swarm(data) if isinstance(data, SwarmFigure) else draw(data)
    engine = figure.get_layout_engine()
    assert engine is not None
    engine.execute(figure)
    figure.set_layout_engine("none")
    return figure


def _inline_svg(figure: Figure, name: str) -> str:
    """No prologue, no comments, no metadata, ids of its own, the page's colours."""
    text = _saved(figure, "svg", 72, {"Date": None, "Creator": None}).decode()
    text = re.sub(r"<!--.*?-->", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", text)
    text = _COLOUR.sub(lambda found: f"var(--{_VARIABLES[found[0].lower()]})", text)
    return re.sub(r"\n\s*", "\n", text).strip()


def _png(figure: Figure, dpi: int) -> bytes:
    return _reduced(_saved(figure, "png", dpi, {"Software": None}))


def _saved(figure: Figure, kind: str, dpi: int, metadata: dict[str, None]) -> bytes:
    content = io.BytesIO()
    figure.savefig(content, format=kind, dpi=dpi, metadata=metadata)
    return content.getvalue()


def _reduced(content: bytes) -> bytes:
    """The same picture with a palette."""
    reduced = io.BytesIO()
    with Image.open(io.BytesIO(content)) as image:
        image.convert("RGB").quantize(_COLOURS, dither=Image.Dither.NONE).save(
            reduced, format="PNG", optimize=True
        )
    return reduced.getvalue()
