"""Nested scaling laws: steps, then model size, then the mixing law over mixtures.

Source:
    Data Mixing Laws (Ye et al., 2403.16952), the pipeline of its section on the nested use of
    scaling laws: small models, trained briefly on a few mixtures, predict a large model, trained
    for long, on any mixture.

Differs from the source:
    Each law is fitted as in `power_law` and `mixing_law`, not by a Huber loss from random starts.

How it goes, for each mixture:
    L(S) = E + B / S^beta      over the steps of every (mixture, size), read off at the steps asked
    L(N) = E + A / N^alpha     over the sizes, read off at the size asked
    L(w) = c + exp(t . w)      over the mixtures: the predictions are its data
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from mixture_assets.core.errors import MixtureError, shortlist
from mixture_assets.core.mixture import Mixture
from mixture_assets.methods.mixing_law import ExponentialLaw
from mixture_assets.methods.power_law import fit_power_law
from mixture_assets.methods.surrogate import Predict, Surrogate

Point = tuple[str, float, float]  # mixture's name, parameters, step


@dataclass(frozen=True, kw_only=True)
class NestedFit:
    """What small runs say of a large one."""

    predicted: Mapping[str, float]  # mixture's name -> loss at the size and steps asked
    at_steps: Mapping[tuple[str, float], float]  # (mixture, parameters) -> loss at the steps asked
    domains: tuple[str, ...]
    predict: Predict  # (n, domains) -> (n,)

    def loss(self, mixture: Mapping[str, float]) -> float:
        """Predicted loss of any mixture at the size and steps asked."""
        Mixture(mixture).check_domains(list(self.domains))
        row = np.array([[mixture.get(name, 0.0) for name in self.domains]])
        return float(self.predict(row)[0])


@dataclass(frozen=True, kw_only=True)
class NestedLaw:
    """Predict at `params` and `steps` from runs at less of both."""

    params: float  # of the model that the answer is for
    steps: float  # of the run that the answer is for
    law: Surrogate = field(default_factory=ExponentialLaw)  # over mixtures

    def fit(
        self, mixtures: Mapping[str, Mapping[str, float]], losses: Mapping[Point, float]
    ) -> NestedFit:
        """Learn from losses on the way.

        Args:
            mixtures: Name -> weights by domain.
            losses: (mixture's name, parameters, step) -> loss. At least 3 steps for each mixture
                and size, and 3 sizes for each mixture; sizes and steps may differ between them.
        """
        _check(mixtures, losses)
        at_steps = self._over_steps(losses)
        predicted = self._over_sizes(at_steps)
        names = sorted(predicted)
        domains = tuple(sorted(mixtures[names[0]]))
        weights = np.array([[Mixture(mixtures[n])[d] for d in domains] for n in names])
        values = np.array([predicted[name] for name in names])
        predict = self.law.fit(weights, values)
        return NestedFit(predicted=predicted, at_steps=at_steps, domains=domains, predict=predict)

    def _over_steps(self, losses: Mapping[Point, float]) -> dict[tuple[str, float], float]:
        curves: dict[tuple[str, float], list[tuple[float, float]]] = defaultdict(list)
        for (mixture, params, step), loss in sorted(losses.items()):
            curves[mixture, params].append((step, loss))
        return {
            (mixture, params): _read_off(
                points, self.steps, f"the law of steps of {mixture!r} at {params:g} parameters"
            )
            for (mixture, params), points in curves.items()
        }

    def _over_sizes(self, at_steps: Mapping[tuple[str, float], float]) -> dict[str, float]:
        curves: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for (mixture, params), loss in at_steps.items():
            curves[mixture].append((params, loss))
        return {
            mixture: _read_off(points, self.params, f"the law of sizes of {mixture!r}")
            for mixture, points in curves.items()
        }


def _read_off(points: list[tuple[float, float]], at: float, what: str) -> float:
    x, y = np.array(points).T
    return fit_power_law(x, y, what=what).value(at)


def _check(mixtures: Mapping[str, Mapping[str, float]], losses: Mapping[Point, float]) -> None:
    measured = {mixture for mixture, _, _ in losses}
    if measured != set(mixtures):
        raise MixtureError(
            f"mixtures and losses disagree: {shortlist(measured ^ set(mixtures))} in only one"
        )
    if len(mixtures) < 2:
        raise MixtureError(f"a mixing law is over two mixtures or more, got {len(mixtures)}")
    first = min(mixtures)
    other = [n for n, weights in mixtures.items() if set(weights) != set(mixtures[first])]
    if other:
        raise MixtureError(f"{shortlist(other)} have other domains than {first!r}")
