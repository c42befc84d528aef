"""Verbs of the desk that decide from somebody's own runs.

Put verbs here that take runs and constraints. Verbs that only read runs are in numbers.py.
"""

import dagster as dg
from pydantic import Field

from mixture_assets import decision_table, next_table, selection_plan
from mixture_assets.decision_table import DecisionOptions
from mixture_assets.defs.desk import desk, named_file
from mixture_assets.defs.metadata import Metadata, bullets, picture, table
from mixture_assets.defs.numbers import Swarm
from mixture_assets.report.swarm_page import weights_png


class Decide(Swarm):
    """What `mixture propose` is told of somebody's own runs."""

    available: str = Field(default="", description="Tokens by domain: web=2e9,code=3e8, or a file.")
    natural: str = Field(default="", description="Natural weights, where `available` is empty.")
    budget: float = Field(default=0.0, ge=0, description="Tokens of the full run; 0: not said.")
    max_epochs: float = Field(default=0.0, ge=0, description="Most passes; 0: no cap.")
    floor: str = Field(default="", description="Least weights: web=0.1,code=0.05, or a file.")
    cap: str = Field(default="", description="Largest weights.")
    group: list[str] = Field(default=[], description="Bounds on sums: code+maths<=0.3.")
    protect: str = Field(default="", description="Domains that keep their natural weight or more.")
    kl: str = Field(default="auto", description="Pull to natural; 0: the bare optimum.")
    beyond_samples: bool = Field(default=False, description="Leave the range that the runs had.")
    draws: int = Field(default=1000, ge=100, description="Behind the intervals.")
    seed: int = Field(default=0, description="Of the draws and of the held-out parts.")

    def decision_options(self) -> DecisionOptions:
        """The same as the command line makes of its options."""
        return DecisionOptions.from_text(
            available=self.available,
            natural=self.natural,
            budget=self.budget or None,
            max_epochs=self.max_epochs or None,
            floor=self.floor,
            cap=self.cap,
            group=self.group,
            protect=self.protect,
            kl=self.kl,
            beyond_samples=self.beyond_samples,
            draws=self.draws,
            seed=self.seed,
        )


@desk
def propose_from_runs(config: Decide) -> Metadata:
    """Weights from your own runs, with intervals and a verdict. As `mixture propose --ratios`."""
    answer = decision_table.propose_from_runs(config.options(), config.decision_options())
    said = [*decision_table.lines(answer), *(f"note: {n}" for n in answer["notes"])]
    return {
        "verdict": answer["verdict"],
        "predicted_gain": answer["gain"]["value"],
        "n_runs": answer["n_runs"],
        "said": dg.MetadataValue.md("\n".join(f"- {line}" for line in said)),
        "weights": table(*decision_table.weight_table(answer)),
        "weights_figure": picture(weights_png(answer)),
        "prices": table(*decision_table.price_table(answer)),
        "excluded": table(("run", "reason"), list(answer["excluded"].items())),
    }


class Next(Decide):
    """What `mixture next` is told."""

    count: int = Field(default=8, ge=1, description="Runs to name.")
    precision: float = Field(default=0.25, gt=0, description="Narrow enough, as share of the gain.")


@desk
def next_(config: Next) -> Metadata:
    """Name the proxy runs that would help most, and say when to stop. As `mixture next`."""
    answer = next_table.plan_next(
        config.options(),
        config.decision_options(),
        n_runs=config.count,
        precision=config.precision,
    )
    return {
        "is_enough": answer["is_enough"],
        "reason": answer["reason"],
        "half_width": answer["half_width"],
        "mixtures": table(*next_table.mixture_table(answer)),
        "runs": table(*next_table.run_table(answer)),
        "excluded": table(("run", "reason"), list(answer["excluded"].items())),
        "notes": dg.MetadataValue.md("\n".join(f"- {n}" for n in answer["notes"]) or "none"),
    }


class SelectPlan(dg.Config):
    """What `mixture select plan` is told."""

    pool: str = Field(description="Raw text to choose from: a folder or URL.")
    specialist: str = Field(description="Text of the target: a folder, file or URL.")
    budget_flops: float = Field(gt=0, description="Selection and training, in all.")
    train_params: float = Field(
        default=0.0, ge=0, description="Of the model; 0: of the points, or sized for the budget."
    )
    selector_params: list[float] = Field(
        default=[], description="Sizes of selectors; empty: of the points, or two."
    )
    tasks: int = Field(default=1, ge=1, description="Targets that share what can be shared.")
    points: str = Field(default="", description="What was measured: selection_points.csv.")
    bytes_per_token: float = Field(default=4.0, gt=0, description="Of the pool.")


@desk
def select_plan(config: SelectPlan) -> Metadata:
    """What to select by at a budget, how much, and whether at all. As `mixture select plan`."""
    options = selection_plan.PlanOptions(
        budget_flops=config.budget_flops,
        train_params=config.train_params or None,
        selector_params=tuple(config.selector_params),
        n_tasks=config.tasks,
        bytes_per_token=config.bytes_per_token,
    )
    points = named_file(config.points) if config.points else None
    answer = selection_plan.plan_selection(config.pool, config.specialist, options, points=points)
    return {
        "verdict": answer["verdict"],
        "said": bullets(selection_plan.plan_lines(answer)),
        "plan": table(*selection_plan.plan_table(answer)),
        "notes": bullets(answer["notes"]),
    }


verbs: list[dg.JobDefinition] = [propose_from_runs, next_, select_plan]
