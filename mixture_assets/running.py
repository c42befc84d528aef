"""Runs of a plan: their folders, their training, and what came of them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mixture_assets.compute.pool import PoolReport, default_workers, run_pool
from mixture_assets.core.digest import digest
from mixture_assets.core.errors import MachineError, MixtureError
from mixture_assets.core.experiment import Experiment
from mixture_assets.core.run import Measurement, RunSpec
from mixture_assets.corpus import Workspace
from mixture_assets.lineage import plan_rows
from mixture_assets.plans import PlannedRun
from mixture_assets.store.ingest import ingest
from mixture_assets.store.records import write_record
from mixture_assets.store.runs import RunFolder, now_text
from mixture_assets.training.device import probe


def create_runs(workspace: Workspace, planned: Sequence[PlannedRun]) -> None:
    """Write the run folders of a plan; those that exist stay as they are."""
    headers = []
    for run in planned:
        header = {
            "run_id": run.run_id,
            "purpose": run.purpose,
            "label": run.label,
            "experiment": workspace.experiment.name,
            "scale": run.scale,
            "mixture_name": run.mixture_name,
            "created_at": now_text(),
            "spec": run.spec.to_json(),
            "measurement": run.measurement.to_json(),
        }
        RunFolder(workspace.store, run.run_id).create(header)
        headers.append(header)
    name = workspace.experiment.name
    rows = plan_rows(name, headers, [run.spec for run in planned])
    plan_id = digest([name, sorted([h["run_id"], h["label"]] for h in headers)])
    write_record(workspace.store, "experiment_run", plan_id, rows)


def train(
    workspace: Workspace,
    planned: Sequence[PlannedRun],
    *,
    on_settled: Callable[[PlannedRun], None] = lambda run: None,
    on_look: Callable[[], None] = lambda: None,
) -> PoolReport:
    """Train what has no result yet.

    Args:
        workspace: The experiment.
        planned: Runs, longest first.
        on_settled: Told of each run that ends.
        on_look: Called again and again while runs train.

    Raises:
        MachineError: Runs failed by faults of the machine alone, such as a full disk.
        MixtureError: A run failed otherwise: its row says why.
    """
    create_runs(workspace, planned)
    by_id = {run.run_id: run for run in planned}
    compute = workspace.experiment.compute
    report = run_pool(
        workspace.store,
        list(by_id),
        workers=n_workers(workspace.experiment),
        attempts=compute.attempts,
        on_settled=lambda run_id: on_settled(by_id[run_id]),
        on_look=on_look,
    )
    ingest(workspace.store)
    if report.failed:
        raise _failure(workspace, by_id, report)
    return report


def _failure(
    workspace: Workspace, planned: Mapping[str, PlannedRun], report: PoolReport
) -> MixtureError:
    """What the failed runs amount to: a run's own fault counts before the machine's."""
    own = [run_id for run_id in report.failed if run_id not in report.of_machine]
    run_id = (own or list(report.failed))[0]
    problem = f"{len(report.failed)} of {len(planned)} runs failed: {planned[run_id].label!r}: "
    problem += report.failed[run_id]
    if own:
        hint = "`mixture status` lists them; start again to retry them"
        return MixtureError(problem, hint=hint)
    hint = str((RunFolder(workspace.store, run_id).failure() or {}).get("hint", ""))
    return MachineError(problem, hint=hint)


def n_workers(experiment: Experiment) -> int:
    """Processes at a time: as asked, else one on a GPU, else as many as the cores hold."""
    training = experiment.training
    if experiment.compute.workers:
        return experiment.compute.workers
    if probe(training, experiment.model.context).kind == "cuda":
        return 1
    return max(1, default_workers() // training.threads)


def result_of(workspace: Workspace, run: PlannedRun) -> dict[str, Any] | None:
    """A run's result with its losses on the plan's validation documents, or None."""
    folder = RunFolder(workspace.store, run.run_id)
    losses, result = folder.losses(run.measurement), folder.result()
    return None if losses is None or result is None else result | {"losses": losses}


def known_runs(workspace: Workspace, run_ids: Sequence[str]) -> list[PlannedRun]:
    """Those of some runs that have a folder, as they were planned first."""
    folders = [RunFolder(workspace.store, run_id) for run_id in run_ids]
    headers = [folder.spec() for folder in folders if folder.spec_path.exists()]
    return [
        PlannedRun(
            spec=RunSpec.from_json(h["spec"]),
            measurement=Measurement.from_json(h["measurement"]),
            **{key: h[key] for key in ("purpose", "label", "scale", "mixture_name")},
        )
        for h in headers
    ]


def has_runs(workspace: Workspace) -> bool:
    """Whether anything was ever trained in this store."""
    return (workspace.store / "runs").exists()


def untrained(workspace: Workspace, planned: Sequence[PlannedRun]) -> int:
    """How many runs of a plan are not trained; others may still lack a measurement."""
    folders = [RunFolder(workspace.store, run.run_id) for run in planned]
    return sum(folder.result() is None for folder in folders)


def missing_runs(workspace: Workspace, planned: Sequence[PlannedRun]) -> list[PlannedRun]:
    """Runs of a plan that have no result yet."""
    return [r for r in planned if result_of(workspace, r) is None]
