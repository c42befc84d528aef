"""Documents that a step of training on would lower the specialist loss most: LESS.

Source: M. Xia, S. Malladi, S. Gururangan, S. Arora, D. Chen, "LESS: Selecting Influential Data
    for Targeted Instruction Tuning", ICML 2024, arXiv:2402.04333, sections 2 and 3, as used by
    J. O. Yin, A. M. Rush, "Compute-Constrained Data Selection", ICLR 2025, arXiv:2410.16208.

For a document z, specialist documents s, and the snapshots i of a run with learning rates eta_i:

    score(z) = sum_i eta_i mean_s cos(P Gamma_i(z), P g_i(s)) / sum_i eta_i
    Gamma = m / (sqrt(v) + eps)    what Adam's next step would be if z were its batch:
    m = (beta1 exp_avg + (1 - beta1) g) / (1 - beta1^t)
    v = (beta2 exp_avg_sq + (1 - beta2) g^2) / (1 - beta2^t), t the steps with this one

g is the gradient of a document's mean loss per token, P a random projection (`sketch`).

Which parameters: weights and biases of the linear layers that the run trained (with LoRA: its
    adapters); embeddings, output projection and norms are left out.

Differs from the source: no embeddings, output projection or norms, where the source takes all
    that is trained (with LoRA the same); eps outside of the root and bias corrections as in the
    paper, where its code has eps inside and no corrections; a projection of one entry per column,
    where the source's has a dense one; learning rates summing to 1; the mean over all specialist
    documents, as for one task. A document counts by its first `most_tokens`, by default one
    window, as the source cuts at 2,048. Each document is its own sequence, an end-of-text before
    it.

Shapes:
    S documents of a batch, K dimensions.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from mixture_assets.core.errors import MixtureError
from mixture_assets.core.run import TrainingSpec
from mixture_assets.selection.documents import Documents, Pool
from mixture_assets.selection.features import Features, Step
from mixture_assets.selection.models import Machine, model_digest, open_model
from mixture_assets.selection.selector import Order
from mixture_assets.selection.sketch import places_of
from mixture_assets.selection.snapshots import (
    Snapshot,
    add_adapters,
    load_trained,
    real_names,
    taking_part,
)
from mixture_assets.selection.windows import batches, windows_of


@dataclass
class Gradient:
    """Mean cosine of each document's step with the specialist documents' gradients, -1 to 1.

    One model is in memory, and beside it the trained parameters and Adam's moments of each
    snapshot.
    """

    snapshots: Sequence[Snapshot]  # of one run, or of runs from one model
    dimensions: int = 8192
    seed: int = 0  # of the projection
    most_tokens: int = 0  # of a document that count; 0: one window of the model
    training: TrainingSpec = field(default_factory=TrainingSpec)  # precision and threads
    batch_tokens: int = 0  # in one backward, which bounds memory; 0: 2,048, on a GPU 32,768
    name: str = "gradient"
    order: Order = "highest"

    def __post_init__(self) -> None:
        first = self._first = _first_of_one_model(self.snapshots)
        self._shapes = taking_part(first)
        self._machine = Machine.for_model(first.model, self.training, self.batch_tokens)
        self._tokens = self.most_tokens or self._machine.context
        if not 0 < self._tokens <= self._machine.context:
            raise MixtureError(
                f"most_tokens of gradient scores is from 1 to the model's context of "
                f"{self._machine.context:,}, got {self.most_tokens:,}",
                hint="0 takes one window",
            )
        self._features: Features | None = None
        self._points: list[_Point] = []
        self._eos_id = 0

    @property
    def settings(self) -> Mapping[str, Any]:
        """Model and snapshots by content, the projection, and the arithmetic."""
        every = sum(map(prod, self._first.shapes().values()))
        taken = sum(map(prod, self._shapes.values()))
        return {
            "model": model_digest(self._first.model),
            "snapshots": [s.digests() for s in self.snapshots],
            "dimensions": self.dimensions,
            "seed": self.seed,
            "most_tokens": self._tokens,
            "layers": "linear layers of the blocks",
            "n_parameters": taken,
            "n_parameters_left_out": every - taken,
            "numeric_path": self._machine.device.numeric_path,
        }

    @property
    def flops(self) -> float:
        """Of forward, backward, and the gradients of sequences; projecting multiplies nothing."""
        return self._features.flops if self._features else 0.0

    @property
    def device(self) -> str:
        """The chip."""
        return self._machine.device.name

    def prepare(self, specialist: Documents, pool: Pool) -> None:
        """Load model and snapshots, and take the specialist documents' gradients.

        Raises:
            MixtureError: A snapshot is not of this model, or the model's tokenizer not the pool's.
        """
        self._eos_id = pool.tokenizer.eos_id
        model = open_model(self._first.model, pool.tokenizer, self._machine)
        add_adapters(model, self._first)
        device = self._machine.device
        places = places_of(
            self._shapes, dimensions=self.dimensions, seed=self.seed, device=device.kind
        )
        names = real_names(model)
        self._features = Features(
            model, {names[n]: p for n, p in places.items()}, self.dimensions, device
        )
        self._points = [_Point.open(s, self._features) for s in self.snapshots]
        total = sum(point.step.learning_rate for point in self._points)
        for point in self._points:
            mean_K = torch.zeros(self.dimensions, dtype=torch.float64, device=device.kind)
            for _, rows_SK in self._rows(point, specialist, None):
                mean_K += rows_SK.sum(dim=0) / len(specialist)
            point.target_K = mean_K * (point.step.learning_rate / total)

    def score(self, documents: Documents) -> NDArray[np.float64]:
        """One number for each document."""
        assert self._points  # prepared
        scores = np.zeros(len(documents))
        for point in self._points:
            for owner, rows_SK in self._rows(point, documents, point.step):
                scores[owner] += (rows_SK @ point.target_K).cpu().numpy()
        return scores

    def _rows(
        self, point: "_Point", documents: Documents, step: Step | None
    ) -> Iterator[tuple[NDArray[np.int64], Tensor]]:
        """Rows of documents, and their features, of length 1."""
        assert self._features is not None
        load_trained(self._features.model, point.trained, point.folder)
        windows = windows_of(documents.n_tokens, self._tokens, most_windows=1)
        size = {"eos_id": self._eos_id, "batch_tokens": self._machine.batch_tokens}
        for batch in batches(documents, windows, **size):
            yield batch.owner_W, F.normalize(self._features.of(batch, step).double(), dim=1)


@dataclass
class _Point:
    """A snapshot in memory."""

    folder: Path
    trained: Mapping[str, Tensor]  # parameters, on the model's device
    step: Step
    target_K: Tensor  # mean of the specialist documents' features, times the weight

    @classmethod
    def open(cls, snapshot: Snapshot, features: Features) -> "_Point":
        kind = features.device.kind
        trained = {n: t.to(kind) for n, t in snapshot.trained().items()}
        names = real_names(features.model)
        step = Step.of(snapshot.moments(), features.places, names)
        return cls(snapshot.folder, trained, step, torch.zeros(features.dimensions))


def _first_of_one_model(snapshots: Sequence[Snapshot]) -> Snapshot:
    if not snapshots:
        raise MixtureError(
            "gradient scores need a snapshot of a run, and got none",
            hint="train on the specialist set's steering part with snapshots = 4",
        )
    digests = {model_digest(s.model) for s in snapshots}
    names = [set(s.shapes()) for s in snapshots]
    if len(digests) > 1 or any(n != names[0] for n in names):
        raise MixtureError(
            f"the {len(snapshots)} snapshots are not of one model with the same trained parameters",
            hint="give the snapshots of one run",
        )
    return snapshots[0]
