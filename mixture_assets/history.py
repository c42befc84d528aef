"""Weights over time: what an experiment proposed, and what each proposal changed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mixture_assets.core.errors import MixtureError
from mixture_assets.core.names import nearest
from mixture_assets.store.query import snapshot

_HISTORY = """
    WITH numbered AS (
        SELECT *, dense_rank() OVER (ORDER BY created_at, proposal_id) AS number
        FROM weight_history WHERE experiment = ?
    )
    SELECT mine.created_at, mine.proposal_id, mine.method, mine.objective, mine.budget_tokens,
        mine.domain, mine.weight, mine.weight_low, mine.weight_high, mine.natural_weight,
        mine.weight - before.weight AS change,
        mine.proposal_id IN (SELECT proposal_id FROM latest WHERE experiment = ?) AS is_latest
    FROM numbered AS mine
    LEFT JOIN numbered AS before
        ON before.domain = mine.domain AND before.number = mine.number - 1
    ORDER BY mine.number, mine.domain
"""


def weight_history(store: Path, experiment: str, domain: str = "") -> list[dict[str, Any]]:
    """A row for each proposal and domain, in time order, with the change to the one before.

    `change` is None where the domain was not in that one. `is_latest`: what the files lead to now.
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
