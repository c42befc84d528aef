"""Weights that are to be handed over: from a file with a proposal, to text for a trainer."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mixture_assets.core.errors import MixtureError, quoted
from mixture_assets.core.mixture import Mixture
from mixture_assets.exports import Export, Weights, export, paths_like
from mixture_assets.tables import read_json


def weights_in(path: Path) -> Weights:
    """Weights from what `mixture propose --json` prints, or any {"weights": {domain: share}}.

    Raises:
        MixtureError: It is no such file, or its weights do not sum to 1.
    """
    value = read_json(path)
    weights = value.get("weights") if isinstance(value, dict) else None
    if not isinstance(weights, dict) or not weights:
        raise MixtureError(
            f"{path.name} has no weights", hint='it must hold {"weights": {domain: share}}'
        )
    epochs, budget = value.get("epochs"), value.get("budget_tokens")
    return Weights(
        mixture=Mixture(_numbers(path, "weight", weights)),
        budget_tokens=None if budget is None else int(_number(path, "budget_tokens", budget)),
        epochs=_numbers(path, "epochs", epochs) if isinstance(epochs, dict) and epochs else None,
        verdict=str(value.get("verdict", "")),
    )


def handed_over(weights: Weights, form: str, pattern: str = "") -> Export:
    """The weights in a format of `exports`; `pattern` says where domains lie, as 'data/{}'."""
    paths = paths_like(pattern, list(weights.mixture)) if pattern else None
    made = export(dataclasses.replace(weights, paths=paths), form)
    if weights.verdict in ("", "supported"):
        return made
    doubt = f"the proposal says of these weights: {weights.verdict}"
    return dataclasses.replace(made, notes=(doubt, *made.notes))


def _numbers(path: Path, noun: str, values: Mapping[str, Any]) -> dict[str, float]:
    return {name: _number(path, f"{noun} of {quoted(name)}", x) for name, x in values.items()}


def _number(path: Path, noun: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise MixtureError(f"{path.name}: {noun} is {quoted(json.dumps(value))}, not a number")
    return float(value)
