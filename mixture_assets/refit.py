"""A changed set of domains: settling on a way to new weights, and what it cost in the end."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from mixture_assets.core.digest import digest
from mixture_assets.core.errors import MixtureError
from mixture_assets.core.experiment import Way
from mixture_assets.core.units import flops_text
from mixture_assets.corpus import Corpus, Workspace, pin_tokenizer, save_corpus
from mixture_assets.prices import Option, option_line, price
from mixture_assets.search import Changes, Search, Sets
from mixture_assets.standing import (
    possible_searches,
    preferred_search,
    require_way,
    settle,
    settled_search,
    standing,
)
from mixture_assets.store.records import read_record, write_record
from mixture_assets.store.runs import RunFolder, now_text
from mixture_assets.validity import run_validity


def decide(
    workspace: Workspace,
    corpus: Corpus,
    way: Way | None = None,
    *,
    say: Callable[[str], None] = lambda line: None,
) -> Search:
    """Settle how weights for this corpus are searched, with every way's price on record.

    Does nothing if that is settled, unless another way is asked for.

    Args:
        workspace: The experiment.
        corpus: What it is now.
        way: As asked for; None: as it was settled, else as [refit] way has it.
        say: Told of the ways and their prices where there is a choice.
    """
    stored, before = settled_search(workspace, corpus), standing(workspace)
    if stored is not None and way in (None, stored.way):
        settle(workspace, stored)
        return stored
    pin_tokenizer(workspace, corpus.tokenizer)
    if way is None:
        search = preferred_search(workspace, corpus)
    else:
        search = require_way(possible_searches(workspace, corpus), way)
    if before is not None:
        search = _record(workspace, corpus, before.newest, search, say)
    settle(workspace, search)
    return search


def _record(
    workspace: Workspace,
    corpus: Corpus,
    before: Sets,
    search: Search,
    say: Callable[[str], None],
) -> Search:
    """Write down the choice, its alternatives and their prices; returns the search with its id."""
    changes = Changes.between(before, search.domains)
    options = price(workspace, corpus)
    say(f"{_occasion(changes)}; ways to new weights:")
    for option in options:
        say(option_line(option, is_chosen=option.way == search.way))
    _require_open(options, search.way)
    validity = run_validity(workspace, corpus, options)
    refit_id = digest(
        [workspace.experiment.name, dict(before), dict(search.domains), search.way]
        + [option.to_json() | {"device_seconds": 0} for option in options]
    )
    rows = _rows(workspace, refit_id, changes, options, search, save_corpus(workspace, corpus))
    rows["run_validity"] = [{"refit_id": refit_id} | row for row in validity]
    write_record(workspace.store, "refit", refit_id, rows)
    return replace(search, refit_id=refit_id)


def _occasion(changes: Changes) -> str:
    if changes.text:
        return f"the domains changed ({changes.text})"
    return "another way is asked for, or another question"


def _require_open(options: Sequence[Option], way: Way) -> None:
    """MixtureError about a way that cannot be gone, with those that can."""
    problem = next(o.problem for o in options if o.way == way)
    if problem is None:
        return
    others = [o for o in options if o.problem is None]
    if not others:
        raise problem
    known = ", ".join(f"{o.way} ({o.n('train')} runs, {flops_text(o.flops)})" for o in others)
    raise MixtureError(
        f"way {way!r} is not open: {problem}",
        hint=f"{problem.hint or 'go another way'}; open: {known}, with `mixture refit --way`",
    ) from problem


def _rows(
    workspace: Workspace,
    refit_id: str,
    changes: Changes,
    options: Sequence[Option],
    search: Search,
    corpus_id: str,
) -> dict[str, list[dict[str, Any]]]:
    head = {
        "refit_id": refit_id,
        "experiment": workspace.experiment.name,
        "corpus_id": corpus_id,
        "way": search.way,
        "added": ", ".join(changes.added),
        "changed": ", ".join(changes.changed),
        "removed": ", ".join(changes.removed),
        "created_at": now_text(),
    }
    chosen = next(o for o in options if o.way == search.way)
    return {
        "refit": [head],
        "refit_option": [
            {"refit_id": refit_id, "is_chosen": o.way == search.way} | o.to_json() for o in options
        ],
        "refit_run": [
            {
                "refit_id": refit_id,
                "run_id": s.run.run_id,
                "action": s.action,
                "flops": s.flops,
                "validation_ids": ", ".join(
                    s.run.measurement.validation_sets[d] for d in s.domains
                ),
            }
            for s in chosen.steps
        ],
    }


# --- what it cost in the end ------------------------------------------------------------------


def record_measured_cost(workspace: Workspace, search: Search) -> float:
    """FLOPs that the runs of a decision took, recorded beside its price; what is done counts."""
    found = read_record(workspace.store, "refit", search.refit_id) if search.refit_id else None
    rows = [
        _cost(workspace, row)
        for row in (found or {}).get("refit_run", [])
        if row["action"] != "keep"
    ]
    costs = [row for row in rows if row is not None]
    if costs:
        name = digest([search.refit_id, "refit"])
        write_record(workspace.store, "cost", name, {"cost": costs})
    return math.fsum(row["flops"] for row in costs)


def _cost(workspace: Workspace, planned: Mapping[str, Any]) -> dict[str, Any] | None:
    """What one run of a decision took; None while it is not done."""
    folder = RunFolder(workspace.store, planned["run_id"])
    result, asked = folder.result(), set(planned["validation_ids"].split(", "))
    if result is None:
        return None
    later = [row for row in folder.later_losses() if row["validation_id"] in asked]
    if not asked <= {*result["validation_sets"].values(), *(r["validation_id"] for r in later)}:
        return None
    flops = math.fsum(row["flops_eval"] for row in later)
    seconds = math.fsum(row["seconds"] for row in later)
    if planned["action"] == "train":
        flops += result["flops_train"] + result["flops_eval"]
        seconds += result["seconds"]
    return {
        "decision_id": planned["refit_id"],
        "run_id": planned["run_id"],
        "flops": flops,
        "device_seconds": seconds,
        "device": result["device"],
        "role": f"refit, {planned['action']}",
    }
