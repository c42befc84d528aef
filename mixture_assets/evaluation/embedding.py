"""Documents as the mean of a language model's last hidden states.

Any causal model in a folder of transformers' will do; a finished proxy run leaves one.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from transformers import AutoModel, AutoTokenizer

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

_CONTEXT = 512  # where a model does not say
_WINDOWS = 4  # of a document that are read
_BATCH = 32  # windows in one forward pass


class ModelEmbedding:
    """Means of the last hidden states over the first four windows of a document.

    A row is the same in any batch up to rounding.
    """

    def __init__(self, folder: Path, *, settings: Mapping[str, Any]) -> None:
        self.settings = settings
        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        self._model = AutoModel.from_pretrained(folder).eval()
        self._context = int(getattr(self._model.config, "max_position_embeddings", _CONTEXT))
        self.flops = 0.0  # of all forward passes so far: 2 N T, input embeddings apart

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """N x K, float32, of length 1; zeros for an empty text."""
        windows, owners = [], []
        for number, text in enumerate(texts):
            for window in self._windows(text):
                windows.append(window)
                owners.append(number)
        self.flops += 2.0 * self._n_params * sum(map(len, windows))
        total = torch.zeros(len(texts), int(self._model.config.hidden_size), dtype=torch.float64)
        for first in range(0, len(windows), _BATCH):
            sums = summed_states(self._model, windows[first : first + _BATCH])
            total.index_add_(0, torch.tensor(owners[first : first + _BATCH]), sums)
        return torch.nn.functional.normalize(total, dim=1).float().numpy()

    @property
    def _n_params(self) -> int:
        looked_up = self._model.get_input_embeddings().weight.numel()
        every = sum(int(p.numel()) for p in self._model.parameters())
        return every - int(looked_up)

    def _windows(self, text: str) -> list[list[int]]:
        # Cut first: tokens have about 4 characters, and a document can be a book.
        most = _WINDOWS * self._context
        ids = self._tokenizer(text[: most * 8], add_special_tokens=False)["input_ids"][:most]
        return [ids[i : i + self._context] for i in range(0, len(ids), self._context)]


@torch.inference_mode()
def summed_states(model: Any, windows: Sequence[Sequence[int]]) -> torch.Tensor:
    """Windows x K, float64: last hidden states summed over each window's own tokens.

    Windows of different lengths are padded at the end, which a causal model does not look at.
    """
    longest = max(map(len, windows))
    ids = torch.zeros(len(windows), longest, dtype=torch.long)
    is_own = torch.zeros(len(windows), longest, 1, dtype=torch.float64)
    for row, window in enumerate(windows):
        ids[row, : len(window)] = torch.tensor(window)
        is_own[row, : len(window)] = 1
    states = model(input_ids=ids.to(model.device), use_cache=False).last_hidden_state
    sums: torch.Tensor = (states.double().cpu() * is_own).sum(dim=1)
    return sums
