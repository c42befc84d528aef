"""What every selector is: something that gives each document of a pool a number."""

from collections.abc import Mapping
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from mixture_assets.selection.documents import Documents, Pool

Order = Literal["highest", "lowest", "middle"]  # which scores are chosen first


class Selector(Protocol):
    """Prepared once, it scores documents a row group at a time."""

    name: str
    order: Order

    @property
    def settings(self) -> Mapping[str, Any]:
        """JSON: all that scores depend on beside the pool and the specialist set."""

    @property
    def flops(self) -> float:
        """Of the matrix products that it has done so far; 0 where there are none."""

    @property
    def device(self) -> str:
        """The chip that scores."""

    def prepare(self, specialist: Documents, pool: Pool) -> None:
        """Learn what is learned once, from the specialist set or from the whole pool."""

    def score(self, documents: Documents) -> NDArray[np.float64]:
        """One number for each document; `order` says which are chosen first."""


class OnCpu:
    """What selectors without matrix products have in common."""

    order: Order = "highest"
    device = "cpu"

    @property
    def flops(self) -> float:
        """None are counted: such a selector is priced by its seconds."""
        return 0.0
