"""What the report says, in order: sections of blocks that both formats show.

No sentence claims more than the numbers do: what is within noise is called so, and what was
carried beyond the measured budgets says how far.
"""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mixture_assets.core.units import flops_text, tokens_text
from mixture_assets.evaluation.comparison import Comparison
from mixture_assets.report import tables
from mixture_assets.report.pull import ReportData
from mixture_assets.report.tables import Table, number, signed

_REMARKS = {
    "at floor": "at floor: the least amount allowed held this domain up at one of the scales, so "
    "its weight says where the bound is, not where the best amount is.",
    "held": "held: it grew out of its floor between the scales; that growth was not extrapolated "
    "and the larger scale's weight is kept.",
    "capped": "capped: max_epochs kept it from getting more.",
    "does not help": "does not help: more of this domain did not lower the objective.",
}
_OPENINGS = {
    "better": "Better than {}",
    "worse": "Worse than {}",
    "within noise": "Within noise of {}",
    "one seed: unknown": "Against {}, one seed cannot tell a difference from chance",
}


@dataclass(frozen=True)
class Verdict:
    """One sentence of the headline."""

    kind: str  # 'better', 'worse', 'noise', 'plain': how it is coloured
    lead: str  # the words that stand out
    text: str


@dataclass(frozen=True)
class Block:
    """One part of a section; exactly one of the fields is set."""

    text: str = ""
    items: Sequence[str] = ()
    table: Table | None = None
    figure: str = ""  # name
    caption: str = ""  # of the figure
    commands: Sequence[str] = ()
    ids: Mapping[str, Sequence[tuple[str, str]]] | None = None


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it."""

    anchor: str
    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Content:
    """The whole report, figures by name only."""

    title: str
    subtitle: str
    verdicts: Sequence[Verdict]
    sections: Sequence[Section]


def content(data: ReportData, figures: Sequence[str]) -> Content:
    """The report about a proposal.

    Args:
        data: What was pulled.
        figures: Names of the figures that there is data for.
    """
    budget = tokens_text(data.proposal["budget_tokens"])
    sections = [
        Section("trained", "What was trained", [Block(table=tables.facts_table(data))]),
        Section("weights", "Weights", _weights(data, figures)),
        Section("fits", "How the objective answers to each domain", _fits(data, figures)),
        Section("evaluation", "Evaluation", _evaluation(data, figures)),
        Section("costs", "What it cost", _costs(data)),
        Section("data", "Data", _data(data)),
        Section("reproduce", "How to reproduce it", _reproduce(data)),
    ]
    return Content(
        title=f"Data mixture: {data.proposal['experiment']}",
        subtitle=f"{data.proposal['method']} for {budget} tokens, proposal {data.proposal_id}",
        verdicts=[*verdicts(data), *_search_cost(data)],
        sections=[section for section in sections if section.blocks],
    )


# --- headline ---------------------------------------------------------------------------------


def verdicts(data: ReportData) -> list[Verdict]:
    """The proposal beside each baseline, in one sentence each."""
    if not data.comparisons:
        text = "no full run of these weights has been compared with a baseline yet."
        return [Verdict("plain", "Untested", f": {text}")]
    return [_verdict(c, data.objective.name) for c in data.comparisons]


def _verdict(c: Comparison, objective: str) -> Verdict:
    kind = c.verdict if c.verdict in ("better", "worse") else "noise"
    noise, fine = "", abs(c.difference)
    if c.low is not None and c.high is not None:
        fine = (c.high - c.low) / 2
        low, high = (signed(value, as_fine_as=fine) for value in (c.low, c.high))
        sd = f"noise sd {number(c.noise_sd, 2)}, mixture and seed taken out"
        noise = f", 90 % interval {low} to {high}; {sd}"
    seeds = f"{c.n_seeds} seed{'s' if c.n_seeds > 1 else ''} each"
    text = (
        f": {objective} {number(c.proposal_value)} against {number(c.baseline_value)}, "
        f"a difference of {signed(c.difference, as_fine_as=fine)} ({seeds}{noise}). {_speed_up(c)}"
    )
    return Verdict(kind, _OPENINGS[c.verdict].format(c.baseline), text)


def _speed_up(c: Comparison) -> str:
    if c.speed_up is None:
        return f"It does not reach the final value of {c.baseline} with every seed."
    if f"{c.speed_up:.0%}" == "0%":
        return f"It reaches the final value of {c.baseline} no sooner."
    sooner = f"It reaches the final value of {c.baseline} with {c.speed_up:.0%} fewer tokens"
    return f"{sooner}." if c.verdict == "better" else f"{sooner}, which is within noise, too."


def _search_cost(data: ReportData) -> list[Verdict]:
    search = [cost for cost in data.costs if cost["role"] != "full"]
    unit = tables.flops_of_one_full_run(data)
    if not search or unit is None:
        return []
    flops = sum(cost["flops"] for cost in search)
    n_runs = sum(cost["n_runs"] for cost in search)
    text = f": {n_runs} runs, {flops_text(flops)}, {flops / unit:.2f} times one full run."
    return [Verdict("plain", "Cost of the search", text)]


# --- sections ---------------------------------------------------------------------------------


def _weights(data: ReportData, figures: Sequence[str]) -> list[Block]:
    table = tables.weight_table(data)
    known = {remark for w in data.weights for remark in tables.weight_remarks(w)}
    blocks = [Block(table=table)]
    if known:
        blocks.append(Block(items=[text for remark, text in _REMARKS.items() if remark in known]))
    if "weights" in figures:
        caption = "Share of training tokens by domain, largest first."
        blocks.append(Block(figure="weights", caption=caption))
    factor = data.proposal["extrapolation_factor"]
    if factor is not None:
        blocks.append(Block(text=_extrapolation(factor)))
    if "weights_over_scale" in figures:
        caption = (
            "Weights as the budget grows: filled where proxy runs measured the optimum, hollow "
            "where it was carried on."
        )
        blocks.append(Block(figure="weights_over_scale", caption=caption))
    if "weights_over_proposals" in figures:
        caption = "Weights of this experiment's proposals, oldest first."
        blocks.append(Block(figure="weights_over_proposals", caption=caption))
    notes = _notes(data.proposal["notes"])
    return [*blocks, Block(text="Notes of the method:"), Block(items=notes)] if notes else blocks


def _extrapolation(factor: float) -> str:
    if factor > 1:
        return (
            f"Extrapolation factor {factor:.3g}: the budget is that many times the largest "
            "proxy budget, so these weights were carried beyond what was measured."
        )
    return f"Extrapolation factor {factor:.3g}: the budget lies within what was measured."


def _notes(text: str | None) -> list[str]:
    """A proposal's notes: a JSON list, or one a line."""
    try:
        notes = json.loads(text or "[]")
    except ValueError:
        notes = (text or "").splitlines()
    return [str(note) for note in notes] if isinstance(notes, list) else [str(notes)]


def _fits(data: ReportData, figures: Sequence[str]) -> list[Block]:
    if not data.fits:
        return []
    text = (
        "Each curve is objective = (x + a)^-b + c, with x one domain's amount in multiples of its "
        "amount in the base run, the other domains fixed, and the objective in multiples of the "
        "base run's. With 0 degrees of freedom a curve passes through its points and says nothing "
        "about noise."
    )
    sd = data.proposal["noise_sd"]
    noise = "was not measured" if sd is None else f"has an sd of {number(sd, 2)}"
    text += f" The {data.objective.name} of one run at the largest scale {noise} between seeds."
    blocks = [Block(text=text)]
    if "ddo_curves" in figures:
        caption = "Every proxy run, all seeds, with the fitted curves; stars mark the optimum."
        blocks.append(Block(figure="ddo_curves", caption=caption))
    return [*blocks, Block(table=tables.fit_table(data))]


def _evaluation(data: ReportData, figures: Sequence[str]) -> list[Block]:
    if not data.full_runs:
        text = "No full run of these weights is done yet: `mixture run` trains what is missing."
        return [Block(text=text)]
    first, *others = tables.evaluation_tables(data)
    blocks = [Block(table=first)]
    if "objective_curves" in figures:
        caption = (
            "The objective along training. A ring marks where the proposal reaches a baseline's "
            "final value (dashed)."
        )
        blocks.append(Block(figure="objective_curves", caption=caption))
    if "loss_curves" in figures:
        caption = "Validation loss of every domain; the scales differ from panel to panel."
        blocks.append(Block(figure="loss_curves", caption=caption))
    return [*blocks, *(Block(table=table) for table in others)]


def _costs(data: ReportData) -> list[Block]:
    if not data.costs:
        return [Block(text="No cost is recorded for this proposal yet.")]
    text = "Compute is training and evaluation; the last column is in multiples of one full run."
    return [Block(text=text), Block(table=tables.cost_table(data))]


def _data(data: ReportData) -> list[Block]:
    if not data.domains:
        return []
    text = (
        "Validation documents are chosen by the hash of their content and never trained on; they "
        "are the same for every run here."
    )
    return [Block(text=text), Block(table=tables.data_table(data))]


def _reproduce(data: ReportData) -> list[Block]:
    file = shlex.quote(f"experiments/{data.proposal['experiment']}.toml")
    where = f"proposal_id = '{data.proposal_id}'"
    commands = [
        f"mixture run --experiment {file}",
        f"mixture report --experiment {file}",
        f'mixture query --experiment {file} "SELECT * FROM proposal_weight WHERE {where}"',
        f'mixture query --experiment {file} "SELECT * FROM lineage WHERE {where} ORDER BY ALL"',
    ]
    text = (
        "The experiment is a file; runs that are done are found by their names and not trained "
        "again. The last query goes from every weight to the raw shards that it rests on."
    )
    facts = [
        f"experiment {data.proposal['experiment']}",
        f"proposal {data.proposal_id}",
        *(f"tokenizer {row['tokenizer_id']}" for row in data.tokenizers),
    ]
    return [
        Block(text=text),
        Block(commands=commands),
        Block(items=facts),
        Block(ids=tables.grouped_ids(data)),
    ]
