"""How an experiment searches for weights: which way, and around which earlier runs.

full    every domain around one new base: nothing is taken over
extend  two runs per scale for each new or changed domain, around the base runs that are there
        (methods.extend)
reuse   the ratios among unchanged domains are frozen; they are fitted as one (methods.reuse)

Where an experiment stands is <store>/searches/<experiment>.json. It changes when the corpus does.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mixture_assets.core.errors import MixtureError
from mixture_assets.core.experiment import Experiment, Way
from mixture_assets.corpus import Corpus, Workspace
from mixture_assets.data.token_store import DomainTokens
from mixture_assets.methods.autoscale import AutoScale
from mixture_assets.methods.ddo import DDO
from mixture_assets.methods.extend import ExtendedDDO
from mixture_assets.methods.reuse import Reuse
from mixture_assets.store.files import atomic_write_json, read_json_object
from mixture_assets.store.records import read_record

WAYS: tuple[Way, ...] = ("full", "extend", "reuse")
_BEFORE = "@before"  # no domain name holds an '@'

Sets = Mapping[str, str]  # domain -> token set
SearchMethod = AutoScale | DDO | Reuse


@dataclass(frozen=True, kw_only=True)
class Search:
    """One way to weights for one corpus."""

    way: Way
    domains: Sets  # what the weights are for
    base: Sets  # 'extend': what the earlier base runs were made of; else the same as `domains`
    frozen: Mapping[str, float] = field(default_factory=dict)  # 'reuse': domain -> earlier weight
    frozen_from: str = ""  # 'reuse': the proposal that they are from
    refit_id: str = ""  # the record of the decision; none for a first search

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


def stored_search(workspace: Workspace) -> Search | None:
    """Where the experiment stands, whatever its corpus is now."""
    found = read_json_object(_path(workspace))
    return None if found is None else Search(**found["search"])


def current_search(workspace: Workspace, corpus: Corpus) -> Search:
    """The search for this corpus: as decided, else as [refit] way has it. Writes nothing."""
    stored = stored_search(workspace)
    if stored is not None and dict(stored.domains) == sets_of(corpus):
        return stored
    return preferred_search(workspace, corpus)


def preferred_search(workspace: Workspace, corpus: Corpus) -> Search:
    """As [refit] way has it, where earlier runs allow that; else 'full'."""
    way = workspace.experiment.refit.way
    return possible_searches(workspace, corpus).get(way) or _full(corpus)


def possible_searches(workspace: Workspace, corpus: Corpus) -> dict[Way, Search]:
    """Every way that is open for this corpus, after what was searched before."""
    found: dict[Way, Search] = {"full": _full(corpus)}
    state = read_json_object(_path(workspace))
    if state is None:
        return found
    now, base = sets_of(corpus), state["base"]
    if Changes.between(base, now).unchanged:
        found["extend"] = Search(way="extend", domains=now, base=base)
    proposal_id = str((read_json_object(latest_path(workspace)) or {}).get("proposal_id", ""))
    frozen = _weights(workspace, proposal_id)
    kept = Changes.between(state["search"]["domains"], now).unchanged
    frozen = {name: frozen[name] for name in kept if frozen.get(name, 0) > 0}
    if frozen:
        found["reuse"] = Search(
            way="reuse", domains=now, base=now, frozen=frozen, frozen_from=proposal_id
        )
    return found


def set_search(workspace: Workspace, search: Search) -> None:
    """Stand by this search until the corpus changes."""
    state = read_json_object(_path(workspace)) or {}
    base = search.domains if search.way == "full" else state.get("base", search.base)
    content = {"search": dataclasses.asdict(search), "base": dict(base)}
    if state != content:
        atomic_write_json(_path(workspace), content)


def latest_path(workspace: Workspace) -> Path:
    """The file that names the newest proposal of the experiment."""
    return workspace.store / "latest" / f"{workspace.experiment.name}.json"


def _path(workspace: Workspace) -> Path:
    return workspace.store / "searches" / f"{workspace.experiment.name}.json"


def _full(corpus: Corpus) -> Search:
    return Search(way="full", domains=sets_of(corpus), base=sets_of(corpus))


def _weights(workspace: Workspace, proposal_id: str) -> dict[str, float]:
    rows: dict[str, Any] = {}
    if proposal_id:
        rows = read_record(workspace.store, "proposal", proposal_id) or {}
    return {row["domain"]: row["weight"] for row in rows.get("proposal_weight", [])}


# --- what a search asks the methods for -------------------------------------------------------


def method_of(experiment: Experiment, search: Search) -> SearchMethod:
    """AutoScale for two budgets, DDO for one; around earlier runs or over a group if so decided."""
    p = experiment.proxy
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


def require_way(searches: Mapping[Way, Search], way: Way) -> Search:
    """The search of one way, or MixtureError where earlier runs do not allow it."""
    if way not in searches:
        raise MixtureError(
            f"there is no earlier search that way {way!r} could build on",
            hint=f"ways that are open: {', '.join(searches)}",
        )
    return searches[way]
