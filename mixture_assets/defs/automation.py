"""What happens without a click: domains that land become partitions.

The decision is a pure function; the sensor gathers what it needs and carries it out.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import dagster as dg

from mixture_assets import arrivals
from mixture_assets.core.digest import digest
from mixture_assets.core.errors import shortlist
from mixture_assets.defs.data import domains, raw
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
    minimum_interval_seconds=10,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description=(
        "Registers a partition for every domain folder that has settled, forgets those that "
        "vanished, and reports files that changed. Table domain_event keeps what it saw."
    ),
)
def new_domains(context: dg.SensorEvaluationContext, lab: Lab) -> dg.SensorResult | dg.SkipReason:
    """Keep the partitions of `raw` in line with the folders under the raw root."""
    seen = arrivals.survey(lab.open())
    if not seen.has_root:
        return dg.SkipReason("no folder under the raw root: every domain stays as it is")
    assert DOMAINS.name is not None
    registered = context.instance.get_dynamic_partitions(DOMAINS.name)
    reported = json.loads(context.cursor or "{}")
    found = decide(registered, seen.landed, reported)
    if not (found.added or found.vanished or found.changed or reported.keys() - seen.landed):
        waiting = f"; not settled: {shortlist(seen.pending)}" if seen.pending else ""
        return dg.SkipReason(f"{len(seen.landed)} domains, none new or changed{waiting}")
    return dg.SensorResult(
        dynamic_partitions_requests=[
            DOMAINS.build_add_request(list(found.added)),
            DOMAINS.build_delete_request(list(found.vanished)),
        ],
        asset_events=[*_changed(found, seen.landed), *_set_of_domains(reported, seen.landed)],
        cursor=json.dumps(seen.landed),
    )


def _changed(found: Landing, landed: Mapping[str, str]) -> list[dg.AssetMaterialization]:
    return [
        dg.AssetMaterialization(
            raw.key, partition=name, tags={"dagster/data_version": landed[name]}
        )
        for name in found.changed
    ]


def _set_of_domains(
    reported: Mapping[str, str], landed: Mapping[str, str]
) -> list[dg.AssetMaterialization]:
    """A removal changes no partition that is left: without this nobody would fit again."""
    if reported.keys() == landed.keys():
        return []
    names = sorted(landed)
    return [
        dg.AssetMaterialization(
            domains.key,
            metadata={"n_domains": len(names), "domains": ", ".join(names)},
            tags={"dagster/data_version": digest(names)},
        )
    ]
