"""Mixture assets: proxy runs in, weights for the full run out.

Put assets here that turn measurements into weights. The mathematics belongs in methods.
"""

import dagster as dg

from mixture_assets import choice, pipeline
from mixture_assets.core.digest import digest
from mixture_assets.defs import columns, metadata
from mixture_assets.defs.proxies import WITH_ASSET, proxy_runs
from mixture_assets.defs.resources import Lab
from mixture_assets.defs.steps import asset


@asset(deps=[proxy_runs], group_name="mixture", kinds={"scipy"}, metadata=columns.of_table("fit"))
def ddo_optima(context: dg.AssetExecutionContext, lab: Lab) -> dg.MaterializeResult[None]:
    """How the objective answers to each domain's amount, and the best amounts at each scale.

    Fits (x + a)^-b + c per domain through its proxy runs and allocates (DDO).
    """
    fits = pipeline.fit_scales(lab.open(), lab.corpus(context))
    return dg.MaterializeResult(
        data_version=dg.DataVersion(digest({scale: fit.tokens for scale, fit in fits.items()})),
        metadata=metadata.of_optima(fits),
    )


@asset(
    deps=[ddo_optima],
    group_name="mixture",
    kinds={"scipy"},
    metadata=columns.of_table("proposal_weight"),
)
def proposals(context: dg.AssetExecutionContext, lab: Lab) -> dg.MaterializeResult[None]:
    """Weights for the full run's budget, carried on from the proxy scales (AutoScale).

    Recorded with intervals, what they rest on, and what the reader must know.
    """
    workspace = lab.open()
    _, proposal_id, proposal = lab.proposal(context)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(proposal_id),
        metadata=metadata.of_proposal(proposal_id, proposal)
        | metadata.figure(workspace, proposal_id, "weights")
        | metadata.figure(workspace, proposal_id, "ddo_curves")
        | metadata.figure(workspace, proposal_id, "weights_over_proposals"),
    )


@asset(deps=[proposals], group_name="mixture", kinds={"json"})
def chosen_mixture(context: dg.AssetExecutionContext, lab: Lab) -> dg.MaterializeResult[None]:
    """The weights that full runs train with: a file {domain: weight} for any trainer."""
    workspace = lab.open()
    fixed, proposal_id, proposal = lab.proposal(context)
    path = choice.write_choice(workspace, proposal_id, proposal)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(proposal.mixture.digest),
        metadata=metadata.of_choice(workspace, fixed, proposal_id, proposal, path),
    )


@dg.asset_check(asset=chosen_mixture, blocking=True, automation_condition=WITH_ASSET)
def weights_on_simplex(context: dg.AssetCheckExecutionContext, lab: Lab) -> dg.AssetCheckResult:
    """Weights are shares: between 0 and 1, one for each domain, summing to 1."""
    weights = choice.read_choice(lab.open(), lab.chosen(context))
    problem = choice.simplex_problem(weights, lab.corpus(context))
    return dg.AssetCheckResult(
        passed=not problem, description=problem or None, metadata={"n_domains": len(weights)}
    )


@dg.asset_check(asset=chosen_mixture, blocking=True, automation_condition=WITH_ASSET)
def epochs_within_cap(context: dg.AssetCheckExecutionContext, lab: Lab) -> dg.AssetCheckResult:
    """No domain is read more often than [constraints] max_epochs allows."""
    workspace = lab.open()
    weights = choice.read_choice(workspace, lab.chosen(context))
    passes = choice.epochs(weights, workspace, lab.corpus(context))
    cap = workspace.experiment.constraints.max_epochs
    over = {name: n for name, n in passes.items() if n > cap * (1 + 1e-6)}
    return dg.AssetCheckResult(
        passed=not over,
        metadata={"most_epochs": max(passes.values()), "max_epochs": cap, "over": over},
    )
