"""Laws compared on somebody's own runs: from two tables to scores, and to lines for people."""

import math
from dataclasses import asdict
from typing import Any

from mixture_assets.core.errors import MixtureError
from mixture_assets.core.units import tokens_text
from mixture_assets.methods.decision import DEFAULT_LAW
from mixture_assets.methods.laws import LawScore, Score, score_laws
from mixture_assets.methods.scales import ScaledSwarm, score_across_scales
from mixture_assets.scale_choice import one_scale, scaled
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
        first and named in `best`; the law that `propose` takes in `default`; n_runs, n_domains,
        excluded (run -> reason), notes, and across_scales where there are several sizes.
    """
    if n_folds < 2:
        raise MixtureError(f"{n_folds} folds hold nothing out", hint="--folds 5")
    found, tested = swarm.read(), None if test is None else test.read()
    if tested is not None:
        same_domains(found.swarm, tested.swarm)
    runs, notes = one_scale(found.swarm)
    values, shares = runs.parts(swarm.objective)
    scores = score_laws(
        runs.weights,
        values,
        shares=shares,
        test=None
        if tested is None
        else (tested.swarm.weights, tested.swarm.parts(swarm.objective)[0]),
        n_folds=n_folds,
        seed=seed,
    )
    answer = {
        "laws": {score.law: _numbers(score) for score in scores},
        "best": scores[0].law,
        "default": DEFAULT_LAW,
        "n_runs": len(runs.runs),
        "n_domains": len(runs.domains),
        "excluded": {**found.excluded, **_of_test(tested)},
        "notes": [
            *found.notes,
            *notes,
            *(f"test: {n}" for n in (tested.notes if tested else ())),
        ],
    }
    sizes = scaled(found.swarm)
    return answer if sizes is None else answer | _across(sizes, swarm)


def _across(runs: ScaledSwarm, swarm: SwarmOptions) -> dict[str, Any]:
    """Laws fitted to the smaller runs, scored on those of the largest scale."""
    if len(runs.at(runs.scales[-1:]).params) < 2:
        return {}
    found = score_across_scales(runs, swarm.objective)
    return {
        "across_scales": {
            "held_out": {"params": found.held_out[0], "tokens": found.held_out[1]},
            "n_held_out": found.n_held_out,
            "laws": [
                {
                    "law": s.law,
                    "fitted_at": [{"params": p, "tokens": t} for p, t in s.fitted_at],
                    "n_runs": s.n_runs,
                    **asdict(s.score),
                    "seconds": s.seconds,
                }
                for s in found.scores
            ],
            "not_fitted": dict(found.not_fitted),
        }
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


def scale_table(answer: dict[str, Any]) -> Table:
    """Header and rows of `across_scales`."""
    rows = [
        [
            s["law"],
            ", ".join(
                f"{tokens_text(x['params'])}/{tokens_text(x['tokens'])}" for x in s["fitted_at"]
            ),
            str(s["n_runs"]),
            *(_cell(s[k]) for k in ("spearman", "r2", "mae", "regret")),
        ]
        for s in answer["across_scales"]["laws"]
    ]
    return ("law", "fitted at (params/tokens)", "runs", "spearman", "r2", "mae", "regret"), rows


def _cell(value: float | None) -> str:
    return "-" if value is None or not math.isfinite(value) else f"{value:.4f}"
