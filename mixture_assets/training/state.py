"""A run in memory: specification, data, model, optimizer, and how far it has come."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from transformers import PreTrainedModel

from mixture_assets.core.errors import MixtureError
from mixture_assets.core.run import Measurement, RunSpec
from mixture_assets.data.online_layout import OnlineLayout
from mixture_assets.data.sampler import Layout, Sampler
from mixture_assets.data.token_store import DomainTokens
from mixture_assets.evaluation.losses import DomainLoss, ValidationStream
from mixture_assets.store.runs import RunFolder
from mixture_assets.training.checkpoint import Progress, load_checkpoint
from mixture_assets.training.device import Device, peak_flops_per_second, probe
from mixture_assets.training.measure import evaluation_flops, streams_of
from mixture_assets.training.model import build_model, flops_per_token, frozen_of, parameters_of
from mixture_assets.training.optimizer import build_optimizer
from mixture_assets.training.snapshots import snapshot_steps
from mixture_assets.training.start import started_model
from mixture_assets.training.steering import Steering

_PARITY_NATS = 0.05  # more than this between bf16 and fp32 on one batch is no rounding


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
    check_parity(run)
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


def check_parity(run: Run) -> None:
    """Refuse reduced precision where it gives another loss than fp32 on the first batch.

    Raises:
        MixtureError: It does.
    """
    if run.device.precision == "fp32":
        return
    tokens = torch.from_numpy(run.sampler.batch(0)).to(run.device.kind)
    with torch.no_grad():
        exact = float(mean_loss(run.model, tokens))
        with run.device.autocast():
            reduced = float(mean_loss(run.model, tokens))
    if not abs(reduced - exact) <= _PARITY_NATS:
        raise MixtureError(
            f"{run.device.precision} gives a loss of {reduced:.4g} where fp32 gives {exact:.4g}",
            hint="set [training] precision = 'fp32'",
        )


def mean_loss(model: PreTrainedModel, tokens: torch.Tensor) -> torch.Tensor:
    """Mean cross entropy of every next token, (B, C + 1) tokens."""
    logits = model(input_ids=tokens[:, :-1], use_cache=False).logits.float()
    return F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
