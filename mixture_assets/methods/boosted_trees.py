"""Gradient-boosted trees: no assumed form, and none beyond the sampled mixtures.

Source:
    RegMix (Liu et al., 2407.01492), section 3.2 and its notebook: LightGBM with a learning rate of
    0.01 and up to 1,000 trees.

Differs from the source:
    The notebook stops early on its test set. Here all trees are grown: at this learning rate more
    of them do no harm. Leaves may hold 5 runs, for swarms of a few dozen.
"""

from dataclasses import dataclass

import lightgbm
import numpy as np

from mixture_assets.methods.surrogate import Predict
from mixture_assets.methods.swarm import Array


@dataclass(frozen=True, kw_only=True)
class BoostedTrees:
    """LightGBM regression (RegMix, section 3.2).

    Differs from the source:
        See the module.
    """

    n_trees: int = 1000
    learning_rate: float = 0.01
    min_runs_in_leaf: int = 5

    def fit(self, weights: Array, values: Array) -> Predict:
        """See Surrogate.fit."""
        booster = lightgbm.train(
            {
                "objective": "regression",
                "learning_rate": self.learning_rate,
                "min_data_in_leaf": self.min_runs_in_leaf,
                "deterministic": True,
                "force_row_wise": True,
                "num_threads": 1,  # the same trees whatever the machine
                "verbosity": -1,
            },
            lightgbm.Dataset(weights, values, free_raw_data=False),
            num_boost_round=self.n_trees,
        )
        return lambda asked: np.asarray(booster.predict(asked), dtype=float)
