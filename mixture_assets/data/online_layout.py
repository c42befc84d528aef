"""Which tokens stand in which step of a run whose mixture changes while it trains.

A period begins with an update step, whose batch is stratified (as many sequences of every
group), and goes on with steps that hold the period's mixture; the first period has no update
step. What a period holds is fixed when it begins, by the mixture that holds from there on and by
what was drawn before. So the layout is state: it goes from period to period, and the present one
with the sums over all before it is all that a resumed run needs.

Units: sequences of `context` tokens. Domains and groups in sorted order.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixture_assets.data.sampler import IntArray, largest_remainder, slice_phase

LEAST_SEQUENCES = 2  # of a group in an update step: fewer give no standard error
MOST_UPDATE_SHARE = 0.1  # of the tokens in update steps that are longer than others
_KEPT = ("counts", "drawn", "_mixed", "owed")
_ROUNDING = 2  # what a domain has drawn is within this of what mixtures gave it


def n_sequences(budget_tokens: int, context: int) -> int:
    """Length of a run."""
    return max(1, round(budget_tokens / context))


def whole_caps(most_tokens: Mapping[str, int], context: int) -> dict[str, int]:
    """Sequences that a domain's mixtures may give it, so that it never draws more than a cap."""
    return {d: max(0, n // context - _ROUNDING) for d, n in most_tokens.items()}


@dataclass
class OnlineLayout:
    """The steps of an online run: those of its present period."""

    domains: tuple[str, ...]
    context: int
    batch: int  # sequences in a step that is no update step
    update_batch: int  # in one that is
    update_steps: int  # from one update step to the next
    n_sequences: int  # of the whole run, asked for
    n_periods: int = field(init=False, default=0)  # begun, the present one included
    counts: IntArray = field(init=False)  # by domain, of the present period's mixture
    drawn: IntArray = field(init=False)  # by domain, to the end of the present period
    owed: NDArray[np.float64] = field(init=False)  # the mixtures' share of all steps but updates

    def __post_init__(self) -> None:
        self.counts, self.drawn, self._mixed = np.zeros((3, len(self.domains)), np.int64)
        self.owed = np.zeros(len(self.domains))  # _mixed: drawn, without update steps

    @classmethod
    def planned(
        cls,
        domains: Sequence[str],
        *,
        n_groups: int,
        budget_tokens: int,
        batch_tokens: int,
        group_tokens: int,
        update_steps: int,
        context: int,
    ) -> "OnlineLayout":
        """The layout of a run, nothing of which is drawn yet.

        Args:
            domains: Sorted.
            n_groups: What the method weighs: domains, or members of a basis.
            budget_tokens: Of the whole run.
            batch_tokens: Of a step that is no update step.
            group_tokens: Of each group in an update step, at least; fewer, down to two sequences,
                where update steps would take more than MOST_UPDATE_SHARE of the tokens.
            update_steps: From one update step to the next.
            context: Tokens of a sequence.
        """
        batch = max(1, batch_tokens // context)
        others = (update_steps - 1) * batch  # sequences from one update step to the next
        fitting = int(others / (n_groups * (1 / MOST_UPDATE_SHARE - 1)))
        wanted = min(fitting, -(-group_tokens // context))
        per_group = max(LEAST_SEQUENCES, batch // n_groups, wanted)
        return cls(
            domains=tuple(domains),
            context=context,
            batch=batch,
            update_batch=n_groups * per_group,
            update_steps=update_steps,
            n_sequences=n_sequences(budget_tokens, context),
        )

    @property
    def n_updates(self) -> int:
        """Update steps of the whole run: those that it holds to their end."""
        per_period = self.update_batch + (self.update_steps - 1) * self.batch
        before_first = self.update_steps * self.batch
        return max(0, (self.n_sequences - before_first - self.update_batch) // per_period + 1)

    @property
    def update_share(self) -> float:
        """Share of the run's tokens that update steps take."""
        return self.n_updates * self.update_batch / self.n_sequences

    @property
    def n_steps(self) -> int:
        """Of the whole run; the last step may be shorter."""
        extra = self.n_updates * (self.update_batch - self.batch)
        return -(-(self.n_sequences - extra) // self.batch)

    def is_update(self, step: int) -> bool:
        """Whether alignments are measured in a step; before the first there is nothing to steer."""
        number, offset = divmod(step, self.update_steps)
        return offset == 0 and 0 < number <= self.n_updates

    def period_of(self, step: int) -> int:
        """Number of the period that a step belongs to, from 0."""
        return min(step // self.update_steps, self.n_updates)

    def first_sequence(self, step: int) -> int:
        """Sequences drawn before a step."""
        n_updates = min(max(0, step - 1) // self.update_steps, self.n_updates)
        n_sequences = step * self.batch + n_updates * (self.update_batch - self.batch)
        return min(n_sequences, self.n_sequences)

    def _mixed_from(self, period: int) -> int:
        """The first sequence of a period after its update step."""
        return self.first_sequence(self.first_step(period))

    def length(self, period: int) -> int:
        """Sequences of a period after its update step."""
        is_last = period == self.n_updates
        end = self.n_sequences if is_last else self.first_sequence((period + 1) * self.update_steps)
        return end - self._mixed_from(period)

    def append(
        self, mixture: Mapping[str, float], update: Sequence[tuple[int, int, int]] = ()
    ) -> None:
        """Begin the next period: its mixture, and the sequences of its update step."""
        share = np.array([mixture.get(name, 0.0) for name in self.domains])
        length, active = self.length(self.n_periods), np.flatnonzero(share > 0)
        owed = self.owed + share * length
        # A domain that is left out from here on leaves its fraction of a sequence to the others.
        left = length - (owed - self._mixed)[active].sum()
        owed = owed + share * left
        owed[share == 0] = self._mixed[share == 0]
        found = largest_remainder(owed[active].tolist(), self._mixed[active].tolist(), length)
        self.counts = np.zeros(len(self.domains), np.int64)
        self.counts[active] = found
        self.drawn = self.drawn + self.counts
        for _, domain, n in update:
            self.drawn[domain] += n
        self._mixed, self.owed = self._mixed + self.counts, owed
        self.n_periods += 1

    def stratified(
        self, update: Sequence[tuple[int, int, int]]
    ) -> tuple[IntArray, IntArray, IntArray]:
        """Group, domain and ordinal of every sequence of the update step before the next period.

        Args:
            update: (group index, domain index, sequences), in order.
        """
        group, domain, n = np.array(update, np.int64).reshape(-1, 3).T
        domain_S = np.repeat(domain, n)
        ordinal_S = np.empty_like(domain_S)
        for d in np.unique(domain_S):  # a domain of several groups goes on where it was
            here = domain_S == d
            ordinal_S[here] = self.drawn[d] + np.arange(here.sum())
        return np.repeat(group, n), domain_S, ordinal_S

    def sequences(self, step: int, n_steps: int = 1) -> tuple[IntArray, IntArray]:
        """Domain and ordinal of every sequence of some steps that are no update steps.

        Those that are beyond the present period are left out.
        """
        number = self.n_periods - 1
        assert self.period_of(step) == number
        begin, length = self._mixed_from(number), self.length(number)
        low = self.first_sequence(step) - begin
        high = min(self.first_sequence(step + n_steps) - begin, length)
        domain_B, ordinal_B = slice_phase(self.counts, low, high)
        return domain_B, ordinal_B + (self.drawn - self.counts)[domain_B]

    def first_step(self, period: int) -> int:
        """The first step of a period after its update step."""
        first = period * self.update_steps
        return first + self.is_update(first)

    @property
    def realised_tokens(self) -> dict[str, int]:
        """Tokens that the run draws from each domain, in the periods that are known."""
        return {d: int(n) * self.context for d, n in zip(self.domains, self.drawn, strict=True)}

    def to_json(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        arrays = {name: getattr(self, name).tolist() for name in _KEPT}
        return {"n_periods": self.n_periods} | arrays

    def restore(self, value: Mapping[str, Any]) -> None:
        """Take up what a checkpoint kept."""
        self.n_periods = int(value["n_periods"])
        for name in _KEPT:
            setattr(self, name, np.array(value[name], getattr(self, name).dtype))
