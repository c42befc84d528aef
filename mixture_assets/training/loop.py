"""One run, from its specification to its result: resumable at any step, on any machine."""

import math
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import transformers
from numpy.typing import NDArray
from transformers import PreTrainedModel

from mixture_assets.core.errors import MixtureError
from mixture_assets.core.run import TRAINING_VERSION, Measurement, RunSpec
from mixture_assets.core.units import seconds_text
from mixture_assets.data.online_layout import OnlineLayout
from mixture_assets.data.sampler import Layout, Sampler
from mixture_assets.data.token_store import DomainTokens
from mixture_assets.evaluation.losses import DomainLoss, ValidationStream
from mixture_assets.store.runs import MetricsLog, RunFolder
from mixture_assets.training.checkpoint import (
    Progress,
    load_checkpoint,
    save_checkpoint,
)
from mixture_assets.training.device import Device, peak_flops_per_second, probe
from mixture_assets.training.kept import keep_model, peak_memory_bytes
from mixture_assets.training.lora import adapter_parameters
from mixture_assets.training.measure import evaluation_flops, losses_on, streams_of
from mixture_assets.training.model import build_model, flops_per_token, frozen_of, parameters_of
from mixture_assets.training.optimizer import build_optimizer, learning_rate
from mixture_assets.training.snapshots import snapshot_steps, write_snapshot
from mixture_assets.training.start import started_model
from mixture_assets.training.steering import Steering

CHECKPOINT_SECONDS = 20.0
_STEP_LINE_SECONDS = 5.0
_PARITY_NATS = 0.05  # more than this between bf16 and fp32 on one batch is no rounding


class Interrupted(Exception):
    """The run was asked to stop, and has written a checkpoint."""


@dataclass
class Run:
    """Everything that a run holds in memory."""

    folder: RunFolder
    run_id: str
    spec: RunSpec
    measurement: Measurement
    device: Device
    model: PreTrainedModel
    optimizer: torch.optim.Optimizer
    sampler: Sampler | Steering
    streams: dict[str, ValidationStream]
    peak_flops: float  # per second
    say: Callable[[str], None]
    progress: Progress = field(default_factory=lambda: Progress(0, 0.0))
    started: float = field(default_factory=time.monotonic)
    losses: dict[str, DomainLoss] = field(default_factory=dict)

    @property
    def layout(self) -> Layout | OnlineLayout:
        """The run's sequences."""
        return self.sampler.layout

    @property
    def steering(self) -> Steering | None:
        """What steers the run; None where its mixture stands still."""
        return self.sampler if isinstance(self.sampler, Steering) else None

    @property
    def seconds(self) -> float:
        """Time spent on this run by this and earlier processes."""
        return self.progress.seconds + time.monotonic() - self.started

    @property
    def n_params(self) -> tuple[int, int]:
        """(all, in matrix products)."""
        return parameters_of(self.model)

    @property
    def train_flops_per_token(self) -> float:
        """6 N and attention, less what frozen weights save."""
        return self._flops_per_token(frozen_of(self.model))

    @property
    def flops_eval_per_token(self) -> float:
        """Of a forward pass."""
        return evaluation_flops(self._flops_per_token(0), 1)

    def _flops_per_token(self, n_frozen: int) -> float:
        return flops_per_token(
            self.n_params[1], self.model.config, self.layout.context, n_frozen=n_frozen
        )


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
    result = _result(run)
    keep_model(store, run.folder, run.model, run.spec)
    run.folder.write_result(result)
    shutil.rmtree(run.folder.path / "checkpoint", ignore_errors=True)  # nothing to resume
    return result


def prepare(store: Path, run_id: str, *, say: Callable[[str], None] = print) -> Run:
    """Load the specification, the data and the last checkpoint."""
    folder = RunFolder(store, run_id)
    header = folder.spec()
    spec = RunSpec.from_json(header["spec"])
    measurement = Measurement.from_json(header["measurement"])
    device = probe(spec.training, spec.model.context)
    _require_same_path(run_id, spec, device)
    device.apply()
    tokens = {d: DomainTokens.load(store, d, t) for d, t in spec.token_sets.items()}
    eos_id = next(iter(tokens.values())).eos_id
    model = _first_model(store, spec, device, eos_id)
    run = Run(
        folder=folder,
        run_id=run_id,
        spec=spec,
        measurement=measurement,
        device=device,
        model=model,
        optimizer=build_optimizer(model, spec.training),
        sampler=_sampler(spec, tokens, store, model),
        streams=streams_of(
            store, measurement.validation_sets, eos_id=eos_id, context=spec.model.context
        ),
        peak_flops=peak_flops_per_second(device),
        say=say,
    )
    snapshot_steps(run.layout.n_steps, spec.snapshots)  # refuses too many
    _check_parity(run)
    found = load_checkpoint(folder.path / "checkpoint", model, run.optimizer)
    if found:
        say(f"resuming {run_id} at step {found.step} of {run.layout.n_steps}")
        run.progress = found
        if run.steering and found.online:
            run.steering.restore(found.online)
    return run


def _sampler(
    spec: RunSpec, tokens: Mapping[str, DomainTokens], store: Path, model: PreTrainedModel
) -> Sampler | Steering:
    if spec.online is not None:
        return Steering.begin(spec, tokens, store, model)
    layout = Layout.from_tokens(
        spec.tokens,
        context=spec.model.context,
        batch=max(1, spec.training.batch_tokens // spec.model.context),
    )
    return Sampler(layout, {d: t.windows(store) for d, t in tokens.items()}, seed=spec.seed)


def _first_model(store: Path, spec: RunSpec, device: Device, eos_id: int) -> PreTrainedModel:
    if spec.start is not None:
        return started_model(store, spec, device, eos_id=eos_id)
    return build_model(
        spec.model,
        vocab_size=spec.vocab_size,
        seed=spec.seed,
        attention=device.attention,
        eos_id=eos_id,
        device=device.kind,
    )


def _require_same_path(run_id: str, spec: RunSpec, device: Device) -> None:
    if device.numeric_path != spec.numeric_path:
        raise MixtureError(
            f"run {run_id} was planned for {spec.numeric_path}, this machine is "
            f"{device.numeric_path}",
            hint="plan again here: runs that went through different arithmetic do not compare",
        )


def _check_parity(run: Run) -> None:
    """Refuse reduced precision where it gives another loss than fp32 on the first batch."""
    if run.device.precision == "fp32":
        return
    tokens = torch.from_numpy(run.sampler.batch(0)).to(run.device.kind)
    with torch.no_grad():
        exact = float(_loss(run.model, tokens))
        with run.device.autocast():
            reduced = float(_loss(run.model, tokens))
    if not abs(reduced - exact) <= _PARITY_NATS:
        raise MixtureError(
            f"{run.device.precision} gives a loss of {reduced:.4g} where fp32 gives {exact:.4g}",
            hint="set [training] precision = 'fp32'",
        )


def evaluation_steps(n_steps: int, evaluations: int) -> list[int]:
    """Numbers of steps after which to evaluate: evenly spaced, the last one included."""
    return sorted({max(1, round(n_steps * i / evaluations)) for i in range(1, evaluations + 1)})


def _train_steps(
    run: Run, log: MetricsLog, should_stop: Callable[[], bool], checkpoint_seconds: float
) -> None:
    forward = torch.compile(_loss, dynamic=False) if run.device.compile else _loss
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
        forward = _loss  # the shorter last step is not worth a compilation of its own
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


def _loss(model: PreTrainedModel, tokens: torch.Tensor) -> torch.Tensor:
    """Mean cross entropy of every next token, (B, C + 1) tokens."""
    logits = model(input_ids=tokens[:, :-1], use_cache=False).logits.float()
    return F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())


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


def _result(run: Run) -> dict[str, Any]:
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
    } | _further_result(run, n_adapter)


def _further_result(run: Run, n_adapter: int) -> dict[str, Any]:
    """What only some runs have."""
    found: dict[str, Any] = {"n_adapter_params": n_adapter} if n_adapter else {}
    return found | (run.steering.result(run.train_flops_per_token) if run.steering else {})
