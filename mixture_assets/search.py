"""How an experiment searches for weights: which way, and around which earlier runs.

full    every domain around one new base: nothing is taken over
extend  two runs per scale for each new or changed domain, around the base runs that are there
        (methods.extend)
reuse   the ratios among unchanged domains are frozen; they are fitted as one (methods.reuse)

Which of them an experiment goes is in standing.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from mixture_assets.core.errors import MixtureError
from mixture_assets.core.experiment import Experiment, Way
from mixture_assets.corpus import Corpus, Workspace
from mixture_assets.data.token_store import DomainTokens
from mixture_assets.methods.autoscale import AutoScale
from mixture_assets.methods.ddo import DDO
from mixture_assets.methods.extend import ExtendedDDO
from mixture_assets.methods.random_swarm import RandomSwarm
from mixture_assets.methods.reuse import Reuse

WAYS: tuple[Way, ...] = ("full", "extend", "reuse")
_BEFORE = "@before"  # no domain name holds an '@'

Sets = Mapping[str, str]  # domain -> token set
SearchMethod = AutoScale | DDO | RandomSwarm | Reuse


@dataclass(frozen=True, kw_only=True)
class Search:
    """One way to weights for one corpus."""

    way: Way
    domains: Sets  # what the weights are for
    base: Sets  # 'extend': what the earlier base runs were made of; else the same as `domains`
    frozen: Mapping[str, float] = field(default_factory=dict)  # 'reuse': domain -> earlier weight
    frozen_from: str = ""  # 'reuse': the proposal that they are from
    question: str = ""  # 'reuse': what the earlier weights were asked to do (standing.py)
    refit_id: str = ""  # the record of the decision; none for a first search

    @classmethod
    def full(cls, domains: Sets) -> "Search":
        """Every domain around one new base."""
        return cls(way="full", domains=domains, base=domains)

    @property
    def names(self) -> dict[str, tuple[str, str]]:
        """Name in a proxy run -> (domain, token set); earlier text of a domain has its own."""
        known = {name: (name, token_set) for name, token_set in self.domains.items()}
        for name, token_set in self.base.items():
            alias = f"{name}{_BEFORE}" if self._has_changed(name) else name
            known.setdefault(alias, (name, token_set))
        return known

    @property
    def around(self) -> tuple[str, ...]:
        """The names of the domains in the earlier base runs."""
        return tuple(sorted(f"{n}{_BEFORE}" if self._has_changed(n) else n for n in self.base))

    @property
    def replaced(self) -> dict[str, str]:
        """Domain whose text changed -> its name in the earlier base runs."""
        return {n: f"{n}{_BEFORE}" for n in sorted(self.base) if self._has_changed(n)}

    def _has_changed(self, domain: str) -> bool:
        return domain in self.domains and self.domains[domain] != self.base.get(domain)


@dataclass(frozen=True)
class Changes:
    """How a corpus differs from an earlier one."""

    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]
    unchanged: tuple[str, ...]

    @classmethod
    def between(cls, before: Sets, now: Sets) -> "Changes":
        """What happened to each domain."""
        both = sorted(before.keys() & now.keys())
        return cls(
            added=tuple(sorted(now.keys() - before.keys())),
            changed=tuple(n for n in both if before[n] != now[n]),
            removed=tuple(sorted(before.keys() - now.keys())),
            unchanged=tuple(n for n in both if before[n] == now[n]),
        )

    @property
    def text(self) -> str:
        """'songs is new, web has changed, old is gone'."""
        kinds = ((self.added, "new"), (self.changed, "changed"), (self.removed, "gone"))
        return "; ".join(f"{word}: {', '.join(names)}" for names, word in kinds if names)


def sets_of(corpus: Corpus) -> dict[str, str]:
    """Domain -> token set."""
    return {name: tokens.digest for name, tokens in sorted(corpus.domains.items())}


# --- what a search asks the methods for -------------------------------------------------------


def method_of(experiment: Experiment, search: Search) -> SearchMethod:
    """AutoScale for two budgets, DDO for one, or a swarm; around earlier runs or over a group."""
    p = experiment.proxy
    if p.method == "swarm":
        swarm = _swarm(experiment, search)
        return Reuse(frozen=search.frozen, inner=swarm) if search.way == "reuse" else swarm
    names = ("small", "large")[-len(p.budgets_tokens) :]
    designs = [
        _design(experiment, search, name, budget)
        for name, budget in zip(names, p.budgets_tokens, strict=True)
    ]
    inner: AutoScale | DDO = designs[0]
    if len(designs) == 2:
        small, large = designs
        inner = AutoScale(small=small, large=large, rule=p.rule, bootstrap=p.bootstrap)
    return Reuse(frozen=search.frozen, inner=inner) if search.way == "reuse" else inner


def _swarm(experiment: Experiment, search: Search) -> RandomSwarm:
    p = experiment.proxy
    if search.way == "extend":
        raise MixtureError(
            "a swarm is not extended: every run has all domains",
            hint='[refit] way = "full" or "reuse", or [proxy] method = "ddo"',
        )
    return RandomSwarm(
        base_tokens=max(p.budgets_tokens),
        n_runs=p.swarm_runs,
        seed=p.seeds[0],
        base_seeds=p.base_seeds,
        draws=max(p.bootstrap, 100),
    )


def _design(experiment: Experiment, search: Search, scale: str, budget: int) -> DDO:
    p = experiment.proxy
    plain = DDO(
        base_tokens=budget,
        grow=p.grow,
        shrink=p.shrink,
        floor=p.floor,
        seeds=p.seeds,
        base_seeds=p.base_seeds,
        scale=scale,
        bootstrap=p.bootstrap,
    )
    if search.way != "extend":
        return plain
    return ExtendedDDO(**vars(plain), around=search.around, replaced=search.replaced)


def token_sets(workspace: Workspace, corpus: Corpus, search: Search) -> dict[str, DomainTokens]:
    """What each name in a proxy run draws from; earlier text is still in the store."""
    found = {}
    for name, (domain, token_set) in search.names.items():
        here = corpus.domains.get(domain)
        is_here = here is not None and here.digest == token_set
        found[name] = here if is_here else DomainTokens.load(workspace.store, domain, token_set)
    return {name: tokens for name, tokens in found.items() if tokens is not None}


def notes_of(search: Search) -> list[str]:
    """What the reader must know of weights that were found this way."""
    changes = Changes.between(search.base, search.domains)
    if search.way == "extend" and (changes.added or changes.changed or changes.removed):
        return [
            f"earlier base runs of {len(search.base)} domains were built on ({changes.text}): "
            "two runs a scale for each new or changed domain; `mixture refit --way full` fits all "
            "domains around one new base"
        ]
    if search.way == "reuse":
        return [
            f"the ratios among {', '.join(sorted(search.frozen))} were not fitted again: "
            f"they are those of proposal {search.frozen_from}"
        ]
    return []
