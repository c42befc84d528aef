"""A changed set of domains: which ways lead to new weights, and what each costs, before it starts.

A proxy run is named by what its weights depend on, so a way costs what is not there yet: runs to
train, and finished runs to measure on validation documents that came later.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from mixture_assets.core.digest import digest
from mixture_assets.core.experiment import Way
from mixture_assets.core.units import flops_text, seconds_text, tokens_text
from mixture_assets.corpus import Corpus, Workspace, pin_tokenizer, save_corpus
from mixture_assets.plans import PlannedRun, plan_proxies
from mixture_assets.search import (
    WAYS,
    Changes,
    Search,
    possible_searches,
    preferred_search,
    require_way,
    set_search,
    sets_of,
    stored_search,
)
from mixture_assets.store.records import read_record, write_record
from mixture_assets.store.runs import RunFolder, now_text
from mixture_assets.training.loop import evaluation_steps
from mixture_assets.training.measure import evaluation_flops
from mixture_assets.training.rate import measure_tokens_per_second, training_flops

Action = Literal["keep", "measure", "train"]

TITLES: Mapping[Way, str] = {
    "full": "every domain around one new base",
    "extend": "two runs a scale for each new or changed domain, around the old base",
    "reuse": "unchanged domains keep their ratios and are fitted as one",
}


@dataclass(frozen=True)
class Step:
    """One proxy run of a way, and what it still takes."""

    run: PlannedRun
    action: Action
    flops: float
    domains: tuple[str, ...] = ()  # to measure on


@dataclass(frozen=True)
class Option:
    """One way, priced."""

    search: Search
    steps: Sequence[Step]
    seconds: float  # on this machine, one process

    @property
    def way(self) -> Way:
        """Its name."""
        return self.search.way

    def n(self, action: Action) -> int:
        """Runs to keep, to measure or to train."""
        return sum(step.action == action for step in self.steps)

    @property
    def flops(self) -> float:
        """Of training and evaluation, all that is still to do."""
        return sum(step.flops for step in self.steps)

    @property
    def tokens(self) -> int:
        """Still to train on."""
        return sum(s.run.spec.budget_tokens for s in self.steps if s.action == "train")

    def to_json(self) -> dict[str, Any]:
        """Its price, as `mixture refit --json` prints it."""
        return {
            "way": self.way,
            "n_runs": len(self.steps),
            "n_to_keep": self.n("keep"),
            "n_to_measure": self.n("measure"),
            "n_to_train": self.n("train"),
            "tokens": self.tokens,
            "flops": self.flops,
            "device_seconds": self.seconds,
        }


@dataclass(frozen=True)
class Decision:
    """What a changed corpus leads to."""

    changes: Changes
    options: Sequence[Option]  # every way that is open, in the order of WAYS
    chosen: Option
    refit_id: str  # '' for an experiment's first search: there is nothing to choose from


def price(workspace: Workspace, corpus: Corpus) -> list[Option]:
    """Every way that is open for this corpus; starts nothing and writes nothing."""
    searches = possible_searches(workspace, corpus)
    found = [_option(workspace, corpus, searches[way]) for way in WAYS if way in searches]
    to_train = [s.run.spec for o in found for s in o.steps if s.action == "train"]
    if not to_train:
        return found
    spec = to_train[0]  # of one model and one setting, all of them
    rate = measure_tokens_per_second(spec.model, spec.training, vocab_size=spec.vocab_size)
    return [replace(option, seconds=option.tokens / rate) for option in found]


def _option(workspace: Workspace, corpus: Corpus, search: Search) -> Option:
    planned = plan_proxies(workspace, corpus, search)
    return Option(search, [_step(workspace, corpus, run) for run in planned], 0.0)


def _step(workspace: Workspace, corpus: Corpus, run: PlannedRun) -> Step:
    folder = RunFolder(workspace.store, run.run_id)
    if folder.losses(run.measurement) is not None:
        return Step(run, "keep", 0.0)
    per_token = training_flops(run.spec.model, vocab_size=run.spec.vocab_size)
    if folder.result() is not None and folder.model_path.exists():
        owed = tuple(
            d
            for d, name in run.measurement.validation_sets.items()
            if folder.losses(replace(run.measurement, validation_sets={d: name})) is None
        )
        return Step(run, "measure", evaluation_flops(per_token, _scored(corpus, owed)), owed)
    scored = _scored(corpus, run.measurement.validation_sets)
    training = run.spec.training
    n_steps = max(1, run.spec.budget_tokens // training.batch_tokens)
    n_evaluations = len(evaluation_steps(n_steps, run.measurement.evaluations))
    flops = per_token * run.spec.budget_tokens
    return Step(run, "train", flops + n_evaluations * evaluation_flops(per_token, scored))


def _scored(corpus: Corpus, domains: Sequence[str] | Mapping[str, str]) -> int:
    """Tokens of the domains' validation documents, the end-of-text tokens included."""
    found = [corpus.domains[d] for d in domains]
    return sum(d.validation_tokens + d.validation_documents for d in found)


# --- deciding ---------------------------------------------------------------------------------


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
    stored, now = stored_search(workspace), sets_of(corpus)
    is_settled = stored is not None and dict(stored.domains) == now
    if stored is not None and is_settled and way in (None, stored.way):
        return stored
    pin_tokenizer(workspace, corpus.tokenizer)
    searches = possible_searches(workspace, corpus)
    preferred = preferred_search(workspace, corpus)
    search = preferred if way is None else require_way(searches, way)
    if stored is not None:
        search = _record(workspace, corpus, stored, search, say)
    set_search(workspace, search)
    return search


def _record(
    workspace: Workspace,
    corpus: Corpus,
    before: Search,
    search: Search,
    say: Callable[[str], None],
) -> Search:
    """Write down the choice, its alternatives and their prices; returns the search with its id."""
    changes = Changes.between(before.domains, search.domains)
    options = price(workspace, corpus)
    validity = run_validity(workspace, corpus, options)
    refit_id = digest(
        [workspace.experiment.name, dict(before.domains), dict(search.domains), search.way]
        + [option.to_json() | {"device_seconds": 0} for option in options]
    )
    say(f"the domains changed ({changes.text or 'back to earlier ones'}); ways to new weights:")
    for option in options:
        say(option_line(option, is_chosen=option.way == search.way))
    rows = _rows(workspace, refit_id, changes, options, search, save_corpus(workspace, corpus))
    rows["run_validity"] = [{"refit_id": refit_id} | row for row in validity]
    write_record(workspace.store, "refit", refit_id, rows)
    return replace(search, refit_id=refit_id)


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


def option_line(option: Option, *, is_chosen: bool) -> str:
    """One way and its price, for people."""
    mark = "->" if is_chosen else "  "
    time = f", about {seconds_text(option.seconds)} of one process" if option.tokens else ""
    return (
        f"{mark} {option.way:<6} {option.n('train')} runs to train, {option.n('measure')} to "
        f"measure, {option.n('keep')} as they are: {tokens_text(option.tokens)} tokens, "
        f"{flops_text(option.flops)}{time} ({TITLES[option.way]})"
    )


# --- which earlier runs are still worth something ---------------------------------------------


def run_validity(
    workspace: Workspace, corpus: Corpus, options: Sequence[Option]
) -> list[dict[str, Any]]:
    """One row per way and earlier proxy run: what becomes of it, and why.

    Columns: way, run_id, label, fate ('kept', 'measured', 'unused'), reason.
    """
    earlier = _proxy_headers(workspace)
    rows = []
    for option in options:
        steps = {step.run.run_id: step for step in option.steps}
        for header in earlier:
            fate, reason = _fate(corpus, header, steps.get(header["run_id"]))
            row = {"way": option.way, "run_id": header["run_id"], "label": header["label"]}
            rows.append(row | {"fate": fate, "reason": reason})
    return rows


def _proxy_headers(workspace: Workspace) -> list[dict[str, Any]]:
    """Finished proxy runs that the experiment was the first to ask for."""
    found = []
    for path in sorted((workspace.store / "runs").glob("*/result.json")):
        header = RunFolder(workspace.store, path.parent.name).spec()
        is_ours = header["experiment"] == workspace.experiment.name
        if is_ours and header["purpose"] == "proxy":
            found.append(header)
    return found


def _fate(corpus: Corpus, header: Mapping[str, Any], step: Step | None) -> tuple[str, str]:
    if step is not None and step.action == "measure":
        return "measured", f"its model is kept, and is measured on {', '.join(step.domains)}"
    if step is not None and step.action == "keep":
        return "kept", "trained on the same tokens, measured on the same documents"
    if step is not None:
        return "unused", "its model was deleted, so it is trained again"
    return "unused", _why_unused(corpus, header["spec"])


def _why_unused(corpus: Corpus, spec: Mapping[str, Any]) -> str:
    now, then = sets_of(corpus), spec["token_sets"]
    changes = Changes.between(then, now)
    if changes.removed:
        return f"trained on {', '.join(changes.removed)}, which is gone"
    if changes.changed:
        return f"trained on the earlier text of {', '.join(changes.changed)}"
    if changes.added:
        return f"trained without {', '.join(changes.added)}"
    if spec["tokenizer"] != corpus.tokenizer.digest:
        return "trained on tokens of another tokenizer"
    return "has amounts of tokens, or settings, that this way does not ask for"


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
    result, asked = folder.result(), planned["validation_ids"].split(", ")
    if result is None:
        return None
    flops, seconds = result["flops_train"] + result["flops_eval"], result["seconds"]
    if planned["action"] == "measure":
        measured = [row for row in folder.later_losses() if row["validation_id"] in asked]
        flops = math.fsum(row["flops_eval"] for row in measured)
        seconds = math.fsum(row["seconds"] for row in measured)
    return {
        "decision_id": planned["refit_id"],
        "run_id": planned["run_id"],
        "flops": flops,
        "device_seconds": seconds,
        "device": result["device"],
        "role": f"refit, {planned['action']}",
    }
