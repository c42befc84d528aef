"""Figures about somebody's own runs as files."""

from pathlib import Path

from mixture_assets.report.images import png, small_png
from mixture_assets.report.swarm_figures import (
    NOTHING_TO_SHOW,
    SWARM_FIGURES,
    Answer,
    weight_ranges,
)
from mixture_assets.store.files import atomic_write_bytes


def write_figures(answer: Answer, folder: Path) -> dict[str, str]:
    """Write a PNG for each figure that has something to show.

    Args:
        answer: Of `mixture propose` from somebody's own runs.
        folder: Made if it is not there. An earlier figure that no longer applies is removed.

    Returns:
        Figure -> why it was not written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    missing = {}
    for name, make in SWARM_FIGURES.items():
        figure, path = make(answer), folder / f"{name}.png"
        if figure is None:
            missing[name] = NOTHING_TO_SHOW[name]
            path.unlink(missing_ok=True)
        else:
            atomic_write_bytes(path, png(figure))
    return missing


def weights_png(answer: Answer) -> bytes:
    """The proposed weights as a PNG below 60 kB, for Dagster's metadata."""
    return small_png(weight_ranges(answer))
