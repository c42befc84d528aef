from pathlib import Path

import pytest

from tests.store import fakes


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Three proxy runs, two full runs, and a proposal with its lineage."""
    for seed in range(3):
        fakes.finished_run(tmp_path, f"r{seed}", seed=seed)
    fakes.full_run(tmp_path, "f0", "natural", 0, 3.5)
    fakes.full_run(tmp_path, "f1", "proposal", 0, 3.4)
    fakes.lineage_records(tmp_path, ["r0", "r1", "r2"])
    return tmp_path
