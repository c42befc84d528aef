"""Where every run stands, from the run folders alone."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mixture_assets.store.runs import RunFolder, list_runs


def run_table(store: Path) -> list[dict[str, Any]]:
    """One row a run: run_id, purpose, label, status, reason; by purpose and label."""
    rows = [_row(folder) for folder in list_runs(store)]
    return sorted(rows, key=lambda row: (row["purpose"], row["label"], row["run_id"]))


def status_table(rows: Sequence[Mapping[str, Any]]) -> tuple[tuple[str, ...], list[list[str]]]:
    """Header and rows: how many runs of each purpose stand where."""
    counts = Counter((row["purpose"], row["status"]) for row in rows)
    body = [[purpose, status, str(n)] for (purpose, status), n in sorted(counts.items())]
    return ("purpose", "status", "runs"), body


def _row(folder: RunFolder) -> dict[str, Any]:
    spec, failure = folder.spec(), folder.failure() or {}
    return {
        "run_id": folder.run_id,
        "purpose": spec["purpose"],
        "label": spec["label"],
        "experiment": spec["experiment"],
        "budget_tokens": sum(spec["spec"]["tokens"].values()),
        "status": folder.status(),
        "reason": failure.get("reason", ""),
    }
