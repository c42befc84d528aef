"""An experiment whose runs are done, without training: losses follow from tokens."""

import math
from collections.abc import Sequence
from pathlib import Path

from mixture_assets import pipeline, running
from mixture_assets.corpus import Corpus, Workspace, build_corpus
from mixture_assets.plans import PlannedRun, plan_full_runs, plan_proxies
from mixture_assets.refit import decide, record_measured_cost
from mixture_assets.store.runs import MetricsLog, RunFolder
from tests.store import fakes

Trained = tuple[Path, Workspace, Corpus, str]  # file, workspace, corpus, proposal id


def loss_nats(domain: str, tokens: int, seed: int) -> float:
    """Falls with a domain's tokens, at its own rate; seeds lie 0.01 apart."""
    return 2 + len(domain) / math.sqrt(1 + tokens / 50) + 0.01 * seed


def finish(workspace: Workspace, planned: Sequence[PlannedRun]) -> None:
    """Write what training would leave, for runs that have no result."""
    running.create_runs(workspace, planned)
    for run in planned:
        folder = RunFolder(workspace.store, run.run_id)
        sets, tokens = run.measurement.validation_sets, run.spec.tokens
        losses = {d: loss_nats(d, tokens.get(d, 0), run.spec.seed) for d in sets}
        if folder.result() is not None:
            _measure(folder, losses)
            continue
        total = run.spec.budget_tokens
        with MetricsLog(folder) as log:
            for step in (1, 2):
                log.append(fakes.step_row(run.run_id, step))
                for d, loss in losses.items():
                    row = fakes.evaluation_row(run.run_id, step, d, loss + 0.3 * (2 - step))
                    log.append(row | {"tokens": total * step // 2, "validation_id": sets[d]})
        exact = {d: int(n) for d, n in run.spec.tokens.items()}
        result = fakes.result(run.run_id, 2, losses)
        exact_ones = {"requested_tokens": exact, "realised_tokens": exact}
        folder.write_result(result | exact_ones | {"validation_sets": dict(sets)})


def _measure(folder: RunFolder, losses: dict[str, float]) -> None:
    """What a worker writes when a finished run is asked for further losses."""
    for (name, version), domain in folder.missing_losses().items():
        loss = fakes.result(folder.run_id, 2, {domain: losses[domain]})["losses"][domain]
        row = {"domain": domain, "validation_id": name, "metric_version": version, "loss": loss}
        fakes.write_json(folder.loss_path(name, version), row | {"flops_eval": 1e6, "seconds": 0.1})


def run_experiment(path: Path) -> tuple[Workspace, Corpus, str]:
    """What `mixture run` does, with losses from the formula: the workspace and the proposal."""
    workspace = Workspace.open(path)
    corpus = build_corpus(workspace)
    search = decide(workspace, corpus)
    proxies = plan_proxies(workspace, corpus)
    finish(workspace, proxies)
    record_measured_cost(workspace, search)
    proposal_id, proposal = pipeline.propose(workspace, corpus)
    full = plan_full_runs(workspace, corpus, proposal)
    finish(workspace, full)
    pipeline.compare_runs(workspace, proposal_id, full)
    pipeline.record_costs(workspace, proposal_id, proxies, "proxy")
    pipeline.record_costs(workspace, proposal_id, full, "full")
    return workspace, corpus, proposal_id
