"""An experiment and its store: what every step is given."""

from dataclasses import dataclass
from pathlib import Path

from mixture_assets.core.experiment import Experiment, load_experiment
from mixture_assets.inputs import note_settings


@dataclass(frozen=True)
class Workspace:
    """An experiment and its store."""

    experiment: Experiment

    @classmethod
    def open(cls, path: Path) -> "Workspace":
        """Read an experiment file, make its store, and note there what the file says."""
        workspace = cls(load_experiment(path))
        workspace.store.mkdir(parents=True, exist_ok=True)
        note_settings(workspace.experiment)
        return workspace

    @property
    def store(self) -> Path:
        """Root of the store."""
        return self.experiment.store_path
