import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixture_assets.core.errors import MixtureError
from mixture_assets.core.mixture import Mixture
from mixture_assets.methods.constraints import cap_epochs

AVAILABLE = {"web": 1000, "code": 100, "books": 10}


def capped(mixture, budget, max_epochs=4.0, floor=0.0, available=AVAILABLE):
    return cap_epochs(
        Mixture(mixture),
        available_tokens=available,
        budget_tokens=budget,
        max_epochs=max_epochs,
        floor=floor,
    )


def test_leaves_a_mixture_alone_that_breaks_no_cap():
    mixture = {"web": 0.9, "code": 0.09, "books": 0.01}
    assert capped(mixture, 1000) == (Mixture(mixture), [])


def test_spreads_the_excess_in_proportion():
    mixture, names = capped({"web": 0.6, "code": 0.2, "books": 0.2}, 1000)
    assert names == ["books"]
    assert dict(mixture) == pytest.approx({"web": 0.72, "code": 0.24, "books": 0.04})


def test_spreads_again_when_the_excess_breaks_another_cap():
    mixture, names = capped({"web": 0.3, "code": 0.3, "books": 0.4}, 1000)
    assert names == ["books", "code"]
    assert dict(mixture) == pytest.approx({"web": 0.56, "code": 0.4, "books": 0.04})


def test_gives_to_a_domain_of_weight_0_only_when_all_others_are_full():
    mixture, names = capped({"web": 0.0, "code": 0.5, "books": 0.5}, 1000)
    assert names == ["books", "code"]
    assert dict(mixture) == pytest.approx({"web": 0.56, "code": 0.4, "books": 0.04})
    mixture, names = capped({"web": 0.0, "code": 0.5, "books": 0.5}, 100)
    assert dict(mixture) == pytest.approx({"web": 0.0, "code": 0.6, "books": 0.4})
    assert names == ["books"]


def test_lifts_to_the_floor_at_the_expense_of_the_others_in_proportion():
    mixture, names = capped({"web": 0.6, "code": 0.4, "books": 0.0}, 100, floor=0.1)
    assert dict(mixture) == pytest.approx({"web": 0.54, "code": 0.36, "books": 0.1})
    assert names == []


@pytest.mark.parametrize(
    ("budget", "floor", "message"),
    [
        (4441, 0, r"a budget of 4.44k tokens would read every domain more than 4 times"),
        (100, 0.34, r"a least weight of 0\.34 for 3 domains needs 1\.02 of 1"),
        (1000, 0.05, r"a least weight of 0\.05 would read 'books' more than 4 times"),
    ],
)
def test_says_what_is_impossible(budget, floor, message):
    with pytest.raises(MixtureError, match=message):
        capped({"web": 0.6, "code": 0.2, "books": 0.2}, budget, floor=floor)


def test_the_last_possible_budget_reads_everything_max_epochs_times():
    mixture, _ = capped({"web": 0.6, "code": 0.2, "books": 0.2}, 4440)
    assert mixture.epochs(4440, AVAILABLE) == pytest.approx(dict.fromkeys(AVAILABLE, 4.0))


def test_a_domain_without_a_known_amount_is_named():
    with pytest.raises(MixtureError, match=r"unknown domains: 'wiki'"):
        capped({"web": 0.5, "wiki": 0.5}, 100)


weights = st.lists(st.floats(0, 1), min_size=2, max_size=8).filter(lambda w: sum(w) > 0.1)


@settings(max_examples=200, deadline=None)
@given(weights, st.data())
def test_any_answer_respects_the_caps_and_keeps_proportions(w, data):
    names = [f"d{i}" for i in range(len(w))]
    available = {n: data.draw(st.integers(1, 1000)) for n in names}
    most = 4 * sum(available.values())
    budget = data.draw(st.floats(0.01, 1)) * most
    before = Mixture.proportional_to(dict(zip(names, w, strict=True)))
    after, at_cap = capped(before, budget, available=available)
    assert math.fsum(after.values()) == pytest.approx(1)
    assert all(e <= 4 * (1 + 1e-9) for e in after.epochs(budget, available).values())
    free = [n for n in names if n not in at_cap and before[n] > 1e-6]
    ratios = [after[n] / before[n] for n in free]
    assert ratios == pytest.approx([ratios[0]] * len(ratios) if ratios else [])
