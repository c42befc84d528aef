import math
import random
import statistics
from dataclasses import replace

import numpy as np
import pytest

from mixture_assets.methods.blocks import fit_blocks
from mixture_assets.methods.ddo import DDO, ddo_from_table
from tests.methods.conftest import GAINS, toy_loss

SHARE = 100_000


def table(rng, *, effect_sd, noise_sd, lost=()):
    """Runs over three seeds and three more of the base run; `lost` crashed."""
    effect = {str(s): rng.gauss(0, effect_sd) for s in range(6)}
    cells = [(None, 1.0), *((d, x) for d in GAINS for x in (0.2, 3.0))]
    wanted = [(d, x, str(s)) for d, x in cells for s in range(6 if d is None else 3)]
    rows = []
    for d, x, seed in wanted:
        tokens = dict.fromkeys(GAINS, SHARE) | ({d: x * SHARE} if d else {})
        y = toy_loss(tokens) + effect[seed] + rng.gauss(0, noise_sd)
        if (d, x, seed) not in lost:
            rows.append((d, x, y, seed))
    return rows


LOST = {("web", 3.0, "0"), ("code", 0.2, "1"), ("books", 0.2, "2")}


def errors(effect_sd, *, lost=LOST, n=60):
    """Mean L1 distance to the optimum without noise: by blocks, and without the seeds' names."""
    truth = ddo_from_table(table(random.Random(0), effect_sd=0, noise_sd=0), floor=0.0).optimum
    found = {"blocks": [], "plain": []}
    for i in range(n):
        rows = table(random.Random(i), effect_sd=effect_sd, noise_sd=2e-4, lost=lost)
        for way, given in (("blocks", rows), ("plain", [row[:3] for row in rows])):
            optimum = ddo_from_table(given, floor=0.0).optimum
            found[way].append(sum(abs(optimum[d] - truth[d]) for d in truth))
    return {way: statistics.mean(values) for way, values in found.items()}


def test_blocks_have_less_error_where_seeds_have_an_effect():
    error = errors(effect_sd=4e-3)
    assert error["blocks"] < 0.4 * error["plain"]


def test_blocks_cost_nothing_where_seeds_have_none():
    error = errors(effect_sd=0)
    assert error["blocks"] == pytest.approx(error["plain"], rel=0.05)


def test_the_noise_is_that_within_blocks():
    noise = [
        ddo_from_table(table(random.Random(i), effect_sd=0.02, noise_sd=1e-3)).noise_sd
        for i in range(40)
    ]
    assert math.sqrt(statistics.mean(sd**2 for sd in noise)) == pytest.approx(1e-3, rel=0.1)


def test_effects_are_the_closed_form_of_a_balanced_design():
    """Two-way layout: REML has sigma2 = MS(error), tau2 = (MS(seeds) - MS(error)) / C."""
    rng = np.random.default_rng(3)
    y_CS = rng.normal(size=(8, 1)) + 0.7 * rng.normal(size=(1, 5)) + 0.3 * rng.normal(size=(8, 5))
    cells, seeds = zip(*[(c, str(s)) for c in range(8) for s in range(5)], strict=True)
    found = fit_blocks(cells, seeds, y_CS.ravel().tolist())
    level_S = y_CS.mean(0) - y_CS.mean()
    gap_CS = y_CS - y_CS.mean(1, keepdims=True) - level_S
    error = float((gap_CS**2).sum()) / (7 * 4)
    between = 8 * float((level_S**2).sum()) / 4
    assert found.noise_sd == pytest.approx(math.sqrt(error), rel=1e-4)
    shrunk = (1 - error / between) * level_S
    assert [found.effect[str(s)] for s in range(5)] == pytest.approx(shrunk.tolist(), abs=1e-4)


def test_the_base_run_alone_cannot_tell_effect_from_noise():
    cells, seeds = ["base", "base", "base", "a", "b"], ["0", "1", "2", "0", "0"]
    found = fit_blocks(cells, seeds, [1.0, 2.0, 3.0, 5.0, 6.0])
    assert found.noise_sd == pytest.approx(1.0)
    assert found.effect == {"0": 0, "1": 0, "2": 0}
    assert fit_blocks(cells[2:], seeds[2:], [3.0, 5.0, 6.0]).noise_sd is None


def test_order_of_runs_does_not_matter():
    rows = table(random.Random(1), effect_sd=0.01, noise_sd=1e-3, lost=LOST)
    shuffled = random.Random(2).sample(rows, len(rows))
    assert ddo_from_table(shuffled) == ddo_from_table(rows)


def test_the_design_names_its_seeds(problem, train):
    """Runs of a plan are blocks: three more base runs of other seeds do not move the optimum."""

    def fitted(base_seeds):
        method = DDO(base_tokens=3 * SHARE, seeds=(0, 1, 2), base_seeds=base_seeds)
        rng = random.Random(4)
        effect = {seed: rng.gauss(0, 0.02) for seed in range(6)}
        noise = {}
        disturb = lambda run: (  # noqa: E731
            effect[run.seed] + noise.setdefault(run.digest, rng.gauss(0, 1e-5))
        )
        return method, method.fit(problem, train(method, problem, disturb=disturb))

    method, fit = fitted((3, 4, 5))
    clean = method.fit(problem, train(method, problem))
    assert fit.optimum == pytest.approx(clean.optimum, abs=0.02)
    assert fit.noise_sd < 1e-4
    assert replace(method, base_seeds=()).fit(
        problem, train(method, problem)
    ).optimum == pytest.approx(clean.optimum, abs=1e-6)
