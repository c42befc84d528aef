"""Weights over time: what an experiment proposed, and what each proposal changed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mixture_assets.core.errors import MixtureError
from mixture_assets.core.names import nearest
from mixture_assets.store.query import snapshot

_HISTORY = """
    SELECT created_at, proposal_id, method, objective, budget_tokens, domain, weight, weight_low,
        weight_high, natural_weight, weight - lag(weight) OVER (
            PARTITION BY domain ORDER BY created_at, proposal_id) AS change,
        proposal_id IN (SELECT proposal_id FROM latest WHERE experiment = ?) AS is_latest
    FROM weight_history WHERE experiment = ? ORDER BY created_at, proposal_id, domain
"""


def weight_history(store: Path, experiment: str, domain: str = "") -> list[dict[str, Any]]:
    """A row for each proposal and domain, in time order, with the change to the one before.

    `change` is None where the domain is new. `is_latest`: what the files lead to now.
    """
    with snapshot(store) as ask:
        rows = ask(_HISTORY, [experiment, experiment]).to_dicts()
    if domain:
        require_domain(domain, [row["domain"] for row in rows])
    return [_plain(row) for row in rows if domain in ("", row["domain"])]


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    time = row["created_at"]
    return row | {"created_at": None if time is None else time.isoformat() + "Z"}


def require_domain(domain: str, known: Sequence[str]) -> None:
    """MixtureError, with the nearest name, unless a weight was proposed for the domain."""
    names = sorted(set(known))
    if domain not in names:
        there_are = f"the domains are {', '.join(names)}" if names else "`mixture run` proposes"
        raise MixtureError(
            f"no weight was proposed for {domain!r}{nearest(domain, names)}", hint=there_are
        )
