"""Laws compared on somebody's own runs: from two tables to scores, and to lines for people."""

import math
from typing import Any

from mixture_assets.core.errors import MixtureError
from mixture_assets.methods.laws import LawScore, Score, score_laws
from mixture_assets.swarms import SwarmOptions, SwarmTable, same_domains
from mixture_assets.tables import Table


def compare_laws(
    swarm: SwarmOptions,
    *,
    test: SwarmOptions | None = None,
    n_folds: int = 5,
    seed: int = 0,
) -> dict[str, Any]:
    """Every law's scores on held-out runs, and on a test set if there is one.

    Args:
        swarm: The runs, and the objective: a metric, or the weighted mean of several.
        test: Further runs, of another scale for one, read for the objective of `swarm`.
        n_folds: Parts that are held out in turn, at least 2.
        seed: Of the parts.

    Returns:
        laws (name -> cv_spearman, cv_r2, cv_mae, cv_regret, the same with test_, seconds), the best
        first and named in `best`; n_runs, n_domains, excluded (run -> reason) and notes.
    """
    if n_folds < 2:
        raise MixtureError(f"{n_folds} folds hold nothing out", hint="--folds 5")
    found, tested = swarm.read(), None if test is None else test.read()
    if tested is not None:
        same_domains(found.swarm, tested.swarm)
    scores = score_laws(
        found.swarm.weights,
        found.swarm.objective(swarm.objective),
        test=None
        if tested is None
        else (tested.swarm.weights, tested.swarm.objective(swarm.objective)),
        n_folds=n_folds,
        seed=seed,
    )
    return {
        "laws": {score.law: _numbers(score) for score in scores},
        "best": scores[0].law,
        "n_runs": len(found.swarm.runs),
        "n_domains": len(found.swarm.domains),
        "excluded": {**found.excluded, **_of_test(tested)},
        "notes": [*found.notes, *(f"test: {n}" for n in (tested.notes if tested else ()))],
    }


def _of_test(tested: SwarmTable | None) -> dict[str, str]:
    return {f"test {run}": why for run, why in tested.excluded.items()} if tested else {}


def _numbers(score: LawScore) -> dict[str, float | None]:
    found = _named("cv", score.cross_validated)
    if score.test is not None:
        found |= _named("test", score.test)
    return found | {"seconds": score.seconds}


def _named(prefix: str, score: Score) -> dict[str, float | None]:
    return {
        f"{prefix}_spearman": score.spearman,
        f"{prefix}_r2": score.r2,
        f"{prefix}_mae": score.mae,
        f"{prefix}_regret": score.regret,
    }


def law_table(answer: dict[str, Any]) -> Table:
    """Header and rows of what `compare_laws` answers."""
    keys = [k for k in next(iter(answer["laws"].values())) if k != "seconds"]
    header = ("law", *(k.replace("cv_", "held out ").replace("_", " ") for k in keys), "s")
    rows = [
        [law, *(_cell(scores[k]) for k in keys), f"{scores['seconds']:.1f}"]
        for law, scores in answer["laws"].items()
    ]
    return header, rows


def _cell(value: float | None) -> str:
    return "-" if value is None or not math.isfinite(value) else f"{value:.4f}"
