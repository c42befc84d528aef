"""Training assets: the runs that the weights are for.

Put assets here that train models to keep. The loop itself belongs in training.
"""

import dagster as dg
from pydantic import Field

from mixture_assets import plans, running, summaries
from mixture_assets.core.digest import digest
from mixture_assets.defs import columns, metadata
from mixture_assets.defs.mixtures import chosen_mixture
from mixture_assets.defs.proxies import TRAINING_POOL
from mixture_assets.defs.resources import Lab
from mixture_assets.defs.steps import asset


class FullRunConfig(dg.Config):
    """Some of the full runs; by default all that the experiment file names."""

    mixtures: list[str] = Field(
        default=[], description="Only these, as 'proposal' or 'natural'; empty for all."
    )
    seeds: list[int] = Field(default=[], description="Only these seeds; empty for all.")


@asset(
    deps=[chosen_mixture],
    group_name="training",
    kinds={"pytorch"},
    pool=TRAINING_POOL,
    metadata=columns.of_table("run"),
)
def full_run(
    context: dg.AssetExecutionContext, config: FullRunConfig, lab: Lab
) -> dg.MaterializeResult[None]:
    """The proposal and its baselines trained to the full budget, each from the same seeds.

    Interrupted runs go on from their checkpoint; finished ones are not trained again.
    """
    workspace = lab.open()
    fixed, _, proposal = lab.proposal(context)
    every = plans.plan_full_runs(workspace, fixed, proposal)
    planned = plans.some_full_runs(every, config.mixtures, config.seeds)
    pool = running.train(
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
    """Every full run that was trained has a finite loss on every domain."""
    workspace = lab.open()
    fixed, _, proposal = lab.proposal(context)
    planned = plans.plan_full_runs(workspace, fixed, proposal)
    missing = running.missing_runs(workspace, planned)  # left out in the launchpad
    trained = [run for run in planned if run not in missing]
    bad = summaries.non_finite_losses(workspace, trained)
    return dg.AssetCheckResult(
        passed=bool(trained) and not bad,
        metadata={"n_runs": len(trained), "n_missing": len(missing), "not_finite": bad},
    )
