"""What a sweep came to, as rows of the store."""

from collections.abc import Iterable, Mapping, Sequence

from mixture_assets.core.digest import digest
from mixture_assets.core.names import SELECTED
from mixture_assets.plans import PlannedRun
from mixture_assets.pools import Selection
from mixture_assets.selection.costs import gradient_cost, perplexity_cost
from mixture_assets.selection.curve_draws import Parameter, UtilityFit
from mixture_assets.selection.points import Point
from mixture_assets.selection.scores import SCORES_VERSION, ScoreSet
from mixture_assets.selection_points import Cell, ScoreSets
from mixture_assets.store.records import Rows, write_record


def record_scores(
    selection: Selection, sets: Iterable[ScoreSet], scored_with: Mapping[str, str]
) -> None:
    """The pool and its score sets, with the edges to what they rest on.

    Args:
        selection: What is chosen from.
        sets: Finished scores.
        scored_with: Method -> run whose model scores.
    """
    pool = selection.pool
    every = {s.digest: s for s in sets}
    counts = ("n_documents", "n_tokens", "n_leaked", "n_held_out", "n_repeated", "n_beyond")
    head = {"pool_id": pool.digest, "experiment": selection.workspace.experiment.name}
    edges = [(pool.digest, source, "gathered") for source in pool.sources]
    edges += [(name, pool.digest, "scored") for name in every]
    edges += [
        (name, scored_with[s.method], "scored_with")
        for name, s in every.items()
        if s.method in scored_with
    ]
    rows: Rows = {
        "selection_pool": [head | {name: getattr(pool, name) for name in counts}],
        "selection_score_set": [_score_row(selection, s) for _, s in sorted(every.items())],
        "edge": [{"child": c, "parent": p, "role": role} for c, p, role in edges],
    }
    write_record(selection.workspace.store, "selection_scores", digest([head, sorted(every)]), rows)


def record_scoring_costs(
    selection: Selection, sweep_id: str, sets: Iterable[ScoreSet], selector_params: float
) -> None:
    """What scoring cost, on the ledger beside the runs: one row for each score set."""
    rows = [
        {
            "decision_id": sweep_id,
            "run_id": scores.digest,
            "role": "scoring",
            "flops": scores.flops,
            "device_seconds": scores.seconds,
            "device": scores.device,
            "predicted_flops": _predicted(selection, scores, selector_params),
        }
        for _, scores in sorted({s.digest: s for s in sets}.items())
    ]
    store = selection.workspace.store
    write_record(store, "cost", digest([sweep_id, "scoring"]), {"cost": rows})


def _predicted(selection: Selection, scores: ScoreSet, params: float) -> float | None:
    """What the cost model says of a score set; lexical methods are free in it.

    None for an embedding of a model, whose parameters a score set does not know.
    """
    if scores.method == "perplexity":
        return perplexity_cost(params, scores.n_tokens).flops
    if scores.method == "gradient":
        snapshots = selection.spec.warmup_epochs
        return gradient_cost(params, scores.n_tokens, snapshots=snapshots).flops
    return None if scores.flops else 0.0


def record_points(
    selection: Selection,
    sweep_id: str,
    measured: Sequence[tuple[Cell, Point]],
    sets: ScoreSets,
    fits: Mapping[tuple[str, str], UtilityFit],
    base: Mapping[str, PlannedRun],
) -> None:
    """Points of a sweep, the curves through them, and the edges from subsets to scores."""
    points = [_point_row(sweep_id, c, p, sets) for c, p in measured]
    edges = {
        (token_set, sets[c.method, c.seed].digest, "chosen")
        for c, _ in measured
        for token_set in c.run.spec.token_sets.values()
    }
    edges |= {(sweep_id, c.run.run_id, "selection_run") for c, _ in measured}
    edges |= {
        (c.run.run_id, base[c.model].run_id, "started_from") for c, _ in measured if c.model in base
    }
    subsets = {
        token_set: {
            "token_set_id": token_set,
            "domain": SELECTED,
            "available_tokens": c.run.spec.budget_tokens,
            "n_documents": len(c.documents),
        }
        for c, _ in measured
        for token_set in c.run.spec.token_sets.values()
    }
    rows: dict[str, list[dict[str, object]]] = {
        "selection_point": points,
        "domain": [row for _, row in sorted(subsets.items())],
        "edge": [{"child": c, "parent": p, "role": role} for c, p, role in sorted(edges)],
        "fit": [],
        "fit_parameter": [],
    }
    for (model, method), found in sorted(fits.items()):
        fit_id = digest([sweep_id, model, method])
        head = {"fit_id": fit_id, "proposal_id": sweep_id, "domain": method, "scale": model}
        rows["fit"].append(head | {"residual_sd": found.noise_sd})
        rows["fit_parameter"] += [
            {"fit_id": fit_id, "name": name, "value": value}
            for name, value in _parameters(found).items()
        ]
    write_record(selection.workspace.store, "selection", sweep_id, rows)


def _parameters(found: UtilityFit) -> dict[str, float]:
    """Each with the ends of its 90 % interval."""
    values: dict[str, float] = {}
    names: tuple[Parameter, ...] = ("ceiling", "zero", "rate")
    for name in names:
        low, high = found.interval(name)
        values |= {name: getattr(found.curve, name), f"{name}_low": low, f"{name}_high": high}
    return values


def _score_row(selection: Selection, scores: ScoreSet) -> dict[str, object]:
    names = ("n_documents", "n_tokens", "n_nan", "flops", "seconds", "device")
    return {
        "score_set_id": scores.digest,
        "method": scores.method,
        "pool_id": selection.pool.digest,
        "specialist_id": scores.specialist,
        "code_version": f"scores-{SCORES_VERSION}",
        "settings": dict(scores.settings),
    } | {name: getattr(scores, name) for name in names}


def _point_row(sweep_id: str, cell: Cell, point: Point, sets: ScoreSets) -> dict[str, object]:
    names = ("selection_flops", "total_flops", "full_flops", "train_params", "selector_params")
    return {
        "sweep_id": sweep_id,
        "method": cell.method,
        "share": cell.share,
        "model": cell.model,
        "seed": cell.seed,
        "run_id": cell.run.run_id,
        "score_set_id": sets[cell.method, cell.seed].digest,
        "n_documents": len(cell.documents),
        "judged_loss_nats": -point.performance,
    } | {name: getattr(point, name) for name in names}
