"""The interface of every offline mixing method: ask for runs, get results, answer.

A method is a frozen dataclass whose fields are hyper-parameters and nothing else.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Protocol

from mixture_assets.core.errors import MixtureError, shortlist
from mixture_assets.core.mixture import Mixture
from mixture_assets.core.problem import (
    CurveFit,
    Objective,
    Problem,
    Proposal,
    ProxyResult,
    ProxyRun,
)
from mixture_assets.methods.constraints import constrain
from mixture_assets.methods.prediction import Curves, predictions


class Method(Protocol):
    """What every offline method offers."""

    def plan(self, problem: Problem) -> list[ProxyRun]:
        """List the proxy runs this method needs, each once; an empty list if none."""
        ...

    def labels(self, problem: Problem) -> dict[str, str]:
        """Name each planned run for people, by its digest: 'small wiki x3 seed 0'."""
        ...

    def propose(self, problem: Problem, results: Sequence[ProxyResult]) -> Proposal:
        """Answer from the results of the planned runs, in any order, extra ones allowed."""
        ...


def objectives(
    labels: Mapping[str, str],
    results: Sequence[ProxyResult],
    objective: Objective,
    *,
    method: str,
) -> dict[str, float]:
    """The objective of every planned run, by digest.

    Args:
        labels: The planned runs: digest -> name for people.
        results: Results in any order; those of other plans are passed over.
        objective: What to compute from the domains' losses.
        method: Whose plan it is, for messages.
    """
    losses = losses_of(labels, results, method=method)
    return {run: finite_objective(objective, losses[run], labels[run]) for run in labels}


def losses_of(
    labels: Mapping[str, str], results: Sequence[ProxyResult], *, method: str
) -> dict[str, Mapping[str, float]]:
    """The losses of every planned run, by digest; MixtureError names the runs that lack them."""
    losses = _losses(labels, results)
    missing = [run for run in labels if run not in losses]
    if missing:
        named = [f"{labels[run]} ({run})" for run in missing]
        raise MixtureError(
            f"{method} needs {len(labels)} proxy runs, {len(missing)} of them without a result: "
            f"{shortlist(named)}",
            hint="`mixture run` trains what is missing",
        )
    return losses


def _losses(
    labels: Mapping[str, str], results: Sequence[ProxyResult]
) -> dict[str, Mapping[str, float]]:
    losses: dict[str, Mapping[str, float]] = {}
    for result in results:
        run = result.run.digest
        if run not in labels:
            continue
        if dict(losses.get(run, result.loss_nats)) != dict(result.loss_nats):
            raise MixtureError(
                f"two results disagree on the losses of {labels[run]!r}",
                hint="pass the results of one model, tokenizer and training setting only",
            )
        losses[run] = result.loss_nats
    return losses


def finite_objective(objective: Objective, loss_nats: Mapping[str, float], label: str) -> float:
    """The objective of one run, or MixtureError where it is no number."""
    try:
        value = objective.value(loss_nats)
    except OverflowError:  # perplexity above 1e308
        value = math.inf
    if not math.isfinite(value):
        raise MixtureError(
            f"the {objective.name} of {label!r} is {value}",
            hint="the run diverged: lower [training] learning_rate",
        )
    return value


def proposal(
    problem: Problem,
    *,
    method: str,
    mixture: Mixture,
    interval: Mapping[str, tuple[float, float]] | None = None,
    at_floor: Sequence[str] = (),
    held: Sequence[str] = (),
    not_improving: Sequence[str] = (),
    extrapolation_factor: float = 1.0,
    noise_sd: float | None = None,
    optima_tokens: Mapping[str, Mapping[str, float]] | None = None,
    fits: Sequence[CurveFit] = (),
    curves: Curves = (),
    redrawn: Sequence[Curves] = (),
    notes: Sequence[str] = (),
) -> Proposal:
    """A mixture brought within the problem's constraints, with what is needed to judge it.

    Args:
        problem: What the weights are for.
        method: Registry name.
        mixture: What the method would choose if there were no constraints.
        interval: 90 % interval of each weight, constraints applied.
        at_floor: As in `Proposal`, and so are the arguments from here on.
        held: See `Proposal`.
        not_improving: See `Proposal`.
        extrapolation_factor: 1 where no proxy runs are involved.
        noise_sd: See `Proposal`.
        optima_tokens: See `Proposal`.
        fits: See `Proposal`.
        curves: Those that predict the full run, by domain; none predict nothing.
        redrawn: The same for each bootstrap draw.
        notes: Sentences; one for each domain at the epoch cap is added.
    """
    allowed, capped = constrain(mixture, problem)
    return Proposal(
        method=method,
        mixture=allowed,
        natural=problem.natural,
        uniform=problem.uniform,
        budget_tokens=problem.budget_tokens,
        epochs=allowed.epochs(problem.budget_tokens, problem.available_tokens),
        interval=_widened(interval or {}, allowed),
        at_floor=sorted(at_floor),
        held=sorted(held),
        capped=capped,
        not_improving=sorted(not_improving),
        extrapolation_factor=extrapolation_factor,
        objective=problem.objective,
        noise_sd=noise_sd,
        optima_tokens=optima_tokens or {},
        fits=tuple(fits),
        predictions=predictions(problem, allowed, curves, redrawn) if curves else (),
        notes=(*notes, *_cap_notes(problem, mixture, allowed, capped)),
    )


def _widened(
    interval: Mapping[str, tuple[float, float]], mixture: Mixture
) -> dict[str, tuple[float, float]]:
    """Intervals that contain the weight they belong to, which skewed draws may miss."""
    return {
        name: (min(low, mixture[name]), max(high, mixture[name]))
        for name, (low, high) in interval.items()
    }


def _cap_notes(
    problem: Problem, wanted: Mixture, allowed: Mixture, capped: Sequence[str]
) -> list[str]:
    return [
        f"{name!r} is held at {allowed[name]:.1%} by max_epochs = "
        f"{problem.constraints.max_epochs:g}; without the cap it would get {wanted[name]:.1%}"
        for name in capped
        if wanted[name] > allowed[name]
    ]
