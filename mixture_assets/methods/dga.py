"""DGA: while training, give more weight to the domains whose gradients help the specialist set.

Source:
    Fan, Grangier and Ablin, "Dynamic Gradient Alignment for Online Data Mixing", 2410.02498,
    algorithm 1; constants from the trainer of the same first author's GRAPE (NeurIPS 2025), which
    with one target is the same update.

Units:
    An alignment is <gradient of a domain's loss, gradient of the specialist loss>, both clipped.

Differs from the source:
    The sign. The weights that lower the specialist loss most after one step of gradient descent,
    at a price for moving, are

        argmin_w  L_spe(theta - lr sum_i w_i grad L_i) + KL(w | w_now) / (eta / lr)
            =  w_now exp(+eta a) / sum of the same,      to first order in lr,

    so an aligned domain must gain. The source's listing is said to print "-", which contradicts
    that; the later GRAPE prints "+".

    No public code and no published constants: 100 steps are GRAPE's, with its clipping at norm 1
    and its exponent without the learning rate; eta = 5 is the value of a sweep (GRAPE's is 1.5;
    docs/benchmarks.md, "Steered runs against static ones"). The floor is ours. Alignments may be
    those of the training step's own batch (gradients clipped together), where the source draws
    one batch for each domain.
"""

from dataclasses import dataclass

from mixture_assets.core.mixture import Mixture
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
class DGA:
    """w_i <- w_i exp(eta a_i) / sum of the same; batches follow the moving average of w.

    The floor keeps every domain in reach. A domain opposed for however long is at floor / D, and
    once it beats the others by a gap g it holds half of the iterate after

        n = log((D - floor) / floor) / (eta g)  updates:

    8.8 / (eta g) for 64 domains at the default floor, which costs 1 % of the tokens.

    Differs from the source:
        See the module.
    """

    eta: float = 5.0  # on gradients clipped to norm 1; 0: weights stay
    ema: float = 0.1  # weight of the newest iterate in the average; 1: no average
    update_steps: int = 100  # training steps from one update to the next
    floor: float = 0.01  # share of the tokens that is drawn uniformly over domains

    def __post_init__(self) -> None:
        check_setting("eta", self.eta, is_number(self.eta, 0, 1e6), "a number from 0 to 1e6")
        is_share = is_number(self.ema, 0, 1) and self.ema > 0
        check_setting("ema", self.ema, is_share, "a number above 0, at most 1")
        check_update(self.update_steps, self.floor)

    def start(self, mixture: Mixture) -> OnlineState:
        """The state at a mixture, such as uniform."""
        return started(mixture, floor=self.floor)

    def update(self, state: OnlineState, feedback: Feedback) -> OnlineState:
        """One step of mirror descent on the simplex."""
        exponent = {name: self.eta * a for name, a in feedback.alignment.items()}
        return stepped(state, exponent, ema=self.ema, floor=self.floor)

    def sampled(self, state: OnlineState) -> Mixture:
        """(1 - floor) average + floor / D."""
        return with_floor(state.average, self.floor)

    def mean_weights(self, state: OnlineState) -> None:
        """No answer for other runs: the weights belong to the moment that they were found at."""


def check_update(update_steps: object, floor: object) -> None:
    """Raise MixtureError unless the period and the floor can be used."""
    is_period = is_number(update_steps, 1, 1e9) and isinstance(update_steps, int)
    check_setting("update_steps", update_steps, is_period, "a whole number >= 1")
    is_floor = is_number(floor, 0, 1) and floor != 1
    check_setting("floor", floor, is_floor, "a number from 0 to below 1")
