"""Atomic checkpoints in one safetensors file: weights, optimizer state, step.

The sampler needs no state of its own: it is a pure function of the step. Learning rates are
one as well. So weights, moments and the step are everything, and a resumed run is bit-equal
to an undisturbed one on CPU.
"""

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import PreTrainedModel

from mixture_assets.core.errors import MixtureError


@dataclass(frozen=True)
class Progress:
    """Where a run stands."""

    step: int  # optimizer steps done
    seconds: float  # spent so far, over all its processes


def save_checkpoint(
    folder: Path, model: PreTrainedModel, optimizer: torch.optim.Optimizer, progress: Progress
) -> None:
    """Write the state aside, flush it to disk and rename it into place."""
    tensors = {f"model.{name}": p.detach() for name, p in model.named_parameters()}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state[parameter].items():
            tensors[f"optimizer.{key}.{name}"] = value.detach()
    metadata = {"progress": json.dumps({"step": progress.step, "seconds": progress.seconds})}
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder / "latest.safetensors") as temporary:
        save_file({k: t.contiguous() for k, t in tensors.items()}, temporary, metadata)


def load_checkpoint(
    folder: Path, model: PreTrainedModel, optimizer: torch.optim.Optimizer
) -> Progress | None:
    """Restore the state in place; None where there is no checkpoint."""
    path = folder / "latest.safetensors"
    if not path.exists():
        return None
    with safe_open(path, framework="pt", device=str(model.device)) as file:
        progress = json.loads(file.metadata()["progress"])
        keys = set(file.keys())
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(file.get_tensor(f"model.{name}"))
                optimizer.state[parameter] = {
                    key: file.get_tensor(f"optimizer.{key}.{name}")
                    for key in ("step", "exp_avg", "exp_avg_sq")
                    if f"optimizer.{key}.{name}" in keys
                }
    return Progress(step=int(progress["step"]), seconds=float(progress["seconds"]))


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, for a file or a folder: renamed into place on success."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        for part in [temporary, *temporary.rglob("*")] if temporary.is_dir() else [temporary]:
            descriptor = os.open(part, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)
        os.replace(temporary, path)
    except Exception as error:
        if is_disk_full(error):
            raise MixtureError(
                f"no space left on the disk while writing {path.name}",
                hint="free some space and start again: the run resumes from its last checkpoint",
            ) from error
        raise
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        temporary.unlink(missing_ok=True)


def is_disk_full(error: BaseException) -> bool:
    """Whether an exception, ours or safetensors', says that the disk or the quota is full."""
    full: tuple[Any, ...] = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return getattr(error, "errno", None) in full or any(
        f"os error {code}" in str(error) for code in full
    )
