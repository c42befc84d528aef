"""Which tokens stand in which step: a pure function of (schedule, seed, step, token arrays).

A run of K sequences is laid out once, on paper: sequence k belongs to one domain and is that
domain's j-th sequence. Both follow from the schedule alone, so any step can be computed by
anybody, in any order, on any number of workers, and a resumed run continues exactly.

Order: within a phase, the j-th of n sequences of a domain has the key (2 j + 1) / (2 n), and
sequences are sorted by key, then by domain name. At any key x a domain has given
round(x n) of its sequences, so every prefix of a phase holds the mixture to within
1/2 + weight * domains / 2 sequences, and the whole phase holds it exactly.

Shapes: B sequences in a step, C context.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from mixture_assets.core.errors import MixtureError
from mixture_assets.core.schedule import MixtureSchedule

IntArray = NDArray[np.int64]

BLOCK_STEPS = 64  # steps laid out at a time: one at a time costs 1.5 % of a small model's step


@dataclass(frozen=True)
class Layout:
    """Sequences per domain and phase. Domains in sorted order."""

    domains: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]  # phase x domain
    context: int
    batch: int  # sequences in a step; the last step may hold fewer

    @classmethod
    def from_tokens(cls, tokens: Mapping[str, int], *, context: int, batch: int) -> "Layout":
        """A static run: each domain gets the nearest whole number of sequences."""
        domains = tuple(sorted(tokens))
        counts = tuple((2 * tokens[d] + context) // (2 * context) for d in domains)
        return cls(domains, (counts,), context, batch)._checked(sum(tokens.values()))

    @classmethod
    def from_schedule(
        cls, schedule: MixtureSchedule, *, budget_tokens: int, context: int, batch: int
    ) -> "Layout":
        """Phases of a changing mixture; the rounding error is carried from phase to phase."""
        domains = tuple(sorted({d for _, mixture in schedule.phases for d in mixture}))
        starts = [min(start, budget_tokens) for start, _ in schedule.phases] + [budget_tokens]
        owed = [Fraction(0)] * len(domains)  # requested so far, in sequences
        given, counts, done = [0] * len(domains), [], 0
        for (_, mixture), start, end in zip(schedule.phases, starts, starts[1:], strict=False):
            for i, name in enumerate(domains):
                owed[i] += Fraction(mixture.get(name, 0.0)) * (end - start) / context
            until = round(Fraction(end, context))
            phase = largest_remainder(owed, given, until - done)
            given = [g + n for g, n in zip(given, phase, strict=True)]
            counts.append(tuple(phase))
            done = until
        return cls(domains, tuple(counts), context, batch)._checked(budget_tokens)

    def _checked(self, budget_tokens: int) -> "Layout":
        if self.n_sequences == 0:
            raise MixtureError(
                f"a run of {budget_tokens} tokens has no sequence of {self.context} tokens",
                hint="raise the budget, or lower [model] context",
            )
        return self

    @property
    def n_sequences(self) -> int:
        """Length of the run in sequences."""
        return sum(map(sum, self.counts))

    @property
    def n_steps(self) -> int:
        """Optimizer steps, the shorter last one included."""
        return -(-self.n_sequences // self.batch)

    def first_sequence(self, step: int) -> int:
        """Sequences drawn before a step."""
        return min(step * self.batch, self.n_sequences)

    @property
    def realised_tokens(self) -> dict[str, int]:
        """Tokens that the run draws from each domain."""
        totals = [sum(phase[i] for phase in self.counts) for i in range(len(self.domains))]
        return {d: n * self.context for d, n in zip(self.domains, totals, strict=True)}

    def sequences(self, step: int, n_steps: int = 1) -> tuple[IntArray, IntArray]:
        """Domain index and ordinal within the domain of every sequence of some steps."""
        start = step * self.batch
        stop = min(start + n_steps * self.batch, self.n_sequences)
        domain_parts, ordinal_parts = [], []
        before = np.zeros(len(self.domains), np.int64)
        first = 0
        for phase in self.counts:
            size = sum(phase)
            low, high = max(start, first), min(stop, first + size)
            if low < high:
                domain, ordinal = slice_phase(phase, low - first, high - first)
                domain_parts.append(domain)
                ordinal_parts.append(ordinal + before[domain])
            before += np.array(phase, np.int64)
            first += size
        return np.concatenate(domain_parts), np.concatenate(ordinal_parts)


def largest_remainder(
    owed: Sequence[Fraction | float], given: Sequence[int], total: int
) -> list[int]:
    """Whole numbers that sum to `total` and leave every domain within one of what it is owed."""
    due = [max(Fraction(0), o - g) for o, g in zip(owed, given, strict=True)]
    counts = [int(d) for d in due]
    order = sorted(range(len(due)), key=lambda i: (counts[i] - due[i], i))
    missing = total - sum(counts)
    while missing > 0:
        for i in order[:missing]:
            counts[i] += 1
        missing -= min(missing, len(order))
    while missing < 0:  # what is owed less than nothing was left to the others
        drawn = [i for i in reversed(order) if counts[i]][:-missing]
        for i in drawn:
            counts[i] -= 1
        missing += len(drawn)
    return counts


def slice_phase(counts: Sequence[int] | IntArray, low: int, high: int) -> tuple[IntArray, IntArray]:
    """Sequences [low, high) of a phase in key order, without laying out the whole phase."""
    count_D = np.array(counts, np.int64)
    total, n_domains = int(count_D.sum()), len(counts)
    # Prefixes stray from the mixture by less than one sequence per domain: look a little wider.
    x_low = (low - n_domains) / total
    x_high = (high + n_domains) / total
    first_D = np.clip(np.ceil(x_low * count_D - 0.5).astype(np.int64), 0, count_D)
    last_D = np.clip(np.ceil(x_high * count_D - 0.5).astype(np.int64), 0, count_D)
    domain = np.repeat(np.arange(n_domains), last_D - first_D)
    ordinal = np.concatenate([np.arange(a, b) for a, b in zip(first_D, last_D, strict=True)])
    key = (2 * ordinal + 1) / (2 * count_D[domain])
    order = np.lexsort((domain, key))[low - int(first_D.sum()) : high - int(first_D.sum())]
    return domain[order], ordinal[order].astype(np.int64)


class Windows:
    """A domain's text cut into windows, each domain read in an order of its own.

    Every domain's arrays are cut into windows of context + 1 tokens (the last is only
    predicted), window starts a context apart. A domain's windows are read in a random order
    fixed by (seed, domain, epoch): all of them once before any of them again. The order does
    not depend on how many are asked for, so a run that draws more of a domain begins with the
    same text as one that draws less.
    """

    def __init__(
        self,
        domains: Sequence[str],
        arrays: Mapping[str, Sequence[NDArray[np.integer]]],
        *,
        context: int,
        seed: int,
    ) -> None:
        self.domains, self.context, self.seed = tuple(domains), context, seed
        self._windows: dict[str, list[NDArray[np.integer]]] = {}
        self._starts: dict[str, IntArray] = {}
        for domain in self.domains:
            cut = [_windows(a, context) for a in arrays.get(domain, ())]
            self._windows[domain] = [w for w in cut if len(w)]
            self._starts[domain] = np.cumsum([0] + [len(w) for w in self._windows[domain]])
        self._order = lru_cache(maxsize=2 * len(self.domains))(self._permutation)

    def count(self, domain: str) -> int:
        """Windows of a domain: one epoch."""
        return int(self._starts[domain][-1])

    def require(self, domains: Iterable[str]) -> None:
        """MixtureError about the first of these that has no window."""
        for domain in domains:
            if not self.count(domain):
                raise MixtureError(
                    f"{domain!r} has no window of {self.context + 1} training tokens",
                    hint="add data, lower [model] context, or leave the domain out",
                )

    def rows(self, domain_B: IntArray, ordinal_B: IntArray) -> IntArray:
        """Tokens of some sequences, (B, C + 1), by domain index and ordinal within the domain."""
        rows = np.empty((len(domain_B), self.context + 1), np.int64)
        for row, (d, j) in enumerate(zip(domain_B, ordinal_B, strict=True)):
            rows[row] = self._window(self.domains[d], int(j))
        return rows

    def _window(self, domain: str, ordinal: int) -> NDArray[np.integer]:
        starts = self._starts[domain]
        epoch, position = divmod(ordinal, int(starts[-1]))
        index = int(self._order(domain, epoch)[position])
        array = int(np.searchsorted(starts, index, side="right")) - 1
        window: NDArray[np.integer] = self._windows[domain][array][index - int(starts[array])]
        return window

    def _permutation(self, domain: str, epoch: int) -> IntArray:
        name = f"{self.seed}/{domain}/{epoch}".encode()
        key = int.from_bytes(hashlib.sha256(name).digest()[:16], "little")
        return np.random.Generator(np.random.Philox(key=key)).permutation(self.count(domain))


class Sampler:
    """Batches of tokens for a layout."""

    def __init__(
        self, layout: Layout, arrays: Mapping[str, Sequence[NDArray[np.integer]]], *, seed: int
    ) -> None:
        self.layout = layout
        self.windows = Windows(layout.domains, arrays, context=layout.context, seed=seed)
        totals = np.sum(layout.counts, axis=0)
        self.windows.require(d for d, n in zip(layout.domains, totals, strict=True) if n)
        self._block = lru_cache(maxsize=1)(lambda b: layout.sequences(b * BLOCK_STEPS, BLOCK_STEPS))

    def batch(self, step: int) -> IntArray:
        """Tokens of one step, (B, C + 1)."""
        block, offset = divmod(step, BLOCK_STEPS)
        here = slice(offset * self.layout.batch, (offset + 1) * self.layout.batch)
        domain_B, ordinal_B = (part[here] for part in self._block(block))
        return self.windows.rows(domain_B, ordinal_B)


def _windows(array: NDArray[np.integer], context: int) -> NDArray[np.integer]:
    if len(array) < context + 1:
        return np.empty((0, context + 1), array.dtype)
    return np.lib.stride_tricks.sliding_window_view(array, context + 1)[::context]
