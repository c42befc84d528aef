"""DGA against closed forms, and steering gradient descent on quadratics."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixture_assets.core.mixture import Mixture
from mixture_assets.methods.basis import Basis, domain_mixture
from mixture_assets.methods.dga import DGA
from mixture_assets.methods.online import Feedback

GROUPS = ["books", "code", "web", "wiki"]
alignments = st.lists(st.floats(-1, 1), min_size=4, max_size=4)


def named(values, names=GROUPS):
    return dict(zip(names, values, strict=True))


def told(alignment):
    return Feedback(alignment, dict.fromkeys(alignment, 0.0), 1e-3, 1.0)


def after(method, state, steps):
    for values in steps:
        state = method.update(state, told(named(values)))
    return state


@given(
    start=st.lists(st.floats(0.01, 1), min_size=4, max_size=4),
    steps=st.lists(alignments, min_size=1, max_size=10),
    eta=st.floats(0.1, 5),
)
@settings(max_examples=60, deadline=None)
def test_weights_are_the_start_times_the_exponential_of_the_sum(start, steps, eta):
    method = DGA(eta=eta, ema=1.0, floor=0.0)
    state = after(method, method.start(Mixture.proportional_to(named(start))), steps)
    expected = np.array(start) * np.exp(eta * np.sum(steps, axis=0))
    got = np.array(list(method.sampled(state).values()))
    np.testing.assert_allclose(got, expected / expected.sum(), rtol=1e-9)


def test_the_step_is_the_best_one_at_its_price():
    """argmin over the simplex of -a.w + KL(w | now) / eta, by brute force on a grid."""
    now, a, eta = np.array([0.2, 0.3, 0.5]), np.array([0.4, -0.1, 0.2]), 1.5
    method, names = DGA(eta=eta, ema=1.0, floor=0.0), ["a", "b", "c"]
    state = method.update(method.start(Mixture(named(now, names))), told(named(a, names)))
    step = 1 / 400
    one, two = np.meshgrid(np.arange(step, 1, step), np.arange(step, 1, step))
    grid = np.stack([one.ravel(), two.ravel(), 1 - one.ravel() - two.ravel()], axis=1)
    grid = grid[grid[:, 2] > step / 2]
    price = -grid @ a + (grid * np.log(grid / now)).sum(axis=1) / eta
    best = grid[np.argmin(price)]
    assert list(state.weights.values()) == pytest.approx(best.tolist(), abs=step)


def test_the_average_is_an_exponential_one():
    method = DGA(eta=1.0, ema=0.25, floor=0.0)
    state = method.start(Mixture.uniform(["a", "b"]))
    expected, logit = 0.5, 0.0
    for gap in (0.3, -0.8, 0.9):
        state = method.update(state, told({"a": gap, "b": 0.0}))
        logit += gap
        expected = 0.75 * expected + 0.25 / (1 + math.exp(-logit))
    assert method.sampled(state)["a"] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("n_groups", [3, 64])
def test_an_opposed_domain_recovers_in_the_number_of_updates_that_the_formula_gives(n_groups):
    method, gap = DGA(), 0.2
    names = [f"d{i:02}" for i in range(n_groups)]
    state = method.start(Mixture.uniform(names))
    opposed = dict.fromkeys(names, 0.0) | {"d00": -1.0}
    for _ in range(2_000):
        state = method.update(state, told(opposed))
    assert state.weights["d00"] == pytest.approx(method.floor / n_groups, rel=1e-9)
    odds = (n_groups - method.floor) / method.floor
    n_updates = math.ceil(math.log(odds) / (method.eta * gap))
    for _ in range(n_updates - 1):
        state = method.update(state, told(dict.fromkeys(names, 0.0) | {"d00": gap}))
    assert state.weights["d00"] < 0.5
    state = method.update(state, told(dict.fromkeys(names, 0.0) | {"d00": gap}))
    assert state.weights["d00"] >= 0.5


def test_without_a_floor_no_weight_becomes_zero():
    method = DGA(eta=1e3, floor=0.0)
    state = method.start(Mixture.uniform(["a", "b"]))
    for _ in range(5):
        state = method.update(state, told({"a": 1.0, "b": -1.0}))
    assert 0 < state.weights["b"] < 1e-200
    state = method.update(state, told({"a": -1.0, "b": 1.0}))
    assert state.weights["b"] == pytest.approx(1.0)


def test_the_floor_is_what_every_domain_gets_at_least():
    method = DGA(floor=0.1)
    state = method.start(Mixture.uniform(GROUPS))
    for _ in range(300):
        state = method.update(state, told(named([1, -1, -1, -1])))
    sampled = method.sampled(state)
    assert sampled["web"] == pytest.approx(0.9 * 0.1 / 4 + 0.1 / 4, rel=1e-9)
    assert sampled["books"] == pytest.approx(1 - 3 * sampled["web"], rel=1e-12)


# --- quadratics -------------------------------------------------------------------------------


def steered(centre_Dk, specialist_k, method, *, n_updates, rate=0.2, period=20):
    """Gradient descent on sum_i w_i |theta - c_i|^2 / 2, DGA steering; the sampled weights."""
    names = [f"d{i}" for i in range(len(centre_Dk))]
    state, theta = method.start(Mixture.uniform(names)), np.zeros(centre_Dk.shape[1])
    for _ in range(n_updates):
        weight_D = np.array(list(method.sampled(state).values()))
        for _ in range(period):
            theta -= rate * (theta - weight_D @ centre_Dk)
        dots = (theta - centre_Dk) @ (theta - specialist_k)
        state = method.update(state, told(named(dots.tolist(), names)))
    return np.array(list(method.sampled(state).values()))


@given(seed=st.integers(0, 10_000))
@settings(max_examples=12, deadline=None)
def test_on_quadratics_the_mixture_finds_the_specialist_inside_the_hull(seed):
    rng = np.random.default_rng(seed)
    centre_Dk = rng.uniform(-1, 1, size=(5, 3))
    specialist = rng.dirichlet(np.full(5, 3.0)) @ centre_Dk
    uniform = np.linalg.norm(centre_Dk.mean(axis=0) - specialist)
    free = DGA(eta=0.3, ema=0.3, floor=0.0)
    weight_D = steered(centre_Dk, specialist, free, n_updates=2_000)
    # mirror descent is within KL / (eta T) of the best value of |sum w c - s|^2 / 2
    bound = math.sqrt(2 * math.log(5) / (0.3 * 2_000))
    assert np.linalg.norm(weight_D @ centre_Dk - specialist) < min(
        0.5 * bound, 0.5 * uniform + 0.01
    )


def test_with_the_floor_it_is_as_near_as_the_floor_lets_it_be():
    centre_Dk = np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1]])
    corner = np.array([1.0, 0])  # only all weight on one domain would do
    weight_D = steered(centre_Dk, corner, DGA(eta=0.3), n_updates=1_000)
    least = 0.99 * 0.01 / 4 + 0.01 / 4
    assert weight_D.tolist() == pytest.approx([1 - 3 * least, least, least, least], abs=1e-6)


def test_the_other_sign_would_run_away_from_the_specialist():
    """The source's listing is said to print exp(-eta a): on quadratics it leaves the optimum."""

    class Minus(DGA):
        def update(self, state, feedback):
            return DGA.update(self, state, told({n: -a for n, a in feedback.alignment.items()}))

    centre_Dk = np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1]])
    specialist = np.array([0.4, 0.1])
    start = np.linalg.norm(specialist)
    plus = steered(centre_Dk, specialist, DGA(eta=0.3), n_updates=300) @ centre_Dk
    minus = steered(centre_Dk, specialist, Minus(eta=0.3), n_updates=300) @ centre_Dk
    assert np.linalg.norm(plus - specialist) < 0.02 < start < np.linalg.norm(minus - specialist)


# --- a basis ----------------------------------------------------------------------------------


@given(steps=st.lists(alignments, min_size=1, max_size=10))
@settings(max_examples=20, deadline=None)
def test_on_a_basis_of_single_domains_it_is_plain_dga(steps):
    deltas = {f"only {n}": {m: float(m == n) for m in GROUPS} for n in GROUPS}
    basis, method = Basis.of(deltas), DGA()
    plain = method.start(Mixture.uniform(GROUPS))
    other = method.start(Mixture.uniform(list(basis)))
    for values in steps:
        plain = method.update(plain, told(named(values)))
        other = method.update(other, told({f"only {n}": a for n, a in named(values).items()}))
    expected = dict(method.sampled(plain))
    assert dict(domain_mixture(basis, method.sampled(other))) == pytest.approx(expected, rel=1e-12)
