"""Which mixtures are allowed: bounds by domain and by group, each with the reason it is there."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from mixture_assets.core.errors import MixtureError, quoted, shortlist
from mixture_assets.core.names import nearest
from mixture_assets.methods.swarm import Array

_ROUNDING = 1e-9
Bound = tuple[float, float]  # least and largest weight


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What somebody asks of the weights."""

    floor: Mapping[str, float] = field(default_factory=dict)  # least weight by domain
    cap: Mapping[str, float] = field(default_factory=dict)  # largest weight by domain
    groups: Mapping[str, tuple[Sequence[str], Bound]] = field(default_factory=dict)
    available_tokens: Mapping[str, float] = field(default_factory=dict)  # one pass, by domain
    budget_tokens: float | None = None  # length of the full run
    max_epochs: float | None = None  # passes over any domain
    protected: Sequence[str] = ()  # domains that keep their natural weight or more


@dataclass(frozen=True, kw_only=True)
class Region:
    """low <= w <= high by domain, row_low <= rows w <= row_high, and the weights sum to 1."""

    domains: tuple[str, ...]
    low: Array  # (D,)
    high: Array  # (D,)
    low_why: tuple[str, ...]  # of each domain; "" for the simplex itself
    high_why: tuple[str, ...]
    rows: Array  # (G, D)
    row_low: Array  # (G,)
    row_high: Array  # (G,)
    row_names: tuple[str, ...]

    @classmethod
    def simplex(cls, domains: Sequence[str]) -> "Region":
        """All mixtures of these domains, which are sorted."""
        n = len(domains)
        return cls(
            domains=tuple(domains),
            low=np.zeros(n),
            high=np.ones(n),
            low_why=("",) * n,
            high_why=("",) * n,
            rows=np.zeros((0, n)),
            row_low=np.zeros(0),
            row_high=np.zeros(0),
            row_names=(),
        )

    def floored(self, floor: Mapping[str, float], why: str) -> "Region":
        """Raise least weights where these are higher."""
        low, reasons = self.low.copy(), list(self.low_why)
        for name, least in floor.items():
            i = self._index(name)
            if least > low[i]:
                low[i], reasons[i] = least, why
        return replace(self, low=low, low_why=tuple(reasons))

    def capped(self, cap: Mapping[str, float], why: str) -> "Region":
        """Lower largest weights where these are lower."""
        high, reasons = self.high.copy(), list(self.high_why)
        for name, most in cap.items():
            i = self._index(name)
            if most < high[i]:
                high[i], reasons[i] = most, why
        return replace(self, high=high, high_why=tuple(reasons))

    def grouped(self, name: str, members: Sequence[str], bound: Bound) -> "Region":
        """Bound the sum of some domains' weights."""
        row = np.zeros(len(self.domains))
        row[[self._index(member) for member in members]] = 1
        return replace(
            self,
            rows=np.vstack([self.rows, row]),
            row_low=np.append(self.row_low, bound[0]),
            row_high=np.append(self.row_high, bound[1]),
            row_names=(*self.row_names, name),
        )

    def check(self) -> None:
        """Raise MixtureError where no mixture is within all bounds of domains."""
        for i, name in enumerate(self.domains):
            if self.low[i] > self.high[i] + _ROUNDING:
                raise MixtureError(
                    f"no weight of {name!r} will do: {self.low_why[i]} asks for "
                    f"{self.low[i]:.4g} or more, {self.high_why[i]} for {self.high[i]:.4g} or less",
                    hint="relax one of the two",
                )
        if self.low.sum() > 1 + _ROUNDING:
            asked = {n: x for n, x in zip(self.domains, self.low, strict=True) if x > 0}
            raise MixtureError(
                f"the least weights of {shortlist(asked)} add up to {self.low.sum():.4g}, above 1",
                hint="lower the floors",
            )
        if self.high.sum() < 1 - _ROUNDING:
            why = sorted({w for w in self.high_why if w})
            raise MixtureError(
                f"the largest weights of all domains add up to {self.high.sum():.4g}, below 1 "
                f"({', '.join(why)})",
                hint="raise max_epochs or the caps, lower the budget, or add data",
            )

    def violation(self, weights: Array) -> float:
        """How far (D,) weights are outside, in weight; 0 inside."""
        sums = self.rows @ weights
        gaps = [self.low - weights, weights - self.high, self.row_low - sums, sums - self.row_high]
        return max(0.0, float(np.concatenate(gaps).max()))

    def _index(self, name: str) -> int:
        if name not in self.domains:
            raise MixtureError(
                f"there is no domain {quoted(name)}{nearest(name, self.domains)}",
                hint=f"domains: {shortlist(self.domains, 20)}",
            )
        return self.domains.index(name)


def region_of(domains: Sequence[str], limits: Limits, natural: Mapping[str, float]) -> Region:
    """All that is asked, as bounds.

    Args:
        domains: Sorted names.
        limits: What is asked. Epochs are weight x budget_tokens / available_tokens.
        natural: Weights in proportion to the data, for domains that are protected.

    Raises:
        MixtureError: A share outside [0, 1], an unknown domain, or max_epochs without token counts.
    """
    region = Region.simplex(domains)
    for what, shares in (("floor", limits.floor), ("cap", limits.cap)):
        for name, share in shares.items():
            _check_share(f"the {what} of {name!r}", share)
    region = region.floored(limits.floor, "floor").capped(limits.cap, "cap")
    region = region.floored({n: natural.get(n, 0.0) for n in limits.protected}, "protected")
    if limits.max_epochs is not None:
        region = region.capped(_epoch_caps(domains, limits), f"max_epochs = {limits.max_epochs:g}")
    for name, (members, bound) in sorted(limits.groups.items()):
        for share in bound:
            _check_share(f"the bound of group {name!r}", share)
        region = region.grouped(name, members, bound)
    region.check()
    return region


def _check_share(what: str, share: float) -> None:
    if not (math.isfinite(share) and 0 <= share <= 1):
        raise MixtureError(f"{what} is {share:g}, expected a weight from 0 to 1")


def _epoch_caps(domains: Sequence[str], limits: Limits) -> dict[str, float]:
    missing = [name for name in domains if not limits.available_tokens.get(name)]
    if missing or not limits.budget_tokens:
        what = f"the tokens of {shortlist(missing)}" if missing else "the budget"
        raise MixtureError(
            f"max_epochs needs {what}",
            hint="pass --available with the tokens of every domain, and --budget",
        )
    if not limits.max_epochs or limits.max_epochs <= 0:
        raise MixtureError(f"max_epochs must be above 0, got {limits.max_epochs}")
    passes = limits.max_epochs / limits.budget_tokens
    return {name: passes * limits.available_tokens[name] for name in domains}
