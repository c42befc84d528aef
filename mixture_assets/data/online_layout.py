"""Which tokens stand in which step of a run whose mixture changes while it trains.

A period begins with an update step, whose batch is stratified (as many sequences of every
group), and goes on with steps that hold the period's mixture; the first period has no update
step. What a period holds is fixed when it begins, by the mixture that holds from there on and by
what was drawn before. So the layout is state: it grows by a period at a time, and what it holds
of every earlier one is all that a resumed run needs.

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
_ROUNDING = 2  # what a domain has drawn is within this of what mixtures gave it


def n_sequences(budget_tokens: int, context: int) -> int:
    """Length of a run."""
    return max(1, round(budget_tokens / context))


def whole_caps(most_tokens: Mapping[str, int], context: int) -> dict[str, int]:
    """Sequences that a domain's mixtures may give it, so that it never draws more than a cap."""
    return {d: max(0, n // context - _ROUNDING) for d, n in most_tokens.items()}


@dataclass(frozen=True)
class Period:
    """Sequences by domain: of the update step, in the order of its groups, and of the rest."""

    update: tuple[tuple[int, int, int], ...]  # (group index, domain index, sequences)
    counts: tuple[int, ...]  # by domain


@dataclass
class OnlineLayout:
    """The steps of an online run, as far as they are known."""

    domains: tuple[str, ...]
    context: int
    batch: int  # sequences in a step that is no update step
    update_batch: int  # in one that is
    update_steps: int  # from one update step to the next
    n_sequences: int  # of the whole run, asked for
    periods: list[Period] = field(default_factory=list)
    drawn: IntArray = field(init=False)  # by domain, of all periods
    owed: NDArray[np.float64] = field(init=False)  # the mixtures' share of all steps but updates

    def __post_init__(self) -> None:
        self.drawn = np.zeros(len(self.domains), np.int64)
        self.owed = np.zeros(len(self.domains))
        self._mixed = np.zeros(len(self.domains), np.int64)  # drawn, without update steps
        self._before: list[IntArray] = []  # drawn before each period

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
        first = period * self.update_steps
        return self.first_sequence(first + self.is_update(first))

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
        length, active = self.length(len(self.periods)), np.flatnonzero(share > 0)
        owed = self.owed + share * length
        # A domain that is left out from here on leaves its fraction of a sequence to the others.
        left = length - (owed - self._mixed)[active].sum()
        owed = owed + share * left
        owed[share == 0] = self._mixed[share == 0]
        found = largest_remainder(owed[active].tolist(), self._mixed[active].tolist(), length)
        counts = np.zeros(len(self.domains), np.int64)
        counts[active] = found
        self._grow(Period(tuple(update), tuple(counts.tolist())), owed)

    def _grow(self, period: Period, owed: NDArray[np.float64]) -> None:
        self._before.append(self.drawn)
        drawn = self.drawn + np.array(period.counts, np.int64)
        for _, domain, n in period.update:
            drawn[domain] += n
        self.periods.append(period)
        self.drawn, self.owed = drawn, owed
        self._mixed = self._mixed + np.array(period.counts, np.int64)

    def stratified(
        self, update: Sequence[tuple[int, int, int]], period: int | None = None
    ) -> tuple[IntArray, IntArray, IntArray]:
        """Group, domain and ordinal of every sequence of an update step.

        Args:
            update: (group index, domain index, sequences), in order.
            period: That the step begins; by default the next one.
        """
        drawn = self.drawn if period is None else self._before[period]
        group, domain, n = np.array(update, np.int64).reshape(-1, 3).T
        domain_S = np.repeat(domain, n)
        ordinal_S = np.empty_like(domain_S)
        for d in np.unique(domain_S):  # a domain of several groups goes on where it was
            here = domain_S == d
            ordinal_S[here] = drawn[d] + np.arange(here.sum())
        return np.repeat(group, n), domain_S, ordinal_S

    def sequences(self, step: int) -> tuple[IntArray, IntArray]:
        """Domain and ordinal of every sequence of a step that is no update step."""
        number = self.period_of(step)
        period, begin = self.periods[number], self._mixed_from(number)
        low = self.first_sequence(step) - begin
        high = self.first_sequence(step + 1) - begin
        domain_B, ordinal_B = slice_phase(period.counts, low, high)
        before = self._before[number].copy()
        for _, domain, n in period.update:
            before[domain] += n
        return domain_B, ordinal_B + before[domain_B]

    @property
    def realised_tokens(self) -> dict[str, int]:
        """Tokens that the run draws from each domain, in the periods that are known."""
        return {d: int(n) * self.context for d, n in zip(self.domains, self.drawn, strict=True)}

    def to_json(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {
            "owed": self.owed.tolist(),
            "periods": [[list(map(list, p.update)), list(p.counts)] for p in self.periods],
        }

    def restore(self, value: Mapping[str, Any]) -> None:
        """Take up what a checkpoint kept."""
        self.__post_init__()
        self.periods = []
        for update, counts in value["periods"]:
            rows = tuple((int(g), int(d), int(n)) for g, d, n in update)
            self._grow(Period(rows, tuple(map(int, counts))), self.owed)
        self.owed = np.array(value["owed"])
