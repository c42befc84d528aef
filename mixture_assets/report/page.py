"""The report as files: one HTML page that needs nothing else, and its Markdown twin."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from mixture_assets.core.errors import MixtureError
from mixture_assets.core.names import nearest
from mixture_assets.core.problem import Objective
from mixture_assets.report.content import content
from mixture_assets.report.figures import FIGURES, FigureData
from mixture_assets.report.images import page_images, small_png
from mixture_assets.report.pull import ReportData, pull
from mixture_assets.store.files import atomic_write_bytes, atomic_write_text

_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#|~$&!])")


@dataclass(frozen=True)
class ReportPaths:
    """Where a report lies; the Markdown's figures lie beside it."""

    html: Path
    markdown: Path


def write_report(
    store: Path, *, proposal_id: str, objective: Objective, folder: Path
) -> ReportPaths:
    """Write the report about one proposal, pulled from the database.

    The same database gives the same bytes. Files are replaced one by one, each in one step.

    Args:
        store: Root of the store.
        proposal_id: Which proposal.
        objective: What runs are judged by.
        folder: Filled with report.html, report.md and a PNG for each figure.

    Raises:
        MixtureError: There is no such proposal.
    """
    data = pull(store, proposal_id, objective)
    figures = _figures(data)
    page = content(data, list(figures))
    paths = ReportPaths(folder / "report.html", folder / "report.md")
    svgs = {}
    for name, each in figures.items():
        svg, png = page_images(each, name)
        svgs[name] = Markup(svg)
        atomic_write_bytes(folder / f"{name}.png", png)
    html = _html().get_template("report.html.j2").render(page=page, svg=svgs)
    atomic_write_text(paths.html, html)
    atomic_write_text(paths.markdown, _markdown().get_template("report.md.j2").render(page=page))
    return paths


def figure_png(store: Path, name: str, proposal_id: str, objective: Objective) -> bytes:
    """One figure as a PNG below 60 kB, for Dagster's metadata.

    Raises:
        MixtureError: There is no such figure or proposal, or nothing to show yet.
    """
    if name not in FIGURES:
        raise MixtureError(
            f"there is no figure {name!r}{nearest(name, FIGURES)}",
            hint=f"figures: {', '.join(FIGURES)}",
        )
    figure = FIGURES[name](pull(store, proposal_id, objective))
    if figure is None:
        raise MixtureError(
            f"there is nothing to show in figure {name!r} of proposal {proposal_id} yet",
            hint="`mixture run` trains what is missing",
        )
    return small_png(figure)


def _figures(data: ReportData) -> dict[str, FigureData]:
    made = {name: make(data) for name, make in FIGURES.items()}
    return {name: figure for name, figure in made.items() if figure is not None}


def _environment(**options: Any) -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("mixture_assets.report", "templates"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        **options,
    )


def _html() -> jinja2.Environment:
    return _environment(autoescape=True)


def _markdown() -> jinja2.Environment:
    """Every value is escaped for Markdown on its way out, unless it is marked as safe."""
    environment = _environment(autoescape=False, finalize=_finalised(markdown_text))
    environment.filters["code"] = lambda text: Markup(re.sub(r"[`\s]+", " ", text))
    return environment


def _finalised(escape: Callable[[str], str]) -> Callable[[Any], str]:
    return lambda value: value if isinstance(value, Markup) else escape(str(value))


def markdown_text(text: str) -> str:
    """Text that Markdown, HTML inside it, and GitHub's formulas leave as it is, on one line."""
    return _MARKDOWN.sub(r"\\\1", " ".join(text.split()))
