"""Full runs whose mixture follows from a specialist set: static, or steered while they train.

importance   static: the shares of the domains that the specialist's documents are nearest to
specialist   static: nothing but the documents that steer, again and again
dga, doge    steered: see methods.dga and methods.doge
"""

import math
import warnings
from collections.abc import Collection
from dataclasses import dataclass

from mixture_assets.core.errors import MixtureError, MixtureWarning
from mixture_assets.core.mixture import Mixture
from mixture_assets.core.names import SPECIALIST
from mixture_assets.core.problem import Problem
from mixture_assets.core.run import OnlineSpec
from mixture_assets.corpus import Corpus, Workspace
from mixture_assets.data.online_layout import (
    MOST_UPDATE_SHARE,
    OnlineLayout,
    n_sequences,
    whole_caps,
)
from mixture_assets.data.specialist import SpecialistSet
from mixture_assets.data.token_store import DomainTokens
from mixture_assets.methods.baselines import Natural, Uniform
from mixture_assets.methods.basis import Basis
from mixture_assets.methods.constraints import constrain
from mixture_assets.methods.online import online_method, settings_of
from mixture_assets.specialist import specialist_set, steering_texts, texts_at, warn_of_judging

STEERED = ("dga", "doge")
_SPECIALIST_SHARE = 0.5  # of a training batch: the specialist batch behind an update
_FEW_UPDATES = 20  # docs/benchmarks.md: runs of fewer are hardly steered
_LEAST_TOKENS = 256  # of that batch: 128 to 2,048 could not be told apart (docs/benchmarks.md)


@dataclass(frozen=True)
class Policies:
    """What an experiment's specialist set makes possible."""

    workspace: Workspace
    corpus: Corpus
    problem: Problem
    specialist: SpecialistSet | None

    @classmethod
    def of(cls, workspace: Workspace, corpus: Corpus) -> "Policies":
        """Those of an experiment; without a specialist set there are none."""
        e = workspace.experiment
        problem = Problem(
            available_tokens=corpus.available_tokens,
            budget_tokens=e.full.budget_tokens,
            constraints=e.constraints,
        )
        return cls(workspace, corpus, problem, specialist_set(workspace, corpus))

    @property
    def validation_sets(self) -> dict[str, str]:
        """What full runs are measured on beside the domains."""
        return self.specialist.validation_sets if self.specialist else {}

    @property
    def drawn(self) -> dict[str, DomainTokens]:
        """What can be trained on beside the domains."""
        return {SPECIALIST: self.specialist.tokens} if self.specialist else {}

    def mixtures(self, names: Collection[str]) -> dict[str, Mixture]:
        """First mixture of each policy that is named."""
        if self.specialist is None:
            return {}
        known = {}
        for name in names:
            if name == SPECIALIST:
                known[name] = Mixture({SPECIALIST: 1.0})
            elif name == "importance":
                known[name] = constrain(self._importance(), self.problem)[0]
            elif name in STEERED:
                known[name] = self._start()
                self._require_room(name)
        return known

    def online(self, name: str) -> OnlineSpec | None:
        """How a policy steers; None for a static one."""
        if name not in STEERED or self.specialist is None:
            return None
        e = self.workspace.experiment
        said = e.online.dga if name == "dga" else e.online.doge
        method = online_method(name, said)  # a mistake is told before anything is trained
        basis = self._basis()
        self._check_updates(name, self._layout(method.update_steps, len(basis)))
        default = max(_LEAST_TOKENS, round(_SPECIALIST_SHARE * e.training.batch_tokens))
        asked = e.online.specialist_tokens or default
        return OnlineSpec(
            method=name,
            settings=settings_of(method),
            specialist=self.specialist.tokens.digest,
            specialist_tokens=max(e.model.context, asked),
            group_tokens=e.online.group_tokens,
            alignment=e.online.alignment,
            clip_norm=e.online.clip_norm,
            clip_by=e.online.clip_by,
            most_tokens=self._most_tokens(),
            basis=basis,
        )

    def _layout(self, update_steps: int, n_members: int) -> OnlineLayout:
        e, domains = self.workspace.experiment, self.problem.domains
        return OnlineLayout.planned(
            domains,
            n_groups=n_members or len(domains),
            budget_tokens=e.full.budget_tokens,
            batch_tokens=e.training.batch_tokens,
            group_tokens=e.online.group_tokens,
            update_steps=update_steps,
            context=e.model.context,
        )

    def _check_updates(self, name: str, layout: OnlineLayout) -> None:
        """Refuse a run without an update, and warn of one with few."""
        n_updates, n_steps = layout.n_updates, layout.n_steps
        often = max(1, n_steps // (2 * _FEW_UPDATES))
        if n_updates == 0:
            raise MixtureError(
                f"{name!r} would never update its weights in {_tokens(layout, layout.n_sequences)} "
                f"tokens: the first update comes after {layout.update_steps:,} steps of "
                f"{_tokens(layout, layout.batch)} and takes {_tokens(layout, layout.update_batch)}",
                hint=f"{self._more_updates(name, layout, often)} would let it",
            )
        if n_updates < _FEW_UPDATES:
            _warn(
                f"{name!r} updates its weights {n_updates} times in {n_steps:,} steps, so they "
                f"will hardly move; {self._more_updates(name, layout, often)} would update them "
                "more often"
            )
        if layout.update_batch > layout.batch and layout.update_share > MOST_UPDATE_SHARE:
            _warn(
                f"update steps of {name!r} take {layout.update_share:.0%} of the tokens, "
                f"{_tokens(layout, layout.update_batch)} each, so that the run has {n_steps:,} "
                f"steps and not {-(-layout.n_sequences // layout.batch):,}; a larger "
                f"[online.{name}] update_steps, or an [online] basis, would leave it more"
            )

    def _more_updates(self, name: str, layout: OnlineLayout, often: int) -> str:
        fits = layout.n_sequences >= often * layout.batch + layout.update_batch
        if often < layout.update_steps and fits:
            return f"[online.{name}] update_steps = {often}, or a larger [full] budget_tokens,"
        return "a larger [full] budget_tokens, or an [online] basis of fewer groups,"

    def _importance(self) -> Mixture:
        assert self.specialist is not None
        return self._importance_of(steering_texts(self.workspace, self.corpus, self.specialist))

    def _importance_of(self, texts: list[str]) -> Mixture:
        from mixture_assets.importance import importance_mixture  # scikit-learn takes a second

        return importance_mixture(self.workspace, self.problem.domains, texts).mixture

    def _start(self) -> Mixture:
        start = self.workspace.experiment.online.start
        if start == "importance":
            return constrain(self._importance(), self.problem)[0]
        method = Natural() if start == "natural" else Uniform()
        return method.propose(self.problem, []).mixture

    def _basis(self) -> dict[str, dict[str, float]]:
        """Distributions to mix instead of domains: of the specialist, and of each further text."""
        e = self.workspace.experiment
        if not e.online.basis or self.specialist is None:
            return {}
        if SPECIALIST in e.online.basis or "natural" in e.online.basis:
            raise MixtureError(
                f"[online] basis names {SPECIALIST!r} or 'natural', which are there anyway",
                hint="give your sets other names",
            )
        members = {"natural": self.problem.natural, SPECIALIST: self._importance()}
        for name, path in sorted(e.online.basis.items()):
            texts = texts_at(self.workspace, path)
            warn_of_judging(self.workspace, self.specialist, name, texts)
            members[name] = self._importance_of(texts)
        Basis.of(members)  # two that are the same are told before anything is trained
        return {name: dict(mixture) for name, mixture in members.items()}

    def _most_tokens(self) -> dict[str, int]:
        """Epoch caps that can bind: no domain is read more often than max_epochs."""
        most, budget = self.problem.constraints.max_epochs, self.problem.budget_tokens
        caps = {d: math.floor(most * n) for d, n in self.problem.available_tokens.items()}
        return caps if min(caps.values()) < budget else {}

    def _require_room(self, name: str) -> None:
        """MixtureError unless the caps hold the whole run, in whole sequences."""
        caps, budget = self._most_tokens(), self.problem.budget_tokens
        context = self.workspace.experiment.model.context
        room = context * sum(whole_caps(caps, context).values())
        if caps and room < context * n_sequences(budget, context):
            raise MixtureError(
                f"{name!r} asks for {budget:,} tokens where max_epochs leaves {room:,}, in whole "
                f"sequences of {context} and some to spare in each of {len(caps)} domains",
                hint="lower [full] budget_tokens, or raise [constraints] max_epochs",
            )


def _warn(text: str) -> None:
    warnings.warn(text, MixtureWarning, stacklevel=3)


def _tokens(layout: OnlineLayout, n_sequences: int) -> str:
    return f"{n_sequences * layout.context:,}"
