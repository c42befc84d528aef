"""The weights that full runs train with: a small file for people and other trainers.

<store>/mixtures/<proposal>.json = {"experiment", "proposal_id", "budget_tokens", "weights"}
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mixture_assets.core.errors import MixtureError
from mixture_assets.core.names import validate_domain
from mixture_assets.core.problem import Proposal
from mixture_assets.corpus import Corpus, Workspace
from mixture_assets.store.files import atomic_write_json, read_json_object

_SUM_TOLERANCE = 1e-6


def choice_path(workspace: Workspace, proposal_id: str) -> Path:
    """Where the weights of a proposal are written."""
    validate_domain(proposal_id, noun="name of a proposal")
    return workspace.store / "mixtures" / f"{proposal_id}.json"


def write_choice(workspace: Workspace, proposal_id: str, proposal: Proposal) -> Path:
    """Write the weights of a proposal as {domain: weight}."""
    path = choice_path(workspace, proposal_id)
    content = {
        "experiment": workspace.experiment.name,
        "proposal_id": proposal_id,
        "budget_tokens": proposal.budget_tokens,
        "weights": dict(proposal.mixture),
    }
    if not path.exists() or read_json_object(path) != content:
        atomic_write_json(path, content)
    return path


def read_choice(workspace: Workspace, proposal_id: str) -> dict[str, float]:
    """The weights as they are written, whatever they are."""
    content = read_json_object(choice_path(workspace, proposal_id))
    if content is None:
        raise MixtureError(
            f"the weights of proposal {proposal_id} are not written yet",
            hint="materialize 'chosen_mixture'",
        )
    weights: dict[str, float] = content["weights"]
    return weights


def simplex_problem(weights: Mapping[str, float], corpus: Corpus) -> str:
    """Why these are no sampling weights for the corpus; empty if they are."""
    if set(weights) != set(corpus.domains):
        return f"weights and corpus disagree on {sorted(set(weights) ^ set(corpus.domains))}"
    bad = {n: w for n, w in weights.items() if not _is_share(w)}
    if bad:
        return f"not between 0 and 1: {bad}"
    total = math.fsum(weights.values())
    return "" if abs(total - 1) <= _SUM_TOLERANCE else f"the weights sum to {total:.6g}, not to 1"


def epochs(weights: Mapping[str, float], workspace: Workspace, corpus: Corpus) -> dict[str, float]:
    """Passes over each domain's tokens in a full run with these weights."""
    budget = workspace.experiment.full.budget_tokens
    available = corpus.available_tokens
    return {n: w * budget / available[n] for n, w in weights.items() if available.get(n)}


def _is_share(weight: Any) -> bool:
    return isinstance(weight, float | int) and math.isfinite(weight) and 0 <= weight <= 1
