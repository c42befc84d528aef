"""Documents by how well a model that was fine-tuned on the specialist set predicts them.

Source: J. O. Yin, A. M. Rush, "Compute-Constrained Data Selection", ICLR 2025, arXiv:2410.16208,
    the methods "Top PPL" and "Mid PPL".

A score is the mean loss of a document's tokens, in nats: the logarithm of its perplexity.

Order:
    'middle' (the default) takes the middle third by score first, shuffled by a seed, then the
    lowest third, then the highest: what the source's code does for Mid-PPL. 'lowest' takes what
    the model knows best, 'highest' what it knows least. The source's text says that Top-PPL takes
    the highest perplexities, its code takes the lowest third, shuffled: ours are named for what
    they do, and go strictly by score.

Differs from the source: windows of the model's context follow each other without overlap, where
    the source moves windows of 2,048 tokens by 512. Each token is predicted once, which costs a
    quarter of the source's pass; tokens at the start of a window are predicted from fewer before
    them, so that long documents seem a little harder. A document's first token is predicted from
    end-of-text, as in training. Who fine-tunes the model, and how, is the caller's business.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from transformers import PreTrainedModel

from mixture_assets.core.run import TrainingSpec
from mixture_assets.selection.documents import Documents, Pool
from mixture_assets.selection.models import Machine, forward_flops, model_digest, open_model
from mixture_assets.selection.selector import Order
from mixture_assets.selection.windows import IGNORED, Batch, batches, windows_of


@dataclass
class Perplexity:
    """Mean nats per token of each document."""

    folder: Path  # config.json and model.safetensors of the fine-tuned model
    order: Order = "middle"
    training: TrainingSpec = field(default_factory=TrainingSpec)  # precision and threads
    batch_tokens: int = 0  # in one forward pass, which bounds memory; 0: 2,048, on a GPU 32,768
    name: str = "perplexity"
    flops: float = 0.0

    def __post_init__(self) -> None:
        self._machine = Machine.for_model(self.folder, self.training, self.batch_tokens)
        self._model: PreTrainedModel | None = None
        self._eos_id = 0

    @property
    def settings(self) -> Mapping[str, Any]:
        """The model, by content, and the arithmetic."""
        path = self._machine.device.numeric_path
        return {"model": model_digest(self.folder), "numeric_path": path}

    @property
    def device(self) -> str:
        """The chip."""
        return self._machine.device.name

    def prepare(self, specialist: Documents, pool: Pool) -> None:
        """Load the model; the specialist set is in its weights."""
        self._model = open_model(self.folder, pool.tokenizer, self._machine)
        self._eos_id = pool.tokenizer.eos_id

    def score(self, documents: Documents) -> NDArray[np.float64]:
        """One number for each document."""
        assert self._model is not None  # prepared
        n_tokens = documents.n_tokens
        windows = windows_of(n_tokens, self._machine.context)
        size = {"eos_id": self._eos_id, "batch_tokens": self._machine.batch_tokens}
        nats = np.zeros(len(documents))
        for batch in batches(documents, windows, **size):
            np.add.at(nats, batch.owner_W, self._nats(self._model, batch))
            self.flops += forward_flops(self._model, batch.input_WL.shape[1]) * batch.n_tokens
        return nats / n_tokens

    @torch.inference_mode()
    def _nats(self, model: PreTrainedModel, batch: Batch) -> NDArray[np.float64]:
        """Of each window, summed over its tokens."""
        device = self._machine.device
        labels = batch.label_WL.to(device.kind)
        with device.autocast():
            logits = model(input_ids=batch.input_WL.to(device.kind), use_cache=False).logits
        nats = F.cross_entropy(
            logits.float().flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="none"
        )
        sums: NDArray[np.float64] = nats.view(labels.shape).double().sum(dim=1).cpu().numpy()
        return sums
