"""The report's tables: rows of text from rows of the database, one wording for all formats."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mixture_assets.core.units import bytes_text, flops_text, seconds_text, tokens_text
from mixture_assets.report.pull import ReportData, Row

NOTHING = "\u2013"  # where there is no number


@dataclass(frozen=True)
class Table:
    """Cells as text; the first column names the row, the others hold numbers."""

    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    caption: str = ""
    n_heads: int = 0  # rows at the top that sum up the others
    n_words: int = 1  # columns at the left that hold words
    ends_in_words: bool = False  # the last column holds words, too


def number(value: float | None, digits: int = 4) -> str:
    """Significant digits, thousands apart; a dash for None."""
    if value is None or not math.isfinite(value):
        return NOTHING
    text = f"{value:#,.{digits}g}".rstrip(".")  # '#' keeps zeros, so that columns line up
    return (f"{value:,.0f}" if "e+" in text else text).replace("-", "\u2212", 1)


def signed(value: float, *, as_fine_as: float) -> str:
    """With its sign, and two decimals, or more until `as_fine_as` has two significant digits."""
    decimals = max(2, 1 - math.floor(math.log10(as_fine_as))) if as_fine_as > 0 else 2
    return f"{value:+,.{decimals}f}".replace("-", "\u2212", 1)


def percent(value: float | None) -> str:
    """One decimal; more where that would say 0."""
    if value is None:
        return NOTHING
    return f"{value:.1%}" if value == 0 or abs(value) >= 0.001 else f"{100 * value:.2g}%"


def weight_table(data: ReportData) -> Table:
    """Weights with intervals beside the baselines', and what the reader must know of each."""
    rows = [
        (
            w["domain"],
            percent(w["weight"]),
            _range(w["weight_low"], w["weight_high"]),
            percent(w["natural_weight"]),
            percent(w["uniform_weight"]),
            number(w["epochs"], 3),
            ", ".join(weight_remarks(w)),
        )
        for w in data.weights
    ]
    header = ("domain", "weight", "90 % interval", "natural", "uniform", "epochs", "remarks")
    return Table(header, rows, ends_in_words=True)


def _range(low: float | None, high: float | None) -> str:
    return NOTHING if low is None or high is None else f"{percent(low)} to {percent(high)}"


def weight_remarks(weight: Row) -> list[str]:
    """Why a weight may not be what the curves alone would say."""
    known = {
        "at floor": weight["is_at_floor"],
        "held": weight["is_held"],
        "capped": weight["is_capped"],
        "does not help": weight["is_improving"] is False,
    }
    return [remark for remark, holds in known.items() if holds]


def fit_table(data: ReportData) -> Table:
    """The curve of every domain at every scale."""
    rows = [
        (
            fit["domain"],
            fit["scale"],
            *(number(fit[name]) for name in ("a", "b", "c")),
            str(fit["degrees_of_freedom"]),
            number(fit["residual_sd"], 2),
            number(fit["optimum"], 3),
            tokens_text(fit["optimum"] * fit["base_tokens"]),
            ", ".join(_fit_remarks(fit)),
        )
        for fit in sorted(data.fits, key=lambda f: (f["domain"], f["base_tokens"]))
    ]
    header = (
        *("domain", "scale", "a", "b", "c", "degrees of freedom", "residual sd"),
        *("optimum (times base)", "optimum (tokens)", "remarks"),
    )
    return Table(header, rows, n_words=2, ends_in_words=True)


def _fit_remarks(fit: Row) -> list[str]:
    known = {"at floor": fit["is_at_floor"], "does not help": fit["is_improving"] is False}
    return [remark for remark, holds in known.items() if holds]


def evaluation_tables(data: ReportData) -> list[Table]:
    """Objective and every domain's loss, in three units; a column for each mixture and seed."""
    finals = {run["run_id"]: data.final(run["run_id"]) for run in data.full_runs}
    domains = sorted({domain for final in finals.values() for domain in final})
    header = (
        "domain",
        *(f"{run['mixture_name']}, seed\u00a0{run['seed']}" for run in data.full_runs),
    )
    objective = (data.objective.name, *(number(data.value(run_id)) for run_id in finals))
    tables = []
    for caption, value, error in (
        ("Nats per token, ± standard error over documents", "loss_nats", "loss_se_nats"),
        ("Bits per byte, ± standard error over documents", "bits_per_byte", "bits_per_byte_se"),
        ("Perplexity per token", "perplexity", None),
    ):
        rows = [
            (domain, *(_with_error(final.get(domain), value, error) for final in finals.values()))
            for domain in domains
        ]
        heads = [objective] if error == "loss_se_nats" else []
        tables.append(Table(header, [*heads, *rows], caption, n_heads=len(heads)))
    return tables


def _with_error(row: Row | None, value: str, error: str | None) -> str:
    if row is None:
        return NOTHING
    if error is None:
        return number(row[value])
    spread = "" if row[error] is None else f" ± {row[error]:.3f}"
    return f"{row[value]:.3f}{spread}"


def cost_table(data: ReportData) -> Table:
    """What the answer cost, in FLOPs, device time and full runs."""
    unit = flops_of_one_full_run(data)
    rows = [
        (
            f"{cost['role']} runs",
            f"{cost['n_runs']:,}",
            flops_text(cost["flops"]),
            seconds_text(cost["device_seconds"]),
            cost["devices"] or NOTHING,
            NOTHING if unit is None else f"{cost['flops'] / unit:.2f}",
        )
        for cost in data.costs
    ]
    header = ("what", "runs", "compute", "device time", "device", "in full runs")
    return Table(header, rows)


def flops_of_one_full_run(data: ReportData) -> float | None:
    """Training and evaluation, mean over the full runs; None while there is none."""
    flops = [(run["flops_train"] or 0.0) + (run["flops_eval"] or 0.0) for run in data.full_runs]
    return math.fsum(flops) / len(flops) if flops and math.fsum(flops) > 0 else None


def data_table(data: ReportData) -> Table:
    """What each domain has, and how much of it is kept for validation."""
    rows = [
        (
            d["domain"],
            f"{d['n_shards']:,}",
            f"{d['n_documents']:,}",
            f"{d['available_tokens']:,}",
            f"{d['validation_documents']:,}",
            f"{d['validation_tokens']:,}",
            bytes_text(d["n_bytes"]) if d["n_bytes"] else NOTHING,
        )
        for d in data.domains
    ]
    header = (
        *("domain", "raw shards", "training documents", "training tokens"),
        *("validation documents", "validation tokens", "text"),
    )
    return Table(header, rows)


def facts_table(data: ReportData) -> Table:
    """What was trained, on what, when."""
    runs = [*data.proxy_runs, *data.full_runs]
    facts = {
        "experiment": data.proposal["experiment"],
        "method": f"{data.proposal['method']}, lowering the {data.objective.name}",
        "proxy runs": _counted(data.proxy_runs, "scale"),
        "full runs": _counted(data.full_runs, "mixture_name"),
        "model": ", ".join(f"{n:,} parameters" for n in _distinct(runs, "n_params")),
        "tokenizer": ", ".join(map(_tokenizer_text, data.tokenizers)),
        "device": ", ".join(_distinct(runs, "device")),
        "numeric path": ", ".join(_distinct(runs, "numeric_path")),
        "code": ", ".join(_distinct(runs, "code_version")),
        "runs made": _period(runs),
        "weights made": _time(data.proposal["created_at"]),
    }
    return Table(("", ""), [(k, v or NOTHING) for k, v in facts.items()], n_words=2)


def _counted(runs: Sequence[Row], key: str) -> str:
    """'30: 15 small (2M tokens), 15 large (8M tokens)'."""
    groups: dict[str, list[Row]] = {}
    for run in runs:
        groups.setdefault(run[key], []).append(run)
    parts = [
        f"{len(several)} {name} ({tokens_text(sum(r['budget_tokens'] for r in several))} tokens)"
        for name, several in groups.items()
    ]
    return f"{len(runs)}: {', '.join(parts)}" if runs else "none"


def _distinct(runs: Sequence[Row], key: str) -> list[Any]:
    return sorted({run[key] for run in runs if run[key] is not None})


def _tokenizer_text(row: Row) -> str:
    return f"{row['name'] or row['kind']}, vocabulary {row['vocab_size']:,} ({row['tokenizer_id']})"


def _period(runs: Sequence[Row]) -> str:
    begun, ended = _distinct(runs, "created_at"), _distinct(runs, "finished_at")
    return f"{_time(begun[0])} to {_time(ended[-1])}" if begun and ended else ""


def _time(value: Any) -> str:
    return NOTHING if value is None else f"{value:%Y-%m-%d %H:%M} UTC"


def grouped_ids(data: ReportData) -> Mapping[str, Sequence[tuple[str, str]]]:
    """Run ids with their labels, by purpose."""
    return {
        "proxy runs": [(run["run_id"], run["label"] or "") for run in data.proxy_runs],
        "full runs": [(run["run_id"], run["label"] or "") for run in data.full_runs],
    }
