"""Thousands of odd CSV and JSON files: each gives weights, or one sentence."""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixture_assets.tables import ddo_from_csv, extrapolate_from_json
from tests.fuzz.endings import Endings, fuzz_settings, invoke
from tests.fuzz.numbers import BUDGETS, FLOORS, csv_files, json_files


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("numbers")


def counted(what: str) -> Iterator[Endings]:
    endings = Endings(what)
    yield endings
    endings.report()
    assert endings.n_succeeded >= 10
    assert endings.n_refused > 10


@pytest.fixture(scope="module")
def csv_endings() -> Iterator[Endings]:
    yield from counted("csv files")


@pytest.fixture(scope="module")
def json_endings() -> Iterator[Endings]:
    yield from counted("json files")


@given(content=csv_files(), floor=FLOORS)
@fuzz_settings(0.2, small=200)
def test_a_csv_gives_weights_or_one_sentence(
    content: bytes, floor: float, folder: Path, csv_endings: Endings
) -> None:
    path = folder / "runs.csv"
    path.write_bytes(content)
    answer = csv_endings.of(lambda: ddo_from_csv(path, objective="loss", floor=floor))
    if answer:
        check_weights(answer["weights"])
        assert math.isclose(sum(answer["optimum"].values()), len(answer["weights"]), rel_tol=1e-6)
        assert min(answer["optimum"].values()) >= floor * (1 - 1e-6)
    assert list(folder.iterdir()) == [path]
    path.unlink()


@given(content=json_files(), budget=BUDGETS, floor=FLOORS, rule=st.sampled_from(["safe", "paper"]))
@fuzz_settings(0.1, small=200)
def test_a_json_gives_weights_or_one_sentence(
    content: bytes, budget: float, floor: float, rule: Any, folder: Path, json_endings: Endings
) -> None:
    path = folder / "optima.json"
    path.write_bytes(content)
    answer = json_endings.of(
        lambda: extrapolate_from_json(path, budget_tokens=budget, rule=rule, floor=floor)
    )
    if answer:
        check_weights(answer["weights"])
        assert math.isclose(sum(answer["tokens"].values()), budget, rel_tol=1e-6)
    assert list(folder.iterdir()) == [path]
    path.unlink()


@given(content=csv_files())
@fuzz_settings(0.02, small=40)
def test_a_csv_through_the_command_line(content: bytes, folder: Path) -> None:
    path = folder / "runs.csv"
    path.write_bytes(content)
    output = invoke("ddo", path, "--objective", "loss", "--json")
    if not output.startswith("Error: "):
        check_weights(json.loads(output)["weights"])
    path.unlink()


@given(content=json_files(), budget=BUDGETS)
@fuzz_settings(0.02, small=40)
def test_a_json_through_the_command_line(content: bytes, budget: float, folder: Path) -> None:
    path = folder / "optima.json"
    path.write_bytes(content)
    output = invoke("extrapolate", path, "--tokens", repr(budget))
    assert output.startswith(("Error: ", "domain"))
    path.unlink()


def check_weights(weights: Mapping[str, float]) -> None:
    """A mixture, under names that a terminal can show, and JSON that others can read."""
    json.dumps(weights, allow_nan=False)
    assert math.isclose(sum(weights.values()), 1, rel_tol=1e-6)
    assert min(weights.values()) >= 0
    assert all(name.isprintable() for name in weights)
