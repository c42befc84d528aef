import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mixture_assets.core.run import ModelSpec, TrainingSpec
from mixture_assets.training.model import build_model
from mixture_assets.training.optimizer import build_optimizer, learning_rate


@given(st.sampled_from(["cosine", "wsd"]), st.integers(2, 500), st.floats(0, 0.5))
def test_rates_stay_in_range_and_end_at_the_final_fraction(schedule, n_steps, warmup):
    spec = TrainingSpec(schedule=schedule, warmup_fraction=warmup, learning_rate=1.0)
    rates = [learning_rate(spec, s, n_steps) for s in range(n_steps)]
    assert all(0 < r <= 1 + 1e-12 for r in rates)
    top = rates.index(max(rates))
    assert rates[:top] == sorted(rates[:top])
    assert all(a >= b - 1e-12 for a, b in zip(rates[top:], rates[top + 1 :], strict=False))
    if max(1, round(warmup * n_steps)) < n_steps:
        assert rates[-1] == pytest.approx(spec.final_fraction)


def test_cosine_is_half_way_down_in_the_middle():
    spec = TrainingSpec(warmup_fraction=0.0, final_fraction=0.0, learning_rate=2.0)
    assert learning_rate(spec, 50, 101) == pytest.approx(2 * 0.5 * (1 + math.cos(math.pi / 2)))


def test_wsd_holds_its_plateau():
    spec = TrainingSpec(schedule="wsd", learning_rate=1.0)
    assert {learning_rate(spec, s, 100) for s in range(10, 79)} == {1.0}


def test_gains_are_not_decayed():
    model = build_model(
        ModelSpec(width=16, layers=1, context=8), vocab_size=50, seed=0, attention="eager"
    )
    optimizer = build_optimizer(model, TrainingSpec(weight_decay=0.5))
    decay = {id(p): g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    assert len(decay) == len(list(model.parameters()))
    for p in model.parameters():
        assert decay[id(p)] == (0.5 if p.dim() >= 2 else 0.0)
    assert isinstance(optimizer, torch.optim.AdamW)
