"""What an experiment selects from, and the runs that find out whether that pays: all names first.

base       each model on the natural mixture of the domains, unless it is a folder
selector   what perplexity and gradient score with: the base, trained on for a little
finetune   each model from its base on each subset, in every seed
"""

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mixture_assets.core.errors import MixtureError, MixtureWarning
from mixture_assets.core.experiment import SelectionSpec
from mixture_assets.core.names import SELECTED, SPECIALIST, nearest
from mixture_assets.core.run import (
    LoraSpec,
    Measurement,
    ModelSpec,
    RunSpec,
    StartSpec,
    TrainingSpec,
)
from mixture_assets.corpus import Corpus, Workspace, tokenize_domain
from mixture_assets.data.pool import PoolSet, build_pool
from mixture_assets.data.shards import shards_at
from mixture_assets.data.specialist import SpecialistSet
from mixture_assets.data.subset import build_subset
from mixture_assets.data.token_store import DomainTokens, load_validation
from mixture_assets.embeddings import settings_of
from mixture_assets.methods.baselines import Natural
from mixture_assets.plans import PlannedRun, problem_of, run_spec
from mixture_assets.specialist import specialist_set
from mixture_assets.store.runs import RunFolder

Starts = Mapping[str, tuple[str, ModelSpec]]  # model -> what it goes on from, and what that is
PURPOSES = ("base", "selector", "finetune")
_ONLY_MODEL = "model"  # what [model] is called where [selection] names none


@dataclass(frozen=True)
class Selection:
    """The pool, the specialist set and the models of an experiment's [selection]."""

    workspace: Workspace
    corpus: Corpus
    specialist: SpecialistSet
    pool: PoolSet

    @classmethod
    def of(cls, workspace: Workspace, corpus: Corpus) -> "Selection":
        """Build the pool and the specialist set; warn of what is left out.

        Raises:
            MixtureError: The experiment has no [selection], or no document is left to choose.
        """
        if workspace.experiment.selection is None:
            raise MixtureError(
                "the experiment has no table [selection]",
                hint="examples/selection.toml has one; docs/experiment.md explains it",
            )
        _check_embedding(workspace)
        specialist = specialist_set(workspace, corpus)
        assert specialist is not None  # a rule of the experiment file
        return cls(workspace, corpus, specialist, _pool(workspace, corpus, specialist))

    @property
    def spec(self) -> SelectionSpec:
        """The experiment's table [selection]."""
        found = self.workspace.experiment.selection
        assert found is not None
        return found

    @property
    def models(self) -> dict[str, ModelSpec]:
        """The models to train, by name."""
        return dict(self.spec.models) or {_ONLY_MODEL: self.workspace.experiment.model}

    @property
    def selector(self) -> str:
        """The model that scores."""
        return self.spec.selector or min(self.models)

    @property
    def embedding(self) -> str:
        """The embedding's name; a folder is beside the experiment file where it is there."""
        return _beside(self.workspace, self.spec.embedding)

    @property
    def training(self) -> TrainingSpec:
        """Hyper-parameters of going on from a model."""
        training, s = self.workspace.experiment.training, self.spec
        return dataclasses.replace(
            training,
            learning_rate=s.learning_rate or training.learning_rate,
            batch_tokens=s.batch_tokens or training.batch_tokens,
        )

    @property
    def measurement(self) -> Measurement:
        """The specialist set: what judges, and what steers beside it."""
        return Measurement(validation_sets=self.specialist.validation_sets)

    def base_runs(self) -> list[PlannedRun]:
        """The models that are not folders, trained on the natural mixture; longest first."""
        problem = dataclasses.replace(
            problem_of(self.workspace, self.corpus), budget_tokens=self.spec.base_tokens
        )
        mixture = Natural().propose(problem, []).mixture
        tokens = mixture.split(self.spec.base_tokens)
        planned = []
        for name, model in sorted(self.models.items()):
            if name not in self.spec.base:
                spec = run_spec(self.workspace, self.corpus, tokens, 0, model, self.corpus.domains)
                run = PlannedRun(spec, self.measurement, "base", f"base {name}", name, "natural")
                planned.append(run)
        return planned

    def starts(self) -> Starts:
        """Every model as the store has it, once the base runs are done.

        Raises:
            MixtureError: A folder holds no model that can be gone on from.
        """
        from mixture_assets.training.start import adopt_model  # loads transformers

        base = {run.scale: run for run in self.base_runs()}
        found = {}
        for name in sorted(self.models):
            if name in base:
                folder = RunFolder(self.workspace.store, base[name].run_id).model_path
            else:
                folder = Path(self.workspace.experiment.beside(self.spec.base[name]))
            found[name] = adopt_model(self.workspace.store, folder)
        return found

    def reference_run(self, starts: Starts) -> PlannedRun:
        """The selector, trained on the documents that steer: what perplexity scores with."""
        tokens = self.specialist.tokens
        n = self.spec.reference_epochs * tokens.available_tokens
        run = self._run(starts, self.selector, tokens, n, seed=0)
        return PlannedRun(run, self.measurement, "selector", "reference", self.selector, SPECIALIST)

    def warmup_run(self, starts: Starts, chosen: Sequence[str]) -> PlannedRun:
        """The selector, trained on a little of the pool: what gradients are taken of."""
        tokens = self.subset(chosen)
        n = self.spec.warmup_epochs * one_pass(tokens, self.context(starts, self.selector))
        run = self._run(starts, self.selector, tokens, n, seed=0)
        run = dataclasses.replace(run, snapshots=self.spec.warmup_epochs)
        return PlannedRun(run, self.measurement, "selector", "warm-up", self.selector, "random")

    def finetune_run(
        self,
        starts: Starts,
        model: str,
        tokens: DomainTokens,
        *,
        seed: int,
        label: str,
        method: str,
    ) -> PlannedRun:
        """One pass over a subset, from a model's start."""
        n = one_pass(tokens, self.context(starts, model))
        run = self._run(starts, model, tokens, n, seed=seed)
        return PlannedRun(run, self.measurement, "finetune", label, model, method)

    def context(self, starts: Starts, model: str) -> int:
        """Tokens of a training window: the experiment's, or fewer where the model knows fewer."""
        return min(self.workspace.experiment.model.context, starts[model][1].context)

    def subset(self, chosen: Sequence[str]) -> DomainTokens:
        """Chosen documents as a token set."""
        return build_subset(
            chosen,
            self.pool.paths(self.workspace.store),
            store=self.workspace.store,
            tokenizer=self.corpus.tokenizer.digest,
            eos_id=self.corpus.tokenizer.eos_id,
            context=self.workspace.experiment.model.context,
        )

    def _run(
        self, starts: Starts, model: str, tokens: DomainTokens, n: int, *, seed: int
    ) -> RunSpec:
        digest, spec = starts[model]
        found = run_spec(
            self.workspace,
            self.corpus,
            {tokens.domain: n},
            seed,
            dataclasses.replace(spec, context=self.context(starts, model)),
            {tokens.domain: tokens},
            self.training,
        )
        lora = LoraSpec(rank=self.spec.lora_rank) if self.spec.lora_rank else None
        return dataclasses.replace(found, start=StartSpec(model=digest, lora=lora))


def _beside(workspace: Workspace, name: str) -> str:
    kind, colon, where = name.partition(":")
    return f"{kind}:{workspace.experiment.beside(where)}" if colon else name


def _check_embedding(workspace: Workspace) -> None:
    """A mistake is told before anything is trained."""
    spec = workspace.experiment.selection
    if spec is not None and "embedding" in spec.methods:
        settings_of(_beside(workspace, spec.embedding), store=workspace.store)


def one_pass(tokens: DomainTokens, context: int) -> int:
    """Tokens of all whole windows of a token set."""
    return sum(max(1, (n - 1) // context) * context for _, n in tokens.arrays)


def _pool(workspace: Workspace, corpus: Corpus, specialist: SpecialistSet) -> PoolSet:
    spec = workspace.experiment.selection
    assert spec is not None
    sources, held_out = _sources(workspace, corpus, spec)
    store = workspace.store
    kept = {name: load_validation(store, name, v) for name, v in specialist.validation_sets.items()}
    pool = build_pool(
        sources,
        store=store,
        tokenizer=corpus.tokenizer.digest,
        leaked=frozenset(d for documents in kept.values() for d in documents.doc_ids),
        held_out=held_out,
        most_tokens=spec.pool_tokens,
    )
    if pool.n_leaked:
        warnings.warn(
            f"{pool.n_leaked:,} documents of the pool are in the specialist set too; they are left "
            "out of the pool",
            MixtureWarning,
            stacklevel=3,
        )
    return pool


def _sources(
    workspace: Workspace, corpus: Corpus, spec: SelectionSpec
) -> tuple[dict[str, Path], float | None]:
    """Token shards by digest, and the share of documents that domains hold out."""
    if spec.pool:
        raw = shards_at(
            spec.pool if "://" in spec.pool else workspace.experiment.beside(spec.pool),
            SELECTED,
            cache=workspace.store / "shards.json",
            noun="pool",
        )
        shards = tokenize_domain(workspace, corpus.tokenizer, raw)
        return {shard.digest: shard.path for shard in shards}, None
    for name in spec.domains:
        if name not in corpus.domains:
            raise MixtureError(
                f"selection: domains names {name!r}, which is no domain"
                f"{nearest(name, corpus.domains)}",
                hint=f"the domains are {', '.join(sorted(corpus.domains))}",
            )
    found: dict[str, Path] = {}
    for name in spec.domains or sorted(corpus.domains):
        domain = corpus.domains[name]
        found |= dict(zip(domain.token_shards, domain.shard_paths(workspace.store), strict=True))
    return found, workspace.experiment.data.validation_fraction
