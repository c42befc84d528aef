"""What happens without a click: domains that land become partitions.

The decision is a pure function; the sensor gathers what it needs and carries it out.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import dagster as dg

from mixture_assets import corpus
from mixture_assets.defs.data import raw
from mixture_assets.defs.partitions import DOMAINS
from mixture_assets.defs.resources import Lab


@dataclass(frozen=True)
class Landing:
    """What a look at the raw root asks for."""

    added: Sequence[str]  # domains to register
    vanished: Sequence[str]  # domains to forget: no folder, or no shard in it
    changed: Sequence[str]  # domains whose files are new or others than before


def decide(
    registered: Sequence[str], landed: Mapping[str, str], reported: Mapping[str, str]
) -> Landing:
    """Compare partitions with folders.

    Args:
        registered: Partitions that exist.
        landed: Domain -> fingerprint of its files; '' if they are still to be fetched.
        reported: The fingerprints that Dagster was told last.
    """
    return Landing(
        added=[name for name in landed if name not in registered],
        vanished=[name for name in registered if name not in landed],
        changed=[n for n, mark in landed.items() if mark and reported.get(n) != mark],
    )


@dg.sensor(
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Registers a partition for every domain folder, and reports files that changed.",
)
def new_domains(context: dg.SensorEvaluationContext, lab: Lab) -> dg.SensorResult | dg.SkipReason:
    """Keep the partitions of `raw` in line with the folders under the raw root."""
    landed = corpus.landed(lab.open())
    assert DOMAINS.name is not None
    registered = context.instance.get_dynamic_partitions(DOMAINS.name)
    found = decide(registered, landed, json.loads(context.cursor or "{}"))
    if not (found.added or found.vanished or found.changed):
        return dg.SkipReason(f"{len(landed)} domains, none new or changed")
    return dg.SensorResult(
        dynamic_partitions_requests=[
            DOMAINS.build_add_request(list(found.added)),
            DOMAINS.build_delete_request(list(found.vanished)),
        ],
        asset_events=[
            dg.AssetMaterialization(
                raw.key, partition=name, tags={"dagster/data_version": landed[name]}
            )
            for name in found.changed
        ],
        cursor=json.dumps(landed),
    )
