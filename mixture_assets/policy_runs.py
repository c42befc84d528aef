"""Full runs towards a specialist set: no proxy run, no proposal; what they reach, beside what."""

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from mixture_assets import pipeline
from mixture_assets.core.digest import digest
from mixture_assets.core.errors import MixtureError
from mixture_assets.core.experiment import Experiment
from mixture_assets.core.experiment_rules import POLICIES, check
from mixture_assets.core.names import SPECIALIST, STEERING, nearest
from mixture_assets.corpus import Corpus, Workspace
from mixture_assets.data.validation import load_validation
from mixture_assets.evaluation.comparison import Comparison, Curve, compare
from mixture_assets.plans import PlannedRun, plan_full_runs, require_full_runs, some_full_runs
from mixture_assets.running import missing_runs, result_of, train, untrained
from mixture_assets.specialist import with_specialist
from mixture_assets.store.runs import RunFolder

BASELINES = ("natural", "uniform")


@dataclass(frozen=True)
class PolicySummary:
    """What runs towards a specialist set came to."""

    corpus: Corpus
    runs: Sequence[PlannedRun]
    comparisons: Mapping[str, Sequence[Comparison]]  # by policy: the judged loss beside the others'
    specialist: str  # how many documents steer and judge
    n_trained: int  # by this call


def with_policies(workspace: Workspace, policies: Sequence[str]) -> Workspace:
    """The same experiment, whose full runs are some policies and the baselines.

    Raises:
        MixtureError: There is no such policy, or no specialist set.
    """
    for name in policies:
        if name not in POLICIES:
            raise MixtureError(
                f"there is no policy {name!r}{nearest(name, POLICIES)}",
                hint=f"policies: {', '.join(POLICIES)}",
            )
    if policies and workspace.experiment.specialist is None:
        raise MixtureError(
            f"{', '.join(policies)} needs text that says what the model should be good at",
            hint="--specialist FOLDER, or a table [specialist] in the experiment file",
        )
    mixtures = tuple(dict.fromkeys((*BASELINES, *policies)))
    full = dataclasses.replace(workspace.experiment.full, mixtures=mixtures)
    return Workspace(dataclasses.replace(workspace.experiment, full=full))


def as_asked(workspace: Workspace, mixtures: Sequence[str], specialist: str) -> Workspace:
    """The experiment with the policies and the specialist set that a launchpad names."""
    if specialist:
        workspace = with_specialist(workspace, specialist)
    new = [m for m in mixtures if m in POLICIES and m not in workspace.experiment.full.mixtures]
    if not new:
        return workspace
    full = workspace.experiment.full
    full = dataclasses.replace(full, mixtures=(*full.mixtures, *new))
    found = Workspace(dataclasses.replace(workspace.experiment, full=full))
    check(found.experiment, "launchpad")
    return found


def has_policies_alone(experiment: Experiment) -> bool:
    """Whether an experiment's full runs are policies and baselines: there is nothing to search."""
    mixtures = experiment.full.mixtures
    return "proposal" not in mixtures and any(name in POLICIES for name in mixtures)


def needs_proposal(workspace: Workspace, mixtures: Sequence[str]) -> bool:
    """Whether full runs wait for proxy runs: only that of the proposal does."""
    return "proposal" in (mixtures or workspace.experiment.full.mixtures)


def searches_nothing(workspace: Workspace, mixtures: Sequence[str]) -> bool:
    """Whether the full runs asked for are policies, with or without baselines beside them."""
    is_asked = any(name in POLICIES for name in mixtures)
    is_alone = has_policies_alone(workspace.experiment)
    return (is_asked or is_alone) and not needs_proposal(workspace, mixtures)


def run_policies(
    workspace: Workspace,
    *,
    say: Callable[[str], None] = lambda line: None,
    on_settled: Callable[[PlannedRun], None] = lambda run: None,
    mixtures: Collection[str] = (),
    seeds: Collection[int] = (),
) -> PolicySummary:
    """Train the experiment's full runs that need no proposal; finished ones are looked up.

    Args:
        workspace: The experiment.
        say: Told of each step.
        on_settled: Told of each run that ends.
        mixtures: Train only full runs of these; none: of all.
        seeds: Train only full runs from these; none: from all.
    """
    require_full_runs(workspace.experiment, mixtures, seeds)
    corpus = pipeline.prepare(workspace, say=say)
    planned = some_full_runs(plan_full_runs(workspace, corpus, None), mixtures, seeds)
    n_missing, n_untrained = len(missing_runs(workspace, planned)), untrained(workspace, planned)
    specialist = _specialist_line(workspace, planned)
    say(specialist)
    say(
        f"full runs: {len(planned)} asked for, {n_untrained} to train, {n_missing - n_untrained} "
        f"to measure; steps and time left: {workspace.store / 'runs'}/*/log.txt"
    )
    train(workspace, planned, on_settled=on_settled)
    pipeline.record_costs(workspace, decision_of(workspace, planned), planned, "full")
    pipeline.refresh_database(workspace)
    compared = comparisons_of(workspace, planned)
    return PolicySummary(corpus, planned, compared, specialist, n_missing)


def _specialist_line(workspace: Workspace, planned: Sequence[PlannedRun]) -> str:
    sets = planned[0].measurement.validation_sets if planned else {}
    judge, steer = (
        len(load_validation(workspace.store, name, sets[name]).doc_ids) if name in sets else 0
        for name in (SPECIALIST, STEERING)
    )
    return f"specialist set: {steer} documents steer, {judge} others judge"


def decision_of(workspace: Workspace, planned: Sequence[PlannedRun]) -> str:
    """Under which name the ledger has what these runs cost."""
    return digest([workspace.experiment.name, "policies", sorted(r.run_id for r in planned)])


def comparisons_of(
    workspace: Workspace, planned: Sequence[PlannedRun]
) -> dict[str, list[Comparison]]:
    """Each policy's judged loss beside that of every other mixture with the same seeds."""
    curves = specialist_curves(workspace, planned)
    found: dict[str, list[Comparison]] = {}
    # Those that steer first: of two policies one is compared with the other, not both ways.
    for name in sorted(set(curves) & set(POLICIES), key=lambda n: -POLICIES.index(n)):
        others = [b for b in curves if b != name and b not in found]
        found[name] = [compare(curves, proposal=name, baseline=b) for b in others]
    return found


def specialist_curves(
    workspace: Workspace, planned: Sequence[PlannedRun]
) -> dict[str, dict[int, Curve]]:
    """Mixture name -> seed -> loss on the documents that judge, in nats, along training."""
    curves: dict[str, dict[int, Curve]] = {}
    for run in planned:
        judged = run.measurement.validation_sets.get(SPECIALIST)
        if judged is None or result_of(workspace, run) is None:
            continue
        found = {
            row["tokens"]: row["loss_nats"]
            for row in RunFolder(workspace.store, run.run_id).metrics()
            if row["kind"] == "evaluation" and str(row["validation_id"]) == judged
        }
        final = result_of(workspace, run)
        assert final is not None
        end = sum(final["realised_tokens"].values())
        found[end] = final["losses"][SPECIALIST]["loss_nats"]
        curves.setdefault(run.mixture_name, {})[run.spec.seed] = sorted(found.items())
    return curves
