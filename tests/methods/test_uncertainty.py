import numpy as np
import pytest

from mixture_assets.core.errors import MixtureError
from mixture_assets.core.mixture import Mixture
from mixture_assets.methods.uncertainty import bootstrap_intervals, jittered


def coin(rng):
    weight = rng.uniform()
    return Mixture({"a": weight, "b": 1 - weight})


def test_holds_nine_draws_in_ten():
    interval = bootstrap_intervals(coin, draws=4000)
    assert interval["a"] == pytest.approx((0.05, 0.95), abs=0.02)
    assert interval == bootstrap_intervals(coin, draws=4000)
    assert interval != bootstrap_intervals(coin, draws=4000, seed=1)


@pytest.mark.parametrize(("failing", "is_known"), [(0.2, True), (0.8, False)])
def test_draws_without_an_answer_are_left_out_unless_they_are_most(failing, is_known):
    def draw(rng):
        if rng.uniform() < failing:
            raise MixtureError("no answer")
        return coin(rng)

    assert bool(bootstrap_intervals(draw, draws=200)) is is_known


def test_a_handful_of_draws_says_nothing():
    assert bootstrap_intervals(coin, draws=19) == {}


def test_noise_has_the_size_asked_for_and_never_turns_the_sign():
    rng = np.random.default_rng(0)
    moved = np.array([jittered([5.0, 50.0], 0.06, rng) for _ in range(4000)])
    assert moved.std(axis=0) == pytest.approx([0.06, 0.06], rel=0.05)
    assert min(jittered([0.01] * 100, 1.0, rng)) > 0
