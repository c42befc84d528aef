"""What this machine is, and the settings that make training fast on it, found by probing.

The settings decide the order of floating-point operations, and rounding alone moves a short
proxy's final loss by about 0.02 nats. So they follow from what the machine can do, never from
a stopwatch, and their name (`numeric_path`) is part of every run's digest: runs that went
through different arithmetic are never taken for repeats of each other.
"""

import contextlib
import platform
import time
import warnings
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version

import torch

from mixture_assets.core.errors import MixtureWarning
from mixture_assets.core.run import TrainingSpec

_LONGEST_MATMUL_ATTENTION = 512  # tokens; up to here the matmul form beats SDPA on CPU
_FP32_TOLERANCE = 1e-5  # relative; fp32 products differ by 6e-7, bf16 ones by 3e-3


@dataclass(frozen=True)
class Device:
    """Settings of one process."""

    kind: str  # 'cpu' or 'cuda'
    name: str  # of the chip, for the ledger
    precision: str  # 'fp32' or 'bf16': what the matrix products compute in
    attention: str  # 'eager' (matmul form) or 'sdpa'
    matmul: str  # torch's float32 matmul precision
    threads: int
    compile: bool

    @property
    def numeric_path(self) -> str:
        """Names the arithmetic: on one machine, the same path and spec give the same bits."""
        torch_version, hf_version = (
            ".".join(version(name).split(".")[:2]) for name in ("torch", "transformers")
        )
        chip = _instruction_set(self.kind)
        parts = [
            f"torch{torch_version}",
            f"transformers{hf_version}",
            self.kind,
            chip,
            self.precision,
            self.matmul,
            self.attention,
        ]
        parts += [f"{self.threads}t"] if self.kind == "cpu" else []
        return "-".join(parts + (["compiled"] if self.compile else []))

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """Reduced-precision products over fp32 master weights, where asked for."""
        if self.precision == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(self.kind, torch.bfloat16)

    def apply(self) -> None:
        """Set the process-wide switches."""
        torch.set_float32_matmul_precision(self.matmul)
        if self.kind == "cpu":
            torch.set_num_threads(self.threads)


@lru_cache
def probe(training: TrainingSpec, context: int) -> Device:
    """Choose settings for this machine and these hyper-parameters. Deterministic per machine."""
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    on_cpu = kind == "cpu"
    return Device(
        kind=kind,
        name=torch.cuda.get_device_name() if not on_cpu else _cpu_name(),
        precision=_precision(training.precision, kind),
        attention="eager" if on_cpu and context <= _LONGEST_MATMUL_ATTENTION else "sdpa",
        matmul="medium" if on_cpu and _medium_is_fp32() else "highest",
        threads=training.threads if on_cpu else 1,
        compile=training.compile,
    )


def peak_flops_per_second(device: Device, *, size: int = 1024, repeats: int = 4) -> float:
    """The best rate that a large square matrix product reaches here: what MFU is a share of."""
    dtype = torch.bfloat16 if device.precision == "bf16" else torch.float32
    a = torch.ones(size, size, dtype=dtype, device=device.kind)
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        _ = a @ a
        if device.kind == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def _precision(asked: str, kind: str) -> str:
    native = _has_bf16(kind)
    if asked == "bf16" and not native:
        warnings.warn(
            "precision = 'bf16' on a machine without native bf16: training in fp32",
            MixtureWarning,
            stacklevel=3,
        )
    return "bf16" if asked in ("bf16", "auto") and native else "fp32"


def _has_bf16(kind: str) -> bool:
    if kind == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())


def _medium_is_fp32() -> bool:
    """Whether 'medium' still computes fp32 products (oneDNN) and does not use bf16 (AMX)."""
    before = torch.get_float32_matmul_precision()
    a = torch.sin(torch.arange(256 * 256, dtype=torch.float64)).reshape(256, 256)
    try:
        torch.set_float32_matmul_precision("medium")
        product = a.float() @ a.float()
    finally:
        torch.set_float32_matmul_precision(before)
    exact = a @ a
    return bool((product - exact).norm() / exact.norm() < _FP32_TOLERANCE)


def _instruction_set(kind: str) -> str:
    if kind == "cuda":
        major, minor = torch.cuda.get_device_capability()
        return f"sm{major}{minor}"
    return torch.backends.cpu.get_cpu_capability().lower()


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = (
                line.split(":", 1)[1].strip() for line in file if line.startswith("model name")
            )
            return next(names)
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
