"""DDO's runs fitted jointly: the additive law of every metric, and the best mean of them.

Source:
    See `additive`. The paper fits one objective, domain by domain, at one scale.

Units:
    Amounts and metrics in multiples of the base run's; with several scales, of the last one's.

Differs from the source:
    All losses are used, not their mean alone, and the runs of several scales can be one fit. Each
    metric has the effect of the seed taken out (see `blocks`).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mixture_assets.core.errors import MixtureError, shortlist
from mixture_assets.core.mixture import Mixture
from mixture_assets.core.problem import Objective, Problem, ProxyResult, ProxyRun
from mixture_assets.methods.additive import AdditiveLaw, best_amounts, fit_additive
from mixture_assets.methods.base import finite_objective
from mixture_assets.methods.blocks import fit_blocks
from mixture_assets.methods.ddo import Row, checked_trials
from mixture_assets.methods.fit import without_seeds

JointRow = tuple[str | None, float | None, Mapping[str, float], str]  # metrics by name, seed


@dataclass(frozen=True, kw_only=True)
class JointRuns:
    """What a joint fit is made of: amounts, and metrics with their weights."""

    amounts: Sequence[Mapping[str, float]]  # by run, by domain
    metrics: Mapping[str, Sequence[float]]  # by metric, by run
    weights: Mapping[str, float]  # of each metric in the objective, in the metrics' unit

    def redrawn(self, laws: Mapping[str, AdditiveLaw], rng: np.random.Generator) -> "JointRuns":
        """The same runs, every metric moved by what its law leaves unexplained."""
        moved = {
            k: (np.array(y) + (laws[k].residual_sd or 0.0) * rng.standard_normal(len(y))).tolist()
            for k, y in self.metrics.items()
        }
        return JointRuns(amounts=self.amounts, metrics=moved, weights=self.weights)


@dataclass(frozen=True, kw_only=True)
class JointFit:
    """The laws at one scale and the best amounts."""

    laws: Mapping[str, AdditiveLaw]  # by metric
    optimum: Mapping[str, float]  # by domain, in multiples of the base amount
    floor: float

    @property
    def weights(self) -> Mixture:
        """The optimum as sampling weights."""
        return Mixture.proportional_to(self.optimum)

    @property
    def at_floor(self) -> list[str]:
        """Domains that the least amount holds up."""
        return [n for n, x in self.optimum.items() if x <= self.floor * (1 + 1e-9)]

    @property
    def not_improving(self) -> list[str]:
        """Domains whose growth lowers no metric."""
        return [
            n
            for n in self.optimum
            if not any(law.terms[n].is_improving for law in self.laws.values())
        ]

    def to_json(self) -> dict[str, object]:
        """What `mixture ddo --fit joint --json` prints."""
        fits = {
            k: {
                "terms": {n: {"a": t.a, "b": t.b, "size": t.size} for n, t in law.terms.items()},
                "c": law.c,
                "residual_sd": law.residual_sd,
            }
            for k, law in self.laws.items()
        }
        return {
            "fits": fits,
            "optimum": dict(self.optimum),
            "weights": dict(self.weights),
            "at_floor": self.at_floor,
            "not_improving": self.not_improving,
        }


def joint_from_table(rows: Sequence[JointRow], *, floor: float = 0.2) -> JointFit:
    """Fit every metric of somebody's own DDO runs jointly, and minimise the metrics' mean.

    Args:
        rows: (domain, factor, metrics, seed) as in `ddo_from_table`, with every metric in each.
        floor: Least amount of any domain, in multiples of its base amount.
    """
    odd = {k for row in rows for k in row[2].keys() ^ rows[0][2].keys()}
    if odd:
        raise MixtureError(f"not every run has every metric: {shortlist(odd)} is in some only")
    order = sorted(range(len(rows)), key=lambda i: _sorted_by(rows[i]))
    metrics, weights, amounts = {}, {}, []
    for k in sorted(rows[0][2]) if rows else [""]:
        one: list[Row] = [(d, x, values[k], seed) for d, x, values, seed in rows]
        checked = checked_trials(one, floor=floor)
        trials, _ = without_seeds([checked[i] for i in order])
        base = [t.objective for t in trials if t.domain is None]
        weights[k] = math.fsum(base) / len(base)
        metrics[k] = [t.objective / weights[k] for t in trials]
        names = sorted({t.domain for t in trials if t.domain is not None})
        amounts = [
            dict.fromkeys(names, 1.0) | ({t.domain: t.factor} if t.domain else {}) for t in trials
        ]
    runs = JointRuns(amounts=amounts, metrics=metrics, weights=weights)
    return fit_joint(runs, total=len(amounts[0]), floor=floor)


def _sorted_by(row: JointRow) -> tuple[str, float, str, list[tuple[str, float]]]:
    domain, factor, values, seed = row
    return domain or "", factor or 1.0, seed, sorted(values.items())


def fit_joint(
    runs: JointRuns,
    *,
    total: float,
    floor: float,
    start: Mapping[str, AdditiveLaw] | None = None,
) -> JointFit:
    """The law of every metric, and the best split of `total` among the domains.

    Args:
        runs: What to fit.
        total: Amount to hand out, in multiples of a base amount.
        floor: Least amount of every domain, likewise.
        start: Laws of nearly the same metrics, to begin the search with.
    """
    laws = {
        k: fit_additive(runs.amounts, y, start=(start or {}).get(k))
        for k, y in runs.metrics.items()
    }
    optimum = best_amounts(laws, weights=runs.weights, total=total, floor=floor)
    return JointFit(laws=laws, optimum=optimum, floor=floor)


def runs_over_scales(
    plans: Sequence[Sequence[ProxyRun]], problem: Problem, results: Sequence[ProxyResult]
) -> JointRuns:
    """The runs of several scales as one table, amounts in multiples of the last one's base run.

    Args:
        plans: The runs of each scale, its base run first; smallest scale first.
        problem: Names the domains and the objective.
        results: Of all planned runs, in any order, extra ones allowed.
    """
    losses = {r.run.digest: r.loss_nats for r in results}
    check_complete([run for plan in plans for run in plan], problem)
    base = plans[-1][0]
    weighed = problem.objective.weights or dict.fromkeys(losses[base.digest], 1.0)
    share = Mixture.proportional_to(weighed)
    metrics, weights = {}, {}
    for k in sorted(n for n, w in share.items() if w > 0):
        levels = [_level(plan, losses, k, problem.objective) for plan in plans]
        unit = levels[-1][1]
        metrics[k] = [y / unit for found, _ in levels for y in found]
        weights[k] = share[k] * unit
    amounts = [
        {n: run.tokens[n] / base.tokens[n] for n in problem.domains} for p in plans for run in p
    ]
    return JointRuns(amounts=amounts, metrics=metrics, weights=weights)


def check_complete(runs: Sequence[ProxyRun], problem: Problem) -> None:
    """Raise MixtureError if a run lacks a domain or has one of before."""
    odd = {name for run in runs for name in run.tokens.keys() ^ set(problem.domains)}
    if odd:
        raise MixtureError(
            f"the additive law needs every domain in every run, not so for {shortlist(odd)}",
            hint="[proxy] rule = 'safe', or train the proxy runs anew: mixture refit --way full",
        )


def _level(
    plan: Sequence[ProxyRun],
    losses: Mapping[str, Mapping[str, float]],
    domain: str,
    objective: Objective,
) -> tuple[list[float], float]:
    """A domain's loss or perplexity in every run, seeds taken out, and its mean over base runs."""
    one = Objective(metric=objective.metric, weights={domain: 1.0})
    found = [finite_objective(one, losses[run.digest], run.digest) for run in plan]
    cells = [tuple(sorted(run.tokens.items())) for run in plan]
    seeds = [str(run.seed) for run in plan]
    effect = fit_blocks(cells, seeds, found).effect
    level = [y - effect[seed] for y, seed in zip(found, seeds, strict=True)]
    base = [y for y, cell in zip(level, cells, strict=True) if cell == cells[0]]
    return level, math.fsum(base) / len(base)
