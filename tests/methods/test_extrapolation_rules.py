"""The rules on a few of the laws that benchmarks/extrapolation.py has a hundred of."""

import importlib.util
import statistics
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "extrapolation.py"


@pytest.fixture(scope="module")
def regrets():
    """Of every rule on twelve laws whose domains hardly help each other, with noise."""
    spec = importlib.util.spec_from_file_location("extrapolation_benchmark", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return [script.regrets("weak", 0.01, seed) for seed in range(12)]


def test_no_regret_is_below_that_of_the_best_weights(regrets):
    assert all(r >= -1e-6 for by_rule, _ in regrets for r in by_rule.values())


def test_one_law_over_both_scales_has_less_regret_than_either_rule(regrets):
    def median(rule):
        return statistics.median(by_rule[rule] for by_rule, _ in regrets)

    assert median("additive") < 0.5 * min(median("safe"), median("paper"))
    assert all(by_rule["additive"] < 1 for by_rule, _ in regrets)
