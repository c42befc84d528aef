"""DoGE towards a specialist set: alignments scaled by the learning rate; the answer is a mean.

Source:
    Fan, Pagliardini and Jaggi, "DoGE: Domain Reweighting with Generalization Estimation",
    ICML 2024, 2310.15393, its out-of-domain variant; constants of its public code.

Units:
    An alignment is <gradient of a domain's loss, gradient of the specialist loss>, both clipped.

Differs from the source:
    The source updates at every step of a proxy model; here one update stands for the
    `update_steps` steps of its period, so its exponent is that many times larger. Scores are
    divided by the norm of the (clipped) specialist gradient, where the code takes the mean norm of
    the domains' gradients, which is not measured here. The source samples domains uniformly and
    weights their losses; here batches are drawn from the weights, which is the same in
    expectation. The floor is ours.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from mixture_assets.core.mixture import Mixture
from mixture_assets.methods.dga import check_update
from mixture_assets.methods.online_state import (
    Feedback,
    OnlineState,
    check_setting,
    is_number,
    started,
    stepped,
    with_floor,
)


@dataclass(frozen=True, kw_only=True)
class DoGE:
    """Exponentiated scores that are clipped, and scaled by the learning rate.

        w_i <- w_i exp(update_steps s_i / mu) / sum of the same
        s_i = lr * clip(a_i / |specialist gradient|, 0, most)

    A negative alignment counts as 0: an opposed domain loses only by what the others gain.

    Differs from the source:
        See the module.
    """

    mu: float = 0.05  # price of moving the weights
    most: float = 5.0  # of a_i / |specialist gradient|
    update_steps: int = 100  # training steps from one update to the next; the source has 1
    floor: float = 0.01  # share of the tokens that is drawn uniformly over domains

    def __post_init__(self) -> None:
        for name, value in (("mu", self.mu), ("most", self.most)):
            is_positive = is_number(value, 0, 1e9) and value > 0
            check_setting(name, value, is_positive, "a number above 0, at most 1e9")
        check_update(self.update_steps, self.floor)

    def start(self, mixture: Mixture) -> OnlineState:
        """The state at a mixture; the source's is uniform."""
        return started(mixture, floor=self.floor)

    def update(self, state: OnlineState, feedback: Feedback) -> OnlineState:
        """One update, and the running sum of the weights."""
        rate = self.update_steps * feedback.learning_rate / self.mu
        exponent = {name: rate * s for name, s in self._scores(feedback).items()}
        after = stepped(state, exponent, ema=1.0, floor=self.floor)
        total = {n: state.extra.get(n, 0.0) + w for n, w in after.weights.items()}
        return replace(after, extra=total)

    def sampled(self, state: OnlineState) -> Mixture:
        """(1 - floor) weights + floor / D: without a moving average."""
        return with_floor(state.average, self.floor)

    def mean_weights(self, state: OnlineState) -> Mixture:
        """The method's product: the mean of the weights over all updates, for a run of its own."""
        return Mixture.proportional_to(state.extra) if state.n_updates else state.weights

    def _scores(self, feedback: Feedback) -> Mapping[str, float]:
        norm = min(feedback.specialist_norm, feedback.clip_norm)
        if not norm > 0:  # nothing to be aligned with
            return dict.fromkeys(feedback.alignment, 0.0)
        return {n: min(max(a / norm, 0.0), self.most) for n, a in feedback.alignment.items()}
