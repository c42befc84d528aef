"""What each way to new weights still costs, before anything starts.

A proxy run is named by what its weights depend on, so a way costs what is not there yet: runs to
train, and finished runs to measure on validation documents that came later.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from mixture_assets.core.errors import MixtureError
from mixture_assets.core.experiment import Way
from mixture_assets.core.units import flops_text, seconds_text, tokens_text
from mixture_assets.corpus import Corpus, Workspace
from mixture_assets.plans import PlannedRun, plan_proxies
from mixture_assets.search import WAYS, Search
from mixture_assets.standing import possible_searches
from mixture_assets.store.runs import RunFolder
from mixture_assets.training.measure import evaluation_flops
from mixture_assets.training.rate import measure_tokens_per_second, training_flops
from mixture_assets.training.result import evaluation_steps

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
    domains: tuple[str, ...] = ()  # to measure on, at its end or later


@dataclass(frozen=True)
class Option:
    """One way, priced; or the reason why it cannot be gone."""

    way: Way
    steps: Sequence[Step] = ()
    seconds: float = 0.0  # on this machine, one process
    problem: MixtureError | None = None

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
        if self.problem is not None:
            return {"way": self.way, "problem": str(self.problem)}
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


def price(workspace: Workspace, corpus: Corpus) -> list[Option]:
    """Every way for this corpus, in the order of WAYS; starts nothing and writes nothing."""
    searches = possible_searches(workspace, corpus)
    found = [_option(workspace, corpus, way, searches[way]) for way in WAYS]
    to_train = [s.run.spec for o in found for s in o.steps if s.action == "train"]
    if not to_train:
        return found
    spec = to_train[0]  # of one model and one setting, all of them
    rate = measure_tokens_per_second(spec.model, spec.training, vocab_size=spec.vocab_size)
    return [replace(option, seconds=option.tokens / rate) for option in found]


def _option(workspace: Workspace, corpus: Corpus, way: Way, search: Search | str) -> Option:
    """A way that asks for more than there is closes no other."""
    if isinstance(search, str):
        return Option(way, problem=MixtureError(search))
    try:
        planned = plan_proxies(workspace, corpus, search)
    except MixtureError as error:
        return Option(way, problem=error)
    return Option(way, [_step(workspace, corpus, run) for run in planned])


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
    flops += n_evaluations * evaluation_flops(per_token, scored)
    return Step(run, "train", flops, tuple(run.measurement.validation_sets))


def _scored(corpus: Corpus, domains: Sequence[str] | Mapping[str, str]) -> int:
    """Tokens of the domains' validation documents, the end-of-text tokens included."""
    found = [corpus.domains[d] for d in domains]
    return sum(d.validation_tokens + d.validation_documents for d in found)


def option_line(option: Option, *, is_chosen: bool) -> str:
    """One way and its price, for people."""
    if option.problem is not None:
        return f"   {option.way:<6} is not open: {option.problem}"
    mark = "->" if is_chosen else "  "
    time = f", about {seconds_text(option.seconds)} of one process" if option.tokens else ""
    return (
        f"{mark} {option.way:<6} {option.n('train')} runs to train, {option.n('measure')} to "
        f"measure, {option.n('keep')} as they are: {tokens_text(option.tokens)} tokens, "
        f"{flops_text(option.flops)}{time} ({TITLES[option.way]})"
    )
