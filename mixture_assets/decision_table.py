"""Weights from somebody's own runs: from tables to a decision, and to lines for people."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mixture_assets.core.digest import digest
from mixture_assets.core.errors import MixtureError, quoted
from mixture_assets.core.mixture import Mixture
from mixture_assets.methods.decision import (
    DEFAULT_LAW,
    Decision,
    Settings,
    decide,
    sentence,
)
from mixture_assets.methods.region import Limits
from mixture_assets.methods.swarm import Swarm
from mixture_assets.scale_choice import one_scale
from mixture_assets.swarms import SwarmOptions, SwarmTable
from mixture_assets.tables import Table, read_rows

_SHOWN = ("natural", "bare", "unconstrained")


@dataclass(frozen=True, kw_only=True)
class DecisionOptions:
    """What the weights are for and what they must respect."""

    settings: Settings = field(default_factory=Settings)
    natural: Mixture | None = None  # None: the mean of the runs' mixtures

    @classmethod
    def from_text(
        cls,
        *,
        available: str = "",
        natural: str = "",
        budget: float | None = None,
        max_epochs: float | None = None,
        floor: str = "",
        cap: str = "",
        group: Sequence[str] = (),
        protect: str = "",
        kl: str = "auto",
        beyond_samples: bool = False,
        draws: int = 1000,
        seed: int = 0,
    ) -> "DecisionOptions":
        """As a command line has them: `name=number` with commas, or a file of such pairs."""
        tokens = parse_amounts(available, "--available")
        if draws < 100:
            raise MixtureError(f"{draws} draws give no interval", hint="pass --draws 1000")
        limits = Limits(
            floor=parse_amounts(floor, "--floor"),
            cap=parse_amounts(cap, "--cap"),
            groups=dict(_group(text) for text in group),
            available_tokens=tokens,
            budget_tokens=budget,
            max_epochs=max_epochs,
            protected=tuple(name.strip() for name in protect.split(",") if name.strip()),
        )
        shares = parse_amounts(natural, "--natural") or tokens
        return cls(
            settings=Settings(
                limits=limits, kl=_kl(kl), beyond_samples=beyond_samples, draws=draws, seed=seed
            ),
            natural=Mixture.proportional_to(shares) if shares else None,
        )


def parse_amounts(text: str, option: str) -> dict[str, float]:
    """Name -> amount from `a=1,b=2`, from a CSV of two columns, or from a JSON object."""
    if not text.strip():
        return {}
    pairs = _pairs_of_file(Path(text), option) if Path(text).is_file() else _pairs(text, option)
    found: dict[str, float] = {}
    for name, amount in pairs:
        try:
            value = float(str(amount))
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and value >= 0):
            raise MixtureError(f"{option}: {quoted(name)} has {quoted(amount)}, not a number >= 0")
        if name in found:
            raise MixtureError(f"{option} has {quoted(name)} twice")
        found[name] = value
    return found


def _pairs(text: str, option: str) -> list[tuple[str, object]]:
    pairs: list[tuple[str, object]] = []
    for part in (part.strip() for part in text.split(",") if part.strip()):
        name, equals, amount = part.rpartition("=")
        if not equals or not name.strip():
            raise MixtureError(
                f"{option}: {quoted(part)} is neither name=number nor a file",
                hint=f"as in {option} web=2e9,code=3e8",
            )
        pairs.append((name.strip(), amount))
    return pairs


def _pairs_of_file(path: Path, option: str) -> list[tuple[str, object]]:
    if path.suffix == ".json":
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise MixtureError(f"{path.name} is not JSON: {error}") from error
        if not isinstance(content, dict):
            raise MixtureError(f"{path.name} is no object of names and numbers")
        return list(content.items())
    rows = [row for _, row in read_rows(path, ())]
    if len(rows[0]) != 2:
        raise MixtureError(
            f"{path.name} has {len(rows[0])} columns", hint=f"{option} needs two: name and number"
        )
    return [(str(name).strip(), amount) for name, amount in (row.values() for row in rows)]


def _group(text: str) -> tuple[str, tuple[Sequence[str], tuple[float, float]]]:
    """`code+maths<=0.3`, `code+maths>=0.1`, or `0.1<=code+maths<=0.3`."""
    problem = MixtureError(
        f"--group {quoted(text)} is no bound on a sum of weights",
        hint="as in --group 'code+maths<=0.3' or --group '0.1<=code+maths<=0.3'",
    )
    low, high, middle = 0.0, 1.0, text
    try:
        if "<=" in text:
            *first, middle, last = text.split("<=")
            high = float(last)
            low = float(first[0]) if first else 0.0
            if len(first) > 1:
                raise problem
        elif ">=" in text:
            middle, last = text.split(">=")
            low = float(last)
        else:
            raise problem
    except ValueError as error:
        raise problem from error
    members = [name.strip() for name in middle.split("+") if name.strip()]
    if not members or low > high:
        raise problem
    return text.strip(), (members, (low, high))


def _kl(text: str) -> float | None:
    if text == "auto":
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise MixtureError(
            f"--kl is {quoted(text)}, expected 'auto' or a number >= 0",
            hint="0 takes the bare optimum",
        )
    return value


# --- the answer -------------------------------------------------------------------------------


def propose_from_runs(swarm: SwarmOptions, options: DecisionOptions) -> dict[str, Any]:
    """Weights, intervals, verdict and all that they rest on, as plain data.

    Args:
        swarm: The runs, and the objective: a metric, or the weighted mean of several.
        options: What the weights must respect.

    Returns:
        weights, interval, verdict, sentence, gain, predicted, mixtures, prices, effects (metric ->
        domain -> change by 1 % of weight), trust, noise_sd, held_out, runs (measured, predicted),
        epochs, excluded, notes and a digest of the inputs.
    """
    table = swarm.read()
    runs, notes = one_scale(table.swarm)
    decision = decide(runs, swarm.objective, options.natural, options.settings)
    if decision.verdict == "not identifiable" and options.settings.kl is not None:
        notes.append("--kl was not followed: where nothing is identifiable natural is all there is")
    if options.natural is None:
        notes.append(
            "natural is not known: gains are against the mean of the runs' mixtures "
            "(--available or --natural says what it is)"
        )
    return _answer(table, runs, swarm, options, decision, notes)


def _answer(
    table: SwarmTable,
    runs: Swarm,
    swarm: SwarmOptions,
    options: DecisionOptions,
    decision: Decision,
    notes: Sequence[str],
) -> dict[str, Any]:
    limits = options.settings.limits
    objective = runs.objective(swarm.objective)
    answer: dict[str, Any] = {
        "weights": dict(decision.mixture),
        "interval": {n: list(x) for n, x in decision.interval.items()},
        "verdict": decision.verdict,
        "sentence": sentence(decision),
        "gain": asdict(decision.gain),
        "gain_over_uniform": asdict(decision.gain_over_uniform),
        "predicted": {n: asdict(v) for n, v in decision.predicted.items()},
        "mixtures": {n: dict(m) for n, m in decision.mixtures.items()},
        "prices": [asdict(p) for p in decision.prices],
        "effects": {metric: dict(row) for metric, row in decision.effects.items()},
        "kl": decision.kl,
        "trust": asdict(decision.trust),
        "noise_sd": decision.noise_sd,
        "noise_from": decision.noise_from,
        "law": DEFAULT_LAW,
        "held_out": asdict(decision.score),
        "objective": dict(swarm.objective),
        "n_runs": len(runs.runs),
        "n_domains": len(runs.domains),
        "runs": {
            run: {"measured": float(objective[i]), "predicted": float(decision.held_out[i])}
            for i, run in enumerate(runs.runs)
        },
        "excluded": dict(table.excluded),
        "notes": [*table.notes, *notes, *decision.notes],
        "digest": _digest(runs, swarm, options),
    }
    if limits.budget_tokens:
        answer["budget_tokens"] = limits.budget_tokens
    if limits.budget_tokens and limits.available_tokens:
        answer["epochs"] = decision.mixture.epochs(limits.budget_tokens, limits.available_tokens)
    return answer


def _digest(runs: Swarm, swarm: SwarmOptions, options: DecisionOptions) -> str:
    """Names what the weights depend on: the runs that count, the objective and the settings."""
    return digest(
        {
            "runs": list(runs.runs),
            "domains": list(runs.domains),
            "weights": runs.weights.tolist(),
            "metrics": {n: runs.metrics[n].tolist() for n in sorted(swarm.objective)},
            "objective": dict(swarm.objective),
            "settings": asdict(options.settings),
            "natural": dict(options.natural or {}),
            "law": DEFAULT_LAW,
        }
    )


def lines(answer: Mapping[str, Any]) -> list[str]:
    """What is to be known of the weights besides the weights."""
    held_out, where = answer["held_out"], answer["trust"]
    rank = "-" if held_out["spearman"] is None else f"{held_out['spearman']:.3f}"
    r2 = "-" if held_out["r2"] is None else f"{held_out['r2']:.3f}"
    return [
        answer["sentence"],
        f"law: {answer['law']}, {answer['n_runs']} runs, {answer['n_domains']} domains; held-out "
        f"runs: Spearman {rank}, R2 {r2}; noise of one run {answer['noise_sd']:.4g} "
        f"(from {answer['noise_from']})",
        "predicted: " + ", ".join(f"{n} {_value(v)}" for n, v in answer["predicted"].items()),
        *_pull(answer),
        f"where: {_outside(where['outside'])}; {where['nearest_distance']:.0%} of tokens from the "
        f"nearest run ({where['nearest_run']}); the prediction is "
        f"{where['prediction_sd_ratio']:.2g} times as uncertain as at a typical run",
    ]


def _pull(answer: Mapping[str, Any]) -> list[str]:
    """What staying near natural costs, where it costs anything."""
    cost = answer["predicted"]["proposal"]["value"] - answer["predicted"]["bare"]["value"]
    if answer["verdict"] == "not identifiable" or cost <= 1e-9:
        return []
    return [
        f"of mixtures as good as the best within one standard error, the nearest to natural: it "
        f"gives up {cost:.3g}; `--kl 0` takes the bare optimum"
    ]


def _outside(share: float) -> str:
    if share < 1e-6:
        return "among the mixtures that were run"
    return f"{share:.1%} of tokens outside the mixtures that were run"


def _value(value: Mapping[str, float]) -> str:
    return f"{value['value']:.4g}"


def weight_table(answer: Mapping[str, Any]) -> Table:
    """Header and rows of the weights, the largest first, beside what they are compared with."""
    epochs = answer.get("epochs")
    rows = []
    for name, weight in sorted(answer["weights"].items(), key=lambda item: (-item[1], item[0])):
        low, high = answer["interval"][name]
        row = [name, *(f"{x:.4f}" for x in (weight, low, high))]
        row += [f"{answer['mixtures'][other][name]:.4f}" for other in _SHOWN]
        rows.append(row + ([f"{epochs.get(name, 0.0):.2f}"] if epochs is not None else []))
    header = ("domain", "weight", "low", "high", *_SHOWN)
    return (*header, "epochs") if epochs is not None else header, rows


def price_table(answer: Mapping[str, Any]) -> Table:
    """Header and rows of what each bound costs, the dearest first."""
    rows = [
        [p["what"], p["domain"] or "-", f"{p['bound']:.4f}", f"{p['per_percent']:.3g}"]
        for p in answer["prices"]
    ]
    return ("bound", "domain", "weight", "best prediction falls per 1 %"), rows
