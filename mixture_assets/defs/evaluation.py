"""Evaluation assets: what the weights were worth.

Put assets here that compare models. Losses and statistics belong in evaluation.
"""

from datetime import timedelta

import dagster as dg

from mixture_assets import pipeline, plans
from mixture_assets.core.digest import digest
from mixture_assets.defs import columns, metadata
from mixture_assets.defs.resources import Lab
from mixture_assets.defs.steps import asset
from mixture_assets.defs.training import full_run

# Weights age as the data grows: a fortnight after the last look the page says so.
FRESH = dg.FreshnessPolicy.time_window(
    fail_window=timedelta(days=14), warn_window=timedelta(days=8)
)


@asset(
    deps=[full_run],
    group_name="evaluation",
    kinds={"python"},
    metadata=columns.of_table("comparison"),
    freshness_policy=FRESH,
)
def evaluation(context: dg.AssetExecutionContext, lab: Lab) -> dg.MaterializeResult[None]:
    """The proposal beside each baseline on every domain, and whether the difference is noise."""
    workspace = lab.open()
    fixed, proposal_id, proposal = lab.proposal(context)
    proxies = plans.plan_proxies(workspace, fixed)
    planned = plans.plan_full_runs(workspace, fixed, proposal)
    comparisons = pipeline.compare_runs(workspace, proposal_id, planned)
    pipeline.record_costs(workspace, proposal_id, proxies, "proxy")
    pipeline.record_costs(workspace, proposal_id, planned, "full")
    return dg.MaterializeResult(
        data_version=dg.DataVersion(digest([proposal_id, sorted(p.run_id for p in planned)])),
        metadata=metadata.of_evaluation(workspace, planned, comparisons)
        | metadata.figure(workspace, proposal_id, "objective_curves"),
    )
