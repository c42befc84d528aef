"""What is asked of the planner, and what it answers."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from mixture_assets.core.errors import MixtureError, shortlist
from mixture_assets.core.units import flops_text
from mixture_assets.selection.costs import train_flops
from mixture_assets.selection.search_prices import SearchPrice

ON_CPU = ("bm25", "embedding")  # methods that can be priced in seconds
SHARES = (0.025, 0.05, 0.1, 0.25, 0.5)


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is to be planned."""

    budget_flops: float  # selection and training
    pool_tokens: float
    train_params: float
    full_flops: float | None = None  # training on this pool once, where that is measured
    selector_params: tuple[float, ...]  # sizes to choose from
    specialist_tokens: float = 0.0
    n_tasks: int = 1  # that share what can be shared
    shares: tuple[float, ...] = SHARES
    step_tokens: float = 2048  # of one training step
    embedder_params: float = 0.0  # 0: an embedding without matrix products
    cpu_seconds: Mapping[str, float] = field(default_factory=dict)  # of bm25 and embedding
    flops_per_second: float = 0.0  # of this machine in training: what those seconds are worth
    searches: tuple[SearchPrice, ...] = ()

    def __post_init__(self) -> None:
        if self.pool_tokens <= 0:
            raise MixtureError("the pool has no token", hint="name a folder with documents")
        measured = () if self.full_flops is None else ("full_flops",)
        needed = ("budget_flops", "train_params", "step_tokens", *measured, *self._selectors())
        for name in needed:
            if not 0 < self._value(name) < float("inf"):
                raise MixtureError(f"{name} must be above 0, got {self._value(name):g}")
        for share in self.shares:
            if not 0 < share < 1:
                raise MixtureError(f"a share must lie between 0 and 1, got {share:g}")
        unknown = set(self.cpu_seconds) - set(ON_CPU)
        if unknown:
            raise MixtureError(
                f"{shortlist(unknown)} has no price in seconds", hint=f"only {' and '.join(ON_CPU)}"
            )
        if self.budget_flops < self.step_flops:
            raise MixtureError(
                f"a budget of {flops_text(self.budget_flops)} is below one training step, which "
                f"takes {flops_text(self.step_flops)}",
                hint=f"{self.step_tokens:g} tokens a step, {self.train_params:.3g} parameters: "
                "train a smaller model or allow more",
            )

    @property
    def pool_flops(self) -> float:
        """Training on this pool once: as measured, or 6 N T."""
        if self.full_flops is not None:
            return self.full_flops
        return train_flops(self.train_params, self.pool_tokens)

    @property
    def step_flops(self) -> float:
        """One training step."""
        return self.pool_flops * min(1.0, self.step_tokens / self.pool_tokens)

    def _selectors(self) -> list[str]:
        return [f"selector_params {i}" for i in range(len(self.selector_params))]

    def _value(self, name: str) -> float:
        field, _, index = name.partition(" ")
        return float(getattr(self, field)[int(index)] if index else getattr(self, field))


@dataclass(frozen=True, kw_only=True)
class Row:
    """One way to spend the budget, or less of it."""

    method: str
    selector_params: float | None
    share: float  # of the pool's tokens that is trained on
    tokens: float
    selection_flops: float  # or of the search; what falls to one task
    training_flops: float
    performance: float | None  # median; None where nothing is known
    performance_low: float | None = None  # 90 % interval
    performance_high: float | None = None
    gain: float | None = None  # over random selection that spends the whole budget
    gain_low: float | None = None
    gain_high: float | None = None
    is_sure: bool = False  # whether it beats random although the best of several was looked for
    basis: str = ""
    notes: tuple[str, ...] = ()

    @property
    def total_flops(self) -> float:
        """Selection and training."""
        return self.selection_flops + self.training_flops

    @property
    def beats_random(self) -> bool:
        """Whether the interval of the gain, looked at alone, lies above 0; see `is_sure`."""
        return self.gain_low is not None and self.gain_low > 0

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        return {
            **asdict(self),
            "total_flops": self.total_flops,
            "beats_random": self.beats_random,
            "notes": list(self.notes),
        }


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Ways to spend the budget, by their gains over random, and which of them is advised."""

    rows: Sequence[Row]
    choice: Row
    verdict: str  # one sentence
    unit: str  # of performances
    notes: tuple[str, ...]  # what could not be had, and why

    @property
    def favourite(self) -> Row:
        """Of the largest expected gain, be it certain or not; `choice` is the certain one."""
        return self.rows[0]

    def best_by_method(self) -> list[Row]:
        """The best row of each method and selector, in their order."""
        found: dict[tuple[str, float | None], Row] = {}
        for row in self.rows:
            found.setdefault((row.method, row.selector_params), row)
        return list(found.values())
