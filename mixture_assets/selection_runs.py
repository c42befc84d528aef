"""The runs of a sweep of selections: what scores, and what is trained on what is chosen."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mixture_assets import pipeline
from mixture_assets.core.digest import digest
from mixture_assets.core.errors import MixtureError
from mixture_assets.corpus import Workspace
from mixture_assets.data.token_store import DomainTokens
from mixture_assets.plans import PlannedRun
from mixture_assets.pools import Selection, Starts
from mixture_assets.running import missing_runs, result_of, train
from mixture_assets.scoring import SelectorRuns, score_set, selector_runs
from mixture_assets.selection.choose import choose
from mixture_assets.selection.costs import train_flops
from mixture_assets.selection.points import Point
from mixture_assets.selection.scores import ScoreSet
from mixture_assets.selection_points import Cell, ScoreSets, measured_cells, untrained
from mixture_assets.selection_records import record_scores, record_scoring_costs

Say = Callable[[str], None]
OnSettled = Callable[[PlannedRun], None]


@dataclass(frozen=True)
class Models:
    """Finished runs that a selection rests on."""

    base: Mapping[str, PlannedRun]  # by model
    starts: Starts
    runs: SelectorRuns


@dataclass(frozen=True)
class Scored:
    """A selection whose pool is scored."""

    selection: Selection
    base: Mapping[str, PlannedRun]  # by model
    starts: Starts
    runs: SelectorRuns
    sets: ScoreSets

    @property
    def selector_params(self) -> float:
        """Of the model that scores; 0 where none does."""
        done = (result_of(self.selection.workspace, run) for run in self.runs.planned)
        return float(next((r["n_params"] for r in done if r is not None), 0.0))


@dataclass(frozen=True)
class Sweep:
    """A scored pool, and the runs on its subsets."""

    scored: Scored
    cells: Sequence[Cell]

    @property
    def planned(self) -> list[PlannedRun]:
        """Every run once: methods that choose the same documents share it; longest first."""
        runs = {cell.run.run_id: cell.run for cell in self.cells}
        return sorted(runs.values(), key=lambda r: (-r.spec.budget_tokens, r.run_id))

    @property
    def pilot(self) -> list[PlannedRun]:
        """The runs that predictions are made from."""
        shares = self.scored.selection.spec.pilot_shares
        return self.with_shares(shares)

    def with_shares(self, shares: Sequence[float]) -> list[PlannedRun]:
        """The runs of some shares."""
        asked = {cell.run.run_id for cell in self.cells if cell.share in shares}
        return [run for run in self.planned if run.run_id in asked]

    @property
    def measured(self) -> list[tuple[Cell, Point]]:
        """Cells whose runs are done, with their points."""
        s = self.scored
        return measured_cells(s.selection, self.cells, s.sets, s.runs, s.base)

    @property
    def points(self) -> dict[str, list[Point]]:
        """Points of every model, of the runs that are done."""
        found: dict[str, list[Point]] = {}
        for cell, point in self.measured:
            found.setdefault(cell.model, []).append(point)
        return found

    @property
    def is_done(self) -> bool:
        """Whether no run is missing."""
        return not missing_runs(self.scored.selection.workspace, self.planned)

    @property
    def untrained(self) -> dict[str, float]:
        """Performance of every model before it goes on."""
        return untrained(self.scored.selection, self.scored.base)


def models_of(
    selection: Selection, *, say: Say = print, on_settled: OnSettled | None = None
) -> Models:
    """Train what everything else goes on from and scores with, unless that is done."""
    workspace = selection.workspace
    base = {run.scale: run for run in selection.base_runs()}
    _train(workspace, list(base.values()), "base models", say, on_settled)
    starts = selection.starts()
    runs = selector_runs(selection, starts)
    _train(workspace, runs.planned, "models to score with", say, on_settled)
    return Models(base, starts, runs)


def scored(
    selection: Selection, models: Models, methods: Sequence[str] = (), *, say: Say = print
) -> Scored:
    """Score the pool by some methods, by default all; finished score sets are kept."""
    seeds, sets = selection.spec.seeds, dict[tuple[str, int], ScoreSet]()
    for method in methods or selection.spec.methods:
        for seed in seeds:
            if method == "random" or seed == seeds[0]:
                found = score_set(selection, method, seed, models.starts, models.runs)
                said = f"{found.n_documents:,} documents, {found.seconds:.1f} s"
                say(f"scored by {method}: {said}, {found.n_nan} without a score")
            sets[method, seed] = found
    order = models.runs.warmup_order
    runs = {"perplexity": models.runs.reference, "gradient": models.runs.warmup}
    scored_with = {method: run.run_id for method, run in runs.items() if run is not None}
    record_scores(selection, [*sets.values(), *([order] if order else [])], scored_with)
    return Scored(selection, models.base, models.starts, models.runs, sets)


def plan_sweep(scored: Scored) -> Sweep:
    """Every cell with its run: methods, shares, models, seeds."""
    selection, spec = scored.selection, scored.selection.spec
    cells, subsets = [], {}
    for method in spec.methods:
        for seed in spec.seeds:
            for share in spec.shares:
                scores = scored.sets[method, seed]
                # A third of the perplexities has no order of its own: each seed draws from it.
                drawn = seed if scores.order == "middle" else 0
                key = (scores.digest, share, drawn)
                if key not in subsets:
                    subsets[key] = _subset(selection, scores, share, drawn)
                tokens, documents = subsets[key]
                for model in sorted(selection.models):
                    label = f"{method} {100 * share:g} % {model} seed {seed}"
                    run = selection.finetune_run(
                        scored.starts, model, tokens, seed=seed, label=label, method=method
                    )
                    cells.append(Cell(method, share, model, seed, run, documents))
    return Sweep(scored, _one_name(cells))


def train_sweep(
    sweep: Sweep,
    runs: Sequence[PlannedRun],
    *,
    say: Say = print,
    on_settled: OnSettled | None = None,
) -> None:
    """Train some runs of a sweep, and put on the ledger what they cost."""
    workspace = sweep.scored.selection.workspace
    _train(workspace, runs, "runs on subsets", say, on_settled)
    name = decision_of(sweep)
    own = {
        "finetune": runs,
        "base": list(sweep.scored.base.values()),
        "selector": sweep.scored.runs.planned,
    }
    for role, planned in own.items():
        adapted = bool(sweep.scored.selection.spec.lora_rank) and role != "base"
        cost = _adapter_flops if adapted else train_flops
        pipeline.record_costs(workspace, name, planned, role, predicted=cost)
    record_scoring_costs(
        sweep.scored.selection, name, sweep.scored.sets.values(), sweep.scored.selector_params
    )


def _adapter_flops(params: float, tokens: float) -> float:
    """4 N T: frozen weights have no gradient of their own."""
    return train_flops(params, tokens) * 2 / 3


def decision_of(sweep: Sweep) -> str:
    """Under which name the store has what a sweep came to."""
    name = sweep.scored.selection.workspace.experiment.name
    return digest([name, "selection", sorted(r.run_id for r in sweep.planned)])


def _train(
    workspace: Workspace,
    planned: Sequence[PlannedRun],
    what: str,
    say: Say,
    on_settled: OnSettled | None,
) -> None:
    missing = missing_runs(workspace, planned)
    if planned:
        say(
            f"{what}: {len(planned)} runs, {len(planned) - len(missing)} are there, "
            f"{len(missing)} to train, from their last checkpoints where they have one"
        )
    if missing:
        train(workspace, missing, on_settled=on_settled or (lambda run: None))


def _subset(
    selection: Selection, scores: ScoreSet, share: float, seed: int
) -> tuple[DomainTokens, NDArray[np.uint64]]:
    found = choose(scores, share, seed)
    try:
        tokens = selection.subset(found.doc_ids)
    except MixtureError as error:
        raise MixtureError(
            f"{100 * share:g} % of the pool by {scores.method!r}: {error}", hint=error.hint
        ) from error
    return tokens, np.sort(found.hashes)


def _one_name(cells: Sequence[Cell]) -> list[Cell]:
    """Cells of the same run point to the same plan of it: the label of the first method."""
    first: dict[str, PlannedRun] = {}
    return [replace(c, run=first.setdefault(c.run.run_id, c.run)) for c in cells]
