"""The steps, as plain functions: the only file that knows them all.

    land -> build_corpus (corpus.py) -> plan_proxies -> train -> propose -> plan_full_runs
         -> train -> compare_runs -> refresh_database -> make_report

Each step reads what the ones before left in the store, does what is missing, and returns a
value. The command line and the Dagster assets are thin callers of these.
"""

import dataclasses
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from mixture_assets.core.digest import digest
from mixture_assets.core.errors import MixtureError
from mixture_assets.core.experiment import Way
from mixture_assets.core.names import require_one
from mixture_assets.core.problem import Prediction, Proposal, ProxyResult
from mixture_assets.core.units import flops_text
from mixture_assets.corpus import Corpus, Workspace, build_corpus, inputs_of, land
from mixture_assets.evaluation.comparison import Comparison, Curve, compare
from mixture_assets.inputs import PROPOSAL_KINDS, PROPOSAL_VERSION, input_rows
from mixture_assets.lineage import comparison_rows, proposal_rows
from mixture_assets.methods.fit import DDOFit
from mixture_assets.plans import (
    PlannedRun,
    Requests,
    measurement_on,
    plan_full_runs,
    plan_proxies,
    problem_of,
    require_full_runs,
    some_full_runs,
)
from mixture_assets.refit import decide, record_measured_cost
from mixture_assets.report.page import ReportPaths, write_report
from mixture_assets.running import missing_runs, train
from mixture_assets.search import method_of, notes_of
from mixture_assets.standing import current_search, latest_path, note_answer
from mixture_assets.store.files import atomic_write_json, read_json_object
from mixture_assets.store.ingest import IngestReport, ingest
from mixture_assets.store.records import list_records, read_record, write_record
from mixture_assets.store.runs import RunFolder, now_text

# --- weights ----------------------------------------------------------------------------------


def proxy_results(workspace: Workspace, corpus: Corpus) -> list[ProxyResult]:
    """Results of the proxy runs that are done, matched to what the method asked for."""
    requests = Requests.of(workspace, corpus)
    evaluations = workspace.experiment.proxy.evaluations
    results = []
    for run in requests.runs:
        run_id = requests.spec(run).digest
        measurement = measurement_on(corpus, evaluations, run.measured)
        rows = RunFolder(workspace.store, run_id).losses(measurement)
        if rows is not None:
            losses = {d: row["loss_nats"] for d, row in rows.items()}
            results.append(ProxyResult(run=run, loss_nats=losses, run_id=run_id))
    return results


def fit_scales(workspace: Workspace, corpus: Corpus) -> dict[str, DDOFit]:
    """DDO's curves and optimum at each proxy scale, from the proxy runs that are done."""
    method = method_of(workspace.experiment, current_search(workspace, corpus))
    return method.fits(problem_of(workspace, corpus), proxy_results(workspace, corpus))


def propose(workspace: Workspace, corpus: Corpus) -> tuple[str, Proposal]:
    """Weights for the full run from the proxy runs, recorded with what they rest on."""
    e, problem = workspace.experiment, problem_of(workspace, corpus)
    search, results = current_search(workspace, corpus), proxy_results(workspace, corpus)
    method = method_of(e, search)
    proposal_id = digest(
        {
            "experiment": e.name,
            "version": PROPOSAL_VERSION,
            "method": [type(method).__name__, dataclasses.asdict(method)],
            "problem": dataclasses.asdict(problem),
            "runs": sorted(r.run_id for r in results),
            "measured_on": {n: d.validation_digest for n, d in corpus.domains.items()},
        }
    )
    proposal = method.propose(problem, results)
    proposal = dataclasses.replace(
        proposal,
        notes=(*notes_of(search), *proposal.notes),
        predictions=_first_predictions(workspace, proposal_id, proposal),
    )
    rows = proposal_rows(
        proposal_id,
        proposal,
        experiment=e.name,
        created_at=now_text(),
        runs={r.run.digest: r.run_id for r in results},
        reused=search.frozen,
        reused_from=search.frozen_from,
    )
    rows["input"] = input_rows(proposal_id, inputs_of(workspace, corpus), PROPOSAL_KINDS)
    write_record(workspace.store, "proposal", proposal_id, rows)
    atomic_write_json(latest_path(workspace), {"proposal_id": proposal_id})
    note_answer(workspace, search, proposal_id)
    _record_costs(workspace, proposal_id, sorted({r.run_id for r in results}), "proxy")
    return proposal_id, proposal


def _first_predictions(
    workspace: Workspace, proposal_id: str, proposal: Proposal
) -> tuple[Prediction, ...]:
    """What was predicted when the proposal was first recorded: never said anew, nor afterwards."""
    found = read_record(workspace.store, "proposal", proposal_id)
    if found is None:
        return tuple(proposal.predictions)
    return tuple(
        Prediction(
            quantity=row["quantity"],
            baseline=row["baseline"],
            value=row["value"],
            low=row.get("low"),
            high=row.get("high"),
        )
        for row in found.get("prediction", [])
    )


# --- evaluation -------------------------------------------------------------------------------


def objective_curves(
    workspace: Workspace, planned: Sequence[PlannedRun]
) -> dict[str, dict[int, Curve]]:
    """Mixture name -> seed -> objective along training, for the runs that are done."""
    objective = workspace.experiment.objective
    curves: dict[str, dict[int, Curve]] = {}
    for run in planned:
        folder = RunFolder(workspace.store, run.run_id)
        if folder.losses(run.measurement) is None:
            continue
        losses: dict[int, dict[str, float]] = {}
        for row in folder.metrics():
            if _is_of(row, run):
                losses.setdefault(row["tokens"], {})[row["domain"]] = row["loss_nats"]
        curve = [(tokens, objective.value(by)) for tokens, by in sorted(losses.items())]
        curves.setdefault(run.mixture_name, {})[run.spec.seed] = curve
    return curves


def _is_of(row: dict[str, Any], run: PlannedRun) -> bool:
    """Whether a row of the log is a loss on the run's validation documents."""
    if row["kind"] != "evaluation":
        return False
    return run.measurement.validation_sets.get(row["domain"]) == str(row["validation_id"])


def compare_runs(
    workspace: Workspace, proposal_id: str, planned: Sequence[PlannedRun]
) -> list[Comparison]:
    """The proposal beside each baseline, recorded."""
    curves = objective_curves(workspace, planned)
    if "proposal" not in curves:
        return []  # the experiment does not train it
    baselines = [name for name in curves if name != "proposal"]
    comparisons = [compare(curves, proposal="proposal", baseline=b) for b in baselines]
    run_ids = sorted(run.run_id for run in planned)
    rows = [
        dataclasses.asdict(c)
        | {
            "comparison_id": digest([proposal_id, c.baseline, run_ids]),
            "experiment": workspace.experiment.name,
            "proposal_id": proposal_id,
            "objective": workspace.experiment.objective.name,
            "tokens": workspace.experiment.full.budget_tokens,
        }
        for c in comparisons
    ]
    decision = digest([proposal_id, run_ids])
    recorded = comparison_rows(workspace.experiment, rows, run_ids)
    write_record(workspace.store, "comparison", decision, recorded)
    return comparisons


def record_costs(
    workspace: Workspace,
    decision_id: str,
    planned: Sequence[PlannedRun],
    role: str,
    *,
    predicted: Callable[[float, float], float] | None = None,
) -> None:
    """What a decision cost: one row for each run that it rests on, and one for its steering.

    Args:
        workspace: The experiment.
        decision_id: What rests on the runs.
        planned: The runs; those that are not done yet cost nothing yet.
        role: Of the runs in the decision.
        predicted: Training FLOPs of parameters and tokens, by a cost model that knows no more.
    """
    _record_costs(workspace, decision_id, [run.run_id for run in planned], role, predicted)


def _record_costs(
    workspace: Workspace,
    decision_id: str,
    run_ids: Sequence[str],
    role: str,
    predicted: Callable[[float, float], float] | None = None,
) -> None:
    rows = []
    for run_id in run_ids:
        result = RunFolder(workspace.store, run_id).result()
        if result is not None:
            row = {"decision_id": decision_id, "run_id": run_id, "device": result["device"]}
            steering = result.get("seconds_steering") or 0.0
            seconds, flops = result["seconds"], result["flops_train"] + result["flops_eval"]
            if predicted is not None:
                tokens = sum(result["realised_tokens"].values())
                row["predicted_flops"] = predicted(result["n_params"], tokens)
            rows.append(row | _cost(role, flops, seconds - steering))
            if "flops_steering" in result:
                rows.append(row | _cost("steering", result["flops_steering"], steering))
    write_record(workspace.store, "cost", digest([decision_id, role]), {"cost": rows})


def _cost(role: str, flops: float, seconds: float) -> dict[str, Any]:
    return {"role": role, "flops": flops, "device_seconds": seconds}


def refresh_database(workspace: Workspace) -> IngestReport:
    """Bring the DuckDB index up to date with the files."""
    return ingest(workspace.store)


def proposal_named(workspace: Workspace, prefix: str) -> str:
    """The only proposal of the store whose id begins so, or MixtureError."""
    known = [name for _, name in list_records(workspace.store, "proposal")]
    return require_one(prefix, known, noun="proposal", hint="`mixture history` lists them")


def latest_proposal(workspace: Workspace) -> str:
    """The proposal that this experiment's settings and proxy runs led to last."""
    name = workspace.experiment.name
    found = read_json_object(latest_path(workspace))
    if found is None:
        raise MixtureError(f"experiment {name!r} has no proposal yet", hint="`mixture run`")
    return str(found["proposal_id"])


# --- new weights for changed domains ----------------------------------------------------------


def refit(
    workspace: Workspace,
    corpus: Corpus,
    way: Way | None = None,
    *,
    say: Callable[[str], None] = lambda line: None,
    on_settled: Callable[[PlannedRun], None] = lambda run: None,
) -> tuple[str, Proposal]:
    """Settle on a way, do what it lacks, and propose; trains no full run."""
    train_proxies(workspace, corpus, way, say=say, on_settled=on_settled)
    found = propose(workspace, corpus)
    refresh_database(workspace)
    return found


def prepare(workspace: Workspace, *, say: Callable[[str], None] = lambda line: None) -> Corpus:
    """Raw files to tokens and validation documents; trains nothing."""
    say("data: landing, tokenizing")
    land(workspace)
    return build_corpus(workspace, say=say)


def train_proxies(
    workspace: Workspace,
    corpus: Corpus,
    way: Way | None = None,
    *,
    say: Callable[[str], None] = lambda line: None,
    on_settled: Callable[[PlannedRun], None] = lambda run: None,
) -> tuple[list[PlannedRun], int]:
    """Settle on a way and train what it lacks: its runs, and how many were trained or measured."""
    search = decide(workspace, corpus, way, say=say)
    planned = plan_proxies(workspace, corpus)
    n_missing = len(missing_runs(workspace, planned))
    say(f"proxy runs: {len(planned)} planned, {n_missing} to train or measure")
    train(workspace, planned, on_settled=on_settled)
    flops = record_measured_cost(workspace, search)
    if search.refit_id and n_missing:
        say(f"cost: {flops_text(flops)}")
    return planned, n_missing


# --- everything -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Summary:
    """What a run of the whole experiment ends with."""

    corpus: Corpus
    proposal_id: str
    proposal: Proposal
    comparisons: Sequence[Comparison]
    proxies: Sequence[PlannedRun]
    full_runs: Sequence[PlannedRun]
    report: ReportPaths
    n_trained: int  # runs trained by this call


def run_all(
    workspace: Workspace,
    *,
    say: Callable[[str], None] = lambda line: None,
    on_settled: Callable[[PlannedRun], None] = lambda run: None,
    mixtures: Collection[str] = (),
    seeds: Collection[int] = (),
) -> Summary:
    """Every step, in order. What is done already is only looked up.

    Args:
        workspace: The experiment.
        say: Told of each step.
        on_settled: Told of each run that ends.
        mixtures: Train only full runs of these; none: of all.
        seeds: Train only full runs from these; none: from all.
    """
    require_full_runs(workspace.experiment, mixtures, seeds)
    corpus = prepare(workspace, say=say)
    proxies, trained = train_proxies(workspace, corpus, say=say, on_settled=on_settled)
    proposal_id, proposal = propose(workspace, corpus)
    full_runs = plan_full_runs(workspace, corpus, proposal)
    asked = some_full_runs(full_runs, mixtures, seeds)
    to_train = len(missing_runs(workspace, asked))
    say(f"full runs: {len(asked)} asked for, {to_train} to train")
    if trained + to_train:
        _report_paths(workspace).markdown.unlink(missing_ok=True)  # written last: it says "done"
    train(workspace, asked, on_settled=on_settled)
    comparisons = compare_runs(workspace, proposal_id, full_runs)
    record_costs(workspace, proposal_id, proxies, "proxy")
    record_costs(workspace, proposal_id, full_runs, "full")
    refresh_database(workspace)
    report = None if trained + to_train else _written_report(workspace, proposal_id)
    report = report or make_report(workspace, proposal_id)
    return Summary(
        corpus=corpus,
        proposal_id=proposal_id,
        proposal=proposal,
        comparisons=comparisons,
        proxies=proxies,
        full_runs=full_runs,
        report=report,
        n_trained=trained + to_train,
    )


def make_report(workspace: Workspace, proposal_id: str) -> ReportPaths:
    """The page about one proposal, pulled from the database."""
    name = workspace.experiment.name
    return write_report(
        workspace.store,
        proposal_id=proposal_id,
        objective=workspace.experiment.objective,
        folder=workspace.store / "reports" / name,
    )


def _written_report(workspace: Workspace, proposal_id: str) -> ReportPaths | None:
    """The page as it is, if it is about this proposal; drawing it takes seconds."""
    paths = _report_paths(workspace)
    is_there = paths.html.exists() and paths.markdown.exists()
    return paths if is_there and proposal_id in paths.markdown.read_text("utf-8") else None


def _report_paths(workspace: Workspace) -> ReportPaths:
    folder = workspace.store / "reports" / workspace.experiment.name
    return ReportPaths(folder / "report.html", folder / "report.md")
