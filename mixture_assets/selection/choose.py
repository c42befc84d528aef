"""Which documents are trained on: those that come first, until a share of the tokens is reached."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mixture_assets.core.errors import MixtureError
from mixture_assets.selection.scores import Rows, ScoreSet
from mixture_assets.selection.shuffle import shuffled


class Subset(NamedTuple):
    """The documents chosen at a share."""

    hashes: NDArray[np.uint64]  # of their contents, in the order in which they were chosen
    n_tokens: int  # of these

    @property
    def doc_ids(self) -> list[str]:
        """The hashes as shards name documents: 16 hex characters."""
        return [f"{h:016x}" for h in self.hashes.tolist()]


def choose(score_set: ScoreSet, share: float, seed: int = 0) -> Subset:
    """The first documents by score, the one that reaches the share of the pool's tokens included.

    Equal documents count once, in the pool as in the subset; ties go by a seeded hash of the
    content. A document without a score is part of the pool and never chosen. With order 'middle',
    documents are cut in thirds by score, as many in each; the middle third comes first, then the
    lowest, then the highest, each in the seeded order. A larger share contains a smaller one.

    Args:
        score_set: Finished scores.
        share: Of the pool's tokens, above 0 and at most 1.
        seed: Of the order among equals.

    Raises:
        MixtureError: The share is not one.
    """
    if not 0 < share <= 1:
        raise MixtureError(
            f"a share of the pool is above 0 and at most 1, got {share:g}",
            hint="0.05 chooses 5 % of the pool's tokens",
        )
    rows = _once(score_set.rows())
    order = _ranked(rows, score_set.order, seed)
    total = np.cumsum(rows.n_tokens[order])
    needed = share * rows.n_tokens.sum()
    n_documents = min(int(np.searchsorted(total, needed)) + 1, len(order))
    chosen = order[:n_documents]
    return Subset(rows.hashes[chosen], int(total[n_documents - 1]))


def _once(rows: Rows) -> Rows:
    """Equal documents once, with the highest of their scores: rounding may tell them apart."""
    order = np.lexsort((-rows.scores, rows.hashes))  # NaN last
    hashes, first = np.unique(rows.hashes[order], return_index=True)
    return Rows(hashes, rows.scores[order[first]], rows.n_tokens[order[first]])


def _ranked(rows: Rows, order: str, seed: int) -> NDArray[np.int64]:
    """Rows with a score, those to choose first in front."""
    tie = shuffled(rows.hashes, seed)
    scored = np.flatnonzero(~np.isnan(rows.scores))
    scores = rows.scores[scored]
    if order == "middle":
        ascending = np.argsort(scores, kind="stable")  # equals by hash, as rows are
        third = np.empty(len(scored), np.int64)
        third[ascending] = np.arange(len(scored)) * 3 // max(1, len(scored))
        first = np.array([1, 0, 2])[third]  # the middle, the lowest, the highest
    else:
        first = scores if order == "lowest" else -scores
    ranked: NDArray[np.int64] = scored[np.lexsort((tie[scored], first))]
    return ranked
