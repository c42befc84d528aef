"""A run that steers its own mixture: what it draws, when it measures, what it remembers.

The parts meet here: the layout grows by a period at a time (data.online_layout), an update step
measures alignments (training.alignment), and a method turns them into the next mixture
(methods.online). A checkpoint keeps the state of all three; everything else follows from it, so
that a run that was killed ends in the same bits.

Differs from the source:
    Alignments are measured at the parameters before the update step, on its own training batch,
    not on further batches after it; the first update comes after `update_steps` steps.
"""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from mixture_assets.core.mixture import Mixture
from mixture_assets.core.names import SPECIALIST
from mixture_assets.core.run import OnlineSpec, RunSpec
from mixture_assets.data.online_layout import LEAST_SEQUENCES, OnlineLayout
from mixture_assets.data.sampler import IntArray, Windows
from mixture_assets.data.token_store import DomainTokens
from mixture_assets.methods.basis import Basis
from mixture_assets.methods.online import (
    Feedback,
    OnlineMethod,
    OnlineState,
    online_method,
)
from mixture_assets.training.alignment import (
    AlignedStep,
    Way,
    aligned_backward,
    choose_way,
    clip_gradient,
    specialist_gradient,
)
from mixture_assets.training.device import Device
from mixture_assets.training.draw import Draw

# What measuring adds to the training of an update step's tokens, as a share of their FLOPs.
_EXTRA_FLOPS: Mapping[Way, float] = {
    "ghost": 1 / 3,  # one more product per layer
    "jvp": 2 / 3,  # a forward pass and its tangent
    "finite_difference": 2 / 3,  # two forward passes
    "naive": 1.0,  # forward and backward of every group
}


@dataclass
class Spent:
    """Where the time of an online run went, in this and earlier processes."""

    update_seconds: float = 0.0
    update_tokens: int = 0  # of update steps' training batches
    specialist_tokens: int = 0
    plain_seconds: float = 0.0
    plain_tokens: int = 0

    @property
    def overhead_seconds(self) -> float | None:
        """Time that a static run of the same tokens would not have taken; None if unknown."""
        if not self.plain_tokens:
            return None
        rate = self.plain_seconds / self.plain_tokens
        return self.update_seconds - rate * self.update_tokens

    def overhead_flops(self, train_flops_per_token: float, way: Way) -> float:
        """The same in FLOPs."""
        tokens = self.specialist_tokens + _EXTRA_FLOPS[way] * self.update_tokens
        return train_flops_per_token * tokens


@dataclass
class Steering:
    """The moving parts of an online run."""

    online: OnlineSpec
    method: OnlineMethod
    draw: Draw
    windows: Windows
    specialist: Windows
    specialist_batch: int  # sequences
    way: Way
    state: OnlineState
    weights: Mixture  # over groups, that the present period samples from
    spent: Spent = field(default_factory=Spent)

    @classmethod
    def begin(
        cls, spec: RunSpec, tokens: Mapping[str, DomainTokens], store: Path, model: PreTrainedModel
    ) -> "Steering":
        """A run that has drawn nothing yet."""
        online, context = spec.online, spec.model.context
        assert online is not None
        method = online_method(online.method, online.settings)
        basis = Basis.of(online.basis) if online.basis else None
        start = Mixture.uniform(list(online.basis)) if basis else _start(spec)
        windows = Windows(
            sorted(tokens),
            {d: t.windows(store) for d, t in tokens.items()},
            context=context,
            seed=spec.seed,
        )
        windows.require(windows.domains)
        layout = OnlineLayout.planned(
            windows.domains,
            n_groups=len(start),
            budget_tokens=spec.budget_tokens,
            batch_tokens=spec.training.batch_tokens,
            group_tokens=online.group_tokens,
            update_steps=method.update_steps,
            context=context,
        )
        steering_set = DomainTokens.load(store, SPECIALIST, online.specialist)
        specialist = Windows(
            [SPECIALIST], {SPECIALIST: steering_set.windows(store)}, context=context, seed=spec.seed
        )
        n_specialist = max(1, online.specialist_tokens // context)
        state = method.start(start)
        made = cls(
            online=online,
            method=method,
            draw=Draw(layout, basis, tuple(start), online.most_tokens, spec.seed),
            windows=windows,
            specialist=specialist,
            specialist_batch=min(n_specialist, specialist.count(SPECIALIST)),
            way=choose_way(model, online.alignment),
            state=state,
            weights=method.sampled(state),
        )
        made.weights = made.draw.next_period(made.weights, [])
        return made

    # --- what is drawn ------------------------------------------------------------------------

    @property
    def layout(self) -> OnlineLayout:
        """The run's sequences, as far as they are known."""
        return self.draw.layout

    @property
    def mixture(self) -> Mixture:
        """The present weights of the domains, as they are drawn: within the epoch caps."""
        return self.draw.mixture

    def batch(self, step: int) -> IntArray:
        """Tokens of a step that is no update step, (B, C + 1)."""
        return self.windows.rows(*self.draw.batch(step))

    # --- an update step -----------------------------------------------------------------------

    def backward(self, model: PreTrainedModel, device: Device) -> "Measured":
        """The training gradient of an update step in .grad, and what it was measured against."""
        strata = self.draw.strata(self.weights)
        group, domain, ordinal = self.layout.stratified(strata)
        tokens = torch.from_numpy(self.windows.rows(domain, ordinal)).to(device.kind)
        loss, gradient = specialist_gradient(
            model, self._specialist_batches(device), autocast=device.autocast
        )
        norm = clip_gradient(gradient, self.online.clip_norm)
        present = np.unique(group)
        names = [self.draw.groups[g] for g in present]
        step = aligned_backward(
            model,
            tokens,
            np.searchsorted(present, group),
            names,
            self._shares(names),
            gradient,
            way=self.way,
            micro_sequences=self.layout.batch,
            autocast=device.autocast,
        )
        return Measured(step, strata, loss, norm)

    def _shares(self, names: list[str]) -> dict[str, float]:
        """Weights of the groups in the batch; what is used up leaves its share to the others."""
        total = sum(self.weights[g] for g in names)
        return {g: self.weights[g] / total for g in names}

    def _specialist_batches(self, device: Device) -> list[torch.Tensor]:
        first = (self.layout.n_periods - 1) * self.specialist_batch
        ordinals = np.arange(first, first + self.specialist_batch)
        rows = self.specialist.rows(np.zeros_like(ordinals), ordinals)
        tokens = torch.from_numpy(rows).to(device.kind)
        return list(torch.split(tokens, self.layout.batch))

    def update(
        self, found: "Measured", train_norm: float, learning_rate: float
    ) -> list[dict[str, Any]]:
        """The weights of the next period from what was measured; the rows that say so."""
        alignment, error = self._clipped(found.step, train_norm)
        n_measured = found.step.alignments.n_sequences
        for name in [g for g in alignment if n_measured[g] < LEAST_SEQUENCES]:
            del alignment[name]  # all that its cap left: too little to judge by
        feedback = Feedback(
            alignment=alignment,
            standard_error=error,
            learning_rate=learning_rate,
            specialist_norm=found.norm,
            clip_norm=self.online.clip_norm or math.inf,
        )
        self.state = self.method.update(self.state, feedback)
        self.weights = self.draw.next_period(self.method.sampled(self.state), found.strata)
        rows = self.rows()
        for row in rows:
            name = row["domain"]
            row["loss_nats"] = found.loss_nats
            if name in alignment:
                row |= {"alignment": alignment[name], "alignment_se": error[name]}
        return rows

    def rows(self) -> list[dict[str, Any]]:
        """The present weight of every group, as rows for the log."""
        return [
            {"domain": g, "weight": self.weights[g], "iterate": self.state.weights[g]}
            for g in self.draw.groups
        ]

    def _clipped(
        self, step: AlignedStep, train_norm: float
    ) -> tuple[dict[str, float], dict[str, float]]:
        """Alignments of gradients that are clipped as asked, and their standard errors."""
        found, limit = step.alignments, self.online.clip_norm
        norms = dict.fromkeys(found.value, train_norm)
        if self.online.clip_by == "domain":
            assert found.norm is not None  # the way is 'naive'
            norms = found.norm
        factor = {g: min(1.0, limit / max(n, 1e-12)) if limit else 1.0 for g, n in norms.items()}
        value = {g: a * factor[g] for g, a in found.value.items()}
        return value, {g: e * factor[g] for g, e in found.standard_error.items()}

    # --- what a checkpoint keeps --------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        """The state, as a JSON value."""
        return {
            "method": self.state.to_json(),
            "weights": dict(self.weights),
            "draw": self.draw.to_json(),
            "spent": vars(self.spent),
        }

    def restore(self, value: Mapping[str, Any]) -> None:
        """Take up what a checkpoint kept."""
        self.state = OnlineState.from_json(value["method"])
        self.weights = Mixture(value["weights"])
        self.draw.restore(value["draw"])
        self.spent = Spent(**value["spent"])

    def result(self, train_flops_per_token: float) -> dict[str, Any]:
        """What steering cost, and where it ended, for the run's result."""
        drawn, answer = self.layout.realised_tokens, self.method.mean_weights(self.state)
        told = {} if answer is None else {"mean_weights": dict(self.draw.of_domains(answer))}
        return told | {
            "alignment_way": self.way,
            "n_updates": self.state.n_updates,
            "update_share": self.layout.update_share,
            "flops_steering": self.spent.overhead_flops(train_flops_per_token, self.way),
            "seconds_steering": self.spent.overhead_seconds,
            "final_weights": dict(self.mixture),
            "drawn_shares": {d: n / sum(drawn.values()) for d, n in drawn.items()},
        }

    def timed(self, begun: float, n_tokens: int, *, is_update: bool) -> None:
        """Book the time of a step that began at `begun` and trained on `n_tokens`."""
        seconds = time.perf_counter() - begun
        if is_update:
            self.spent.update_seconds += seconds
            self.spent.update_tokens += n_tokens
            self.spent.specialist_tokens += self.specialist_batch * self.layout.context
        else:
            self.spent.plain_seconds += seconds
            self.spent.plain_tokens += n_tokens


@dataclass(frozen=True)
class Measured:
    """What an update step found."""

    step: AlignedStep
    strata: list[tuple[int, int, int]]
    loss_nats: float  # of the specialist batch
    norm: float  # of its gradient, before clipping


def _start(spec: RunSpec) -> Mixture:
    return Mixture.proportional_to(spec.tokens)
