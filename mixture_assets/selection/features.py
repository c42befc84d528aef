"""Projected gradients, and projected Adam steps, of the documents of a batch.

Shapes:
    S sequences of at most L tokens, K buckets, R x D entries of a parameter as they are placed.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from mixture_assets.selection.models import gradient_flops
from mixture_assets.selection.sequence_gradients import watched
from mixture_assets.selection.sketch import Places
from mixture_assets.selection.snapshots import Moments
from mixture_assets.selection.windows import IGNORED, Batch
from mixture_assets.training.device import Device

# Entries of gradients that are formed at once: on a CPU 1 MB, which stays near the core.
_ENTRIES = {"cpu": 1 << 18, "cuda": 1 << 26}


@dataclass(frozen=True)
class Step:
    """What Adam's next step would make of a gradient g that is placed, times a constant.

    (a + sign g) / (sqrt(b + share g^2) + eps), a and b being what the moments contribute; the
    constant is that g's share of the first moment is taken for 1.
    """

    a_RD: Mapping[str, Tensor]
    b_RD: Mapping[str, Tensor]
    share: float  # of the squared gradient in the second moment
    eps: float
    learning_rate: float

    @classmethod
    def of(cls, moments: Moments, places: Mapping[str, Places], names: Mapping[str, str]) -> "Step":
        """From a snapshot's moments.

        Args:
            moments: By the snapshot's names.
            places: By the model's names.
            names: The model's, by the snapshot's.
        """
        corrected = 1 - moments.beta2 ** (moments.adam_step + 1)
        a, b = {}, {}
        for plain, name in names.items():
            if name in places:
                at = places[name]
                m, v = (t.to(at.sign_RD.device) for t in moments.of(plain))
                a[name] = at.signed(m) * (moments.beta1 / (1 - moments.beta1))
                b[name] = at.columns(v) * (moments.beta2 / corrected)
        share = (1 - moments.beta2) / corrected
        return cls(a, b, share, moments.eps, moments.learning_rate)

    def take(self, name: str, g_SRD: Tensor, sign_RD: Tensor) -> Tensor:
        """Signed steps of gradients."""
        below = torch.addcmul(self.b_RD[name], g_SRD, g_SRD, value=self.share)
        below.sqrt_().add_(self.eps)
        return torch.addcmul(self.a_RD[name], g_SRD, sign_RD, out=g_SRD).div_(below)


class Features:
    """A model whose sequences' gradients are projected."""

    def __init__(
        self, model: PreTrainedModel, places: Mapping[str, Places], dimensions: int, device: Device
    ) -> None:
        self.model, self.places, self.dimensions, self.device = model, places, dimensions, device
        self.flops = 0.0
        self._taken = sum(model.get_parameter(name).numel() for name in places)

    def of(self, batch: Batch, step: Step | None) -> Tensor:
        """S x K, fp32: of each window's mean loss per token; steps, or plain gradients for None."""
        labels = batch.label_WL.to(self.device.kind)
        total_SK = torch.zeros(len(labels), self.dimensions, device=self.device.kind)

        def consume(name: str, left: Tensor, right: Tensor) -> None:
            self._add(name, left, right, step, total_SK)

        with watched(self.model, self.places, consume):
            inputs = batch.input_WL.to(self.device.kind)
            with self.device.autocast():
                logits = self.model(input_ids=inputs, use_cache=False).logits
            nats = F.cross_entropy(
                logits.float().flatten(0, 1),
                labels.flatten(),
                ignore_index=IGNORED,
                reduction="none",
            ).view(labels.shape)
            (nats.sum(dim=1) / (labels != IGNORED).sum(dim=1)).sum().backward()  # type: ignore[no-untyped-call]
        per_token = gradient_flops(self.model, self._taken, labels.shape[1])
        self.flops += per_token * batch.n_tokens
        return total_SK

    def _add(
        self, name: str, left: Tensor, right: Tensor, step: Step | None, total_SK: Tensor
    ) -> None:
        """Form gradients of a few sequences at a time, and add them to their buckets."""
        places, sign_RD = self.places[name], self.places[name].sign_RD
        left_SRL, right_SLD = left.transpose(1, 2), places.columns(right)
        at_once = max(1, _ENTRIES[self.device.kind] // sign_RD.numel())
        for first in range(0, len(total_SK), at_once):
            part = slice(first, first + at_once)
            g_SRD = torch.bmm(left_SRL[part], right_SLD[part]).float()
            placed = g_SRD.mul_(sign_RD) if step is None else step.take(name, g_SRD, sign_RD)
            places.add(placed, total_SK[part])
