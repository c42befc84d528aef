"""The interface of every surrogate: learn mixture -> objective from runs, then predict.

A surrogate is a frozen dataclass whose fields are hyper-parameters and nothing else. What it
chooses from the data, a strength of regularisation for one, it chooses inside `fit`, so that runs
that are held out stay unseen.
"""

from collections.abc import Callable
from typing import Protocol

from mixture_assets.methods.swarm import Array

Predict = Callable[[Array], Array]  # (n, domains) -> (n,), in the unit of the objective


class Surrogate(Protocol):
    """What every surrogate offers."""

    def fit(self, weights: Array, values: Array) -> Predict:
        """Learn from runs.

        Args:
            weights: (runs, domains), each row sums to 1.
            values: (runs,), the objective.
        """
        ...
