"""Which runs an experiment asks for: every name, token and seed, before anything is trained."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mixture_assets.core.errors import MixtureError
from mixture_assets.core.experiment import Experiment
from mixture_assets.core.mixture import Mixture
from mixture_assets.core.names import nearest
from mixture_assets.core.problem import Problem, Proposal, ProxyRun
from mixture_assets.core.run import Measurement, ModelSpec, RunSpec
from mixture_assets.corpus import Corpus, Workspace
from mixture_assets.methods.autoscale import AutoScale
from mixture_assets.methods.baselines import Natural, Uniform
from mixture_assets.methods.ddo import DDO
from mixture_assets.training.device import probe


@dataclass(frozen=True)
class PlannedRun:
    """A run to make, with the words that people know it by."""

    spec: RunSpec
    measurement: Measurement
    purpose: str  # 'proxy' or 'full'
    label: str
    scale: str = ""
    mixture_name: str = ""

    @property
    def run_id(self) -> str:
        """Names the run and its folder."""
        return self.spec.digest


def problem_of(workspace: Workspace, corpus: Corpus) -> Problem:
    """What the mixing method is asked."""
    e = workspace.experiment
    for name in e.objective.weights:
        if name not in corpus.domains:
            raise MixtureError(
                f"objective: weights names {name!r}, which is no domain"
                f"{nearest(name, corpus.domains)}",
                hint=f"the domains are {', '.join(sorted(corpus.domains))}",
            )
    return Problem(
        available_tokens=corpus.available_tokens,
        budget_tokens=e.full.budget_tokens,
        objective=e.objective,
        constraints=e.constraints,
    )


def scales_of(experiment: Experiment) -> dict[str, DDO]:
    """DDO at each proxy scale, by its name."""
    p = experiment.proxy
    names = ("small", "large")[-len(p.budgets_tokens) :]
    return {
        name: DDO(
            base_tokens=budget,
            grow=p.grow,
            shrink=p.shrink,
            floor=p.floor,
            seeds=p.seeds,
            base_seeds=p.base_seeds,
            scale=name,
            bootstrap=p.bootstrap,
        )
        for name, budget in zip(names, p.budgets_tokens, strict=True)
    }


def method_of(experiment: Experiment) -> AutoScale | DDO:
    """AutoScale over two proxy scales, or DDO at the one there is."""
    scales = scales_of(experiment)
    if len(scales) == 1:
        return next(iter(scales.values()))
    p = experiment.proxy
    return AutoScale(
        small=scales["small"], large=scales["large"], rule=p.rule, bootstrap=p.bootstrap
    )


def plan_proxies(workspace: Workspace, corpus: Corpus) -> list[PlannedRun]:
    """The proxy runs of every scale, longest first."""
    e, problem = workspace.experiment, problem_of(workspace, corpus)
    planned = [
        PlannedRun(
            spec=proxy_spec(workspace, corpus, run),
            measurement=measurement_on(corpus, e.proxy.evaluations),
            purpose="proxy",
            label=ddo.labels(problem)[run.digest],
            scale=scale,
        )
        for scale, ddo in scales_of(e).items()
        for run in ddo.plan(problem)
    ]
    check_epochs(planned, corpus, e.constraints.max_epochs)
    # A mistake in the baselines, or too little data for them, must not wait for the proxy runs.
    _full_runs(workspace, corpus, baselines(workspace, corpus))
    return sorted(planned, key=lambda p: (-p.spec.budget_tokens, p.run_id))


def proxy_spec(workspace: Workspace, corpus: Corpus, run: ProxyRun) -> RunSpec:
    """A method's request, with everything else that its result depends on."""
    e = workspace.experiment
    return _spec(workspace, corpus, run.tokens, run.seed, e.proxy_model or e.model)


def measurement_on(corpus: Corpus, evaluations: int) -> Measurement:
    """Every domain's validation documents, at the end of a run and so often on the way."""
    sets = {name: d.validation_digest for name, d in sorted(corpus.domains.items())}
    return Measurement(validation_sets=sets, evaluations=evaluations)


def plan_full_runs(workspace: Workspace, corpus: Corpus, proposal: Proposal) -> list[PlannedRun]:
    """The full runs: the proposal and its baselines, each from the same seeds."""
    known = baselines(workspace, corpus) | {"proposal": proposal.mixture}
    return _full_runs(workspace, corpus, known)


def _full_runs(
    workspace: Workspace, corpus: Corpus, known: Mapping[str, Mixture]
) -> list[PlannedRun]:
    """Runs of the mixtures that are known, in the experiment's order."""
    e = workspace.experiment
    measurement = measurement_on(corpus, e.full.evaluations)
    planned = []
    for name in (n for n in e.full.mixtures if n in known):
        tokens = known[name].split(e.full.budget_tokens)
        for seed in e.full.seeds:
            spec = _spec(workspace, corpus, tokens, seed, e.model)
            label = f"{name} seed {seed}"
            planned.append(PlannedRun(spec, measurement, "full", label, "full", name))
    check_epochs(planned, corpus, e.constraints.max_epochs)
    return planned


def baselines(workspace: Workspace, corpus: Corpus) -> dict[str, Mixture]:
    """The mixtures that need no proxy run: known, and checked, before anything is trained.

    Natural and uniform come as near to their names as max_epochs lets them; your own weights
    are taken as they are.
    """
    full, problem = workspace.experiment.full, problem_of(workspace, corpus)
    known = {
        "natural": Natural().propose(problem, []).mixture,
        "uniform": Uniform().propose(problem, []).mixture,
    }
    if full.weights:
        known["custom"] = Mixture(full.weights)
        known["custom"].check_domains(problem.domains)
    elif "custom" in full.mixtures:
        raise MixtureError(
            "full: mixtures names 'custom', but there are no weights for it",
            hint="add a [full.weights] table",
        )
    return known


def _spec(
    workspace: Workspace,
    corpus: Corpus,
    tokens: Mapping[str, int],
    seed: int,
    model: ModelSpec,
) -> RunSpec:
    training = workspace.experiment.training
    return RunSpec(
        tokens=dict(sorted(tokens.items())),
        seed=seed,
        model=model,
        training=training,
        vocab_size=corpus.tokenizer.vocab_size,
        token_sets={n: corpus.domains[n].digest for n in sorted(tokens)},
        numeric_path=probe(training, model.context).numeric_path,
        tokenizer=corpus.tokenizer.digest,
    )


def check_epochs(planned: Sequence[PlannedRun], corpus: Corpus, max_epochs: float) -> None:
    """Raise before anything starts if a run would read a domain more than `max_epochs` times."""
    for run in planned:
        for domain, tokens in run.spec.tokens.items():
            available = corpus.domains[domain].available_tokens
            if tokens > max_epochs * available + 1:  # a cap that is met exactly may be rounded up
                raise MixtureError(
                    f"{domain!r} would be read {tokens / available:.3g} times in the run "
                    f"{run.label!r}: it asks for {tokens:,} tokens of {available:,}, "
                    f"max_epochs is {max_epochs:g}",
                    hint="lower the budget, raise [constraints] max_epochs, or add data",
                )
