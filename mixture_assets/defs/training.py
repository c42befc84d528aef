"""Training assets: the runs that the weights are for.

Put assets here that train models to keep. The loop itself belongs in training.
"""

import dagster as dg

from mixture_assets import pipeline, plans, summaries
from mixture_assets.core.digest import digest
from mixture_assets.defs import metadata
from mixture_assets.defs.mixtures import chosen_mixture
from mixture_assets.defs.proxies import TRAINING_POOL
from mixture_assets.defs.resources import Lab
from mixture_assets.defs.steps import asset


@asset(deps=[chosen_mixture], group_name="training", kinds={"pytorch"}, pool=TRAINING_POOL)
def full_run(context: dg.AssetExecutionContext, lab: Lab) -> dg.MaterializeResult[None]:
    """The proposal and its baselines trained to the full budget, each from the same seeds.

    Interrupted runs go on from their checkpoint; finished ones are not trained again.
    """
    workspace = lab.open()
    fixed, _, proposal = lab.proposal(context)
    planned = plans.plan_full_runs(workspace, fixed, proposal)
    pool = pipeline.train(
        workspace,
        planned,
        on_settled=lambda run: context.log.info(summaries.run_line(workspace, run).strip()),
    )
    return dg.MaterializeResult(
        data_version=dg.DataVersion(digest(sorted(run.run_id for run in planned))),
        metadata=metadata.of_training(workspace, planned, pool),
    )


@dg.asset_check(asset=full_run, blocking=True)
def finite_full_losses(context: dg.AssetCheckExecutionContext, lab: Lab) -> dg.AssetCheckResult:
    """Every full run has a finite loss on every domain."""
    workspace = lab.open()
    fixed, _, proposal = lab.proposal(context)
    planned = plans.plan_full_runs(workspace, fixed, proposal)
    bad = summaries.non_finite_losses(workspace, planned)
    return dg.AssetCheckResult(passed=not bad, metadata={"n_runs": len(planned), "not_finite": bad})
