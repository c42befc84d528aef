"""Makes `fakes` importable and gives every test a filled store."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import fakes  # noqa: E402


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Three proxy runs, two full runs, and a proposal with its lineage."""
    for seed in range(3):
        fakes.finished_run(tmp_path, f"r{seed}", seed=seed)
    fakes.full_run(tmp_path, "f0", "natural", 0, 3.5)
    fakes.full_run(tmp_path, "f1", "proposal", 0, 3.4)
    fakes.lineage_records(tmp_path, ["r0", "r1", "r2"])
    return tmp_path
