"""Record assets: the index that is queried, and the page that is read.

Put assets here that make results findable. Nothing upstream may depend on them: the files of
the store are the truth, and both can be made again from them.
"""

import dagster as dg
from pydantic import Field

from mixture_assets import pipeline
from mixture_assets.defs import metadata
from mixture_assets.defs.evaluation import evaluation
from mixture_assets.defs.mixtures import chosen_mixture
from mixture_assets.defs.resources import Lab
from mixture_assets.defs.steps import asset


# After the weights too: a re-fit trains no full run, and its report is about what it found.
@asset(deps=[evaluation, chosen_mixture], group_name="records", kinds={"duckdb"})
def database(lab: Lab) -> dg.MaterializeResult[None]:
    """Every shard, run, metric, fit and weight in one DuckDB file: `mixture query "SELECT ..."`."""
    workspace = lab.open()
    ingested = pipeline.refresh_database(workspace)
    return dg.MaterializeResult(metadata=metadata.of_database(workspace, ingested))


class ReportConfig(dg.Config):
    """Which proposal the page is about."""

    proposal_id: str = Field(
        default="",
        description="An earlier proposal, or the beginning of its id; empty for the one that was "
        "chosen last.",
    )


@asset(deps=[database], group_name="records", kinds={"html"})
def report(
    context: dg.AssetExecutionContext, config: ReportConfig, lab: Lab
) -> dg.MaterializeResult[None]:
    """One page about the proposal, with every figure, and its twin in Markdown."""
    workspace = lab.open()
    asked = config.proposal_id or lab.chosen(context)
    paths = pipeline.make_report(workspace, pipeline.proposal_named(workspace, asked))
    return dg.MaterializeResult(metadata=metadata.of_report(paths))
