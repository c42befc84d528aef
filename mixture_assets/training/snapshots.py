"""A run at the ends of its equal parts: weights and Adam's moments, for whoever asks later.

snapshots/<k>/model.safetensors    what is trained, by name
              moments.safetensors  exp_avg.<name> and exp_avg_sq.<name> of Adam
              snapshot.json        the numbers of `Snapshot`, and `lora` where adapters are trained

Gradient selection (M. Xia et al., "LESS", 2024, arXiv:2402.04333) preconditions gradients by the
moments and weighs each snapshot by the mean learning rate of the part of training that it ends.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel

from mixture_assets.core.errors import MixtureError, shortlist
from mixture_assets.core.files import atomic_path
from mixture_assets.core.run import LoraSpec, RunSpec
from mixture_assets.training.lora import add_adapters
from mixture_assets.training.model_files import load_model
from mixture_assets.training.optimizer import learning_rate
from mixture_assets.training.sequences import trained_parameters

_MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class Snapshot:
    """What Adam knew after a step; moments by name of a parameter, on the CPU."""

    step: int  # optimizer steps done
    learning_rate: float  # mean over the steps since the snapshot before
    beta1: float
    beta2: float
    eps: float
    adam_step: int  # of the bias correction
    exp_avg: dict[str, Tensor]
    exp_avg_sq: dict[str, Tensor]


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


def load_snapshot(
    base: Path, folder: Path, *, attention: str = "eager"
) -> tuple[PreTrainedModel, Snapshot]:
    """The model as it was at a snapshot, in evaluation mode, and what Adam knew.

    What was not trained is frozen; adapters stand beside the layers that they adapt.

    Args:
        base: Folder of the model that the run started from; of one that trained every weight,
            the model that it kept will do.
        folder: snapshots/<k> of the run.
        attention: As transformers names its implementations.

    Raises:
        MixtureError: The snapshot is damaged, or of another model.
    """
    try:
        said = json.loads((folder / "snapshot.json").read_text(encoding="utf-8"))
        weights = load_file(folder / "model.safetensors")
        moments = load_file(folder / "moments.safetensors")
    except (OSError, SafetensorError, ValueError) as error:
        raise MixtureError(
            f"{folder} is no snapshot of a run: {error}",
            hint="a run with `snapshots` writes them; train it again",
        ) from error
    model = load_model(base, attention=attention)
    if lora := said.pop("lora", None):
        add_adapters(model, LoraSpec(**lora), seed=0)
    _put(model, weights, folder)
    first, second = ({name: moments[f"{key}.{name}"] for name in weights} for key in _MOMENTS)
    return model, Snapshot(**said, exp_avg=first, exp_avg_sq=second)


def _put(model: PreTrainedModel, weights: dict[str, Tensor], folder: Path) -> None:
    trained = trained_parameters(model)
    strange = {n for n in {*trained, *weights} if _shape(trained, n) != _shape(weights, n)}
    if strange:
        raise MixtureError(
            f"the snapshot {folder} is of another model: it differs in {shortlist(strange)}",
            hint="give the model that the run started from",
        )
    with torch.no_grad():
        for name, parameter in trained.items():
            parameter.copy_(weights[name])


def _shape(tensors: dict[str, Tensor] | dict[str, torch.nn.Parameter], name: str) -> object:
    tensor = tensors.get(name)
    return None if tensor is None else tensor.shape


def _save(tensors: dict[str, Tensor], path: Path) -> None:
    save_file({name: t.contiguous() for name, t in tensors.items()}, path)
