"""What a run kept of itself on the way: trained parameters, Adam's moments, learning rate.

A snapshot folder has model.safetensors (the trained parameters by name), moments.safetensors
(`exp_avg.<name>` and `exp_avg_sq.<name>`) and snapshot.json. What was not trained is in the
folder of the model that the run started from.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from mixture_assets.core.digest import file_digest
from mixture_assets.core.errors import MixtureError, shortlist
from mixture_assets.selection.sequence_gradients import linear_parameters
from mixture_assets.training.lora import inject_adapters

_ADAPTER = re.compile(r"(.+)\.lora_[AB]\.weight")
_NUMBERS = "snapshot.json"
_HINT = "train the run with snapshots = n, and give runs/<id>/snapshots/<k>"


@dataclass(frozen=True)
class Snapshot:
    """One point of a run."""

    model: Path  # folder of the model that the run started from
    folder: Path
    alpha: float | None = None  # of LoRA; None: what snapshot.json or the run's spec.json says

    def digests(self) -> list[Any]:
        """Of all that a score depends on beside the model, wherever it lies."""
        files = ("model.safetensors", "moments.safetensors", _NUMBERS)
        alpha = alpha_of(self) if ranks_of(self) else None
        return [*(file_digest(self.folder / name) for name in files), alpha]

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of the trained parameters, by name, from the header of the file."""
        path = self.folder / "model.safetensors"
        try:
            with safe_open(path, framework="pt") as file:
                return {_plain(n): tuple(file.get_slice(n).get_shape()) for n in file.keys()}
        except (OSError, SafetensorError) as error:
            raise _unreadable(path, error) from error

    def trained(self) -> dict[str, Tensor]:
        """The trained parameters, on the CPU."""
        tensors = _read(self.folder / "model.safetensors")
        return {_plain(name): tensor for name, tensor in tensors.items()}

    def moments(self) -> "Moments":
        """Adam's state."""
        tensors = _read(self.folder / "moments.safetensors")
        numbers = json.loads((self.folder / _NUMBERS).read_text(encoding="utf-8"))
        first, second = (
            {_plain(n.removeprefix(p)): t for n, t in tensors.items() if n.startswith(p)}
            for p in ("exp_avg.", "exp_avg_sq.")
        )
        keys = ("learning_rate", "beta1", "beta2", "eps", "adam_step")
        return Moments(first, second, **{key: numbers[key] for key in keys})


@dataclass(frozen=True)
class Moments:
    """Adam's state."""

    exp_avg: Mapping[str, Tensor]
    exp_avg_sq: Mapping[str, Tensor]
    learning_rate: float
    beta1: float
    beta2: float
    eps: float
    adam_step: int  # steps done

    def of(self, name: str) -> tuple[Tensor, Tensor]:
        """Both moments of a parameter, as matrices.

        Raises:
            MixtureError: The snapshot has none of that name.
        """
        if name not in self.exp_avg or name not in self.exp_avg_sq:
            raise MixtureError(
                f"a snapshot has {name!r} among its trained parameters and not its moments",
                hint=_HINT,
            )
        first, second = self.exp_avg[name].float(), self.exp_avg_sq[name].float()
        return (first[None], second[None]) if first.dim() == 1 else (first, second)


def taking_part(snapshot: Snapshot) -> dict[str, tuple[int, ...]]:
    """Shapes of the trained parameters that gradients are compared in, without the weights.

    Weights and biases of linear layers, adapters among them; embeddings, output projection and
    norms are left out.

    Raises:
        MixtureError: The run trained none of these.
    """
    shapes = snapshot.shapes()
    config = AutoConfig.from_pretrained(snapshot.model, local_files_only=True)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    linear = linear_parameters(model)
    taken = {n: s for n, s in shapes.items() if n in linear or _ADAPTER.fullmatch(n)}
    if not taken:
        raise MixtureError(
            f"{snapshot.folder} has no trained linear layer of the blocks of "
            f"{type(model).__name__}: it has {shortlist(shapes)}",
            hint="gradient scores need a run that trained the blocks, or adapters of theirs",
        )
    return taken


def add_adapters(model: PreTrainedModel, snapshot: Snapshot) -> None:
    """Put LoRA adapters, as peft makes them, where the snapshot has some."""
    ranks = ranks_of(snapshot)
    if not ranks:
        return
    layers = {name: model.get_submodule(name) for name in sorted(ranks)}
    inject_adapters(model, layers, rank=max(ranks.values()), alpha=alpha_of(snapshot))
    model.requires_grad_(False)
    model.eval()


def load_trained(model: PreTrainedModel, trained: Mapping[str, Tensor], folder: Path) -> None:
    """Copy trained parameters into a model that has all of them.

    Raises:
        MixtureError: It has not.
    """
    parameters = real_names(model)
    wrong = [
        name
        for name, tensor in trained.items()
        if name not in parameters or model.get_parameter(parameters[name]).shape != tensor.shape
    ]
    if wrong:
        raise MixtureError(
            f"{folder} has parameters that {type(model).__name__} has not, or not in that shape: "
            f"{shortlist(wrong)}",
            hint="give the model that the run started from beside its snapshots",
        )
    with torch.no_grad():
        for name, tensor in trained.items():
            model.get_parameter(parameters[name]).copy_(tensor)


def real_names(model: PreTrainedModel) -> dict[str, str]:
    """Names of a model's parameters by their names here."""
    return {_plain(name): name for name, _ in model.named_parameters()}


def _plain(name: str) -> str:
    """Names of adapters as saved by themselves, by their model, or by a wrapper of it."""
    return name.removeprefix("base_model.model.").replace(".default.", ".")


def ranks_of(snapshot: Snapshot) -> dict[str, int]:
    """Ranks of the adapters, by the name of the layer that they are beside."""
    return {
        found[1]: shape[0]
        for name, shape in snapshot.shapes().items()
        if name.endswith(".lora_A.weight") and (found := _ADAPTER.fullmatch(name))
    }


def alpha_of(snapshot: Snapshot) -> float:
    """What LoRA multiplies by, times the rank: weights do not say."""
    if snapshot.alpha is not None:
        return snapshot.alpha
    numbers = json.loads((snapshot.folder / _NUMBERS).read_text(encoding="utf-8"))
    spec = snapshot.folder.parents[1] / "spec.json"
    said: Any = json.loads(spec.read_text(encoding="utf-8")) if spec.is_file() else {}
    said = (said.get("spec", said).get("start") or {}).get("lora")
    for lora in (numbers.get("lora"), said):
        if lora:
            return float(lora["alpha"])
    raise MixtureError(
        f"{snapshot.folder} has LoRA adapters, and nothing says their alpha",
        hint="give it: Snapshot(..., alpha=16)",
    )


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> MixtureError:
    return MixtureError(
        f"{path} is no snapshot of a run: {' '.join(str(error).split())}", hint=_HINT
    )
