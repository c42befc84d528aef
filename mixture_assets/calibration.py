"""Predictions of an experiment's proposals beside what its full runs measured, over time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mixture_assets.evaluation.calibration import Coverage, coverage_by_baseline
from mixture_assets.store.query import snapshot

Row = Mapping[str, Any]

_ROWS = """
    SELECT * FROM calibration WHERE experiment = ?
    ORDER BY predicted_at NULLS FIRST, proposal_id, quantity, baseline
"""


@dataclass(frozen=True)
class Calibration:
    """Every prediction, oldest first, and how those that count hold, by baseline."""

    rows: Sequence[dict[str, Any]]  # of the view `calibration`, times as text
    by_baseline: Mapping[str, Coverage]

    def to_json(self) -> dict[str, Any]:
        """What `mixture calibration --json` prints."""
        summary = {name: dict(c.__dict__) for name, c in self.by_baseline.items()}
        return {"predictions": list(self.rows), "by_baseline": summary}


def calibration(store: Path, experiment: str) -> Calibration:
    """Read the predictions; without one, both parts are empty."""
    with snapshot(store) as ask:
        rows = ask(_ROWS, [experiment]).to_dicts()
    return Calibration([_plain(row) for row in rows], coverage_by_baseline(rows))


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    times = {key: row[key] for key in ("predicted_at", "begun_at")}
    return row | {k: None if t is None else t.isoformat() + "Z" for k, t in times.items()}


# --- in words ---------------------------------------------------------------------------------


def calibration_table(
    rows: Sequence[Row],
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and cells; logs as per cent of the baseline's objective."""
    header = (
        *("time", "proposal", "of", "against", "predicted", "90 % interval", "measured", "error"),
        *("covered", "state"),
    )
    return header, [_cells(row) for row in rows]


def _cells(row: Row) -> tuple[str, ...]:
    covered = {None: "-", True: "yes", False: "no"}[row["is_covered"]]
    low, high = row["low"], row["high"]
    return (
        str(row["predicted_at"] or "-"),
        row["proposal_id"],
        str(row["method"] or "-"),
        row["baseline"],
        _log(row["predicted"]),
        "-" if low is None or high is None else f"{_log(low)} .. {_log(high)}",
        _log(row["measured"]),
        _log(row["error"]),
        covered,
        row["state"],
    )


def _log(value: float | None) -> str:
    return "-" if value is None else f"{value:+.4f}"
