"""Selection assets: what a pool is scored by, what is trained on shares of it, what that is worth.

They are on the pages of an experiment that has a table [selection]. What is finished is looked
up, so that each step does only what the ones before it left. Put assets about choosing documents
here; how a selector scores belongs in selection.
"""

from typing import Any

import dagster as dg

from mixture_assets.core.experiment_rules import SELECTORS
from mixture_assets.defs import columns, metadata
from mixture_assets.defs.data import validation_set
from mixture_assets.defs.metadata import picture, table
from mixture_assets.defs.proxies import TRAINING_POOL
from mixture_assets.defs.resources import Lab
from mixture_assets.defs.steps import asset
from mixture_assets.pools import Selection
from mixture_assets.report.images import small_png
from mixture_assets.selection_page import (
    curves,
    fit_rows,
    overlap_figure,
    point_table,
    subset_table,
    utility_figure,
)
from mixture_assets.selection_runs import Sweep, models_of, plan_sweep, scored
from mixture_assets.sweeps import finish, forecasts_of, pool_line, summed_up

METHODS = dg.StaticPartitionsDefinition(list(SELECTORS))
_GROUP: dict[str, Any] = {"group_name": "selection"}


@asset(deps=[validation_set], kinds={"parquet"}, **_GROUP)
def pool(context: dg.AssetExecutionContext, lab: Lab) -> dg.MaterializeResult[None]:
    """Documents to choose from: each content once, none of the specialist set, none held out."""
    selection = Selection.of(lab.open(), lab.corpus(context))
    found = selection.pool
    context.log.info(pool_line(selection))
    counts = ("n_documents", "n_tokens", "n_leaked", "n_held_out", "n_repeated", "n_beyond")
    return dg.MaterializeResult(
        data_version=dg.DataVersion(found.digest),
        metadata={"pool_id": found.digest} | {name: getattr(found, name) for name in counts},
    )


@asset(
    deps=[pool],
    kinds={"parquet"},
    partitions_def=METHODS,
    backfill_policy=dg.BackfillPolicy.single_run(),
    pool=TRAINING_POOL,
    metadata=columns.of_table("selection_score_set"),
    **_GROUP,
)
def selection_scores(context: dg.AssetExecutionContext, lab: Lab) -> None:
    """What each method says of every document of the pool, and what saying it cost.

    Models to go on from and to score with are trained first, unless they are there.
    """
    selection = Selection.of(lab.open(), lab.corpus(context))
    methods = [m for m in context.partition_keys if m in selection.spec.methods]
    models = models_of(selection, say=context.log.info)
    found = scored(selection, models, methods, say=context.log.info) if methods else None
    for method in context.partition_keys:
        if found is None or method not in methods:
            context.log.warning(f"the experiment does not select by {method!r}")
            continue
        scores = found.sets[method, selection.spec.seeds[0]]
        context.add_asset_metadata(metadata.of_scores(scores), partition_key=method)


@asset(deps=[selection_scores], kinds={"numpy"}, **_GROUP)
def selected_subsets(context: dg.AssetExecutionContext, lab: Lab) -> dg.MaterializeResult[None]:
    """The documents that each method chooses at each share, and what methods have in common."""
    sweep = _sweep(context, lab)
    header, rows = subset_table(sweep)
    return dg.MaterializeResult(
        metadata={
            "n_subsets": len(rows),
            "subsets": table(header, rows),
            "overlap": picture(small_png(overlap_figure(sweep))),
        }
    )


@asset(
    deps=[selected_subsets],
    kinds={"pytorch"},
    pool=TRAINING_POOL,
    metadata=columns.of_table("selection_point"),
    **_GROUP,
)
def finetune_runs(context: dg.AssetExecutionContext, lab: Lab) -> dg.MaterializeResult[None]:
    """Every model trained on every subset: a pilot, its forecast, then all other shares."""
    summary = finish(_sweep(context, lab), say=context.log.info)
    runs = summary.sweep.planned
    return dg.MaterializeResult(
        metadata={
            "n_runs": len(runs),
            "sweep_id": summary.sweep_id,
            "said": metadata.bullets(summary.sentences),
            "page": metadata.link(summary.page),
        }
    )


@asset(deps=[finetune_runs], kinds={"scipy"}, metadata=columns.of_table("fit_parameter"), **_GROUP)
def utility_fits(context: dg.AssetExecutionContext, lab: Lab) -> dg.MaterializeResult[None]:
    """Performance against all compute: points, curves with intervals, and the frontier."""
    sweep = _sweep(context, lab)
    points = sweep.points
    fits = curves(points)
    tables = {f"points_{model}": table(*point_table(own)) for model, own in points.items()}
    tables |= {f"fits_{model}": table(*fit_rows(own)) for model, own in fits.items() if own}
    drawn = picture(small_png(utility_figure(sweep, fits)))
    return dg.MaterializeResult(metadata={"utility": drawn, **tables})


@asset(deps=[utility_fits], kinds={"python"}, metadata=columns.of_table("prediction"), **_GROUP)
def selection_plan(context: dg.AssetExecutionContext, lab: Lab) -> dg.MaterializeResult[None]:
    """What to select by, and how much, for the budget that is planned for; and how sure that is."""
    sweep = _sweep(context, lab)
    summary = summed_up(sweep, forecasts_of(sweep))
    said = [f.sentence for f in summary.forecasts]
    return dg.MaterializeResult(
        metadata={
            "said": metadata.bullets(summary.sentences),
            "choices": metadata.bullets(said),
            "page": metadata.link(summary.page),
        }
    )


def _sweep(context: dg.AssetExecutionContext, lab: Lab) -> Sweep:
    """The plan of the whole sweep: scores that are missing are made."""
    selection = Selection.of(lab.open(), lab.corpus(context))
    return plan_sweep(scored(selection, models_of(selection, say=context.log.info)))


assets = [pool, selection_scores, selected_subsets, finetune_runs, utility_fits, selection_plan]
