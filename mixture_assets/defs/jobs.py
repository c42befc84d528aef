"""Buttons: a job for each stage, one for everything, and the weekly re-fit.

A job is a selection of assets and nothing more: what is done already is only looked up, so that
starting one twice costs seconds.
"""

import os
from typing import Any

import dagster as dg

from mixture_assets.defs.partitions import DOMAINS
from mixture_assets.defs.resources import Lab
from mixture_assets.defs.steps import EXPERIMENT_TAG, lab_tags

CRON_VARIABLE, DEFAULT_CRON = "MIXTURE_REFIT_CRON", "0 3 * * 1"  # Mondays at 03:00
ZONE_VARIABLE, DEFAULT_ZONE = "MIXTURE_TIMEZONE", "UTC"

STAGES = {
    "prepare_data": (
        ("data",),
        "Raw files to tokens and the validation set, with their checks. Trains nothing.",
    ),
    "train_proxies": (("proxy",), "Plan the small runs, and train those that are missing."),
    "fit_mixture": (("mixture",), "Weights from the proxy runs that are done. Trains nothing."),
    "train_full": (("training",), "The proposal and its baselines, to the full budget."),
    "evaluate": (("evaluation",), "The proposal beside each baseline. Trains nothing."),
    "write_records": (("records",), "The database that is queried, and the report."),
    "refit_mixture": (
        ("data", "proxy", "mixture", "records"),
        "New weights for the data as it is now: trains the proxy runs that are missing, and no "
        "full run. The weekly schedule starts this one.",
    ),
}

stages = [
    dg.define_asset_job(
        name,
        selection=dg.AssetSelection.groups(*groups),
        description=description,
        tags={"mixture/job": name},
    )
    for name, (groups, description) in STAGES.items()
]


def of_selection(*, has_assets: bool) -> list[Any]:
    """The job of the selection assets, where there are any."""
    if not has_assets:
        return []
    return [
        dg.define_asset_job(
            "select_documents",
            selection=dg.AssetSelection.groups("selection"),
            description="Score the pool, train on shares of it, and say what selection is worth.",
            tags={"mixture/job": "select_documents"},
        )
    ]


# Selection has partitions of its own, and a question of its own: it is another button.
everything = dg.define_asset_job(
    "everything",
    selection=dg.AssetSelection.all() - dg.AssetSelection.groups("selection"),
    description="From raw files to the report. Finished runs are never trained again.",
    tags={"mixture/job": "everything"},
)


@dg.schedule(
    cron_schedule=os.environ.get(CRON_VARIABLE, DEFAULT_CRON),
    execution_timezone=os.environ.get(ZONE_VARIABLE, DEFAULT_ZONE),
    job_name="refit_mixture",
    default_status=dg.DefaultScheduleStatus.STOPPED,
    description="Fits the mixture again every Monday at 03:00. Off until somebody turns it on.",
)
def refit_weekly(context: dg.ScheduleEvaluationContext, lab: Lab) -> dg.RunRequest | dg.SkipReason:
    """One run over all domains that are registered."""
    domains = all_domains(context.instance)
    if not domains:
        return dg.SkipReason("no domain is registered: turn on the sensor `new_domains`")
    tags = lab_tags(lab)
    # A key that was used starts nothing: one for each tick, whatever the cron, and experiment.
    return dg.RunRequest(
        run_key=f"{tags[EXPERIMENT_TAG]} {context.scheduled_execution_time.isoformat()}",
        tags={"mixture/schedule": "refit_weekly", **domains, **tags},
    )


def all_domains(instance: dg.DagsterInstance) -> dict[str, str]:
    """Tags that make one run of a job cover every domain; {} while there is none.

    A job mixes assets with a partition for each domain and assets without: these tags name the
    range of the first kind, and the others do not ask.
    """
    assert DOMAINS.name is not None
    names = instance.get_dynamic_partitions(DOMAINS.name)
    if not names:
        return {}
    return {
        "dagster/asset_partition_range_start": names[0],
        "dagster/asset_partition_range_end": names[-1],
    }
