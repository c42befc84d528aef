import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from mixture_assets.core.errors import MixtureError
from mixture_assets.methods.allocate import allocate


@st.composite
def requests(draw):
    """Curves, some domains without one, with floors and caps that leave room."""
    n = draw(st.integers(2, 8))
    names = [f"d{i}" for i in range(n)]
    floor = {d: draw(st.floats(0, 0.5)) for d in names}
    cap = {d: floor[d] + draw(st.floats(0.1, 4)) for d in names}
    curve = st.tuples(st.floats(-0.05, 8), st.floats(0.05, 6))
    curves = {d: draw(curve) if draw(st.booleans()) else None for d in names}
    curves = {
        d: ab if ab is None else (max(ab[0], 0.01 - floor[d]), ab[1]) for d, ab in curves.items()
    }
    low, high = sum(floor.values()), sum(cap.values())
    total = low + draw(st.floats(0.01, 0.99)) * (high - low)
    return curves, total, floor, cap


def loss(amounts, curves):
    return math.fsum((amounts[d] + ab[0]) ** -ab[1] for d, ab in curves.items() if ab is not None)


@settings(max_examples=150, deadline=None)
@given(requests())
def test_sums_to_the_total_within_the_bounds(request_):
    curves, total, floor, cap = request_
    best = allocate(curves, total=total, floor=floor, cap=cap)
    assert math.fsum(best.values()) == pytest.approx(total, rel=1e-9)
    assert all(floor[d] - 1e-12 <= best[d] <= cap[d] + 1e-12 for d in curves)


@settings(max_examples=150, deadline=None)
@given(requests())
def test_no_small_transfer_between_domains_helps(request_):
    """The definition of an optimum, tested as such."""
    curves, total, floor, cap = request_
    best = allocate(curves, total=total, floor=floor, cap=cap)
    step = 1e-4
    for giver in curves:
        for taker in curves:
            if best[giver] - step < floor[giver] or best[taker] + step > cap[taker]:
                continue
            moved = best | {giver: best[giver] - step}
            moved[taker] += step
            assert loss(moved, curves) >= loss(best, curves) * (1 - 1e-12)


@settings(max_examples=25, deadline=None)
@given(requests())
def test_is_no_worse_than_a_general_solver(request_):
    curves, total, floor, cap = request_
    names = list(curves)
    best = allocate(curves, total=total, floor=floor, cap=cap)
    low, high = math.fsum(floor.values()), math.fsum(cap.values())
    share = (total - low) / (high - low)
    found = minimize(
        lambda x: loss(dict(zip(names, x, strict=True)), curves),
        [floor[d] + share * (cap[d] - floor[d]) for d in names],
        bounds=[(floor[d], cap[d]) for d in names],
        constraints={"type": "eq", "fun": lambda x: x.sum() - total},
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    )
    if found.success and abs(found.x.sum() - total) < 1e-9:
        assert loss(best, curves) <= found.fun * (1 + 1e-7)


def test_agrees_with_a_general_solver_on_the_amounts():
    curves = {"a": (2.6, 1.2), "b": (6.6, 1.4), "c": (0.5, 0.4), "d": (3.3, 1.9)}
    found = minimize(
        lambda x: sum((x[i] + a) ** -b for i, (a, b) in enumerate(curves.values())),
        np.ones(4),
        bounds=[(0.2, 1.8)] * 4,
        constraints={"type": "eq", "fun": lambda x: x.sum() - 4},
        method="SLSQP",
        options={"ftol": 1e-15, "maxiter": 1000},
    )
    best = allocate(curves, total=4, floor=0.2, cap=1.8)
    assert list(best.values()) == pytest.approx(found.x.tolist(), abs=1e-4)


def test_order_of_domains_does_not_matter():
    curves = {"a": (2.0, 1.0), "b": (1.0, 0.5), "c": None}
    backwards = dict(reversed(curves.items()))
    assert allocate(curves, total=3, floor=0.2) == allocate(backwards, total=3, floor=0.2)


def test_a_domain_without_a_curve_sits_at_its_floor():
    best = allocate({"a": (2.0, 1.0), "b": (1.0, 0.5), "flat": None}, total=3, floor=0.2)
    assert best["flat"] == 0.2


def test_domains_without_a_curve_share_what_the_others_cannot_take():
    curves = {"a": (2.0, 1.0), "flat": None, "level": None}
    best = allocate(curves, total=3, floor=0.2, cap={"a": 1.0, "flat": 0.5, "level": 9})
    assert best == pytest.approx({"a": 1.0, "flat": 0.5, "level": 1.5})


def test_no_curve_at_all_means_alike():
    assert allocate(dict.fromkeys("abc"), total=3, floor=0.2) == pytest.approx(
        {"a": 1, "b": 1, "c": 1}
    )


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ({"floor": 0.5}, r"the floors of 3 domains need 1\.5, more than the total of 1"),
        ({"cap": 0.3}, r"the caps of 3 domains leave room for 0\.9, less than the total of 1"),
        (
            {"floor": {"a": 0, "b": 0.4, "c": 0}, "cap": 0.35},
            r"the floor is above the cap for 'b'",
        ),
        ({"floor": {"a": 0, "b": 0, "wiki": 0}}, r"disagree on domains: 'c', 'wiki'"),
    ],
)
def test_says_what_binds(bounds, message):
    with pytest.raises(MixtureError, match=message):
        allocate(dict.fromkeys("abc", (1.0, 1.0)), total=1, **bounds)
