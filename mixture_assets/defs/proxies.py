"""Proxy assets: the plan, the pool of small training runs, and a partition for each of them.

Put assets here that make runs to learn from. How a run executes belongs in compute and training.
"""

from enum import Enum

import dagster as dg
from pydantic import Field

from mixture_assets import plans, refit, running, summaries
from mixture_assets.core.digest import digest
from mixture_assets.corpus import Workspace
from mixture_assets.defs import columns, metadata
from mixture_assets.defs.data import validation_set
from mixture_assets.defs.partitions import TRIALS
from mixture_assets.defs.resources import Lab
from mixture_assets.defs.steps import WAY_TAG, asset, tag_run
from mixture_assets.plans import PlannedRun
from mixture_assets.standing import current_search

TRAINING_POOL = "training"  # one at a time: each takes every core
WITH_ASSET = dg.AutomationCondition.eager()  # of a check: in the run that makes its asset


class RefitWay(Enum):
    """Ways to new weights when domains changed; see docs/methods.md."""

    settled = "settled"
    full = "full"
    extend = "extend"
    reuse = "reuse"


class RefitConfig(dg.Config):
    """How earlier proxy runs are used."""

    way: RefitWay = Field(
        default=RefitWay.settled,
        description=(
            "settled: as decided before, else as [refit] way in the experiment file has it. full: "
            "all domains around one new base. extend: two runs a scale for each new or changed "
            "domain. reuse: unchanged domains keep their ratios."
        ),
    )


@asset(deps=[validation_set], group_name="proxy", kinds={"python"})
def proxy_plan(
    context: dg.AssetExecutionContext, config: RefitConfig, lab: Lab
) -> dg.MaterializeResult[None]:
    """Small training runs that the method asks for, each named by what its weights depend on.

    When domains have changed, the ways to new weights are priced here, and one is chosen.
    """
    workspace, fixed = lab.open(), lab.corpus(context)
    way = None if config.way is RefitWay.settled else config.way.value
    search = refit.decide(workspace, fixed, way, say=context.log.info)
    tag_run(context, {WAY_TAG: search.way})
    planned = plans.plan_proxies(workspace, fixed)
    running.create_runs(workspace, planned)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(digest(sorted(run.run_id for run in planned))),
        metadata=metadata.of_plan(workspace, planned) | metadata.of_refit(workspace, search),
    )


@asset(
    deps=[proxy_plan],
    group_name="proxy",
    kinds={"pytorch"},
    pool=TRAINING_POOL,
    metadata=columns.of_table("run"),
)
def proxy_runs(context: dg.AssetExecutionContext, lab: Lab) -> dg.MaterializeResult[None]:
    """The planned runs, trained side by side; those that have a result are not trained again.

    Materialize it again to retry what failed. Each run is a partition of `proxy_trial`.
    """
    workspace = lab.open()
    fixed = lab.corpus(context)
    planned = plans.plan_proxies(workspace, fixed)
    trials = _Trials(context, workspace, planned)
    pool = running.train(workspace, planned, on_settled=trials.report)
    refit.record_measured_cost(workspace, current_search(workspace, fixed))
    return dg.MaterializeResult(
        data_version=dg.DataVersion(digest(sorted(run.run_id for run in planned))),
        metadata=metadata.of_training(workspace, planned, pool),
    )


proxy_trial = dg.AssetSpec(
    "proxy_trial",
    deps=[proxy_runs],
    description="One partition per proxy run: its losses, tokens and seconds. See `proxy_runs`.",
    group_name="proxy",
    kinds={"pytorch"},
    partitions_def=TRIALS,
    metadata=columns.of_table("evaluation"),
)


class _Trials:
    """Tells Dagster of each run once, when it has a result."""

    def __init__(
        self,
        context: dg.AssetExecutionContext,
        workspace: Workspace,
        planned: list[PlannedRun],
    ) -> None:
        self.context, self.workspace = context, workspace
        assert TRIALS.name is not None
        context.instance.add_dynamic_partitions(TRIALS.name, [run.run_id for run in planned])
        self.known = context.instance.get_materialized_partitions(proxy_trial.key)

    def report(self, run: PlannedRun) -> None:
        """Called by the pool with every run that has a result or a failure."""
        about = metadata.of_trial(self.workspace, run)
        if not about:
            self.context.log.error(f"failed: {run.label} ({run.run_id}), see `mixture status`")
        elif run.run_id not in self.known:
            self.context.log.info(summaries.run_line(self.workspace, run).strip())
            self.context.log_event(
                dg.AssetMaterialization(
                    proxy_trial.key,
                    description=run.label,
                    metadata=about,
                    partition=run.run_id,
                    tags={"dagster/data_version": run.run_id},
                )
            )


@dg.asset_check(
    asset=proxy_runs, blocking=True, automation_condition=dg.AutomationCondition.eager()
)
def finite_proxy_losses(context: dg.AssetCheckExecutionContext, lab: Lab) -> dg.AssetCheckResult:
    """Every proxy run has a finite loss on every domain."""
    workspace = lab.open()
    planned = plans.plan_proxies(workspace, lab.corpus(context))
    bad = summaries.non_finite_losses(workspace, planned)
    return dg.AssetCheckResult(passed=not bad, metadata={"n_runs": len(planned), "not_finite": bad})
