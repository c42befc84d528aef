"""What is asked of a mixing method, what it is told, and what it answers."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from mixture_assets.core.digest import digest
from mixture_assets.core.errors import MixtureError, shortlist
from mixture_assets.core.mixture import Mixture
from mixture_assets.core.names import RESERVED

Metric = Literal["perplexity", "loss"]


@dataclass(frozen=True, kw_only=True)
class Objective:
    """The number to lower: a weighted mean over domains of perplexity or of loss.

    The mean perplexity (AutoScale's choice) is the arithmetic mean of the domains'
    perplexities, not the exponential of their mean loss.
    """

    metric: Metric = "perplexity"
    weights: Mapping[str, float] = field(default_factory=dict)  # empty: every domain alike

    @property
    def name(self) -> str:
        """For tables: 'mean perplexity', or 'weighted mean loss'."""
        unit = "loss (nats)" if self.metric == "loss" else "perplexity"
        return f"{'weighted ' if self.weights else ''}mean {unit}"

    @staticmethod
    def _domains(loss_nats: Mapping[str, float]) -> list[str]:
        """All that was measured but the specialist set, which only `weights` can name."""
        return [name for name in loss_nats if name not in RESERVED]

    def _missing(self, loss_nats: Mapping[str, float]) -> list[str]:
        return [name for name in self.weights if name not in loss_nats]

    def n_weighed(self, loss_nats: Mapping[str, float]) -> int:
        """Over how many of these losses `value` is a mean."""
        return sum(w > 0 for w in self.weights.values()) or len(self._domains(loss_nats))

    def known_value(self, loss_nats: Mapping[str, float]) -> float | None:
        """The same for display; None for a run that was not measured on all that it weighs."""
        is_known = self._domains(loss_nats) and not self._missing(loss_nats)
        return self.value(loss_nats) if is_known else None

    def value(self, loss_nats: Mapping[str, float]) -> float:
        """The objective of one run from all its domains' losses in nats per token."""
        weights = self.weights or dict.fromkeys(self._domains(loss_nats), 1.0)
        missing = self._missing(loss_nats)
        if missing:
            raise MixtureError(
                f"the objective weighs {shortlist(missing)}, which have no loss",
                hint="fix [objective] weights, or evaluate those domains",
            )
        mixture = Mixture.proportional_to(weights)
        measure = math.exp if self.metric == "perplexity" else float
        return math.fsum(w * measure(loss_nats[name]) for name, w in mixture.items() if w > 0)


@dataclass(frozen=True, kw_only=True)
class Constraints:
    """What a proposal must respect."""

    max_epochs: float = 4.0  # passes over any domain's data in the full run
    floor: float = 0.0  # least weight of any domain in the full run


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Find sampling weights for one full run."""

    available_tokens: Mapping[str, int]  # by domain; one pass over all the training data we have
    budget_tokens: int  # length of the full run
    objective: Objective = field(default_factory=Objective)
    constraints: Constraints = field(default_factory=Constraints)

    @property
    def domains(self) -> list[str]:
        """Domain names in sorted order, the order of every array in `methods`."""
        return sorted(self.available_tokens)

    @property
    def natural(self) -> Mixture:
        """Weights in proportion to the data available: the baseline every method must beat."""
        return Mixture.proportional_to(self.available_tokens)

    @property
    def uniform(self) -> Mixture:
        """The same weight for every domain: the other baseline."""
        return Mixture.uniform(self.domains)


@dataclass(frozen=True, kw_only=True)
class ProxyRun:
    """One small training run that a method asks for: tokens to draw from each domain.

    Tokens rather than weights, because DDO grows one domain while the others stay put.
    """

    tokens: Mapping[str, int]
    seed: int = 0
    measured: frozenset[str] | None = None  # domains whose loss is needed; None: all

    @property
    def budget_tokens(self) -> int:
        """Length of this proxy run."""
        return sum(self.tokens.values())

    @property
    def digest(self) -> str:
        """Names the request, so that results can be matched to it in any order."""
        return digest({"tokens": dict(self.tokens), "seed": self.seed})


@dataclass(frozen=True, kw_only=True)
class ProxyResult:
    """A finished proxy run: the loss of every domain, never only the objective."""

    run: ProxyRun
    loss_nats: Mapping[str, float]  # by domain, nats per token
    run_id: str = ""  # names the run folder that this rests on


@dataclass(frozen=True, kw_only=True)
class CurveFit:
    """The objective against one domain's amount x, others fixed: (x + a)^-b + c.

    x is in multiples of the domain's tokens in the base run, the objective in multiples of the
    base run's. `a`, `b` and `c` are None where growth does not lower the objective.
    """

    domain: str
    scale: str  # 'small', 'large'
    base_tokens: float  # tokens of this domain in the base run: the unit of x
    a: float | None
    b: float | None
    c: float | None
    optimum: float  # best amount, multiples of base_tokens
    degrees_of_freedom: int  # points minus three; 0 says nothing about noise
    residual_sd: float | None  # in multiples of the base objective; None at 0 degrees
    points: Sequence[tuple[float, float]]  # (x, objective over base objective) of every run used
    run_digests: Sequence[str]  # ProxyRun digests that the curve rests on
    is_improving: bool
    is_at_floor: bool


LOG_RATIO = "log of the objective over the baseline's"  # below 0: better than the baseline


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What a proposal expects of its full run, said before the run exists."""

    quantity: str  # with its unit: LOG_RATIO
    baseline: str  # 'natural', 'uniform': what the proposal is set beside
    value: float
    low: float | None  # 90 % interval; None where the noise is not known
    high: float | None


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """Weights for one full run, with what is needed to judge them."""

    method: str
    mixture: Mixture
    natural: Mixture
    uniform: Mixture
    budget_tokens: int
    epochs: Mapping[str, float]  # passes over each domain at this budget
    interval: Mapping[str, tuple[float, float]]  # 90 % interval of each weight; {} if unknown
    at_floor: Sequence[str]  # domains at their floor at any scale the weights rest on
    held: Sequence[str]  # domains whose growth out of a floor was not extrapolated
    capped: Sequence[str]  # domains held down by max_epochs
    not_improving: Sequence[str]  # domains whose growth did not lower the objective
    extrapolation_factor: float  # budget over the largest proxy budget
    objective: Objective
    noise_sd: float | None  # sd of one run's objective between repeats, largest scale
    optima_tokens: Mapping[str, Mapping[str, float]]  # scale -> domain -> best tokens
    fits: Sequence[CurveFit]
    predictions: Sequence[Prediction] = ()  # of the full run; a baseline's own has none
    notes: Sequence[str] = ()  # sentences that the reader must see with the weights
