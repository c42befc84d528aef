"""Training assets: the runs that the weights are for.

Put assets here that train models to keep. The loop itself belongs in training.
"""

import dagster as dg
from pydantic import Field

from mixture_assets import plans, policy_page, policy_runs, running, summaries
from mixture_assets.core.digest import digest
from mixture_assets.defs import columns, metadata
from mixture_assets.defs.mixtures import chosen_mixture
from mixture_assets.defs.proxies import TRAINING_POOL
from mixture_assets.defs.resources import Lab
from mixture_assets.defs.steps import asset
from mixture_assets.plans import PlannedRun


class FullRunConfig(dg.Config):
    """Some of the full runs; by default all that the experiment file names."""

    mixtures: list[str] = Field(
        default=[],
        description="Only these, as 'proposal' or 'natural'; empty for all. 'dga', 'importance', "
        "'specialist' and 'doge' need a specialist set and no proposal.",
    )
    seeds: list[int] = Field(default=[], description="Only these seeds; empty for all.")
    specialist: str = Field(
        default="",
        description="Folder or file of text that the model should be good at; empty for the "
        "experiment file's [specialist].",
    )


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
    """The proposal, its baselines and the policies, to the full budget, from the same seeds.

    Interrupted runs go on from their checkpoint; finished ones are not trained again. What a run
    that steers itself decides is an observation of this asset, and a line of its log, at once.
    """
    workspace = policy_runs.as_asked(lab.open(), config.mixtures, config.specialist)
    if policy_runs.needs_proposal(workspace, config.mixtures):
        fixed, _, proposal = lab.proposal(context)
    else:
        fixed, proposal = lab.corpus(context), None
    every = plans.plan_full_runs(workspace, fixed, proposal)
    planned = plans.some_full_runs(every, config.mixtures, config.seeds)

    def observe(run: PlannedRun, rows: policy_page.Rows) -> None:
        context.log.info(policy_page.weights_line(run, rows))
        context.log_event(dg.AssetObservation("full_run", metadata=metadata.of_weights(run, rows)))

    pool = running.train(
        workspace,
        planned,
        on_settled=lambda run: context.log.info(summaries.run_line(workspace, run).strip()),
        on_look=policy_page.Watch(workspace, planned, observe),
    )
    return dg.MaterializeResult(
        data_version=dg.DataVersion(digest(sorted(run.run_id for run in planned))),
        metadata=metadata.of_training(workspace, planned, pool)
        | metadata.of_policies(workspace, planned),
    )


@dg.asset_check(asset=full_run, blocking=True)
def finite_full_losses(context: dg.AssetCheckExecutionContext, lab: Lab) -> dg.AssetCheckResult:
    """Every full run that was trained has a finite loss on all that it is measured on."""
    workspace = lab.open()
    planned = running.known_runs(workspace, lab.trained(context))
    missing = running.missing_runs(workspace, planned)
    trained = [run for run in planned if run not in missing]
    bad = summaries.non_finite_losses(workspace, trained)
    n_missing = plans.n_not_among(workspace, trained)  # left out in the launchpad
    return dg.AssetCheckResult(
        passed=bool(trained) and not bad,
        metadata={"n_runs": len(trained), "n_missing": n_missing, "not_finite": bad},
    )
