"""Distribution reweighting: weights over a few distributions over very many domains.

Source:
    Fan, Grangier and Ablin, "Dynamic Gradient Alignment for Online Data Mixing", 2410.02498,
    the part on distribution reweighting: alpha = sum_j w_j p_j, the method moves w. The basis are
    importance-sampling histograms (see `crisp`) of specialist or auxiliary sets.

Shapes:
    N = members of the basis, D = domains, both sorted by name. Memory is 8 N D bytes: 34 MB for
    16 members over 262,144 domains.

Differs from the source:
    Its number and choice of members is not published: any histograms, and natural and uniform
    beside them if asked. Members that are the same distribution are refused: their weights would
    be two names for one thing.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np

from mixture_assets.core.errors import MixtureError, shortlist
from mixture_assets.core.mixture import Mixture
from mixture_assets.core.names import nearest
from mixture_assets.methods.crisp import specialist_mixture
from mixture_assets.methods.online_state import check_setting, is_number
from mixture_assets.methods.swarm import Array

_SAME = 1e-9  # L1 distance below which two members are one
_SUM_TOLERANCE = 1e-6


@dataclass(frozen=True, eq=False)
class Basis(Mapping[str, Mixture]):
    """Named distributions over one set of domains, as rows of an array."""

    names: tuple[str, ...]  # (N,)
    domains: tuple[str, ...]  # (D,)
    share_ND: Array  # >= 0, rows sum to 1

    def __post_init__(self) -> None:
        share_ND = np.asarray(self.share_ND, dtype=np.float64)
        shape = (len(self.names), len(self.domains))
        if not self.names or share_ND.shape != shape:
            raise MixtureError(
                f"a basis of {shape[0]} members over {shape[1]} domains has numbers of shape "
                f"{share_ND.shape}"
            )
        _check_unique("members", self.names)
        _check_unique("domains", self.domains)
        rows, columns = _order(self.names), _order(self.domains)
        object.__setattr__(self, "names", tuple(sorted(self.names)))
        object.__setattr__(self, "domains", tuple(sorted(self.domains)))
        object.__setattr__(self, "share_ND", _checked(self.names, share_ND[rows][:, columns]))

    @classmethod
    def of(cls, members: Mapping[str, Mapping[str, float]]) -> Self:
        """From weights by domain for each member, every one over the same domains."""
        if not members:
            raise MixtureError("a basis has at least one member")
        domains = sorted(next(iter(members.values())))
        for name, weights in members.items():
            other = set(domains) ^ set(weights)
            if other:
                raise MixtureError(
                    f"basis member {name!r} is not over the domains of the others: "
                    f"{shortlist(other)} in only one of them",
                    hint="give every member a weight for every domain, 0 where it has none",
                )
        share_ND = np.array([[weights[d] for d in domains] for weights in members.values()])
        return cls(tuple(members), tuple(domains), share_ND)

    @classmethod
    def from_counts(
        cls,
        counts: Mapping[str, Mapping[str, float]],
        available_tokens: Mapping[str, float],
        *,
        pseudo_count: float = 0.0,
        natural: bool = False,
        uniform: bool = False,
    ) -> Self:
        """From importance-sampling histograms, with or without natural and uniform.

        Args:
            counts: For each set of documents, how many are nearest to each domain; a domain
                without any may be left out.
            available_tokens: All domains.
            pseudo_count: Documents added to every domain of every histogram.
            natural: Add a member "natural".
            uniform: Add a member "uniform".
        """
        is_count = is_number(pseudo_count, 0, 1e12)
        check_setting("pseudo_count", pseudo_count, is_count, "a number from 0 to 1e12")
        column = {domain: i for i, domain in enumerate(sorted(available_tokens))}
        rows = {n: _histogram(n, c, column, pseudo_count) for n, c in counts.items()}
        added: dict[str, Array] = {}
        if natural:
            shares = Mixture.proportional_to(available_tokens)  # sorted, as the columns are
            added["natural"] = np.array(list(shares.values()))
        if uniform:
            added["uniform"] = np.full(len(column), 1 / len(column))
        taken = sorted(set(rows) & set(added))
        if taken:
            raise MixtureError(f"a histogram is called {taken[0]!r}, and so is a member of ours")
        if not rows | added:
            raise MixtureError("a basis has at least one member")
        return cls(tuple(rows | added), tuple(column), np.stack(list((rows | added).values())))

    def __getitem__(self, name: str) -> Mixture:
        if name not in self.names:
            raise KeyError(name)
        return _mixture(self.domains, self.row(name))

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def row(self, name: str) -> Array:
        """A member's shares in the order of `domains`."""
        if name not in self.names:
            raise MixtureError(
                f"the basis has no member {name!r}{nearest(name, self.names)}",
                hint=f"its members: {shortlist(self.names, 10)}",
            )
        return np.asarray(self.share_ND[self.names.index(name)])


def domain_mixture(basis: Basis, weights: Mapping[str, float]) -> Mixture:
    """Weights by domain: sum_j w_j p_j."""
    other = set(basis.names) ^ set(weights)
    if other:
        raise MixtureError(
            f"weights and basis disagree on members: {shortlist(other)} in only one of them"
        )
    weight_N = np.array(list(Mixture(weights).values()))  # sorted, as the members are
    return _mixture(basis.domains, weight_N @ basis.share_ND)


def draw(basis: Basis, name: str, n: int, rng: np.random.Generator) -> dict[str, int]:
    """How many of n draws from a member fall on each domain: multinomial; zeros left out."""
    share_D = basis.row(name)
    support = np.flatnonzero(share_D)  # what rounding leaves over falls on the last of these
    counts = rng.multinomial(n, share_D[support] / share_D[support].sum())
    return {
        basis.domains[i]: count
        for i, count in zip(support.tolist(), counts.tolist(), strict=True)
        if count
    }


def _histogram(
    name: str, counts: Mapping[str, float], column: Mapping[str, int], pseudo_count: float
) -> Array:
    """As `crisp` has it, (n_i + k) / (n + k D), without a mapping over all D domains."""
    unknown = sorted(set(counts) - column.keys())
    if unknown:
        raise MixtureError(
            f"the histogram of {name!r} names unknown domains: {shortlist(unknown)}"
            f"{nearest(unknown[0], column)}"
        )
    n = math.fsum(counts.values())
    if n == 0:
        raise MixtureError(f"the histogram of {name!r} has no documents: every count is 0")
    share_D = np.full(len(column), float(pseudo_count))
    for domain, share in specialist_mixture(counts).items():
        share_D[column[domain]] += n * share
    return np.asarray(share_D / (n + pseudo_count * len(column)))


def _mixture(domains: tuple[str, ...], share_D: Array) -> Mixture:
    return Mixture(dict(zip(domains, share_D.tolist(), strict=True)))


def _order(names: tuple[str, ...]) -> list[int]:
    return sorted(range(len(names)), key=names.__getitem__)


def _check_unique(what: str, names: tuple[str, ...]) -> None:
    if len(set(names)) < len(names):
        twice = {name for name, n in Counter(names).items() if n > 1}
        raise MixtureError(f"{what} of a basis have names of their own, not so {shortlist(twice)}")


def _checked(names: tuple[str, ...], share_ND: Array) -> Array:
    """The rows, read-only, each a distribution and no two of them the same."""
    for row, name in enumerate(names):
        share_D = share_ND[row]
        if not (np.isfinite(share_D).all() and (share_D >= 0).all()):
            raise MixtureError(f"shares of basis member {name!r} are finite and >= 0, not so here")
        if abs(share_D.sum() - 1) > _SUM_TOLERANCE:
            raise MixtureError(f"shares of basis member {name!r} sum to {share_D.sum():.6g}, not 1")
    for row, name in enumerate(names):
        distance = np.abs(share_ND[row + 1 :] - share_ND[row]).sum(axis=1)
        if (distance < _SAME).any():
            other = names[row + 1 + int(np.argmin(distance))]
            raise MixtureError(
                f"basis members {name!r} and {other!r} are the same distribution",
                hint="leave one of them out",
            )
    share_ND.flags.writeable = False
    return share_ND
