"""What runs towards a specialist set say: tables, sentences, figures, and news while they train."""

import dataclasses
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mixture_assets.core.digest import digest
from mixture_assets.core.names import RESERVED, SPECIALIST, STEERING
from mixture_assets.core.units import flops_text, seconds_text, tokens_text
from mixture_assets.corpus import Workspace
from mixture_assets.evaluation.comparison import Comparison, Curve, compare
from mixture_assets.plans import PlannedRun
from mixture_assets.policy_runs import PolicySummary
from mixture_assets.report.images import small_png
from mixture_assets.report.markdown import markdown_table
from mixture_assets.report.weight_path import weight_path
from mixture_assets.running import result_of
from mixture_assets.store.files import atomic_write_bytes, atomic_write_text
from mixture_assets.store.runs import RunFolder

Table = tuple[Sequence[str], list[tuple[str, ...]]]
Rows = Sequence[Mapping[str, Any]]
_TOLD = (
    *("run_id", "losses", "flops_train", "flops_steering", "seconds", "seconds_steering"),
    *("alignment_way", "n_updates", "update_share"),
    *("final_weights", "mean_weights", "drawn_shares"),
)
UNITS = "Losses in nats; ±: standard error over documents; intervals know of seeds alone"
_SHOWN = 8  # weights in a line
_LOOK_SECONDS = 2.0


def policy_table(workspace: Workspace, planned: Sequence[PlannedRun]) -> Table:
    """Judged, steering and general loss of each run, and what its steering cost."""
    header = ("mixture", "seed", "judged (nats)", "steering (nats)", "mean of domains (nats)")
    rows: list[tuple[str, ...]] = []
    for run in planned:
        result = result_of(workspace, run)
        if result is None or SPECIALIST not in result["losses"]:
            continue
        losses = result["losses"]
        general = [row["loss_nats"] for d, row in losses.items() if d not in RESERVED]
        judged = losses[SPECIALIST]
        error = judged["loss_se_nats"]
        rows.append(
            (
                run.mixture_name,
                str(run.spec.seed),
                f"{judged['loss_nats']:.3f}" + ("" if error is None else f" ±{error:.3f}"),
                f"{losses[STEERING]['loss_nats']:.3f}",
                f"{sum(general) / len(general):.3f}",
                overhead_text(result),
            )
        )
    return (*header, "steering cost"), rows


def overhead_text(result: Mapping[str, Any]) -> str:
    """What steering took, beside a static run of the same tokens; '-' for a static run.

    And which share of the tokens its update steps took, whose batches are not those of others.
    """
    flops, seconds = result.get("flops_steering"), result.get("seconds_steering")
    if flops is None:
        return "-"
    said = [f"{flops / result['flops_train']:.1%} FLOPs"]
    if seconds is not None:
        said.append(f"{seconds / max(1e-9, result['seconds'] - seconds):.1%} time")
    if "update_share" in result:
        said.append(f"updates {result['update_share']:.1%} of tokens")
    return ", ".join(said)


def comparison_lines(workspace: Workspace, summary: PolicySummary) -> list[str]:
    """One sentence for each policy and each mixture beside it, and what it lost elsewhere."""
    general = _general_losses(workspace, summary.runs)
    lines = []
    for name, several in summary.comparisons.items():
        for c in several:
            elsewhere = compare(general, proposal=name, baseline=c.baseline)
            lines.append(
                f"{name} against {c.baseline}: specialist loss {_gap_text(c)}: {c.verdict}; mean "
                f"of domains {_gap_text(elsewhere)}: {elsewhere.verdict}"
            )
    return lines


def _gap_text(c: Comparison) -> str:
    interval = "" if c.low is None else f" (90 % {c.low:+.3f} .. {c.high:+.3f})"
    return f"{c.difference:+.3f} nats{interval}"


def _general_losses(
    workspace: Workspace, runs: Sequence[PlannedRun]
) -> dict[str, dict[int, Curve]]:
    """Mixture name -> seed -> mean loss on the domains at the end of training."""
    found: dict[str, dict[int, Curve]] = {}
    for run in runs:
        result = result_of(workspace, run)
        if result is not None:
            losses = [x["loss_nats"] for d, x in result["losses"].items() if d not in RESERVED]
            end = sum(result["realised_tokens"].values())
            own = found.setdefault(run.mixture_name, {})
            own[run.spec.seed] = [(end, sum(losses) / len(losses))]
    return found


def weight_rows(workspace: Workspace, run: PlannedRun) -> list[dict[str, Any]]:
    """The weights of a run that steers itself, as it wrote them; each once, in order."""
    found = {}
    for row in RunFolder(workspace.store, run.run_id).metrics():
        if row["kind"] == "weights":
            found[row["step"], row["domain"]] = row
    return [row for _, row in sorted(found.items())]


def weight_table(workspace: Workspace, planned: Sequence[PlannedRun]) -> Table:
    """Weights of each mixture: requested first, drawn on average, last; each seed that steers.

    Before the last, what a method answers for a run of its own. Of mixtures that stand still,
    whose seeds differ by rounding alone, the first seed.
    """
    columns: dict[str, Mapping[str, float]] = {}
    for run in planned:
        result = result_of(workspace, run)
        if result is None or run.mixture_name == SPECIALIST:
            continue
        if run.spec.online is None:
            columns.setdefault(run.mixture_name, _shares(result["realised_tokens"]))
            continue
        name = f"{run.mixture_name} {run.spec.seed}"
        columns[f"{name} first"] = _shares(run.spec.tokens)
        columns[f"{name} mean"] = _shares(result["realised_tokens"])
        if answer := result.get("mean_weights"):
            columns[f"{name} answer"] = answer
        columns[f"{name} last"] = result["final_weights"]
    last = [c for name, c in columns.items() if name.endswith("last")] or list(columns.values())
    domains = sorted({d for c in columns.values() for d in c})
    domains.sort(key=lambda d: -sum(c.get(d, 0.0) for c in last))
    rows = [(d, *(f"{c.get(d, 0.0):.3f}" for c in columns.values())) for d in domains]
    return ["domain", *columns], rows


def _shares(tokens: Mapping[str, int]) -> dict[str, float]:
    total = sum(tokens.values())
    return {name: n / total for name, n in tokens.items()}


def write_figures(workspace: Workspace, planned: Sequence[PlannedRun]) -> list[Path]:
    """The weight path of each run that steered itself, as a PNG beside the report."""
    paths = []
    for run in planned:
        png = weight_path_png(workspace, run)
        if png is not None:
            folder = workspace.store / "reports" / workspace.experiment.name
            # With its id: the same policy and seed towards another specialist set is another run.
            name = f"weights_{run.mixture_name}_{run.spec.seed}_{run.run_id[:8]}.png"
            paths.append(folder / name)
            atomic_write_bytes(paths[-1], png)
    return paths


def write_page(workspace: Workspace, summary: PolicySummary) -> Path:
    """Tables, sentences and figures as one Markdown page beside the report."""
    figures = write_figures(workspace, summary.runs)
    name = digest(sorted(run.run_id for run in summary.runs))[:8]
    lines = [
        f"# {workspace.experiment.name}: runs towards a specialist set",
        "",
        f"{summary.specialist}. {UNITS}.",
        "",
        *markdown_table(*policy_table(workspace, summary.runs)),
        "",
        *(f"- {line}" for line in comparison_lines(workspace, summary)),
        "",
        "Weights: share of training tokens, at the start, on average and at the end",
        "",
        *markdown_table(*weight_table(workspace, summary.runs)),
        "",
        ledger_line(workspace, summary.runs),
        *(f"\n![Weights of {path.stem}]({path.name})" for path in figures),
    ]
    path = workspace.store / "reports" / workspace.experiment.name / f"policies_{name}.md"
    atomic_write_text(path, "\n".join(lines) + "\n")
    return path


def weight_path_png(workspace: Workspace, run: PlannedRun) -> bytes | None:
    """The figure of a steered run's weights; None for a run that has none, or none yet."""
    rows = weight_rows(workspace, run) if run.spec.online else []
    if not rows:
        return None
    title = f"{run.label} (run {run.run_id[:8]})"
    return small_png(weight_path(rows, title, budget_tokens=run.spec.budget_tokens))


def summary_json(workspace: Workspace, summary: PolicySummary) -> dict[str, Any]:
    """What `mixture run --policy --json` prints."""
    runs = {}
    for run in summary.runs:
        result = result_of(workspace, run)
        if result is not None:
            runs[run.label] = {k: result[k] for k in _TOLD if k in result}
    compared = {
        name: [dataclasses.asdict(c) for c in several]
        for name, several in summary.comparisons.items()
    }
    return {"full_runs": runs, "comparisons": compared, "n_trained": summary.n_trained}


def weights_line(run: PlannedRun, rows: Rows) -> str:
    """What a run that steers itself decided last, largest weights first."""
    largest = sorted(rows, key=lambda row: (-row["weight"], row["domain"]))[:_SHOWN]
    weights = ", ".join(f"{row['domain']} {row['weight']:.3f}" for row in largest)
    return f"{run.label}, {tokens_text(rows[0]['tokens'])} tokens: {weights}"


class Watch:
    """Looks at runs that steer themselves while they train, and tells of new weights."""

    def __init__(
        self,
        workspace: Workspace,
        planned: Sequence[PlannedRun],
        tell: Callable[[PlannedRun, Rows], None],
    ) -> None:
        self.runs = [run for run in planned if run.spec.online is not None]
        self.paths = [RunFolder(workspace.store, run.run_id).metrics_path for run in self.runs]
        # What was decided before this process began is not news.
        self.offsets = [path.stat().st_size if path.exists() else 0 for path in self.paths]
        self.tell, self.looked = tell, 0.0

    def __call__(self) -> None:
        """Tell of the last weights of each run that decided since the last look."""
        if time.monotonic() - self.looked < _LOOK_SECONDS:
            return
        self.looked = time.monotonic()
        for number, run in enumerate(self.runs):
            rows = self._new_weights(number)
            if rows:
                last = rows[-1]["step"]
                self.tell(run, [row for row in rows if row["step"] == last])

    def _new_weights(self, number: int) -> list[dict[str, Any]]:
        run, path = self.runs[number], self.paths[number]
        if not path.exists():
            return []
        with open(path, "rb") as file:
            file.seek(self.offsets[number])
            lines = file.readlines()
        whole = [line for line in lines if line.endswith(b"\n")]
        length = sum(map(len, whole))
        rows = [json.loads(line) for line in whole if b'"kind":"weights"' in line]
        online = run.spec.online
        n_groups = len((online.basis if online else ()) or run.spec.tokens)
        if rows and sum(row["step"] == rows[-1]["step"] for row in rows) < n_groups:  # half written
            return []
        self.offsets[number] += length
        return rows


def ledger_line(workspace: Workspace, planned: Sequence[PlannedRun]) -> str:
    """What the runs cost altogether, steering apart."""
    results = [r for run in planned if (r := result_of(workspace, run)) is not None]
    flops = sum(r["flops_train"] + r["flops_eval"] for r in results)
    steering = sum(r.get("flops_steering") or 0.0 for r in results)
    seconds = sum(r["seconds"] for r in results)
    tokens = sum(sum(r["realised_tokens"].values()) for r in results)
    return (
        f"{len(results)} runs, {tokens_text(tokens)} tokens, {flops_text(flops + steering)} in "
        f"{seconds_text(seconds)} of one process; steering {flops_text(steering)} of it"
    )
