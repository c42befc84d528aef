"""What a steered run draws: periods of the present mixture, and update steps from every group.

A period holds the mixture as it stands when the period begins, within the epoch caps; the update
step before it holds sequences of every group that still has any.

Units: sequences of the layout's context, where tokens are not said.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mixture_assets.core.errors import MixtureError
from mixture_assets.core.mixture import Mixture
from mixture_assets.core.units import tokens_text
from mixture_assets.data.online_layout import OnlineLayout, whole_caps
from mixture_assets.data.sampler import BLOCK_STEPS, IntArray
from mixture_assets.methods.basis import Basis, domain_mixture
from mixture_assets.methods.online import capped
from mixture_assets.methods.swarm import Array

Stratum = tuple[int, int, int]  # (group, domain, sequences) of an update step


@dataclass
class Draw:
    """Decides what stands in the layout of a run."""

    layout: OnlineLayout
    basis: Basis | None  # None: every domain is a group of its own
    groups: tuple[str, ...]
    most_tokens: Mapping[str, int]  # by domain, that may ever be drawn; empty: any number
    seed: int
    mixture: Mixture = field(init=False)  # of the domains, in the present period

    def __post_init__(self) -> None:
        self._block = (0, 0)  # period and number of the block of steps that is laid out
        assert self.basis is None or self.basis.domains == self.layout.domains

    def of_domains(self, weights: Mixture) -> Mixture:
        """Weights of the domains from those of the groups, before epoch caps."""
        return domain_mixture(self.basis, weights) if self.basis else weights

    def next_period(self, weights: Mixture, update: list[Stratum]) -> Mixture:
        """Begin a period, within the epoch caps; returns the weights that it samples from.

        Args:
            weights: Of the groups, as the method wants them.
            update: What the update step drew that begins the period.
        """
        layout = self.layout
        self.mixture = self.of_domains(weights)
        length = layout.length(layout.n_periods) * layout.context
        if self.most_tokens and length:  # a period may be its update step alone
            most = whole_caps(self.most_tokens, layout.context)
            used = layout.realised_tokens
            for _, domain, n in update:
                used[layout.domains[domain]] += n * layout.context
            self.mixture = capped(
                self.mixture,
                period_tokens=length,
                used_tokens=used,
                most_tokens={d: n * layout.context for d, n in most.items()},
            )
        layout.append(self.mixture, update)
        return weights if self.basis else self.mixture

    def batch(self, step: int) -> tuple[IntArray, IntArray]:
        """Domain and ordinal of every sequence of a step that is no update step."""
        layout = self.layout
        first = layout.first_step(layout.n_periods - 1)
        block, offset = divmod(step - first, BLOCK_STEPS)
        if self._block != (key := (layout.n_periods, block)):
            self._laid_out = layout.sequences(first + block * BLOCK_STEPS, BLOCK_STEPS)
            self._block = key
        here = slice(offset * layout.batch, (offset + 1) * layout.batch)
        domain, ordinal = self._laid_out
        return domain[here], ordinal[here]

    def strata(self, weights: Mixture) -> list[Stratum]:
        """What the coming update step draws: of every group that has room, as even as there is.

        Raises:
            MixtureError: The caps leave less than the step takes.
        """
        room_D = self._room()
        if self.basis is None:
            found = self._of_domains(room_D)
        else:
            found = self._of_members(self.basis, room_D)
        drawn = sum(n for _, _, n in found)
        if drawn < self.layout.update_batch:
            needed, left = (n * self.layout.context for n in (self.layout.update_batch, drawn))
            raise MixtureError(
                f"an update step of {tokens_text(needed)} tokens would break the epoch cap of "
                f"every domain: {tokens_text(left)} tokens are left",
                hint="lower [full] budget_tokens, raise [constraints] max_epochs, or add data",
            )
        return found

    def _of_domains(self, room_D: IntArray) -> list[Stratum]:
        number = {name: i for i, name in enumerate(self.groups)}
        sizes = shared_out(self.layout.update_batch, room_D.tolist())
        named = zip(self.layout.domains, sizes, strict=True)
        return [(number[name], i, n) for i, (name, n) in enumerate(named) if n]

    def _of_members(self, basis: Basis, room_D: IntArray) -> list[Stratum]:
        """Multinomial draws of every member; what no domain of one can give, others give."""
        rng = np.random.default_rng([self.seed, self.layout.n_periods])
        count_ND = np.zeros(basis.share_ND.shape, np.int64)
        missing, open_N = self.layout.update_batch, np.arange(len(basis))
        while missing and len(open_N):
            sizes = shared_out(missing, [missing] * len(open_N))
            given = []
            for row, size in zip(open_N, sizes, strict=True):
                found_D = _drawn_within(basis.share_ND[row], size, room_D, rng)
                count_ND[row] += found_D
                room_D = room_D - found_D
                given.append(int(found_D.sum()))
            missing -= sum(given)
            open_N = open_N[np.array(given) == sizes]
        return [(int(g), int(d), int(count_ND[g, d])) for g, d in np.argwhere(count_ND)]

    def _room(self) -> IntArray:
        """How much may still be drawn of each domain."""
        if not self.most_tokens:
            return np.full(len(self.layout.domains), self.layout.n_sequences)
        most = whole_caps(self.most_tokens, self.layout.context)
        most_D = np.array([most[d] for d in self.layout.domains])
        return np.maximum(0, most_D - self.layout.drawn)

    def to_json(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return self.layout.to_json() | {"mixture": list(self.mixture.values())}

    def restore(self, value: Mapping[str, Any]) -> None:
        """Take up what a checkpoint kept."""
        self.layout.restore(value)
        self.mixture = Mixture(dict(zip(self.layout.domains, value["mixture"], strict=True)))
        self._block = (0, 0)


def shared_out(total: int, room: Sequence[int]) -> list[int]:
    """Whole numbers, none above its room, as even as that lets them be; they sum to `total`.

    If there is less room than that, all of it.
    """
    found = [0] * len(room)
    while missing := total - sum(found):
        least_first = sorted((n, i) for i, n in enumerate(found) if n < room[i])
        if not least_first:
            break
        for rank, (n, i) in enumerate(least_first):
            share = missing // len(least_first) + (rank < missing % len(least_first))
            found[i] = min(n + share, room[i])
    return found


def _drawn_within(share_D: Array, n: int, room_D: IntArray, rng: np.random.Generator) -> IntArray:
    """How many of n draws fall on each domain; one that is full is left out from there on."""
    count_D = np.zeros(len(share_D), np.int64)
    while missing := n - int(count_D.sum()):
        support = np.flatnonzero((share_D > 0) & (room_D > count_D))
        if not len(support):
            break
        share = share_D[support] / share_D[support].sum()
        drawn = count_D[support] + rng.multinomial(missing, share)
        count_D[support] = np.minimum(drawn, room_D[support])
    return count_D
