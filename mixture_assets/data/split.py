"""Which side of the split a document falls on: a pure function of its content.

So a duplicate falls on the same side, in whatever domain, shard or year it turns up.
"""

import numpy as np
from numpy.typing import NDArray

from mixture_assets.core.errors import MixtureError

_IDS = 1 << 64  # a document id is 16 hex characters


def is_validation(doc_id: str, fraction: float) -> bool:
    """Whether a document is held out: the lowest `fraction` of all content hashes is."""
    return int(doc_id, 16) < _threshold(fraction)


def validation_mask(hashes: NDArray[np.uint64], fraction: float) -> NDArray[np.bool_]:
    """The same for many documents, their ids as numbers."""
    mask: NDArray[np.bool_] = hashes < np.uint64(_threshold(fraction))
    return mask


def _threshold(fraction: float) -> int:
    if not 0 < fraction < 1:
        raise MixtureError(
            f"validation_fraction must be between 0 and 1, got {fraction:g}",
            hint="[data] validation_fraction = 0.05 holds out one document in 20",
        )
    return int(fraction * _IDS)
