"""The asset graph, top to bottom in the order data flows: the table of contents.

`dagster dev` and `mixture ui` load this; each asset's text is in the module named before it.
"""

import dagster as dg

from mixture_assets.defs import (
    automation,
    conditions,
    data,
    decisions,
    evaluation,
    failures,
    jobs,
    mixtures,
    numbers,
    proxies,
    records,
    selection,
    training,
    verbs,
)
from mixture_assets.defs.resources import Lab
from mixture_assets.defs.steps import owned

LAB = Lab.from_environment()

defs = dg.Definitions(
    assets=owned(
        conditions.automated(
            [  # what is made without a click, and when: conditions.py
                # text -> tokens
                data.raw,
                data.domains,
                data.shards,
                data.tokenizer,
                data.tokens,
                data.validation_set,
                # tokens -> many small models
                proxies.proxy_plan,
                proxies.proxy_runs,
                proxies.proxy_trial,
                # small models -> weights
                mixtures.ddo_optima,
                mixtures.proposals,
                mixtures.chosen_mixture,
                # weights -> the models that they are for, and what the weights were worth
                training.full_run,
                evaluation.evaluation,
                # documents -> the ones worth training on, where the experiment asks for it
                *(selection.assets if LAB.has_selection() else []),
                # everything, findable
                records.database,
                records.report,
            ]
        )
    ),
    asset_checks=[
        data.none_quarantined,
        data.no_empty_domain,
        data.token_audit,
        data.validation_unseen,
        proxies.finite_proxy_losses,
        mixtures.weights_on_simplex,
        mixtures.epochs_within_cap,
        training.finite_full_losses,
    ],
    jobs=[
        *jobs.stages,
        *jobs.of_selection(has_assets=LAB.has_selection()),
        jobs.everything,
        *verbs.verbs,
        *numbers.verbs,
        *decisions.verbs,
    ],
    schedules=[jobs.refit_weekly],
    sensors=[
        automation.new_domains,
        conditions.prepare,
        conditions.refit,
        failures.failed,
        failures.cancelled,
        failures.reaper,
    ],
    resources={"lab": LAB},
    # One process per run: the steps follow each other, and training has processes of its own.
    executor=dg.in_process_executor,
)
