"""How much of some documents stands word for word in what a domain trains on, at least.

Whole documents are found by the hashes of their contents, whatever their length. Of others, windows
of WINDOW tokens are compared: those of the documents at every place, those of the training stream
at multiples of WINDOW. A passage of 2 WINDOW - 1 tokens holds such a window wherever it lies; of a
shorter one chance decides. Each token of the stream is read once, in pieces.
"""

from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mixture_assets.data.doc_index import DocIndex, hashes_of
from mixture_assets.data.split import validation_mask
from mixture_assets.data.token_store import DomainTokens
from mixture_assets.data.validation import ValidationSet

VERBATIM_VERSION = 1  # raise when a change of code finds another share
WINDOW = 32  # tokens
_PIECE = 1 << 17  # windows that are hashed at a time


def verbatim_share(
    documents: ValidationSet, domain: DomainTokens, store: Path, *, fraction: float
) -> float:
    """Share of the documents' tokens that the domain's training stream has too, 0 to 1.

    Args:
        documents: Whose tokens are looked for.
        domain: Whose training documents and arrays are looked through.
        store: Root of the store.
        fraction: Share of content hashes that the domain holds out of training.
    """
    is_there = _in_passages(documents, domain, store)
    whole = np.isin(hashes_of(documents.doc_ids), _trained_hashes(domain, store, fraction))
    is_there |= np.repeat(whole, np.diff(documents.offsets))
    return float(is_there.mean()) if len(is_there) else 0.0


def _trained_hashes(domain: DomainTokens, store: Path, fraction: float) -> NDArray[np.uint64]:
    every = np.concatenate([DocIndex.read(path).hashes for path in domain.shard_paths(store)])
    kept: NDArray[np.uint64] = every[~validation_mask(every, fraction)]
    return kept


def _in_passages(documents: ValidationSet, domain: DomainTokens, store: Path) -> NDArray[np.bool_]:
    """By token of the documents: whether it is in a window of the stream."""
    ids, places = documents.input_ids, _places(documents.offsets)
    if not len(places):
        return np.zeros(len(ids), bool)
    windows = np.lib.stride_tricks.sliding_window_view(ids, WINDOW)
    pieces = [places[i : i + _PIECE] for i in range(0, len(places), _PIECE)]
    own = np.concatenate([_hashes(windows[piece]) for piece in pieces])
    found = np.zeros(len(own), bool)
    wanted = np.unique(own)
    for relative, _ in domain.arrays:
        stream = np.load(store / relative, mmap_mode="r", allow_pickle=False)
        rows = stream[: len(stream) // WINDOW * WINDOW].reshape(-1, WINDOW)
        for first in range(0, len(rows), _PIECE):
            trained = _hashes(rows[first : first + _PIECE])
            found |= np.isin(own, trained[np.isin(trained, wanted)])
    steps = np.zeros(len(ids) + 1, np.int64)
    np.add.at(steps, places[found], 1)
    np.add.at(steps, places[found] + WINDOW, -1)
    covered: NDArray[np.bool_] = np.cumsum(steps)[:-1] > 0
    return covered


def _places(offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where a whole window of one document begins."""
    ranges = pairwise(offsets.tolist())
    return np.concatenate([np.arange(a, max(a, b - WINDOW + 1)) for a, b in ranges])


def _hashes(rows: NDArray[np.integer]) -> NDArray[np.uint64]:
    """One number for each window: a random linear form, modulo 2^64."""
    form = np.random.default_rng(0).integers(1, 1 << 63, WINDOW, np.uint64) | np.uint64(1)
    hashed: NDArray[np.uint64] = rows.astype(np.uint64) @ form
    return hashed
