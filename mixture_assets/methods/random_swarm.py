"""Random mixtures, a law through their losses, and the mixture that the law supports.

Source:
    RegMix (Liu et al., 2407.01492), section 3: mixtures drawn from Dirichlet distributions of
    several strengths around the natural one, a regression, and the mixture with the best
    prediction. The law and the choice are those of `decision`.

Units:
    Weights are shares of tokens; every run has the same length.

Differs from the source:
    The Dirichlets lie around the mean of natural and uniform, and no weight is below a twentieth
    of the uniform share, so that every domain is seen in every run. A law for each domain's loss
    instead of LightGBM for one; the proposal gives up one standard error of the gain to stay close
    to natural. Uniform and natural are among the runs, uniform with further seeds: the noise.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mixture_assets.core.errors import MixtureError
from mixture_assets.core.mixture import Mixture
from mixture_assets.core.problem import (
    LOG_RATIO,
    Objective,
    Prediction,
    Problem,
    Proposal,
    ProxyResult,
    ProxyRun,
)
from mixture_assets.methods.base import losses_of, proposal
from mixture_assets.methods.constraints import constrain
from mixture_assets.methods.decision import Decision, Settings, decide, sentence
from mixture_assets.methods.fit import DDOFit
from mixture_assets.methods.notes import extrapolation_notes
from mixture_assets.methods.region import Limits
from mixture_assets.methods.swarm import Swarm

_STRENGTHS = (0.5, 1.0, 2.0, 5.0)  # of a Dirichlet, per domain: corners first, then the middle
_LEAST = 0.05  # of the uniform share
_NAME = "swarm"


@dataclass(frozen=True, kw_only=True)
class RandomSwarm:
    """A swarm of proxy runs on random mixtures.

    Differs from the source:
        See the module.
    """

    base_tokens: int  # length of every run
    n_runs: int = 32  # mixtures, uniform and natural among them
    seed: int = 0  # of the mixtures and of the runs
    base_seeds: tuple[int, ...] = ()  # further runs of the uniform mixture: the noise
    draws: int = 400  # behind the intervals

    def plan(self, problem: Problem) -> list[ProxyRun]:
        """One run for each mixture, and the repeats of uniform."""
        return list(self._design(problem).values())

    def labels(self, problem: Problem) -> dict[str, str]:
        """'swarm uniform seed 0', 'swarm 007 seed 0'."""
        return {run.digest: name for name, run in self._design(problem).items()}

    def fits(self, problem: Problem, results: Sequence[ProxyResult]) -> dict[str, DDOFit]:
        """No curve by domain: a swarm moves all domains at once."""
        return {}

    def swarm(self, problem: Problem, results: Sequence[ProxyResult]) -> Swarm:
        """The runs as a table: weights, and each domain's loss or perplexity."""
        labels = self.labels(problem)
        losses = losses_of(labels, results, method=_NAME)
        design = self._design(problem)
        return Swarm.of(
            {name: run.tokens for name, run in design.items()},
            {name: _metrics(problem.objective, losses[run.digest]) for name, run in design.items()},
        )

    def decision(self, problem: Problem, results: Sequence[ProxyResult]) -> Decision:
        """The weights with all that is known of them."""
        limits = Limits(
            floor=dict.fromkeys(problem.domains, problem.constraints.floor),
            available_tokens=problem.available_tokens,
            budget_tokens=problem.budget_tokens,
            max_epochs=problem.constraints.max_epochs,
        )
        settings = Settings(limits=limits, beyond_samples=True, draws=self.draws)
        swarm = self.swarm(problem, results)
        shares = problem.objective.weights or dict.fromkeys(swarm.metrics, 1.0)
        return decide(swarm, shares, problem.natural, settings)

    def propose(self, problem: Problem, results: Sequence[ProxyResult]) -> Proposal:
        """The weights that the runs support, for any budget."""
        constrain(problem.natural, problem)  # what nobody can keep is said in everybody's words
        found = self.decision(problem, results)
        factor = problem.budget_tokens / self.base_tokens
        answer = proposal(
            problem,
            method=_NAME,
            mixture=found.mixture,
            interval=found.interval,
            extrapolation_factor=factor,
            noise_sd=found.noise_sd,
            notes=(sentence(found), *found.notes, *extrapolation_notes(factor)),
        )
        return replace(answer, predictions=_predictions(found))

    def _design(self, problem: Problem) -> dict[str, ProxyRun]:
        """Name -> run, each mixture once."""
        uniform = problem.uniform
        mixtures = {"uniform": uniform, "natural": _seen(problem.natural)}
        rng = np.random.default_rng(self.seed)
        centre = np.array([(problem.natural[n] + uniform[n]) / 2 for n in problem.domains])
        for i in range(self._checked(problem) - len(mixtures)):
            strength = _STRENGTHS[i % len(_STRENGTHS)] * len(centre)
            weights = rng.dirichlet(strength * centre).tolist()
            drawn = Mixture.proportional_to(dict(zip(problem.domains, weights, strict=True)))
            mixtures[f"{i:03}"] = _seen(drawn)
        seeds: dict[str, tuple[int, ...]] = {name: (self.seed,) for name in mixtures}
        seeds["uniform"] = tuple(dict.fromkeys((self.seed, *self.base_seeds)))
        runs: dict[str, ProxyRun] = {}
        for name, mixture in mixtures.items():
            for seed in seeds[name]:
                run = ProxyRun(tokens=mixture.split(self.base_tokens), seed=seed)
                if run not in runs.values():  # natural may be uniform
                    runs[f"{_NAME} {name} seed {seed}"] = run
        return runs

    def _checked(self, problem: Problem) -> int:
        least = max(8, len(problem.domains) + 3)
        if self.n_runs < least:
            raise MixtureError(
                f"a swarm of {self.n_runs} runs is too small for {len(problem.domains)} domains",
                hint=f"[proxy] swarm_runs = {least} at least; four times the domains is better",
            )
        return self.n_runs


def _seen(mixture: Mixture) -> Mixture:
    """The same with a little of every domain."""
    share = 1 / len(mixture)
    return Mixture({n: (1 - _LEAST) * w + _LEAST * share for n, w in mixture.items()})


def _metrics(objective: Objective, loss_nats: Mapping[str, float]) -> dict[str, float]:
    if objective.metric == "loss":
        return dict(loss_nats)
    return {name: math.exp(loss) for name, loss in loss_nats.items()}


def _predictions(found: Decision) -> tuple[Prediction, ...]:
    """The proposal beside natural and uniform at the swarm's scale, without optimism."""
    predictions = []
    gains = {"natural": found.gain, "uniform": found.gain_over_uniform}
    for name, gain in gains.items():
        level = found.predicted[name].value
        if not 0 < level - gain.high:
            continue  # a logarithm of nothing
        value, high, low = (math.log1p(-x / level) for x in (gain.value, gain.low, gain.high))
        predictions.append(
            Prediction(quantity=LOG_RATIO, baseline=name, value=value, low=low, high=high)
        )
    return tuple(predictions)
