"""What a steered run draws: periods of the present mixture, and update steps from every group.

A period holds the mixture as it stands when the period begins, within the epoch caps; the update
step before it holds sequences of every group that still has any.

Units: sequences of the layout's context, where tokens are not said.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from mixture_assets.core.mixture import Mixture
from mixture_assets.data.online_layout import OnlineLayout
from mixture_assets.methods.basis import Basis, domain_mixture
from mixture_assets.methods.online import capped

_ROUNDING_SEQUENCES = 2  # a domain's count in a period is within this of its weight

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

    def next_period(self, weights: Mixture, update: list[Stratum]) -> Mixture:
        """Begin a period, within the epoch caps; returns the weights that it samples from.

        Args:
            weights: Of the groups, as the method wants them.
            update: What the update step drew that begins the period.
        """
        layout = self.layout
        self.mixture = domain_mixture(self.basis, weights) if self.basis else weights
        length = layout.length(len(layout.periods)) * layout.context
        if self.most_tokens and length:  # a period may be its update step alone
            drawn = layout.realised_tokens
            for _, domain, n in update:
                drawn[layout.domains[domain]] += n * layout.context
            self.mixture = capped(
                self.mixture, period_tokens=length, used_tokens=drawn, most_tokens=self._most()
            )
        layout.append(self.mixture, update)
        return weights if self.basis else self.mixture

    def _room(self) -> dict[str, int] | None:
        """Tokens that each domain may still be read for; None where nothing limits it."""
        if not self.most_tokens:
            return None
        drawn = self.layout.realised_tokens
        return {d: max(0, n - drawn[d]) for d, n in self._most().items()}

    def _most(self) -> dict[str, int]:
        """The caps, less what rounding to whole sequences may add."""
        spare = _ROUNDING_SEQUENCES * self.layout.context
        return {d: max(0, n - spare) for d, n in self.most_tokens.items()}

    def strata(self, weights: Mixture) -> list[Stratum]:
        """What the coming update step draws: of every group that has room."""
        layout, room = self.layout, self._room()
        per_group = layout.update_batch // len(self.groups)
        need = layout.update_batch * layout.context
        is_open = {d: room is None or room[d] >= need for d in layout.domains}
        index = {d: i for i, d in enumerate(layout.domains)}
        if self.basis is None:
            active = [g for g in self.groups if weights[g] > 0 and is_open[g]]
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


def _even(total: int, parts: int) -> list[int]:
    """Whole numbers that sum to `total`, one apart at most."""
    return [total // parts + (i < total % parts) for i in range(parts)]
