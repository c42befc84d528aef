import dataclasses

import torch

from mixture_assets.core.run import TrainingSpec
from mixture_assets.training.device import (
    _FP32_TOLERANCE,
    _medium_is_fp32,
    peak_flops_per_second,
    probe,
)


def test_the_settings_follow_from_the_machine_not_from_a_stopwatch():
    first = probe(TrainingSpec(), 64)
    probe.cache_clear()
    assert probe(TrainingSpec(), 64) == first


def test_everything_that_changes_rounding_is_in_the_name():
    device = probe(TrainingSpec(), 64)
    others = [
        dataclasses.replace(device, precision="bf16x"),
        dataclasses.replace(device, attention="other"),
        dataclasses.replace(device, matmul="other"),
        dataclasses.replace(device, compile=not device.compile),
    ]
    assert len({device.numeric_path, *(d.numeric_path for d in others)}) == 5


def test_long_contexts_leave_the_matmul_form():
    if not torch.cuda.is_available():
        assert probe(TrainingSpec(), 64).attention == "eager"
    assert probe(TrainingSpec(), 4096).attention == "sdpa"


def test_the_chosen_matmul_is_fp32():
    """Independent of the probe's own matrix: random numbers against double precision."""
    device = probe(TrainingSpec(), 64)
    device.apply()
    torch.manual_seed(1)
    a, b = torch.randn(300, 200), torch.randn(200, 100)
    exact = a.double() @ b.double()
    assert ((a @ b) - exact).norm() / exact.norm() < 1e-6
    assert _FP32_TOLERANCE < 3e-3  # would let bf16 through otherwise
    assert isinstance(_medium_is_fp32(), bool)


def test_the_peak_is_a_rate():
    assert 1e9 < peak_flops_per_second(probe(TrainingSpec(), 64), size=256) < 1e16
