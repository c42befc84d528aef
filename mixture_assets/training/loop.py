"""One run, from its specification to its result: resumable at any step, on any machine."""

import math
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mixture_assets.core.errors import MixtureError
from mixture_assets.core.units import seconds_text
from mixture_assets.store.runs import MetricsLog
from mixture_assets.training.checkpoint import Progress, save_checkpoint
from mixture_assets.training.kept import keep_model
from mixture_assets.training.measure import losses_on
from mixture_assets.training.optimizer import learning_rate
from mixture_assets.training.result import evaluation_steps, run_result
from mixture_assets.training.snapshots import snapshot_steps, write_snapshot
from mixture_assets.training.state import Run, mean_loss, prepare
from mixture_assets.training.steering import Steering

CHECKPOINT_SECONDS = 20.0
_STEP_LINE_SECONDS = 5.0


class Interrupted(Exception):
    """The run was asked to stop, and has written a checkpoint."""


def train(
    store: Path,
    run_id: str,
    *,
    should_stop: Callable[[], bool] = lambda: False,
    say: Callable[[str], None] = print,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> dict[str, Any]:
    """Train a run to its end, from its last checkpoint if there is one.

    The caller holds the run's lock.

    Returns:
        The result, as written to result.json.

    Raises:
        Interrupted: `should_stop` said so; a checkpoint has been written.
        MixtureError: The loss became NaN or infinite, the data are missing, or the disk is full.
    """
    run = prepare(store, run_id, say=say)
    with MetricsLog(run.folder) as log:
        _train_steps(run, log, should_stop, checkpoint_seconds)
    result = run_result(run)
    keep_model(store, run.folder, run.model, run.spec)
    run.folder.write_result(result)
    shutil.rmtree(run.folder.path / "checkpoint", ignore_errors=True)  # nothing to resume
    return result


def _train_steps(
    run: Run, log: MetricsLog, should_stop: Callable[[], bool], checkpoint_seconds: float
) -> None:
    forward = torch.compile(mean_loss, dynamic=False) if run.device.compile else mean_loss
    due = evaluation_steps(run.layout.n_steps, run.measurement.evaluations)
    saved = said = time.monotonic()
    first = run.progress.step
    if run.steering and first == 0:
        _log_weights(run, log, 0, run.steering.rows())
    if first == run.layout.n_steps:
        _evaluate(run, log, first)  # killed between the last checkpoint and the result
    for step in range(first, run.layout.n_steps):
        row = _step(run, log, forward, step)
        log.append(row)
        done = step + 1
        if done in due:
            _evaluate(run, log, done)
        _snapshot(run, done)  # before a checkpoint that makes it unrepeatable
        now = time.monotonic()
        if now - said > _STEP_LINE_SECONDS or done == run.layout.n_steps:
            run.say(_step_line(run, row))
            said = now
        stop = should_stop()
        if stop or now - saved > checkpoint_seconds:
            _checkpoint(run, log, done)
            saved = time.monotonic()
        if stop:
            raise Interrupted(f"run {run.run_id} stopped after step {done}")


def _step(
    run: Run, log: MetricsLog, forward: Callable[..., torch.Tensor], step: int
) -> dict[str, Any]:
    """One optimizer step; returns its row of the metrics log."""
    begun, steering, layout = time.perf_counter(), run.steering, run.layout
    rate = learning_rate(run.spec.training, step, layout.n_steps)
    for group in run.optimizer.param_groups:
        group["lr"] = rate
    is_update = steering is not None and steering.layout.is_update(step)
    if steering is not None and is_update:
        loss, norm = _steered_update(run, steering, log, step, rate)
    else:
        loss, norm = _update(run, forward, run.sampler.batch(step))
    _require_finite(run, {"loss": loss, "gradient norm": norm}, step + 1)
    done = layout.first_sequence(step + 1)
    n_tokens = (done - layout.first_sequence(step)) * layout.context
    if steering is not None:
        steering.timed(begun, n_tokens, is_update=is_update)
    elapsed = time.perf_counter() - begun
    return {
        "kind": "step",
        "run_id": run.run_id,
        "step": step + 1,
        "tokens": done * layout.context,
        "loss_nats": loss,
        "learning_rate": rate,
        "grad_norm": norm,
        "tokens_per_second": round(n_tokens / elapsed, 1),
        "seconds": round(run.seconds, 3),
    }


def _steered_update(
    run: Run, steering: Steering, log: MetricsLog, step: int, rate: float
) -> tuple[float, float]:
    """A step on a stratified batch that measures alignments too, and the next weights."""
    measured = steering.backward(run.model, run.device)
    norm = _descend(run)
    _require_finite(
        run,
        {
            "gradient norm": norm,
            "loss on the specialist set": measured.loss_nats,
            "gradient norm on the specialist set": measured.norm,
        },
        step + 1,
    )
    _log_weights(run, log, step + 1, steering.update(measured, norm, rate))
    return measured.step.loss_nats, norm


def _log_weights(run: Run, log: MetricsLog, step: int, rows: list[dict[str, Any]]) -> None:
    """The weights that hold from a step on, and what they were decided by."""
    tokens = run.layout.first_sequence(step) * run.layout.context
    for row in rows:
        log.append({"kind": "weights", "run_id": run.run_id, "step": step, "tokens": tokens} | row)


def _require_finite(run: Run, values: Mapping[str, float], step: int) -> None:
    for name, value in values.items():
        if not math.isfinite(value):
            raise MixtureError(
                f"the {name} of run {run.run_id} is {value} at step {step}",
                hint="lower [training] learning_rate, or look for broken documents in its domains",
            )


def _update(
    run: Run, forward: Callable[..., torch.Tensor], batch: NDArray[np.int64]
) -> tuple[float, float]:
    tokens = torch.from_numpy(batch).to(run.device.kind, non_blocking=True)
    if len(batch) < run.layout.batch:
        forward = mean_loss  # the shorter last step is not worth a compilation of its own
    with run.device.autocast():
        loss = forward(run.model, tokens)
    loss.backward()  # type: ignore[no-untyped-call]
    return float(loss.detach()), _descend(run)


def _descend(run: Run) -> float:
    """One step down the gradient that is there; returns its norm before clipping."""
    norm = torch.nn.utils.clip_grad_norm_(run.model.parameters(), run.spec.training.clip_norm)
    run.optimizer.step()
    run.optimizer.zero_grad(set_to_none=True)
    return float(norm)


def _evaluate(run: Run, log: MetricsLog, step: int) -> None:
    run.losses = losses_on(run.model, run.streams, run.device, context=run.layout.context)
    losses = {f"validation loss on {d!r}": x.loss_nats for d, x in run.losses.items()}
    _require_finite(run, losses, step)
    tokens = run.layout.first_sequence(step) * run.layout.context
    for domain, loss in run.losses.items():
        row = {"kind": "evaluation", "run_id": run.run_id, "step": step, "tokens": tokens}
        row |= {"domain": domain, "validation_id": run.measurement.validation_sets[domain]}
        log.append(row | {"metric_version": run.measurement.metric_version} | asdict(loss))


def _checkpoint(run: Run, log: MetricsLog, step: int) -> None:
    log.sync()  # rows before the checkpoint that makes them unrepeatable
    online = run.steering.to_json() if run.steering else None
    progress = Progress(step, run.seconds, online)
    save_checkpoint(run.folder.path / "checkpoint", run.model, run.optimizer, progress)


def _snapshot(run: Run, step: int) -> None:
    ends = [0, *snapshot_steps(run.layout.n_steps, run.spec.snapshots)]
    if step in ends:
        number = ends.index(step)
        write_snapshot(
            run.folder.path / "snapshots" / str(number),
            run.model,
            run.optimizer,
            run.spec,
            steps=range(ends[number - 1], step),
            n_steps=run.layout.n_steps,
        )


def _step_line(run: Run, row: dict[str, Any]) -> str:
    rate = row["tokens_per_second"]
    left = (run.layout.n_sequences * run.layout.context - row["tokens"]) / rate
    utilisation = rate * run.train_flops_per_token / run.peak_flops
    return (
        f"step {row['step']}/{run.layout.n_steps}  loss {row['loss_nats']:.3f}  "
        f"{rate / 1000:.1f}k tok/s  MFU {utilisation:.0%}  ETA {seconds_text(left)}"
    )
