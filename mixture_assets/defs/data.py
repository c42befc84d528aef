"""Data assets: raw files in, training tokens and the fixed validation set out.

Put assets here that turn text into tokens. Anything that reads a file of text or counts a token
belongs in mixture_assets.data.
"""

import dagster as dg

from mixture_assets import corpus, quarantine
from mixture_assets.core.digest import digest
from mixture_assets.corpus import Workspace
from mixture_assets.data.audit import empty_domains, trained_validation_documents
from mixture_assets.defs import columns, metadata
from mixture_assets.defs.partitions import DOMAINS
from mixture_assets.defs.resources import Lab, pick
from mixture_assets.defs.steps import asset
from mixture_assets.standing import standing

raw = dg.AssetSpec(
    "raw",
    description=(
        "Folders of text, one per domain, under the experiment's raw root. Somebody else's: the "
        "sensor `new_domains` tells what landed."
    ),
    group_name="data",
    kinds={"file"},
    partitions_def=DOMAINS,
)


domains = dg.AssetSpec(
    "domains",
    description="Which domains there are. `new_domains` tells when one lands or vanishes.",
    group_name="data",
    kinds={"file"},
)


@asset(
    deps=[raw],
    group_name="data",
    kinds={"file"},
    partitions_def=DOMAINS,
    backfill_policy=dg.BackfillPolicy.single_run(),
    metadata=columns.of_table("shard"),
)
def shards(context: dg.AssetExecutionContext, lab: Lab) -> dg.MaterializeResult[None]:
    """Raw files of each domain, named by their content: an unchanged file is never read twice."""
    workspace = lab.open()
    corpus.land(workspace)
    found = pick(workspace, corpus.discover_shards(workspace), context.partition_keys)
    tell_quarantined(context, workspace)
    for domain, files in found.items():
        context.add_asset_metadata(metadata.of_shards(files), partition_key=domain)
    contents = {domain: [file.digest for file in files] for domain, files in found.items()}
    return dg.MaterializeResult(data_version=dg.DataVersion(digest(contents)))


@asset(deps=[shards], group_name="data", kinds={"huggingface"})
def tokenizer(lab: Lab) -> dg.MaterializeResult[None]:
    """The frozen tokenizer: byte-level BPE trained once on a balanced sample, or one by name.

    Domains that land later are read with it. Until the first plan, materialize it again to train
    one on all domains that are here by then.
    """
    workspace = lab.open()
    if standing(workspace) is None:  # afterwards runs rest on it
        corpus.unpin_tokenizer(workspace)
    frozen = corpus.frozen_tokenizer(workspace, corpus.discover_shards(workspace))
    corpus.pin_tokenizer(workspace, frozen)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(frozen.digest), metadata=metadata.of_tokenizer(frozen)
    )


@asset(
    deps=[shards, tokenizer],
    group_name="data",
    kinds={"parquet", "numpy"},
    partitions_def=DOMAINS,
    backfill_policy=dg.BackfillPolicy.single_run(),
    metadata=columns.of_tokens(),
)
def tokens(context: dg.AssetExecutionContext, lab: Lab) -> dg.MaterializeResult[None]:
    """Token ids of each domain: a parquet file per raw file, and flat arrays for training."""
    workspace = lab.open()
    found = corpus.discover_shards(workspace)
    frozen = corpus.frozen_tokenizer(workspace, found)
    wanted = pick(workspace, found, context.partition_keys)
    stored = corpus.store_domains(workspace, frozen, wanted)
    tell_quarantined(context, workspace)
    for domain, made in stored.items():
        about = metadata.of_tokens(made, workspace.store)
        context.add_asset_metadata(about, partition_key=domain)
    contents = {domain: made.digest for domain, made in stored.items()}
    return dg.MaterializeResult(data_version=dg.DataVersion(digest(contents)))


@asset(
    deps=[tokens, domains],
    group_name="data",
    kinds={"parquet"},
    metadata=columns.of_validation(),
)
def validation_set(lab: Lab) -> dg.MaterializeResult[None]:
    """Documents that every run is measured on and none is trained on, chosen by content.

    Fixes the corpus for all that follows: tokens of every domain, none sharing too many
    documents with another.
    """
    workspace = lab.open()
    fixed = corpus.build_corpus(workspace)
    corpus_id = corpus.save_corpus(workspace, fixed)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(corpus_id), metadata=metadata.of_validation(fixed, corpus_id)
    )


def tell_quarantined(context: dg.AssetExecutionContext, workspace: Workspace) -> None:
    """Why a partition that counts as materialized may hold nothing new."""
    for domain, state in quarantine.quarantined(workspace).items():
        if domain in context.partition_keys:
            context.log.warning(f"quarantined: {domain!r}: {state.problem}")
            context.add_asset_metadata(metadata.of_quarantine(state), partition_key=domain)


@dg.asset_check(asset=validation_set)
def none_quarantined(lab: Lab) -> dg.AssetCheckResult:
    """No domain is left out, or stuck in an earlier state, because its files are bad."""
    bad = quarantine.quarantined(lab.open())
    return dg.AssetCheckResult(
        passed=not bad,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={
            "n_quarantined": len(bad),
            "problems": {name: f"{s.problem}. {s.hint}" for name, s in bad.items()},
        },
    )


# These three are on `validation_set`, the last step before training, so that a run which trains
# runs them itself: a failed check holds back only what is in the same run.


@dg.asset_check(asset=validation_set, blocking=True)
def no_empty_domain(context: dg.AssetCheckExecutionContext, lab: Lab) -> dg.AssetCheckResult:
    """Every domain has tokens to train on, and documents to measure with."""
    domains = list(lab.corpus(context).domains.values())
    empty = empty_domains(domains, store=lab.open().store)
    return dg.AssetCheckResult(
        passed=not empty, metadata={"n_domains": len(domains), "empty_domains": empty}
    )


@dg.asset_check(asset=validation_set, blocking=True)
def token_audit(context: dg.AssetCheckExecutionContext, lab: Lab) -> dg.AssetCheckResult:
    """The arrays that training reads hold exactly the tokens of the parquet files, recounted."""
    audits = corpus.audit(lab.open(), lab.corpus(context))
    problems = [audit.problem for audit in audits if audit.problem]
    return dg.AssetCheckResult(
        passed=not problems,
        metadata={
            "tokens_expected": sum(audit.tokens_expected for audit in audits),
            "tokens_found": sum(audit.tokens_found for audit in audits),
            "problems": problems,
        },
    )


@dg.asset_check(asset=validation_set, blocking=True)
def validation_unseen(context: dg.AssetCheckExecutionContext, lab: Lab) -> dg.AssetCheckResult:
    """No validation document, of whatever domain, stands in the training arrays of any."""
    domains = list(lab.corpus(context).domains.values())
    leaked = trained_validation_documents(domains, store=lab.open().store)
    return dg.AssetCheckResult(
        passed=not any(leaked.values()),
        metadata={"n_leaked": sum(leaked.values()), "leaked_by_domain": leaked},
    )
