"""Documents as windows of a model's context, in batches of windows of about one length.

A document stands alone: an end-of-text token before it, as in training, and each of its tokens is
predicted once, from what stands before it in its window.

Shapes:
    W windows of a batch, of at most L tokens.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from mixture_assets.selection.documents import Documents

IGNORED = -100  # the label of what is not predicted


@dataclass(frozen=True, eq=False)
class Windows:
    """Pieces of documents."""

    owner: NDArray[np.int64]  # the row of its document
    start: NDArray[np.int64]  # its first token in the document
    length: NDArray[np.int64]  # tokens, from 1 to the context


@dataclass(frozen=True, eq=False)
class Batch:
    """Windows side by side; short ones are filled up at the end, where no token looks."""

    owner_W: NDArray[np.int64]
    input_WL: torch.Tensor
    label_WL: torch.Tensor  # the token after each input, or IGNORED
    n_tokens: int  # that are predicted


def windows_of(n_tokens: NDArray[np.int64], context: int, most_windows: int = 0) -> Windows:
    """Cut documents from their beginning, one window after the other without overlap.

    Args:
        n_tokens: By document.
        context: Of the model.
        most_windows: Of a document, from its beginning; 0: all.
    """
    n_windows = -(-n_tokens // context)
    if most_windows:
        n_windows = np.minimum(n_windows, most_windows)
    owner = np.repeat(np.arange(len(n_tokens)), n_windows)
    first = np.cumsum(n_windows) - n_windows
    start = (np.arange(len(owner)) - first[owner]) * context
    return Windows(owner, start, np.minimum(n_tokens[owner] - start, context))


def batches(
    documents: Documents, windows: Windows, *, eos_id: int, batch_tokens: int
) -> Iterator[Batch]:
    """All windows, the longest first, at most `batch_tokens` at once or one window."""
    ids, order = documents.input_ids, np.argsort(-windows.length, kind="stable")
    first = 0
    while first < len(order):
        longest = int(windows.length[order[first]])
        rows = order[first : first + max(1, batch_tokens // longest)]
        # Filling up costs like tokens: stop early, rather than put short beside long.
        n_alike = int((8 * windows.length[rows] >= 7 * longest).sum())
        rows = rows[: max(n_alike, len(rows) // 4)]
        first += len(rows)
        owner, start, length = (a[rows] for a in (windows.owner, windows.start, windows.length))
        at = (documents.offsets[owner] + start)[:, None] + np.arange(longest)
        is_own = np.arange(longest) < length[:, None]
        labels = np.where(is_own, ids[np.minimum(at, len(ids) - 1)].astype(np.int64), IGNORED)
        inputs = np.full_like(labels, eos_id)
        inputs[:, 1:] = np.where(is_own[:, 1:], labels[:, :-1], eos_id)
        goes_on = start > 0  # its first token has one before it, which is not end-of-text
        inputs[goes_on, 0] = ids[at[goes_on, 0] - 1]
        yield Batch(owner, torch.from_numpy(inputs), torch.from_numpy(labels), int(length.sum()))
