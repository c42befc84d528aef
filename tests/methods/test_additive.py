import math
import random
import statistics

import numpy as np
import pytest
from scipy.optimize import check_grad, minimize

from mixture_assets.core.errors import MixtureError
from mixture_assets.methods.additive import AdditiveLaw, Term, _Model, best_amounts, fit_additive
from mixture_assets.methods.allocate import allocate
from mixture_assets.methods.ddo import ddo_from_table
from mixture_assets.methods.joint import joint_from_table

NAMES = ("a", "b", "c", "d", "e")


def design(names=NAMES, factors=(0.2, 3.0), base=1.0):
    """DDO's runs: (domain, factor, amounts)."""
    level = dict.fromkeys(names, base)
    changed = [(d, x, level | {d: x * base}) for x in factors for d in names]
    return [("", 1.0, level), *changed]


def known_law(seed, names=NAMES):
    rng = random.Random(seed)
    terms = {
        d: Term(a=rng.uniform(0.1, 2), b=rng.uniform(0.2, 1.5), size=rng.uniform(0.02, 0.3))
        for d in names
    }
    return AdditiveLaw(terms=terms, c=0.5, residual_sd=None)


def test_finds_the_law_behind_two_scales():
    law = known_law(1)
    runs = [amounts for base in (0.25, 1.0) for _, _, amounts in design(base=base)]
    found = fit_additive(runs, [law.value(x) for x in runs])
    assert found.residual_sd < 1e-4
    for seed in range(5):  # amounts that were not tried, within the range of those that were
        rng = random.Random(seed)
        asked = {d: rng.uniform(0.1, 3) for d in NAMES}
        assert found.value(asked) == pytest.approx(law.value(asked), abs=2e-3)


@pytest.mark.parametrize("scales", [(1.0,), (0.25, 1.0)])
def test_derivatives_are_those_of_differences(scales):
    runs = [amounts for base in scales for _, _, amounts in design(base=base)]
    x_RD = np.array([[run[d] for d in NAMES] for run in runs])
    model = _Model(x_RD, np.linspace(1.2, 0.8, len(runs)))
    assert model.has_size is (len(scales) == 2)
    q = model.start() + 0.1 * np.random.default_rng(0).standard_normal(len(model.low_Q))
    for run in range(len(runs)):
        off = check_grad(lambda p: model.residual(p)[run], lambda p: model.slopes(p)[run], q)  # noqa: B023
        assert off < 1e-6


def test_on_one_metric_without_noise_it_is_the_three_point_fit(notebook_rows):
    joint = joint_from_table([(d, x, {"ppl": y}, "") for d, x, y in notebook_rows])
    three = ddo_from_table(notebook_rows)
    assert joint.optimum == pytest.approx(three.optimum, abs=1e-4)
    assert joint.at_floor == three.at_floor == ["github"]
    for curve in three.curves:
        term = joint.laws["ppl"].terms[curve.domain]
        assert (term.a, term.b, term.size) == pytest.approx((curve.a, curve.b, 1), rel=1e-3)


def test_best_amounts_of_one_metric_are_the_exact_allocation():
    curves = {"a": (2.6, 1.2), "b": (6.6, 1.4), "c": (0.5, 0.4), "d": (3.3, 1.9)}
    law = AdditiveLaw(
        terms={d: Term(a=a, b=b) for d, (a, b) in curves.items()}, c=0, residual_sd=None
    )
    found = best_amounts({"y": law}, weights={"y": 2.0}, total=4, floor=0.2)
    assert found == pytest.approx(allocate(curves, total=4, floor=0.2), abs=1e-9)


def test_best_amounts_of_many_metrics_are_a_general_solvers():
    laws = {str(k): known_law(k) for k in range(4)}
    weights = {"0": 1.0, "1": 0.5, "2": 2.0, "3": 0.0}

    def objective(x):
        amounts = dict(zip(NAMES, x, strict=True))
        return math.fsum(w * laws[k].value(amounts) for k, w in weights.items())

    theirs = minimize(
        objective,
        np.ones(5),
        bounds=[(0.3, 5)] * 5,
        constraints={"type": "eq", "fun": lambda x: x.sum() - 5},
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    )
    ours = best_amounts(laws, weights=weights, total=5, floor=0.3)
    assert math.fsum(ours.values()) == pytest.approx(5, rel=1e-9)
    assert objective(ours.values()) <= theirs.fun + 1e-10
    assert list(ours.values()) == pytest.approx(theirs.x.tolist(), abs=1e-3)


def test_a_floor_below_what_was_tried_asks_for_no_amount_without_a_value():
    """With a = -0.19 a domain cannot go below 0.19, as in `allocate`."""
    curves = {"a": (-0.19, 0.05), "b": (2.0, 1.0), "c": (-0.1, 0.5)}
    laws = {
        "y": AdditiveLaw(
            terms={d: Term(a=a, b=b) for d, (a, b) in curves.items()}, c=0, residual_sd=None
        )
    }
    for floor in (0.0, 0.05):
        found = best_amounts(laws, weights={"y": 1.0}, total=3, floor=floor)
        assert found == pytest.approx(allocate(curves, total=3, floor=floor), abs=1e-9)
        assert math.fsum(found.values()) == pytest.approx(3, rel=1e-9)


def simulated(seed, noise_sd):
    """Losses of five domains, each a power of its own tokens and a little of the others'.

    That is not additive, so no fit here has the true form.
    """
    rng = np.random.default_rng(seed)
    least, gain = rng.uniform(1.5, 2.5, 5), rng.uniform(0.25, 1.5, 5)
    power, known = rng.uniform(0.15, 0.7, 5), 10 ** rng.uniform(-3, -0.5, 5)
    helps = np.eye(5) + 0.3 * 10 ** rng.uniform(-3, -1, (5, 5))

    def losses(amounts):
        x = np.array([amounts[d] for d in NAMES])
        return least + gain * (helps @ x + known) ** -power

    rows = []
    for d, x, amounts in design():
        y = losses(amounts) + noise_sd * rng.standard_normal(5)
        rows.append((d, x, dict(zip(NAMES, y.tolist(), strict=True)), ""))
    return (lambda amounts: float(losses(amounts).mean())), rows


def best_of(objective, floor=0.2):
    def at(z):
        w = np.exp(z - z.max())
        return dict(zip(NAMES, floor + (5 - 5 * floor) * w / w.sum(), strict=True))

    return at(minimize(lambda z: objective(at(z)), np.zeros(5), options={"gtol": 1e-8}).x)


def test_with_noise_its_weights_are_nearer_to_the_true_optimum():
    away = {"joint": [], "three_point": []}
    for seed in range(8):
        objective, rows = simulated(seed, noise_sd=0.03)
        truth = best_of(objective)
        three = ddo_from_table([(d, x, statistics.mean(ys.values())) for d, x, ys, _ in rows])
        joint = joint_from_table(rows)
        for way, optimum in (("joint", joint.optimum), ("three_point", three.optimum)):
            away[way].append(sum(abs(optimum[d] - truth[d]) for d in NAMES) / 5)
    assert statistics.mean(away["joint"]) < 0.75 * statistics.mean(away["three_point"])


def test_a_domain_that_does_harm_is_named_and_gets_its_floor():
    _, rows = simulated(0, 0)
    base = rows[0][2]
    harmful = [
        (d, x, {k: base[k] + 0.1 * (x - 1) for k in ys} if d == "e" else ys, s)
        for d, x, ys, s in rows
    ]
    fit = joint_from_table(harmful)
    assert fit.not_improving == ["e"]
    assert fit.optimum["e"] == pytest.approx(0.2)
    assert "e" in fit.at_floor


def test_order_of_runs_and_domains_does_not_matter():
    _, rows = simulated(3, 0.01)
    backwards = [(d, x, dict(reversed(ys.items())), s) for d, x, ys, s in rows[::-1]]
    assert joint_from_table(backwards) == joint_from_table(rows)


def test_a_metrics_unit_changes_no_weight():
    _, rows = simulated(3, 0.01)
    scaled = [(d, x, {k: 1024 * y for k, y in ys.items()}, s) for d, x, ys, s in rows]
    assert joint_from_table(scaled).optimum == pytest.approx(
        joint_from_table(rows).optimum, rel=1e-9
    )


def test_too_few_runs_are_said_to_be():
    runs = [amounts for _, _, amounts in design()][:-1]
    with pytest.raises(MixtureError, match=r"10 runs are too few for the 11 numbers"):
        fit_additive(runs, [1.0] * 10)
    with pytest.raises(MixtureError, match=r"none of 0 runs is a base run"):
        joint_from_table([])
    law = known_law(0)
    with pytest.raises(MixtureError, match=r"none of the metrics 'y' has a weight above 0"):
        best_amounts({"y": law}, weights={"y": 0.0}, total=5)
