"""Where every run stands, from the run folders alone."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mixture_assets.store.domain_log import read_domains
from mixture_assets.store.runs import RunFolder, list_runs

_OF_SELECTION = frozenset({"base", "selector", "finetune"})  # purposes


def run_table(store: Path) -> list[dict[str, Any]]:
    """One row a run: run_id, purpose, label, status, reason; by purpose and label."""
    rows = [_row(folder) for folder in list_runs(store)]
    return sorted(rows, key=lambda row: (row["purpose"], row["label"], row["run_id"]))


def status_table(rows: Sequence[Mapping[str, Any]]) -> tuple[tuple[str, ...], list[list[str]]]:
    """Header and rows: how many runs of each purpose stand where."""
    counts = Counter((row["purpose"], row["status"]) for row in rows)
    body = [[purpose, status, str(n)] for (purpose, status), n in sorted(counts.items())]
    return ("purpose", "status", "runs"), body


def next_commands(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What goes on with the runs that are not done: a run does not say which options it was in."""
    open_ones = {row["purpose"] for row in rows if row["status"] != "done"}
    found = []
    if open_ones - _OF_SELECTION:
        found.append("next: mixture run, with the options that it was begun with")
    if open_ones & _OF_SELECTION:
        found.append("next: mixture select run, with the options that it was begun with")
    return found


def _row(folder: RunFolder) -> dict[str, Any]:
    status = folder.status()
    is_ended = status in ("failed", "cancelled")
    spec, failure = folder.spec(), (folder.failure() if is_ended else None) or {}
    return {
        "run_id": folder.run_id,
        "purpose": spec["purpose"],
        "label": spec["label"],
        "experiment": spec["experiment"],
        "budget_tokens": sum(spec["spec"]["tokens"].values()),
        "status": status,
        "reason": failure.get("reason", ""),
    }


def quarantine_table(store: Path, experiment: str) -> list[dict[str, str]]:
    """One row a domain in quarantine: why, what to do, and what becomes of it meanwhile."""
    return [
        {
            "domain": name,
            "problem": state.problem,
            "hint": state.hint,
            "fate": f"goes on with {state.good_token_set}" if state.good_token_set else "left out",
        }
        for name, state in read_domains(store, experiment).items()
        if state.problem
    ]
