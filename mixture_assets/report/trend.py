"""What the figure 'weights_over_proposals' shows: an experiment's weights, proposal by proposal."""

from dataclasses import dataclass

from mixture_assets.report.pull import ReportData

MOST_PROPOSALS = 24  # the newest; more would not be told apart


@dataclass(frozen=True)
class TrendLine:
    """One domain's weight in each proposal; None where the proposal has no such domain."""

    domain: str
    weights: tuple[float | None, ...]


@dataclass(frozen=True)
class WeightTrend:
    """Weights over proposals, oldest first."""

    proposals: tuple[str, ...]  # when, or which where two share a minute
    lines: tuple[TrendLine, ...]  # largest weight of the newest proposal first


def weights_over_proposals(data: ReportData) -> WeightTrend | None:
    """Figure 'weights_over_proposals'; None while there is but one proposal."""
    order: dict[str, str] = {}  # proposal id -> label, in time order
    weights: dict[str, dict[str, float]] = {}  # domain -> proposal id -> weight
    for row in data.history:
        order[row["proposal_id"]] = f"{row['created_at']:%m-%d %H:%M}" if row["created_at"] else ""
        weights.setdefault(row["domain"], {})[row["proposal_id"]] = row["weight"]
    shown = list(order)[-MOST_PROPOSALS:]
    if len(shown) < 2:
        return None
    lines = [
        TrendLine(domain, tuple(by_proposal.get(p) for p in shown))
        for domain, by_proposal in sorted(weights.items())
        if by_proposal.keys() & set(shown)
    ]
    lines.sort(key=lambda line: -(line.weights[-1] or 0.0))
    return WeightTrend(tuple(f"{order[p]}\n{p[:4]}" for p in shown), tuple(lines))
