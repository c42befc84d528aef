"""A changed set of domains, fitted around the base runs that are there: two runs a domain.

Source:
    Kang et al., "AutoScale: Scale-Aware Data Mixing for Pre-Training LLMs", COLM 2025,
    arXiv:2407.20177: DDO changes one domain around a base run, so a domain that comes later
    needs its own two runs at each scale and none of the others again.

Differs from the source:
    The paper says that much and no more; what follows is ours.
    A new domain's curve goes through 0, 1 and `grow` times the share of an earlier domain, the
    base runs being its 0. In runs that were not trained on it, its loss would mostly show what
    the others do for text never seen, which ends as soon as it is trained on: there, and for
    the curves of the others, its loss is that of its factor 1. A domain whose text changed is
    shrunk and grown with its new text in the place of the old, which the base runs stand for at
    factor 1. A domain that vanished stays in the base runs and is allocated nothing.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mixture_assets.core.errors import MixtureError, shortlist
from mixture_assets.core.problem import Problem, ProxyResult, ProxyRun
from mixture_assets.methods.base import finite_objective, losses_of
from mixture_assets.methods.ddo import DDO
from mixture_assets.methods.fit import Trial

Losses = Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class ExtendedDDO(DDO):
    """DDO around the base runs of an earlier set of domains.

    Differs from the source:
        See the module, and `DDO`.
    """

    around: tuple[str, ...] = ()  # names in the earlier base runs; none: as DDO
    replaced: Mapping[str, str] = field(default_factory=dict)  # domain -> its name in `around`

    def trials(self, problem: Problem, results: Sequence[ProxyResult]) -> list[Trial]:
        """The design with the objective of each run; new domains stand at factor 0 in the base."""
        design = self._design(problem)
        labels = self.labels(problem)
        losses = losses_of(labels, results, method="ddo")
        reference = self._reference(problem, losses)
        absent, share = self._absent(problem), self._share(problem)
        trials = []
        for run, domain, _ in design:
            changed = {domain} if domain else set()
            trials.append(
                Trial(
                    domain=domain,
                    factor=run.tokens[domain] / share if domain else 1.0,
                    objective=_objective(problem, losses, run, labels, reference, changed),
                    run_digest=run.digest,
                    seed=str(run.seed),
                )
            )
            if domain is None:
                trials += [
                    Trial(
                        domain=name,
                        factor=0.0,
                        objective=_objective(problem, losses, run, labels, reference, {name}),
                        run_digest=run.digest,
                        seed=str(run.seed),
                    )
                    for name in sorted(absent)
                ]
        return trials

    def _share(self, problem: Problem) -> int:
        return round(self.base_tokens / len(self.around or problem.domains))

    def _absent(self, problem: Problem) -> frozenset[str]:
        known = {*self.around, *self.replaced} if self.around else set(problem.domains)
        return frozenset(problem.domains) - known

    def _reference(self, problem: Problem, losses: Mapping[str, Losses]) -> dict[str, float]:
        """The loss of each new domain at factor 1, mean over seeds."""
        at_one: dict[str, list[float]] = {}
        for run, domain, factor in self._design(problem):
            if domain in self._absent(problem) and factor == 1:
                at_one.setdefault(domain, []).append(losses[run.digest][domain])
        return {name: math.fsum(found) / len(found) for name, found in at_one.items()}

    def _design(self, problem: Problem) -> list[tuple[ProxyRun, str | None, float]]:
        """The earlier design as far as its domains are left, and two runs for each other one."""
        if not self.around:
            return super()._design(problem)
        self._check(problem)
        absent, share = self._absent(problem), self._share(problem)
        base = dict.fromkeys(self.around, share)
        seen = frozenset(problem.domains) - absent
        design: dict[str, tuple[ProxyRun, str | None, float]] = {}

        def add(domain: str | None, factor: float, seed: int) -> None:
            tokens = {n: k for n, k in base.items() if n != self.replaced.get(domain or "")}
            if domain:
                tokens[domain] = round(share * factor)
            measured = seen | {domain} if domain else None
            run = ProxyRun(tokens=tokens, seed=seed, measured=measured)
            design.setdefault(run.digest, (run, domain, factor))

        for seed in self.seeds:
            add(None, 1.0, seed)
            for factor in (self.shrink, self.grow):
                for domain in sorted(seen):
                    add(domain, factor, seed)
            for factor in (1.0, self.grow):
                for domain in sorted(absent):
                    add(domain, factor, seed)
        for seed in self.base_seeds:
            add(None, 1.0, seed)
        return list(design.values())

    def _check(self, problem: Problem) -> None:
        left = set(problem.domains) & {*self.around, *self.replaced}
        if len(problem.domains) < 2 or not left:
            raise MixtureError(
                f"no earlier run can be built on: of {shortlist(self.around)} none is left",
                hint="mixture refit --way full",
            )


def _objective(
    problem: Problem,
    losses: Mapping[str, Losses],
    run: ProxyRun,
    labels: Mapping[str, str],
    reference: Losses,
    own: set[str],
) -> float:
    """The objective of a run, new domains that it is not about at their reference loss."""
    found = losses[run.digest]
    of_problem = {
        n: reference[n] if n in reference and n not in own else found[n] for n in problem.domains
    }
    return finite_objective(problem.objective, of_problem, labels[run.digest])
