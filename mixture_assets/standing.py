"""Where an experiment's search for weights stands: what was decided, and what can be built on.

    <store>/searches/<experiment>.json           the base, the newest corpus, the last proposals
    <store>/searches/<experiment>/<corpus>.json  how weights for this corpus are searched

Each corpus keeps its own decision: a domain that came and went again costs nothing twice, and
work on one corpus goes on while another is decided.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mixture_assets.core.digest import digest
from mixture_assets.core.errors import MixtureError
from mixture_assets.core.experiment import Experiment, Way
from mixture_assets.corpus import Corpus, Workspace
from mixture_assets.search import Changes, Search, Sets, sets_of
from mixture_assets.store.files import atomic_write_json, read_json_object
from mixture_assets.store.records import read_record

NOT_EXTENDED = "a swarm is not extended: all domains are in every run"
Ways = Mapping[Way, Search | str]  # each way, or why it is not open

NO_SEARCH = "there is no earlier search to build on"
NOT_EXTENDED = "a swarm is not extended: every run has all domains"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A proposal, and what it answered."""

    proposal_id: str
    domains: Sets
    question: str


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What an experiment has behind it."""

    newest: Sets  # the corpus that was decided on last
    base: Sets  # the corpus of the runs that 'extend' builds around
    answers: tuple[Answer, ...] = ()  # the newest proposal, after that for another corpus

    def before(self, domains: Sets) -> Answer | None:
        """The newest proposal for another corpus."""
        return next((a for a in reversed(self.answers) if dict(a.domains) != dict(domains)), None)


def question_of(experiment: Experiment) -> str:
    """Names what weights are asked to do: those that answered another question are not reused."""
    e = experiment
    asked = [dataclasses.asdict(e.objective), dataclasses.asdict(e.constraints)]
    return digest([*asked, e.full.budget_tokens])


def standing(workspace: Workspace) -> Standing | None:
    """What the experiment has behind it; None before its first search."""
    found = read_json_object(_path(workspace))
    if found is None or "newest" not in found:
        return None
    answers = tuple(Answer(**answer) for answer in found["answers"])
    return Standing(newest=found["newest"], base=found["base"], answers=answers)


# --- which way --------------------------------------------------------------------------------


def settled_search(workspace: Workspace, corpus: Corpus) -> Search | None:
    """How weights for this corpus are searched, if that is decided and still fits the question."""
    found = read_json_object(_search_path(workspace, sets_of(corpus)))
    search = None if found is None else Search(**found)
    if search is not None and search.question in ("", question_of(workspace.experiment)):
        return search
    return None


def current_search(workspace: Workspace, corpus: Corpus) -> Search:
    """The search for this corpus: as decided, else as [refit] way has it. Writes nothing."""
    return settled_search(workspace, corpus) or preferred_search(workspace, corpus)


def preferred_search(workspace: Workspace, corpus: Corpus) -> Search:
    """As [refit] way has it, where earlier runs allow that; else 'full'."""
    found = possible_searches(workspace, corpus)[workspace.experiment.refit.way]
    return Search.full(sets_of(corpus)) if isinstance(found, str) else found


def possible_searches(workspace: Workspace, corpus: Corpus) -> Ways:
    """Every way for this corpus, or why it is not open, after what was searched before."""
    now, stands = sets_of(corpus), standing(workspace)
    if stands is None:
        return {"full": Search.full(now), "extend": NO_SEARCH, "reuse": NO_SEARCH}
    is_swarm = workspace.experiment.proxy.method == "swarm"
    return {
        "full": Search.full(now),
        "extend": NOT_EXTENDED if is_swarm else _extended(stands, now),
        "reuse": _reused(workspace, stands, now),
    }


def require_way(ways: Ways, way: Way) -> Search:
    """The search of one way, or MixtureError with the reason why it is not open."""
    found = ways[way]
    if isinstance(found, str):
        are_open = ", ".join(name for name, value in ways.items() if isinstance(value, Search))
        raise MixtureError(
            f"way {way!r} is not open: {found}", hint=f"ways that are open: {are_open}"
        )
    return found


def _extended(stands: Standing, now: Sets) -> Search | str:
    if not Changes.between(stands.base, now).unchanged:
        return "no domain is what it was in the earlier base runs"
    return Search(way="extend", domains=now, base=stands.base)


def _reused(workspace: Workspace, stands: Standing, now: Sets) -> Search | str:
    answer, question = stands.before(now), question_of(workspace.experiment)
    if answer is None:
        return "there are no weights for earlier domains"
    if answer.question != question:
        return (
            f"the weights of proposal {answer.proposal_id} are for another objective, budget or "
            "constraints"
        )
    weights = _weights(workspace, answer.proposal_id)
    kept = Changes.between(answer.domains, now).unchanged
    frozen = {name: weights[name] for name in kept if weights.get(name, 0) > 0}
    if not frozen:
        return f"no domain with a weight in proposal {answer.proposal_id} is what it was"
    return Search(
        way="reuse",
        domains=now,
        base=now,
        frozen=frozen,
        frozen_from=answer.proposal_id,
        question=question,
    )


def _weights(workspace: Workspace, proposal_id: str) -> dict[str, float]:
    rows: dict[str, Any] = read_record(workspace.store, "proposal", proposal_id) or {}
    return {row["domain"]: row["weight"] for row in rows.get("proposal_weight", [])}


# --- what changes it --------------------------------------------------------------------------


def settle(workspace: Workspace, search: Search) -> None:
    """Stand by this search for its corpus."""
    _write(_search_path(workspace, search.domains), dataclasses.asdict(search))
    stands = standing(workspace)
    if stands is None:
        stands = Standing(newest=search.domains, base=search.base)
    _save(workspace, dataclasses.replace(stands, newest=search.domains))


def note_answer(workspace: Workspace, search: Search, proposal_id: str) -> None:
    """Let later searches build on a proposal, and around its base runs if they are new.

    Not before: until then a 'full' search may be stopped, and the paid base must still serve.
    """
    stands = standing(workspace)
    if stands is None:
        return  # proposed without a decision, as by hand from runs that were there
    answer = Answer(
        proposal_id=proposal_id,
        domains=search.domains,
        question=question_of(workspace.experiment),
    )
    before = stands.before(search.domains)
    answers = stands.answers
    if answer not in answers:
        answers = (before, answer) if before else (answer,)
    base = search.domains if search.way == "full" else stands.base
    _save(workspace, dataclasses.replace(stands, base=base, answers=answers))


def latest_path(workspace: Workspace) -> Path:
    """The file that names the newest proposal of the experiment."""
    return workspace.store / "latest" / f"{workspace.experiment.name}.json"


def _save(workspace: Workspace, stands: Standing) -> None:
    _write(_path(workspace), dataclasses.asdict(stands))


def _write(path: Path, content: Mapping[str, Any]) -> None:
    if read_json_object(path) != content:
        atomic_write_json(path, content)


def _path(workspace: Workspace) -> Path:
    return workspace.store / "searches" / f"{workspace.experiment.name}.json"


def _search_path(workspace: Workspace, domains: Sets) -> Path:
    folder = workspace.store / "searches" / workspace.experiment.name
    return folder / f"{digest(dict(domains))}.json"
