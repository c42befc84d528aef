"""Atomic checkpoints in one safetensors file: weights that are trained, optimizer state, step.

The sampler needs no state of its own: it is a pure function of the step. Learning rates are
one as well. So weights, moments and the step are everything, with the state of what steers a
run that steers itself, and a resumed run is bit-equal to an undisturbed one on CPU.
"""

import json
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from transformers import PreTrainedModel

from mixture_assets.core.errors import MixtureWarning
from mixture_assets.core.files import atomic_path
from mixture_assets.training.sequences import trained_parameters


@dataclass(frozen=True)
class Progress:
    """Where a run stands."""

    step: int  # optimizer steps done
    seconds: float  # spent so far, over all its processes
    online: Mapping[str, Any] | None = None  # state of a run that steers itself


def save_checkpoint(
    folder: Path, model: PreTrainedModel, optimizer: torch.optim.Optimizer, progress: Progress
) -> None:
    """Write the state of what is trained aside, flush it to disk and rename it into place."""
    trained = trained_parameters(model)
    tensors = {f"model.{name}": p.detach() for name, p in trained.items()}
    for name, parameter in trained.items():
        for key, value in optimizer.state[parameter].items():
            tensors[f"optimizer.{key}.{name}"] = value.detach()
    metadata = {"progress": json.dumps(asdict(progress))}
    with atomic_path(folder / "latest.safetensors") as temporary:
        save_file({k: t.contiguous() for k, t in tensors.items()}, temporary, metadata)


def load_checkpoint(
    folder: Path, model: PreTrainedModel, optimizer: torch.optim.Optimizer
) -> Progress | None:
    """Restore the state in place; None where there is no checkpoint, or a damaged one.

    We never leave half a file under that name, but a copy that was cut off does. From step 0
    the run ends in the same bits, only later.
    """
    path = folder / "latest.safetensors"
    if not path.exists():
        return None
    try:
        return _restore(path, model, optimizer)
    except (SafetensorError, ValueError) as error:  # from the header, before anything is restored
        text = f"{path} is damaged ({error}): the run starts from step 0"
        warnings.warn(text, MixtureWarning, stacklevel=2)
        return None


def _restore(path: Path, model: PreTrainedModel, optimizer: torch.optim.Optimizer) -> Progress:
    with safe_open(path, framework="pt", device=str(model.device)) as file:
        progress = json.loads(file.metadata()["progress"])
        keys = set(file.keys())
        with torch.no_grad():
            for name, parameter in trained_parameters(model).items():
                parameter.copy_(file.get_tensor(f"model.{name}"))
                optimizer.state[parameter] = {
                    key: file.get_tensor(f"optimizer.{key}.{name}")
                    for key in ("step", "exp_avg", "exp_avg_sq")
                    if f"optimizer.{key}.{name}" in keys
                }
    return Progress(
        step=int(progress["step"]),
        seconds=float(progress["seconds"]),
        online=progress.get("online"),
    )
