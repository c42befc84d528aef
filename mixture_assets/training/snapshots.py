"""A run at the ends of its equal parts: weights and Adam's moments, for whoever asks later.

snapshots/<k>/model.safetensors    what is trained, by name
              moments.safetensors  exp_avg.<name> and exp_avg_sq.<name> of Adam
              snapshot.json        steps done, mean rate, Adam's constants; `lora` of adapters

Gradient selection (M. Xia et al., "LESS", 2024, arXiv:2402.04333) preconditions gradients by the
moments and weighs each snapshot by the mean learning rate of the part of training that it ends:
`selection.snapshots` reads them.
"""

import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedModel

from mixture_assets.core.errors import MixtureError
from mixture_assets.core.files import atomic_path
from mixture_assets.core.run import RunSpec
from mixture_assets.training.optimizer import learning_rate
from mixture_assets.training.sequences import trained_parameters

_MOMENTS = ("exp_avg", "exp_avg_sq")


def snapshot_steps(n_steps: int, snapshots: int) -> list[int]:
    """Numbers of steps after which a snapshot is taken: the ends of equal parts, in order."""
    if snapshots > n_steps:
        raise MixtureError(
            f"a run of {n_steps} steps cannot have {snapshots} snapshots",
            hint="ask for fewer snapshots, or for smaller batches",
        )
    return [n_steps * k // snapshots for k in range(1, snapshots + 1)]


def write_snapshot(
    folder: Path,
    model: PreTrainedModel,
    optimizer: torch.optim.Optimizer,
    spec: RunSpec,
    *,
    steps: range,
    n_steps: int,
) -> None:
    """Write the state after the last of `steps`, the part that ends here, unless it is there.

    A resumed run passes its snapshots again, with the same bits.
    """
    if folder.exists():
        return
    trained, training = trained_parameters(model), spec.training
    states = {name: optimizer.state[p] for name, p in trained.items()}
    rates = [learning_rate(training, step, n_steps) for step in steps]
    said = {
        "step": steps.stop,
        "learning_rate": sum(rates) / len(rates),
        "beta1": training.beta1,
        "beta2": training.beta2,
        "eps": optimizer.defaults["eps"],
        "adam_step": int(next(iter(states.values()))["step"]),
    }
    if spec.start is not None and spec.start.lora is not None:
        said["lora"] = asdict(spec.start.lora)
    moments = {f"{key}.{name}": state[key] for name, state in states.items() for key in _MOMENTS}
    with atomic_path(folder) as aside:
        aside.mkdir()
        _save({name: p.detach() for name, p in trained.items()}, aside / "model.safetensors")
        _save(moments, aside / "moments.safetensors")
        (aside / "snapshot.json").write_text(json.dumps(said, indent=1), encoding="utf-8")


def _save(tensors: dict[str, Tensor], path: Path) -> None:
    save_file({name: t.contiguous() for name, t in tensors.items()}, path)
