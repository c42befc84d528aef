"""Which method, which selector, how much data: what one total budget is best spent on.

Source:
    The question is that of Yin and Rush, arXiv:2410.16208, section 3: the best performance for
    training and selection within one budget. Prices are those of `costs` and `search_prices`,
    performances those of `outlook`.

Shapes:
    B draws.

Differs from the source:
    Every entry is compared with random selection that may spend the same budget on training, and
    random selection is the answer unless one surely beats it: the best of m entries is looked for,
    so the lower end of its gain is taken at 0.05 / m (Bonferroni). Searches for a mixture stand
    in the same table; without a record nothing is predicted of them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from mixture_assets.core.units import flops_text
from mixture_assets.methods.swarm import Array
from mixture_assets.methods.uncertainty import percentile_interval
from mixture_assets.selection.costs import (
    SelectionCost,
    embedding_cost,
    free_cost,
    less_as_measured,
    lexical_cost,
    perplexity_cost,
)
from mixture_assets.selection.outlook import RANDOM, Learning, Outlook
from mixture_assets.selection.points import Point
from mixture_assets.selection.priors import LARGEST_RATIO
from mixture_assets.selection.question import Plan, Question, Row
from mixture_assets.selection.search_prices import SEARCHES, SearchPrice

METHODS = (RANDOM, "bm25", "embedding", "perplexity", "gradient")
WITH_SELECTOR = ("perplexity", "gradient")  # methods that run a language model over the pool
_TUNING_EPOCHS = 25  # of the perplexity selector on the specialist set, in the source's code
_SAME = 0.01
_ERROR = 0.05  # chance that something is called better than random where nothing is


def plan(question: Question, points: Sequence[Point] = (), *, seed: int = 0) -> Plan:
    """Rank every method, selector and share that the budget allows.

    Args:
        question: What is to be planned.
        points: Of models as large as the one to be trained, on this pool or one like it; they
            replace priors, and what selection cost is taken in multiples of their own C_full.
        seed: The same seed gives the same intervals.
    """
    apart = {*SEARCHES, *(search.name for search in question.searches)}
    desk = _Desk(question, Outlook.of(points, apart=apart, seed=seed), points)
    random = desk.random_row()
    rows, notes = [random], list(desk.outlook.notes)
    affordable = {}
    for method, size in desk.entries():
        cost = desk.selection(method, size)
        if cost + question.step_flops > question.budget_flops:
            notes.append(
                f"{_named(method, size)} is beyond the budget: selection alone takes "
                f"{flops_text(cost)}"
            )
            continue
        affordable[method, size] = cost
    desk.count(affordable)
    for (method, size), cost in affordable.items():
        rows.extend(desk.rows(method, size, cost))
    rows.extend(desk.search_row(search) for search in question.searches)
    unpriced = {p.method for p in points} & apart - {s.name for s in question.searches}
    notes.extend(f"{name!r} has points and no price, and is left out" for name in sorted(unpriced))
    ranked = sorted(rows, key=_rank)
    choice = next((row for row in ranked if row.is_sure), random)
    return Plan(
        rows=ranked,
        choice=choice,
        verdict=_verdict(ranked, choice, question, desk),
        unit=desk.outlook.unit,
        notes=tuple(notes),
    )


class _Desk:
    """A question, with the prices and the outlook that answer it."""

    def __init__(self, question: Question, outlook: Outlook, points: Sequence[Point]) -> None:
        self.question = question
        self.outlook = outlook
        self.points = points
        self.full_flops = question.pool_flops
        self.random_share = min(1.0, question.budget_flops / self.full_flops)
        learning = outlook.learning(RANDOM)
        assert learning is not None  # there is a prior
        self.random = learning
        self.n_compared = 1

    def count(self, entries: Iterable[tuple[str, float | None]]) -> None:
        """How many have a known gain: the best of so many is looked for."""
        known = [entry for entry in entries if self.outlook.learning(*entry) is not None]
        searches = [s for s in self.question.searches if self.outlook.gain(s.name) is not None]
        self.n_compared = max(1, len(known) + len(searches))

    def entries(self) -> list[tuple[str, float | None]]:
        """Methods and selectors beside random: the known ones, and those of points."""
        searches = {*SEARCHES, *(search.name for search in self.question.searches)}
        found: dict[tuple[str, float | None], None] = {}
        for method in METHODS[1:]:
            sizes = self.question.selector_params if method in WITH_SELECTOR else (None,)
            found.update(dict.fromkeys((method, size) for size in sizes))
        for p in self.points:
            if p.method not in (*METHODS, *searches):
                found[p.method, p.selector_params] = None
        return sorted(found, key=lambda entry: (entry[0], entry[1] or 0.0))

    def selection(self, method: str, size: float | None) -> float:
        """FLOPs of selection for one task: as measured, in proportion to the pool, if known."""
        cost = self._price(method, size)
        known = [
            p.start * self.full_flops
            for p in self.points
            if p.method == method
            and (size is None or _near(p.selector_params, size))
            and (p.selection_flops is not None or p.share is not None)
        ]
        if known:
            cost = SelectionCost(scoring_flops=float(np.mean(known)), is_shared=cost.is_shared)
        return cost.per_task(self.question.n_tasks)

    def _price(self, method: str, size: float | None) -> SelectionCost:
        q = self.question
        seconds = {
            "cpu_seconds": q.cpu_seconds.get(method, 0.0),
            "flops_per_second": q.flops_per_second,
        }
        if method == "bm25":
            return lexical_cost(**seconds)
        if method == "embedding":
            return embedding_cost(q.embedder_params, q.pool_tokens, **seconds)
        if method == "perplexity" and size is not None:
            tuning = _TUNING_EPOCHS * q.specialist_tokens
            return perplexity_cost(size, q.pool_tokens, tuning_tokens=tuning)
        if method == "gradient" and size is not None:
            return less_as_measured(size, q.pool_tokens)
        return free_cost()

    def random_row(self) -> Row:
        """Random selection that trains with all of the budget, or on all of the pool."""
        share = self.random_share
        row = self._row(RANDOM, None, share, 0.0, self.random.at(share), self.random.basis)
        return replace(row, notes=_cautions(row, self.random, self.question))

    def rows(self, method: str, size: float | None, cost: float) -> list[Row]:
        """The shares that are asked for, and the largest that the budget allows."""
        learning = self.outlook.learning(method, size)
        most = (self.question.budget_flops - cost) / self.full_flops
        shares = {s for s in self.question.shares if s <= most}
        shares |= {most} if most < 1 else set()
        rows = []
        for share in sorted(shares):
            drawn = learning.at(share) if learning else None
            basis = learning.basis if learning else "no record"
            row = self._row(method, size, share, cost, drawn, basis)
            rows.append(replace(row, notes=_cautions(row, learning, self.question)))
        return rows

    def search_row(self, search: SearchPrice) -> Row:
        """A mixture over domains: the search is paid for, the rest trains."""
        most = self.question.budget_flops / (self.full_flops * (1 + search.overhead))
        share = min(1.0, most)
        gain = self.outlook.gain(search.name)
        drawn = None if gain is None else self.random.at(share) + gain
        basis = "no record" if gain is None else "points"
        cost = search.overhead * share * self.full_flops
        row = self._row(search.name, None, share, cost, drawn, basis)
        return replace(row, notes=(f"price: {search.basis}",))

    def _row(
        self,
        method: str,
        size: float | None,
        share: float,
        cost: float,
        drawn: Array | None,
        basis: str,
    ) -> Row:
        training = share * self.full_flops
        row = Row(
            method=method,
            selector_params=size,
            share=share,
            tokens=share * self.question.pool_tokens,
            selection_flops=cost,
            training_flops=training,
            performance=None,
            basis=basis,
        )
        if drawn is None:
            return row
        gain = drawn - self.random.at(self.random_share)
        low, high = percentile_interval(drawn.tolist())
        gain_low, gain_high = percentile_interval(gain.tolist())
        return replace(
            row,
            performance=float(np.median(drawn)),
            performance_low=low,
            performance_high=high,
            gain=float(np.median(gain)),
            gain_low=gain_low,
            gain_high=gain_high,
            is_sure=bool(np.quantile(gain, _ERROR / self.n_compared) > self.outlook.negligible),
        )


def _cautions(row: Row, learning: Learning | None, question: Question) -> tuple[str, ...]:
    cautions = []
    if row.selection_flops == 0 and row.method != RANDOM:
        cautions.append("selection is taken to be free")
    if learning and learning.largest_share < row.share * (1 - _SAME):
        cautions.append(f"beyond the largest share of a point, {learning.largest_share:.3g}")
    if row.basis.startswith("prior") and row.selector_params is not None:
        ratio = question.train_params / row.selector_params
        if ratio > LARGEST_RATIO * (1 + _SAME):
            cautions.append(
                f"nothing is published for a selector {ratio:.3g} times smaller than the model"
            )
    return tuple(cautions)


def _rank(row: Row) -> tuple[bool, float, float, str, float]:
    """By the gain over random selection, then the cheaper first; the unknown last."""
    gain = 0.0 if row.gain is None else row.gain
    return row.gain is None, -gain, row.total_flops, row.method, row.selector_params or 0.0


def _verdict(ranked: Sequence[Row], choice: Row, question: Question, desk: _Desk) -> str:
    budget = flops_text(question.budget_flops)
    if choice.method != RANDOM:
        return (
            f"{_named(choice.method, choice.selector_params)} on {100 * choice.share:.3g} % of the "
            f"pool: {_gain_text(choice)} over random selection at {budget}, in "
            f"{desk.outlook.unit}; sure {_compared(desk.n_compared)}"
        )
    if question.budget_flops >= desk.full_flops:
        return (
            f"train on the whole pool: {budget} are enough for it, and no selection is clearly "
            "better"
        )
    verdict = (
        f"random is the honest answer at {budget}: no gain over random selection is sure "
        f"{_compared(desk.n_compared)}"
    )
    first = ranked[0]
    if first.method == RANDOM or first.performance is None:
        return verdict
    nearest = _named(first.method, first.selector_params)
    return f"{verdict}; the most promising is {nearest}, {_gain_text(first)}"


def _compared(n: int) -> str:
    return f"over all {n} methods compared" if n > 1 else "of the one method compared"


def _gain_text(row: Row) -> str:
    assert row.gain is not None
    return f"{row.gain:+.3g} ({row.gain_low:.3g} to {row.gain_high:.3g})"


def _named(method: str, size: float | None) -> str:
    return method if size is None else f"{method} with a selector of {size:.3g} parameters"


def _near(a: float | None, b: float) -> bool:
    return a is not None and abs(a - b) <= _SAME * max(a, b)
