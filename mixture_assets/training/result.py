"""What a finished run says of itself: losses, tokens, FLOPs, time, versions."""

import time
from dataclasses import asdict
from typing import Any

import torch
import transformers

from mixture_assets.core.run import TRAINING_VERSION
from mixture_assets.training.kept import peak_memory_bytes
from mixture_assets.training.lora import adapter_parameters
from mixture_assets.training.state import Run


def evaluation_steps(n_steps: int, evaluations: int) -> list[int]:
    """Numbers of steps after which to evaluate: evenly spaced, the last one included."""
    return sorted({max(1, round(n_steps * i / evaluations)) for i in range(1, evaluations + 1)})


def run_result(run: Run) -> dict[str, Any]:
    """As written to result.json."""
    per_token = run.train_flops_per_token
    realised = run.layout.realised_tokens
    n_adapter = adapter_parameters(run.model)
    n_evaluations = len(evaluation_steps(run.layout.n_steps, run.measurement.evaluations))
    scored = sum(loss.n_tokens for loss in run.losses.values()) * n_evaluations
    return {
        "run_id": run.run_id,
        "status": "done",
        "losses": {domain: asdict(loss) for domain, loss in run.losses.items()},
        "validation_sets": dict(run.measurement.validation_sets),
        "metric_version": run.measurement.metric_version,
        "requested_tokens": dict(run.spec.tokens),
        "realised_tokens": realised,
        "n_params": run.n_params[0] - n_adapter,  # of the model that is kept
        "flops_train": per_token * sum(realised.values()),
        "flops_eval": run.flops_eval_per_token * scored,
        "seconds": round(run.seconds, 3),
        "steps": run.layout.n_steps,
        "device": run.device.name,
        "numeric_path": run.device.numeric_path,
        "code_version": f"training-{TRAINING_VERSION}",
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "finished_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "peak_memory_bytes": peak_memory_bytes(run.device),
    } | _further(run, n_adapter)


def _further(run: Run, n_adapter: int) -> dict[str, Any]:
    """What only some runs have."""
    found: dict[str, Any] = {"n_adapter_params": n_adapter} if n_adapter else {}
    return found | (run.steering.result(run.train_flops_per_token) if run.steering else {})
