"""What an experiment will take, told before anything starts."""

from dataclasses import dataclass
from pathlib import Path

from mixture_assets.compute.pool import default_workers
from mixture_assets.core.experiment import Experiment
from mixture_assets.core.problem import Problem
from mixture_assets.core.run import ModelSpec
from mixture_assets.corpus import Workspace
from mixture_assets.data.harvest import DOMAINS as HARVEST_DOMAINS
from mixture_assets.data.shards import discover
from mixture_assets.pipeline import scales_of
from mixture_assets.training.model import count_parameters
from mixture_assets.training.rate import measure_tokens_per_second, training_flops

_STEP_ROW_BYTES = 240  # of metrics.jsonl, measured


@dataclass(frozen=True)
class PlanRow:
    """What one stage will take."""

    stage: str
    runs: int
    tokens: int
    flops: float
    hours: float  # on this machine, all its workers busy
    disk_bytes: int


def estimate(workspace: Workspace) -> list[PlanRow]:
    """What the experiment will take, before anything starts. Reads no document."""
    e = workspace.experiment
    domains = planned_domains(workspace)
    problem = Problem(
        available_tokens=dict.fromkeys(domains, 1), budget_tokens=e.full.budget_tokens
    )
    proxy_model = e.proxy_model or e.model
    rows = []
    for name, ddo in scales_of(e).items():
        runs = ddo.plan(problem)
        tokens = sum(run.budget_tokens for run in runs)
        rows.append(
            _plan_row(e, f"proxy runs, {name} scale", len(runs), tokens, proxy_model, False)
        )
    n_full = len(e.full.mixtures) * len(e.full.seeds)
    tokens = n_full * e.full.budget_tokens
    return [*rows, _plan_row(e, "full runs", n_full, tokens, e.model, True)]


def planned_domains(workspace: Workspace) -> list[str]:
    """Names of the domains that the experiment will have."""
    data = workspace.experiment.data
    if data.harvest and not Path(workspace.experiment.data_root).exists():
        return sorted({*HARVEST_DOMAINS, *data.datasets})
    landed = set(data.datasets)
    folders = [d for d in data.domains if d not in landed]
    cache = workspace.store / "shards.json"
    found = discover(workspace.experiment.data_root, cache=cache, domains=folders)
    return sorted({*found, *landed})


def _plan_row(
    e: Experiment, stage: str, runs: int, tokens: int, model: ModelSpec, keeps_model: bool
) -> PlanRow:
    vocab = e.tokenizer.vocab_size
    n_params, _ = count_parameters(model, vocab_size=vocab)
    rate = measure_tokens_per_second(model, e.training, vocab_size=vocab)
    workers = min(e.compute.workers or default_workers(), runs)
    metrics = round(tokens / e.training.batch_tokens * _STEP_ROW_BYTES)
    return PlanRow(
        stage=stage,
        runs=runs,
        tokens=tokens,
        flops=tokens * training_flops(model, vocab_size=vocab),
        hours=tokens / rate / workers / 3600,
        disk_bytes=metrics + (4 * n_params * runs if keeps_model else 12 * n_params * workers),
    )
