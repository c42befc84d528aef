"""A Gaussian process on the square roots of the weights, with a length scale for each domain.

Source:
    Rasmussen and Williams, Gaussian Processes for Machine Learning, algorithm 2.1, by
    scikit-learn. Square roots put mixtures on a sphere, where a step from 0 to 0.01 is as long as
    one from 0.25 to 0.36: the first tokens of a domain change most.
"""

import warnings
from dataclasses import dataclass

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, Kernel, WhiteKernel

from mixture_assets.methods.surrogate import Predict
from mixture_assets.methods.swarm import Array


@dataclass(frozen=True, kw_only=True)
class GaussianProcess:
    """Squared-exponential kernel with a length scale per domain, and noise.

    Length scales are found on at most `n_tuning` runs, evenly spread over the given ones: their
    cost grows with the cube of the runs. All runs are used to predict.
    """

    n_tuning: int = 192

    def fit(self, weights: Array, values: Array) -> Predict:
        """See Surrogate.fit."""
        roots = np.sqrt(weights)
        every = max(1, -(-len(values) // self.n_tuning))
        kernel = _tuned(roots[::every], values[::every])
        model = GaussianProcessRegressor(kernel, optimizer=None, normalize_y=True)
        model.fit(roots, values)
        return lambda asked: np.asarray(model.predict(np.sqrt(asked)))


def _tuned(roots: Array, values: Array) -> Kernel:
    n_domains = roots.shape[1]
    signal = ConstantKernel(10.0, (1e-2, 1e5))
    scales = RBF(np.full(n_domains, 1.0), (5e-2, 1e3))
    kernel = signal * scales + WhiteKernel(1e-2, (1e-8, 1e1))
    model = GaussianProcessRegressor(kernel, normalize_y=True)
    with warnings.catch_warnings():  # a length scale at its bound: a domain that does not matter
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(roots, values)
    return model.kernel_
