"""What is made without a click, and when: one condition, two switches.

`prepare` turns domains that land into tokens, and is on. `refit` trains proxy models for them
and proposes new weights; that costs compute, so it is off until somebody turns it on. Full runs
are never started by themselves.
"""

from collections.abc import Sequence

import dagster as dg

from mixture_assets.defs import data, mixtures, proxies

Asset = dg.AssetsDefinition | dg.AssetSpec

# Something upstream is new, nothing upstream is missing or in progress. The second half, because
# a blocking check holds back only what is in the same run.
WHEN_READY = (
    dg.AutomationCondition.eager() & dg.AutomationCondition.all_deps_blocking_checks_passed()
)
# The tokenizer is frozen: new domains are read with the one that is there.
ONCE = WHEN_READY & dg.AutomationCondition.missing()

_PREPARED = (data.shards, data.tokens, data.validation_set)
_REFITTED = (
    proxies.proxy_plan,
    proxies.proxy_runs,
    mixtures.ddo_optima,
    mixtures.proposals,
    mixtures.chosen_mixture,
)
_CONDITIONS = {data.tokenizer.key: ONCE} | {a.key: WHEN_READY for a in (*_PREPARED, *_REFITTED)}

prepare = dg.AutomationConditionSensorDefinition(
    "prepare",
    target=dg.AssetSelection.assets(data.tokenizer, *_PREPARED),
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=10,
    description="Tokenizes domains that landed or changed, and fixes the validation documents.",
)
refit = dg.AutomationConditionSensorDefinition(
    "refit",
    target=dg.AssetSelection.assets(*_REFITTED),
    default_status=dg.DefaultSensorStatus.STOPPED,
    minimum_interval_seconds=10,
    description=(
        "Trains the proxy runs that are missing and proposes new weights, whenever the corpus "
        "changed and its checks passed. Costs compute: turn it on here."
    ),
)


def automated(assets: Sequence[Asset]) -> list[Asset]:
    """The same assets, each with the condition that makes it without a click."""
    return list(
        dg.map_asset_specs(
            lambda spec: spec.replace_attributes(automation_condition=_CONDITIONS.get(spec.key)),
            assets,
        )
    )
