"""What is made without a click, and when: one condition, two switches.

`prepare` turns domains that land into tokens, and is on. `refit` trains proxy models for them
and proposes new weights; that costs compute, so it is off until somebody turns it on. Full runs
are never started by themselves.
"""

import functools
import operator
from collections.abc import Sequence
from typing import Any

import dagster as dg

from mixture_assets.defs import data, evaluation, mixtures, proxies, selection, training

Asset = dg.AssetsDefinition | dg.AssetSpec

# Something upstream is new, nothing upstream is missing or in progress. The second half, because
# a blocking check holds back only what is in the same run. The checks of what `refit` makes have
# a condition of their own, so that all of it is one run: plan, training, check, fit, weights.
WHEN_READY = (
    dg.AutomationCondition.eager() & dg.AutomationCondition.all_deps_blocking_checks_passed()
)
# Making the tokenizer freezes it: new domains are read with the one that is there. One trained
# anew for each of them would have all earlier domains tokenized again.
ONCE = WHEN_READY & dg.AutomationCondition.missing()

_PREPARED = (data.shards, data.tokens, data.validation_set)
_REFITTED = (
    proxies.proxy_plan,
    proxies.proxy_runs,
    mixtures.ddo_optima,
    mixtures.proposals,
    mixtures.chosen_mixture,
)
# What works on the corpus as it was fixed last. It is not fixed anew under somebody's feet: what
# lands while proxy runs train is tokenized at once, and belongs to the next plan.
_USERS = (*_REFITTED, training.full_run, evaluation.evaluation)

_CONDITIONS: dict[dg.AssetKey, dg.AutomationCondition[Any]] = {
    a.key: WHEN_READY for a in (*_PREPARED, *_REFITTED)
}
_CONDITIONS[data.tokenizer.key] = ONCE

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
    keys = {asset.key for asset in assets if isinstance(asset, dg.AssetsDefinition)}
    users = [a for a in (*_USERS, *selection.assets) if a.key in keys]
    conditions: dict[dg.AssetKey, dg.AutomationCondition[Any]] = {
        **_CONDITIONS,
        data.validation_set.key: WHEN_READY & ~_in_use(users),
    }
    return list(
        dg.map_asset_specs(
            lambda spec: spec.replace_attributes(automation_condition=conditions.get(spec.key)),
            assets,
        )
    )


def _in_use(users: Sequence[dg.AssetsDefinition]) -> dg.AutomationCondition[Any]:
    """Whether any of these assets is being made."""
    in_progress = dg.AutomationCondition.in_progress()
    each = (dg.AutomationCondition.asset_matches(a.key, in_progress) for a in users)
    return functools.reduce(operator.or_, each).with_label("corpus_in_use")
