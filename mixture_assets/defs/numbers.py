"""Verbs of the desk on somebody's own numbers: no experiment, no store.

Put verbs here that read a table. Those that decide on weights from runs are in decisions.py.
"""

from pathlib import Path
from typing import Literal

import dagster as dg
from pydantic import Field

from mixture_assets import law_table, tables
from mixture_assets.defs.desk import desk, named_file
from mixture_assets.defs.metadata import Metadata, table
from mixture_assets.swarms import SwarmOptions


class Ddo(dg.Config):
    """What `mixture ddo` is told."""

    runs: str = Field(description="CSV on this machine: columns domain, factor and the objective.")
    objective: str = Field(description="Column with the number to lower; several with commas.")
    floor: float = Field(default=0.2, gt=0, description="Least multiple of the base amount.")
    fit: Literal["three_point", "joint"] = Field(
        default="three_point", description="A curve for each domain, or one law for each column."
    )
    read: dict[str, str] = Field(
        default={}, description="What a cell of the column factor stands for: {'0.2': '1/3'}."
    )


@desk
def ddo(config: Ddo) -> Metadata:
    """Fit and allocate from your own runs. As `mixture ddo`."""
    answer = tables.ddo_from_csv(
        named_file(config.runs),
        objective=config.objective,
        floor=config.floor,
        fit=config.fit,
        read=config.read,
    )
    return {"n_domains": len(answer["weights"]), "weights": table(*tables.ddo_table(answer))}


class Swarm(dg.Config):
    """Somebody's own runs, as every verb that reads them is told."""

    ratios: str = Field(default="", description="CSV or parquet on this machine: runs, weights.")
    metrics: str = Field(default="", description="The same runs and their metrics.")
    runs: str = Field(default="", description="In place of the two, one table with both.")
    objective: str = Field(description="Metric to lower, or several with shares: a=2,b=1.")
    domains: str = Field(default="", description="Columns with weights, with commas.")
    weights_prefix: str = Field(default="", description="How their names begin; it is taken off.")
    rename_weights: str = Field(default="", description="Their names' pattern: train_{}.")
    rename_metrics: str = Field(default="", description="The metrics' pattern: eval/{}_loss.")
    normalise: bool = Field(default=False, description="Rescale weights that do not sum to 1.")

    def options(self) -> SwarmOptions:
        """The same as the command line makes of its options."""
        files = {name: _maybe(getattr(self, name)) for name in ("ratios", "metrics", "runs")}
        return SwarmOptions.from_text(
            **files,
            objective=self.objective,
            domains=self.domains,
            weights_prefix=self.weights_prefix,
            rename_weights=self.rename_weights,
            rename_metrics=self.rename_metrics,
            normalise=self.normalise,
        )


class Laws(Swarm):
    """What `mixture laws` is told."""

    test_ratios: str = Field(default="", description="Further runs; empty for none.")
    test_metrics: str = Field(default="", description="Their metrics.")
    test_runs: str = Field(default="", description="Both in one table.")
    folds: int = Field(default=5, ge=2, description="Parts that are held out in turn.")
    seed: int = Field(default=0, description="Of the parts.")


@desk
def laws(config: Laws) -> Metadata:
    """Compare laws that predict a metric from the mixture. As `mixture laws`."""
    swarm = config.options()
    test = swarm.test_set(
        ratios=_maybe(config.test_ratios),
        metrics=_maybe(config.test_metrics),
        runs=_maybe(config.test_runs),
    )
    answer = law_table.compare_laws(swarm, test=test, n_folds=config.folds, seed=config.seed)
    return {
        "n_runs": answer["n_runs"],
        "n_domains": answer["n_domains"],
        "laws": table(*law_table.law_table(answer)),
        "excluded": table(("run", "reason"), list(answer["excluded"].items())),
        "notes": dg.MetadataValue.md("\n".join(f"- {n}" for n in answer["notes"]) or "none"),
    }


class Extrapolate(dg.Config):
    """What `mixture extrapolate` is told."""

    optima: str = Field(
        description='JSON on this machine: {"small": {domain: tokens}, "large": {...}}, or '
        '{"scales": [{domain: tokens}, ...]}.'
    )
    tokens: float = Field(gt=0, description="Training tokens to predict for.")
    rule: Literal["safe", "paper"] = Field(default="safe", description="How growth is carried on.")
    floor: float = Field(default=0.2, gt=0, description="Of the uniform share, as in DDO.")


@desk
def extrapolate(config: Extrapolate) -> Metadata:
    """Carry best tokens per domain from two scales to a budget. As `mixture extrapolate`."""
    answer = tables.extrapolate_from_json(
        named_file(config.optima), budget_tokens=config.tokens, rule=config.rule, floor=config.floor
    )
    return {
        "n_domains": len(answer["weights"]),
        "held_at_the_larger_scale": ", ".join(answer["held"]) or "none",
        "weights": table(*tables.extrapolate_table(answer)),
    }


def _maybe(name: str) -> Path | None:
    return named_file(name) if name else None


verbs: list[dg.JobDefinition] = [ddo, laws, extrapolate]
