"""What a proposal expects of its full run: the objective over a baseline's, said beforehand.

Source:
    Kang et al., "AutoScale: Scale-Aware Data Mixing for Pre-Training LLMs", COLM 2025,
    arXiv:2407.20177: DDO allocates by an additive surrogate, which adds up what each domain's
    own curve says.

Differs from the source:
    The paper allocates by the surrogate and predicts nothing with it; what follows is ours. The
    surrogate is measured at the largest proxy scale and says the same for every budget, and
    it takes domains to act one by one: the paper's own numbers show it about 40 % too optimistic
    about the gain. A prediction is kept as it is said, and scored against the full runs: how far
    to trust it is found there, not here.

Units:
    Amounts are multiples of a domain's tokens in the base run.
"""

import math
from collections.abc import Mapping, Sequence

from mixture_assets.core.mixture import Mixture
from mixture_assets.core.problem import LOG_RATIO, CurveFit, Prediction, Problem
from mixture_assets.methods.curves import Curve
from mixture_assets.methods.uncertainty import percentile_interval

Curves = Sequence[CurveFit]


def surrogate_value(curves: Curves, mixture: Mapping[str, float]) -> float:
    """The objective of a mixture at the curves' scale, in multiples of the base run's.

    y = 1 + sum_i (f_i(x_i) - f_i(1)), x_i = w_i sum(base tokens) / base tokens_i

    NaN where the mixture lies outside a curve's domain, or the sum is not above 0. A domain that
    has no falling curve adds nothing.
    """
    total = math.fsum(fit.base_tokens for fit in curves)
    terms = [1.0]
    for fit in curves:
        if fit.a is None or fit.b is None or fit.c is None:
            continue
        amount = mixture[fit.domain] * total / fit.base_tokens
        if amount + fit.a <= 0 or 1 + fit.a <= 0:
            return math.nan
        curve = Curve(a=fit.a, b=fit.b, c=fit.c)
        terms.append(curve.value(amount) - curve.value(1.0))
    value = math.fsum(terms)
    return value if value > 0 else math.nan


def predictions(
    problem: Problem, mixture: Mixture, curves: Curves, redrawn: Sequence[Curves] = ()
) -> tuple[Prediction, ...]:
    """The proposal beside natural and beside uniform, as far as the surrogate reaches.

    Args:
        problem: What the weights are for.
        mixture: The proposed weights, constraints applied.
        curves: By domain, of the largest scale.
        redrawn: The curves of each bootstrap draw. The mixture stays: an optimum that is chosen
            anew for each draw would look better than it is.

    Returns:
        One for each baseline; none for a baseline that has too little of a domain for its curve.
    """
    found = []
    for name, baseline in (("natural", problem.natural), ("uniform", problem.uniform)):
        value = _log_ratio(curves, mixture, baseline)
        if not math.isfinite(value):
            continue
        drawn = [_log_ratio(each, mixture, baseline) for each in redrawn]
        low, high = _interval(value, drawn)
        found.append(Prediction(quantity=LOG_RATIO, baseline=name, value=value, low=low, high=high))
    return tuple(found)


def _log_ratio(curves: Curves, mixture: Mixture, baseline: Mixture) -> float:
    # a log of NaN is NaN: outside the curves there is no answer
    return math.log(surrogate_value(curves, mixture)) - math.log(surrogate_value(curves, baseline))


def _interval(value: float, drawn: Sequence[float]) -> tuple[float | None, float | None]:
    """Around the value; unknown where half of the draws have no answer."""
    known = [x for x in drawn if math.isfinite(x)]
    if not known or len(known) < len(drawn) / 2:
        return None, None
    low, high = percentile_interval(known)
    return min(low, value), max(high, value)
