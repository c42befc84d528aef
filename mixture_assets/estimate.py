"""What an experiment will take, told before anything starts."""

from collections.abc import Sequence
from dataclasses import dataclass

from mixture_assets.core.problem import Problem, ProxyRun
from mixture_assets.core.run import ModelSpec
from mixture_assets.core.units import bytes_text, flops_text, seconds_text, tokens_text
from mixture_assets.corpus import Workspace, landed
from mixture_assets.data.tokenizer import load_tokenizer
from mixture_assets.policy_runs import has_policies_alone
from mixture_assets.running import n_workers
from mixture_assets.search import Search, method_of
from mixture_assets.selection_estimate import selection_stages
from mixture_assets.training.model import count_parameters
from mixture_assets.training.rate import measure_tokens_per_second, training_flops

_SUMMED = ("runs", "tokens", "flops", "hours", "disk_bytes")
_STEP_ROW_BYTES = 240  # of metrics.jsonl, measured


@dataclass(frozen=True)
class PlanRow:
    """What one stage will take."""

    stage: str
    runs: int
    tokens: int
    flops: float
    hours: float  # on this machine, all its workers busy
    disk_bytes: int  # of run folders; tokens take about as much as the compressed text


def estimate(workspace: Workspace) -> list[PlanRow]:
    """What the experiment will take, before anything starts. Reads no document."""
    e = workspace.experiment
    domains = sorted(landed(workspace))
    problem = Problem(
        available_tokens=dict.fromkeys(domains, 1), budget_tokens=e.full.budget_tokens
    )
    proxy_model = e.proxy_model or e.model
    rows = []
    first = Search(way="full", domains=dict.fromkeys(domains, ""), base=dict.fromkeys(domains, ""))
    method = method_of(e, first)
    labels = method.labels(problem)
    by_scale: dict[str, list[ProxyRun]] = {}
    for run in [] if has_policies_alone(e) else method.plan(problem):
        scale = labels[run.digest].partition(" ")[0]
        by_scale.setdefault(scale, []).append(run)
    for scale, runs in by_scale.items():
        tokens = sum(run.budget_tokens for run in runs)
        stage = f"proxy runs, {scale} scale"
        rows.append(_plan_row(workspace, stage, len(runs), tokens, proxy_model))
    n_full = len(e.full.mixtures) * len(e.full.seeds)
    tokens = n_full * e.full.budget_tokens
    rows.append(_plan_row(workspace, "full runs", n_full, tokens, e.model))
    stages = selection_stages(workspace)
    return [*rows, *(_plan_row(workspace, s.name, s.runs, s.tokens, s.model) for s in stages)]


def plan_table(rows: Sequence[PlanRow]) -> tuple[tuple[str, ...], list[list[str]]]:
    """Header and rows for people."""
    body = [
        [
            row.stage,
            str(row.runs),
            tokens_text(row.tokens),
            flops_text(row.flops),
            seconds_text(3600 * row.hours),
            bytes_text(row.disk_bytes),
        ]
        for row in (*rows, *_in_all(rows))
    ]
    return ("stage", "runs", "tokens", "FLOPs", "time", "disk"), body


def _in_all(rows: Sequence[PlanRow]) -> list[PlanRow]:
    """One row for several stages, as if nothing were done yet."""
    if len(rows) < 2:
        return []
    total = {name: sum(getattr(row, name) for row in rows) for name in _SUMMED}
    return [PlanRow(stage="in all", **total)]


def _plan_row(
    workspace: Workspace, stage: str, runs: int, tokens: int, model: ModelSpec
) -> PlanRow:
    e = workspace.experiment
    vocab = e.tokenizer.vocab_size
    if e.tokenizer.name:
        vocab = load_tokenizer(e.beside(e.tokenizer.name), store=workspace.store).vocab_size
    n_params, _ = count_parameters(model, vocab_size=vocab)
    rate = measure_tokens_per_second(model, e.training, vocab_size=vocab)
    workers = min(n_workers(e), runs)
    metrics = round(tokens / e.training.batch_tokens * _STEP_ROW_BYTES)
    return PlanRow(
        stage=stage,
        runs=runs,
        tokens=tokens,
        flops=tokens * training_flops(model, vocab_size=vocab),
        hours=tokens / rate / workers / 3600,
        disk_bytes=metrics + 4 * n_params * runs + 12 * n_params * workers,
    )
