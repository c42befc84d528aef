"""DoGE against its few lines, written out."""

import numpy as np
import pytest

from mixture_assets.core.mixture import Mixture
from mixture_assets.methods.doge import DoGE
from mixture_assets.methods.online import Feedback

NAMES = ["books", "code", "web"]


def test_weights_and_their_mean_are_those_of_the_algorithm_written_out():
    rng = np.random.default_rng(0)
    method = DoGE(update_steps=10, floor=0.0)
    state, log_w, seen = method.start(Mixture.uniform(NAMES)), np.zeros(3), []
    for step in range(1, 30):
        rate = 1e-3 * step / 30
        gradients, specialist = rng.normal(size=(3, 50)), rng.normal(size=50)
        specialist += gradients[0]
        log_w += (
            10 * rate * np.clip(gradients @ specialist / np.linalg.norm(specialist), 0, 5) / 0.05
        )
        seen.append(np.exp(log_w) / np.exp(log_w).sum())
        cut = min(1.0, 2.0 / np.linalg.norm(specialist)) * specialist  # clipped to norm 2
        dots = dict(zip(NAMES, (gradients @ cut).tolist(), strict=True))
        state = method.update(
            state,
            Feedback(dots, {}, rate, float(np.linalg.norm(specialist)), clip_norm=2.0),
        )
    np.testing.assert_allclose(list(method.sampled(state).values()), seen[-1], rtol=1e-9)
    mean = list(method.mean_weights(state).values())
    np.testing.assert_allclose(mean, np.mean(seen, axis=0), rtol=1e-9)
    assert mean[0] > max(mean[1:])


def test_scores_are_clipped_at_both_ends():
    method = DoGE(update_steps=1, floor=0.0)
    alignment = {"books": -7.0, "code": 0.0, "web": 9.0}
    state = method.update(method.start(Mixture.uniform(NAMES)), Feedback(alignment, {}, 0.01, 1.0))
    assert state.weights["books"] == pytest.approx(state.weights["code"], rel=1e-12)
    assert state.weights["web"] / state.weights["code"] == pytest.approx(np.exp(0.01 * 5 / 0.05))


def test_one_update_stands_for_the_steps_of_its_period():
    alignment = {"books": 0.3, "code": -0.2, "web": 0.8}
    often, seldom = DoGE(update_steps=1, floor=0.0), DoGE(update_steps=50, floor=0.0)
    one, many = Mixture.uniform(NAMES), often.start(Mixture.uniform(NAMES))
    feedback = Feedback(alignment, {}, 1e-3, 1.0)
    for _ in range(50):
        many = often.update(many, feedback)
    once = seldom.update(seldom.start(one), feedback)
    assert dict(once.weights) == pytest.approx(dict(many.weights), rel=1e-9)


def test_without_a_specialist_gradient_nothing_moves():
    method = DoGE()
    before = method.start(Mixture.uniform(NAMES))
    after = method.update(before, Feedback(dict.fromkeys(NAMES, 0.0), {}, 1e-3, 0.0))
    assert dict(after.weights) == pytest.approx(dict(before.weights), rel=1e-12)


def test_the_mean_before_any_update_is_the_start():
    method = DoGE()
    state = method.start(Mixture({"books": 0.2, "code": 0.3, "web": 0.5}))
    assert method.mean_weights(state) == state.weights
