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
from mixture_assets.data.online_layout import OnlineLayout
from mixture_assets.data.sampler import IntArray, Windows
from mixture_assets.data.token_store import DomainTokens
from mixture_assets.methods.basis import Basis, domain_mixture
from mixture_assets.methods.online import (
    Feedback,
    OnlineMethod,
    OnlineState,
    capped,
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

_LEAST_SEQUENCES = 2  # of a group in an update step: fewer give no standard error
_ROUNDING_SEQUENCES = 2  # a domain's count in a period is within this of its weight
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
    basis: Basis | None  # None: every domain is a group of its own
    groups: tuple[str, ...]
    layout: OnlineLayout
    windows: Windows
    specialist: Windows
    specialist_batch: int  # sequences
    seed: int
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
        batch = max(1, spec.training.batch_tokens // context)
        least = max(_LEAST_SEQUENCES, -(-online.group_tokens // context))
        layout = OnlineLayout(
            domains=windows.domains,
            context=context,
            batch=batch,
            update_batch=len(start) * max(least, batch // len(start)),
            update_steps=method.update_steps,
            n_sequences=max(1, round(spec.budget_tokens / context)),
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
            basis=basis,
            groups=tuple(start),
            layout=layout,
            windows=windows,
            specialist=specialist,
            specialist_batch=min(n_specialist, specialist.count(SPECIALIST)),
            seed=spec.seed,
            way=choose_way(model, online.alignment),
            state=state,
            weights=method.sampled(state),
        )
        made._next_period([])
        return made

    # --- what is drawn ------------------------------------------------------------------------

    @property
    def mixture(self) -> Mixture:
        """The present weights of the domains."""
        return domain_mixture(self.basis, self.weights) if self.basis else self.weights

    def batch(self, step: int) -> IntArray:
        """Tokens of a step that is no update step, (B, C + 1)."""
        return self.windows.rows(*self.layout.sequences(step))

    def _room(self) -> dict[str, int] | None:
        """Tokens that each domain may still be read for; None where nothing limits it."""
        if not self.online.most_tokens:
            return None
        drawn = self.layout.realised_tokens
        return {d: max(0, n - drawn[d]) for d, n in self._most().items()}

    def _most(self) -> dict[str, int]:
        """The caps, less what rounding to whole sequences may add."""
        spare = _ROUNDING_SEQUENCES * self.layout.context
        return {d: max(0, n - spare) for d, n in self.online.most_tokens.items()}

    def _strata(self) -> list[tuple[int, int, int]]:
        """(group, domain, sequences) of the coming update step: every group that has room."""
        layout, room = self.layout, self._room()
        per_group = layout.update_batch // len(self.groups)
        need = layout.update_batch * layout.context
        is_open = {d: room is None or room[d] >= need for d in layout.domains}
        index = {d: i for i, d in enumerate(layout.domains)}
        if self.basis is None:
            active = [g for g in self.groups if self.weights[g] > 0 and is_open[g]]
            sizes = _even(layout.update_batch, len(active))
            return [(self.groups.index(g), index[g], n) for g, n in zip(active, sizes, strict=True)]
        rng = np.random.default_rng([self.seed, len(layout.periods)])
        open_D = np.array([is_open[d] for d in self.basis.domains], float)
        rows = []
        for number, group in enumerate(self.groups):
            share_D = self.basis.row(group) * open_D
            if share_D.sum() > 0:
                counts = rng.multinomial(per_group, share_D / share_D.sum())
                found = np.flatnonzero(counts).tolist()
                rows += [(number, index[self.basis.domains[i]], int(counts[i])) for i in found]
        return rows

    def _next_period(self, update: list[tuple[int, int, int]]) -> None:
        """Begin a period with the weights as they are now, within the epoch caps."""
        mixture, layout = self.mixture, self.layout
        if self.online.most_tokens:
            drawn = layout.realised_tokens
            for _, domain, n in update:
                drawn[layout.domains[domain]] += n * layout.context
            # Of the next update step too, so that every domain can be measured there.
            length = layout.length(len(layout.periods)) * layout.context
            mixture = capped(
                mixture,
                period_tokens=length,
                used_tokens=drawn,
                most_tokens=self._most(),
            )
            if self.basis is None:
                self.weights = mixture
        layout.append(mixture, update)

    # --- an update step -----------------------------------------------------------------------

    def backward(self, model: PreTrainedModel, device: Device) -> "Measured":
        """The training gradient of an update step in .grad, and what it was measured against."""
        strata = self._strata()
        group, domain, ordinal = self.layout.stratified(strata)
        tokens = torch.from_numpy(self.windows.rows(domain, ordinal)).to(device.kind)
        loss, gradient = specialist_gradient(
            model, self._specialist_batches(device), autocast=device.autocast
        )
        norm = clip_gradient(gradient, self.online.clip_norm)
        present = np.unique(group)
        names = [self.groups[g] for g in present]
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
        first = (len(self.layout.periods) - 1) * self.specialist_batch
        ordinals = np.arange(first, first + self.specialist_batch)
        rows = self.specialist.rows(np.zeros_like(ordinals), ordinals)
        tokens = torch.from_numpy(rows).to(device.kind)
        return list(torch.split(tokens, self.layout.batch))

    def update(
        self, found: "Measured", train_norm: float, learning_rate: float
    ) -> list[dict[str, Any]]:
        """The weights of the next period from what was measured; the rows that say so."""
        alignment, error = self._clipped(found.step, train_norm)
        feedback = Feedback(
            alignment=alignment,
            standard_error=error,
            learning_rate=learning_rate,
            specialist_norm=found.norm,
            clip_norm=self.online.clip_norm or math.inf,
        )
        self.state = self.method.update(self.state, feedback)
        self.weights = self.method.sampled(self.state)
        self._next_period(found.strata)
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
            for g in self.groups
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
            "layout": self.layout.to_json(),
            "spent": vars(self.spent),
        }

    def restore(self, value: Mapping[str, Any]) -> None:
        """Take up what a checkpoint kept."""
        self.state = OnlineState.from_json(value["method"])
        self.weights = Mixture(value["weights"])
        self.layout.restore(value["layout"])
        self.spent = Spent(**value["spent"])

    def result(self, train_flops_per_token: float) -> dict[str, Any]:
        """What steering cost, and where it ended, for the run's result."""
        drawn = self.layout.realised_tokens
        return {
            "alignment_way": self.way,
            "n_updates": self.state.n_updates,
            "flops_steering": self.spent.overhead_flops(train_flops_per_token, self.way),
            "seconds_steering": self.spent.overhead_seconds,
            "final_weights": dict(self.mixture),
            "mean_weights": {d: n / sum(drawn.values()) for d, n in drawn.items()},
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


def _even(total: int, parts: int) -> list[int]:
    """Whole numbers that sum to `total`, one apart at most."""
    return [total // parts + (i < total % parts) for i in range(parts)]
