"""Random documents: what every other selector has to beat.

Source: J. O. Yin, A. M. Rush, "Compute-Constrained Data Selection", ICLR 2025, arXiv:2410.16208,
    the baseline.

Differs from the source: an order of documents by a seeded hash of their content, so that the
    choice is the same in any order of the pool and a larger share contains a smaller one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixture_assets.data.doc_index import hashes_of
from mixture_assets.selection.documents import Documents, Pool
from mixture_assets.selection.selector import OnCpu
from mixture_assets.selection.shuffle import shuffled


@dataclass
class RandomOrder(OnCpu):
    """Scores from 0 to 1, uniform."""

    seed: int = 0
    name: str = "random"

    @property
    def settings(self) -> Mapping[str, Any]:
        """The seed."""
        return {"seed": self.seed}

    def prepare(self, specialist: Documents, pool: Pool) -> None:
        """Nothing is learned."""

    def score(self, documents: Documents) -> NDArray[np.float64]:
        """A hash of the seed and each document's content."""
        return shuffled(hashes_of(list(documents.doc_ids)), self.seed) / 2.0**64
