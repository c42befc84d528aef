"""Points of one size of trained model, taken for another.

Units: FLOPs; shares of the pool's tokens.
"""

from collections.abc import Sequence
from dataclasses import replace

from mixture_assets.core.errors import MixtureError
from mixture_assets.selection.points import Point


def carried(points: Sequence[Point], train_params: float) -> list[Point]:
    """Points as if a model of another size had been trained: the same shares at its price.

    Performances stay those of the model that was trained, and selection costs what it cost.
    """
    found = []
    for p in points:
        if p.train_params is None:
            raise MixtureError(
                f"a point of {p.method!r} does not say how large its model is",
                hint="add the column train_params",
            )
        full, selection = p.full_flops * train_params / p.train_params, p.start * p.full_flops
        found.append(
            replace(
                p,
                total_flops=selection + p.trained_share * full,
                full_flops=full,
                share=p.trained_share,
                selection_flops=selection,
                train_params=train_params,
            )
        )
    return found
