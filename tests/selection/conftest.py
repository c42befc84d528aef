"""The published tables of compute-constrained selection, where they lie beside the checkout."""

import csv
from pathlib import Path

import pytest

REFERENCE = Path(__file__).parents[3] / "shared" / "reference" / "ccds"
FULL_FLOPS = {"7B": 4.593e18, "13B": 8.638e18, "70B": 4.926e19}  # one pass over the pool


@pytest.fixture(scope="session")
def published():
    """Read a table of the reference data, which is not part of the repository."""

    def read(name):
        path = REFERENCE / f"ccds_{name}.csv"
        if not path.exists():
            pytest.skip(f"reference data {path.name} is not beside this checkout")
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    return read
