"""How much of some documents stands word for word in what a domain trains on.

Documents that differ in a line have different content hashes, so equal hashes find too little.
Windows of WINDOW tokens are compared instead: those of the documents at every place, those of
the training stream at multiples of WINDOW. A passage of 2 WINDOW - 1 tokens holds such a window
wherever it lies; of a shorter one chance decides. Each token of the stream is read once, in pieces.
"""

from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mixture_assets.data.token_store import DomainTokens
from mixture_assets.data.validation import ValidationSet

WINDOW = 32  # tokens
_PIECE = 1 << 17  # windows that are hashed at a time


def verbatim_share(documents: ValidationSet, domain: DomainTokens, store: Path) -> float:
    """Share of the documents' tokens in windows that the domain's training stream has, 0 to 1.

    Args:
        documents: Whose tokens are looked for; those shorter than a window are not found.
        domain: Whose arrays are looked through.
        store: Root of the store.
    """
    ids, places = documents.input_ids, _places(documents.offsets)
    if not len(places):
        return 0.0
    windows = np.lib.stride_tricks.sliding_window_view(ids, WINDOW)[places]
    own = _hashes(windows)
    found = np.zeros(len(own), bool)
    wanted = np.unique(own)
    for relative, _ in domain.arrays:
        stream = np.load(store / relative, mmap_mode="r")
        rows = stream[: len(stream) // WINDOW * WINDOW].reshape(-1, WINDOW)
        for first in range(0, len(rows), _PIECE):
            trained = _hashes(rows[first : first + _PIECE])
            found |= np.isin(own, trained[np.isin(trained, wanted)])
    steps = np.zeros(len(ids) + 1, np.int64)
    np.add.at(steps, places[found], 1)
    np.add.at(steps, places[found] + WINDOW, -1)
    return float((np.cumsum(steps)[:-1] > 0).mean())


def _places(offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where a whole window of one document begins."""
    ranges = pairwise(offsets.tolist())
    return np.concatenate([np.arange(a, max(a, b - WINDOW + 1)) for a, b in ranges])


def _hashes(rows: NDArray[np.integer]) -> NDArray[np.uint64]:
    """One number for each window: a random linear form, modulo 2^64."""
    form = np.random.default_rng(0).integers(1, 1 << 63, WINDOW, np.uint64) | np.uint64(1)
    hashed: NDArray[np.uint64] = rows.astype(np.uint64) @ form
    return hashed
