"""Two engines that encode text: gigatoken, fast and young, and Hugging Face `tokenizers`.

gigatoken runs on all cores, except inside a multiprocessing worker, where it keeps to one; its
ids are the same either way. RAYON_NUM_THREADS=1 and TOKENIZERS_PARALLELISM=false keep both
engines on one core anywhere.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from mixture_assets.data.messages import first_sentence

Encoded = tuple[NDArray[np.uint32], NDArray[np.int64]]  # ids of all documents, ids in each


def reference_encode(tokenizer: Tokenizer, texts: Sequence[str]) -> Encoded:
    """Encode with `tokenizers`: the definition of what the ids should be."""
    rows = [e.ids for e in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
    lengths = np.array([len(row) for row in rows], np.int64)
    flat = np.fromiter((i for row in rows for i in row), np.uint32, int(lengths.sum()))
    return flat, lengths


def fast_encode(tokenizer: Any, texts: Sequence[bytes]) -> Encoded:
    """Encode UTF-8 with a gigatoken tokenizer."""
    layout = tokenizer.encode_batch(list(texts)).layout
    offsets = np.asarray(layout.offsets.data)
    ids = np.asarray(layout.content.data)[offsets[0] : offsets[-1]]
    return ids.astype(np.uint32, copy=False), np.diff(offsets).astype(np.int64)


def open_fast(tokenizer_json: str) -> tuple[Any | None, str]:
    """Open a tokenizer.json with gigatoken; None and the reason where that is impossible."""
    try:
        import gigatoken  # has no wheel for some platforms
    except ImportError:
        return None, "it is not installed"
    try:
        return gigatoken.Tokenizer.from_json(tokenizer_json), ""
    except (RuntimeError, ValueError, TypeError, KeyError) as error:  # a model that it lacks
        return None, first_sentence(error)
