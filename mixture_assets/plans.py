"""Which runs an experiment asks for: every name, token and seed, before anything is trained."""

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from mixture_assets.core.errors import MixtureError, shortlist
from mixture_assets.core.experiment import Experiment
from mixture_assets.core.mixture import Mixture
from mixture_assets.core.names import SPECIALIST, nearest
from mixture_assets.core.problem import Problem, Proposal, ProxyRun
from mixture_assets.core.run import Measurement, ModelSpec, RunSpec, TrainingSpec
from mixture_assets.corpus import Corpus, Workspace
from mixture_assets.data.token_store import DomainTokens
from mixture_assets.methods.baselines import Natural, Uniform
from mixture_assets.policies import Policies
from mixture_assets.search import Search, method_of, token_sets
from mixture_assets.standing import current_search
from mixture_assets.training.device import probe


@dataclass(frozen=True)
class PlannedRun:
    """A run to make, with the words that people know it by."""

    spec: RunSpec
    measurement: Measurement
    purpose: str  # 'proxy', 'full', or of a selection: 'base', 'selector', 'finetune'
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


def plan_proxies(
    workspace: Workspace, corpus: Corpus, search: Search | None = None
) -> list[PlannedRun]:
    """The proxy runs of a search, by default the experiment's current one; longest first."""
    e = workspace.experiment
    requests = Requests.of(workspace, corpus, search)
    planned = [
        PlannedRun(
            spec=requests.spec(run),
            measurement=measurement_on(corpus, e.proxy.evaluations, run.measured),
            purpose="proxy",
            label=requests.labels[run.digest],
            scale=requests.labels[run.digest].partition(" ")[0],  # a label begins with its scale
        )
        for run in requests.runs
    ]
    check_epochs(planned, requests.drawn.values(), e.constraints.max_epochs)
    # A mistake in the baselines, or too little data for them, must not wait for the proxy runs.
    _full_runs(workspace, corpus, baselines(workspace, corpus))
    return sorted(planned, key=lambda p: (-p.spec.budget_tokens, p.run_id))


@dataclass(frozen=True)
class Requests:
    """What a search's method asks for, and how its names become runs."""

    workspace: Workspace
    corpus: Corpus
    runs: Sequence[ProxyRun]
    labels: Mapping[str, str]  # by digest of the request
    drawn: Mapping[str, DomainTokens]  # what each name in a request draws from

    @classmethod
    def of(cls, workspace: Workspace, corpus: Corpus, search: Search | None = None) -> "Requests":
        """The requests of a search, by default the experiment's current one."""
        search = search or current_search(workspace, corpus)
        method, problem = method_of(workspace.experiment, search), problem_of(workspace, corpus)
        return cls(
            workspace,
            corpus,
            method.plan(problem),
            method.labels(problem),
            token_sets(workspace, corpus, search),
        )

    def spec(self, run: ProxyRun) -> RunSpec:
        """A request, with everything else that its weights depend on."""
        e = self.workspace.experiment
        return run_spec(
            self.workspace, self.corpus, run.tokens, run.seed, e.proxy_model or e.model, self.drawn
        )


def measurement_on(
    corpus: Corpus, evaluations: int, domains: Collection[str] | None = None
) -> Measurement:
    """Validation documents of all or some domains, at the end of a run and so often on the way."""
    sets = {
        name: d.validation_digest
        for name, d in sorted(corpus.domains.items())
        if domains is None or name in domains
    }
    return Measurement(validation_sets=sets, evaluations=evaluations)


def plan_full_runs(
    workspace: Workspace, corpus: Corpus, proposal: Proposal | None
) -> list[PlannedRun]:
    """The full runs: the proposal, its baselines and the policies, each from the same seeds.

    Without a proposal, those that need none.
    """
    known = baselines(workspace, corpus)
    if proposal is not None:
        known["proposal"] = proposal.mixture
    return _full_runs(workspace, corpus, known)


def some_full_runs(
    planned: Sequence[PlannedRun], mixtures: Collection[str] = (), seeds: Collection[int] = ()
) -> list[PlannedRun]:
    """Those of some mixtures and seeds, of all where none is named.

    Raises:
        MixtureError: The experiment has no full run of a mixture or a seed that is named.
    """
    _require(mixtures, {run.mixture_name for run in planned}, "mixtures")
    _require(seeds, {run.spec.seed for run in planned}, "seeds")
    return [
        run
        for run in planned
        if (not mixtures or run.mixture_name in mixtures) and (not seeds or run.spec.seed in seeds)
    ]


def n_not_among(workspace: Workspace, runs: Sequence[PlannedRun]) -> int:
    """Full runs that the experiment file names, by mixture and seed, and that are not there."""
    full = workspace.experiment.full
    found = {(run.mixture_name, run.spec.seed) for run in runs}
    return sum((m, s) not in found for m in full.mixtures for s in full.seeds)


def require_full_runs(
    experiment: Experiment, mixtures: Collection[str], seeds: Collection[int]
) -> None:
    """MixtureError about full runs that the experiment file does not name: before the search."""
    _require(mixtures, experiment.full.mixtures, "mixtures")
    _require(seeds, experiment.full.seeds, "seeds")


def _require(asked: Collection[object], known: Collection[object], what: str) -> None:
    unknown = set(asked) - set(known)
    if unknown:
        raise MixtureError(
            f"the experiment has no full runs of {what} {shortlist(unknown)}",
            hint=f"[full] {what} has {shortlist(known, 12)}",
        )


def _full_runs(
    workspace: Workspace, corpus: Corpus, known: Mapping[str, Mixture]
) -> list[PlannedRun]:
    """Runs of the mixtures that are known, and of the policies, in the experiment's order."""
    e = workspace.experiment
    policies = Policies.of(workspace, corpus)
    known = {**known, **policies.mixtures(e.full.mixtures)}
    measurement = measurement_on(corpus, e.full.evaluations)
    measurement = dataclasses.replace(
        measurement,
        validation_sets={**measurement.validation_sets, **policies.validation_sets},
    )
    planned, drawn = [], {**corpus.domains, **policies.drawn}
    for name in (n for n in e.full.mixtures if n in known):
        tokens, online = known[name].split(e.full.budget_tokens), policies.online(name)
        for seed in e.full.seeds:
            spec = run_spec(workspace, corpus, tokens, seed, e.model, drawn)
            spec = dataclasses.replace(spec, online=online)
            label = f"{name} seed {seed}"
            planned.append(PlannedRun(spec, measurement, "full", label, "full", name))
    # A run that steers itself is held within the caps while it trains, and the specialist set is
    # read again and again by a baseline whose name says so.
    static = [r for r in planned if r.spec.online is None and r.mixture_name != SPECIALIST]
    check_epochs(static, corpus.domains.values(), e.constraints.max_epochs)
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


def run_spec(
    workspace: Workspace,
    corpus: Corpus,
    tokens: Mapping[str, int],
    seed: int,
    model: ModelSpec,
    drawn: Mapping[str, DomainTokens],
    training: TrainingSpec | None = None,
) -> RunSpec:
    """A run of an experiment: tokens by name, and what each name draws from."""
    training = training or workspace.experiment.training
    return RunSpec(
        tokens=dict(sorted((drawn[name].domain, n) for name, n in tokens.items())),
        seed=seed,
        model=model,
        training=training,
        vocab_size=corpus.tokenizer.vocab_size,
        token_sets=dict(sorted((drawn[n].domain, drawn[n].digest) for n in tokens)),
        numeric_path=probe(training, model.context).numeric_path,
        tokenizer=corpus.tokenizer.digest,
    )


def check_epochs(
    planned: Sequence[PlannedRun], drawn: Iterable[DomainTokens], max_epochs: float
) -> None:
    """Raise before anything starts if a run would read a domain more than `max_epochs` times."""
    available_tokens = {(d.domain, d.digest): d.available_tokens for d in drawn}
    for run in planned:
        for domain, tokens in run.spec.tokens.items():
            available = available_tokens[domain, run.spec.token_sets[domain]]
            if tokens > max_epochs * available + 1:  # a cap that is met exactly may be rounded up
                raise MixtureError(
                    f"{domain!r} would be read {tokens / available:.3g} times in the run "
                    f"{run.label!r}: it asks for {tokens:,} tokens of {available:,}, "
                    f"max_epochs is {max_epochs:g}",
                    hint="lower the budget, raise [constraints] max_epochs, or add data",
                )
