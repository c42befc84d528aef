"""What moving a little weight to a domain does to each metric."""

import numpy as np
import pytest

from mixture_assets.core.mixture import Mixture
from mixture_assets.methods.decision import Settings, decide
from mixture_assets.methods.swarm import Swarm

EFFECT = {
    "loss": {"web": -0.6, "code": 0.4, "books": -0.2, "maths": 0.8},
    "error": {"web": 0.5, "code": -0.9, "books": 0.0, "maths": 0.3},
}
UNIT = {"loss": 1.0, "error": 40.0}
NATURAL = {"web": 0.5, "code": 0.2, "books": 0.2, "maths": 0.1}


def effects(domains=tuple(NATURAL), unit=UNIT):
    """Of a decision on 60 runs without noise, their metrics being unit (2 + exp(t . w))."""
    rng = np.random.default_rng(3)
    mixtures, metrics = {}, {}
    for i, row in enumerate(rng.dirichlet(np.ones(4), 60)):
        weights = dict(zip(NATURAL, row.tolist(), strict=True))
        mixtures[f"r{i}"] = {d: weights[d] for d in domains}
        metrics[f"r{i}"] = {
            m: unit[m] * (2 + np.exp(sum(t[d] * weights[d] for d in NATURAL)))
            for m, t in EFFECT.items()
        }
    natural = Mixture({d: NATURAL[d] for d in domains})
    shares = {"loss": 1.0, "error": 0.01}
    return decide(Swarm.of(mixtures, metrics), shares, natural, Settings(draws=100)).effects


def test_effects_are_the_slopes_of_the_law_that_made_the_runs():
    """d/dx of exp(t . ((1 - x) n + x e_d)) at 0 is exp(t . n) (t_d - t . n)."""
    found = effects()
    for metric, t in EFFECT.items():
        at_natural = sum(t[d] * w for d, w in NATURAL.items())
        slope = 0.01 * UNIT[metric] * np.exp(at_natural)
        expected = {d: slope * (t[d] - at_natural) for d in NATURAL}
        assert found[metric] == pytest.approx(expected, rel=0.02, abs=2e-5 * UNIT[metric])


def test_moving_weight_in_natural_proportions_does_nothing():
    for row in effects().values():
        largest = max(map(abs, row.values()))
        assert sum(NATURAL[d] * row[d] for d in row) == pytest.approx(0, abs=1e-12 * largest)


def test_order_of_domains_changes_nothing_and_a_unit_scales_its_own_metric_alone():
    plain = effects()
    assert effects(tuple(reversed(NATURAL))) == plain
    scaled = effects(unit={"loss": 1.0, "error": 4000.0})
    assert scaled["loss"] == plain["loss"]
    expected = {d: 100 * x for d, x in plain["error"].items()}
    assert scaled["error"] == pytest.approx(expected, rel=1e-5)
