"""What every asset is given: the experiment file, and through it the store.

Settings live in that file, because backfills and automation take no run config.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import dagster as dg
from pydantic import Field

from mixture_assets import corpus, pipeline, quarantine
from mixture_assets.core.errors import MixtureError, shortlist
from mixture_assets.core.problem import Proposal
from mixture_assets.corpus import Corpus, Workspace
from mixture_assets.defs.steps import PROPOSAL_TAG, tag_run

EXPERIMENT_VARIABLE = "MIXTURE_EXPERIMENT"
DEFAULT_EXPERIMENT = "experiments/demo.toml"

Context = dg.AssetExecutionContext | dg.AssetCheckExecutionContext
T = TypeVar("T")


class Lab(dg.ConfigurableResource[Workspace]):
    """The experiment that the assets belong to."""

    experiment: str = Field(
        default=DEFAULT_EXPERIMENT, description="Experiment file (TOML), absolute or relative."
    )

    @classmethod
    def from_environment(cls) -> "Lab":
        """The experiment that MIXTURE_EXPERIMENT names, else the demo."""
        return cls(experiment=os.environ.get(EXPERIMENT_VARIABLE, DEFAULT_EXPERIMENT))

    def open(self) -> Workspace:
        """The experiment, read anew: an edit of the file counts from the next step on."""
        return Workspace.open(Path(self.experiment))

    def has_selection(self) -> bool:
        """Whether the experiment file has a table [selection] now; no where it cannot be read."""
        try:
            return self.open().experiment.selection is not None
        except MixtureError:
            return False  # the first step says what is wrong with the file

    def corpus(self, context: Context) -> Corpus:
        """The corpus as `validation_set` last fixed it.

        Not the raw root's present state: a domain that lands while proxy runs train belongs to
        the next plan, not to this one.
        """
        workspace, corpus_id = self.open(), _noted(context, "validation_set", "corpus_id")
        fixed = corpus.load_corpus(workspace, corpus_id) if corpus_id else None
        return corpus.build_corpus(workspace) if fixed is None else fixed

    def proposal(self, context: Context) -> tuple[Corpus, str, Proposal]:
        """The corpus, and the proposal that its proxy runs give."""
        fixed = self.corpus(context)
        proposal_id, proposal = pipeline.propose(self.open(), fixed)
        tag_run(context, {PROPOSAL_TAG: proposal_id})
        return fixed, proposal_id, proposal

    def trained(self, context: Context) -> list[str]:
        """The runs that `full_run` was last made of."""
        return _noted(context, "full_run", "run_ids").split()

    def chosen(self, context: Context) -> str:
        """The proposal whose weights `chosen_mixture` last wrote."""
        proposal_id = _noted(context, "chosen_mixture", "proposal_id")
        return proposal_id or pipeline.latest_proposal(self.open())


def _noted(context: Context, asset: str, key: str) -> str:
    """A text in the metadata of an asset's newest materialization, or an empty string."""
    event = context.instance.get_latest_materialization_event(dg.AssetKey(asset))
    found = event.asset_materialization if event else None
    return str(found.metadata[key].value) if found and key in found.metadata else ""


def pick(workspace: Workspace, found: Mapping[str, T], domains: Sequence[str]) -> dict[str, T]:
    """The entries of some domains but those in quarantine; MixtureError about any that is gone."""
    excused = quarantine.quarantined(workspace)
    missing = [name for name in domains if name not in found and name not in excused]
    if missing:
        raise MixtureError(
            f"no raw data for {shortlist(missing)}: the domain was renamed or removed",
            hint="put its folder back, or delete the partition on the page of the asset 'raw'",
        )
    return {name: found[name] for name in domains if name in found}
