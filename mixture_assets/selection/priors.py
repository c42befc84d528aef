"""What is published of each method's rate, for plans that have no measurement of their own.

    P(s) = P(0) + (P(1) - P(0)) (1 - exp(-rate s)) / (1 - exp(-rate))

s is the share of the pool that is trained on. At s = 1 every method has trained on the same
documents, so all end at the same performance.

Source:
    Accuracies of Yin and Rush, arXiv:2410.16208, figures 2 and 5b: MMLU, BBH and IFEval, models
    of 7B, 13B and 70B parameters, shares of 2.5 to 100 %, every selector of 7B parameters.

Shapes:
    B draws, L panels of the source's figures.

Differs from the source:
    Its own fits count selection as compute in which performance rises, so their rates are of no
    use at another price of selection. Here one P(0) and one P(1) for each panel and one rate for
    each method were fitted to the source's accuracies by least squares (a test does it again). A
    draw is one of the seven panels: what they disagree on is the interval.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from mixture_assets.methods.swarm import Array

PANELS = ("BBH 7B", "BBH 13B", "BBH 70B", "IFEval 7B", "MMLU 7B", "MMLU 13B", "MMLU 70B")
RATES: Mapping[str, Sequence[float]] = {  # by panel
    "random": (3.28, 35.24, 1.35, 1.90, 2.61, 3.57, 1.69),
    "bm25": (8.57, 91.81, 1.77, 0.54, 7.29, 11.48, 2.91),
    "embedding": (22.20, 40.54, 3.21, 0.81, 9.00, 6.07, 9.47),
    "perplexity": (20.77, 59.51, 9.42, 2.43, 9.06, 11.28, 30.19),
    "gradient": (29.69, 42.25, 12.39, 19.29, 18.11, 24.31, 14.09),
}
LARGEST_RATIO = 10.7  # of trained to selector parameters, by cost, in these panels: 70B to 7B


def prior_rates(method: str, panel: NDArray[np.int64]) -> Array | None:
    """(B,) rates of a method in drawn panels; None where nothing is published.

    Args:
        method: 'random', 'bm25', 'embedding', 'perplexity' or 'gradient'.
        panel: (B,), numbers of panels.
    """
    if method not in RATES:
        return None
    return np.asarray(RATES[method], dtype=float)[panel]


def draw_panels(n_draws: int, seed: int = 0) -> NDArray[np.int64]:
    """(B,) panels, each as often as any other but for one draw, in a drawn order."""
    order = np.arange(n_draws) % len(PANELS)
    return np.asarray(np.random.default_rng(seed).permutation(order))


def learned_share(rate: Array, share: float) -> Array:
    """(B,) how much of what the whole pool teaches is learned from a share of it: 0 to 1."""
    return np.asarray(np.expm1(-rate * share) / np.expm1(-rate))
