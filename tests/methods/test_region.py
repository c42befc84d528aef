"""Bounds by hand, and what is said where they cannot hold."""

import numpy as np
import pytest

from mixture_assets.core.errors import MixtureError
from mixture_assets.methods.region import Limits, Region, region_of

DOMAINS = ("books", "code", "web")
NATURAL = {"books": 0.05, "code": 0.15, "web": 0.8}


def of(**asked):
    return region_of(DOMAINS, Limits(**asked), NATURAL)


def hint(error):
    return "".join(error.value.__notes__)


def test_without_limits_it_is_the_simplex():
    region = of()
    np.testing.assert_array_equal(region.low, [0, 0, 0])
    np.testing.assert_array_equal(region.high, [1, 1, 1])
    assert region.low_why == region.high_why == ("", "", "")


def test_epochs_become_caps():
    """2 epochs of 3B tokens in a run of 20B are 0.3 of it; 100B are more than all of it."""
    region = of(
        available_tokens={"books": 3e9, "code": 8e9, "web": 100e9},
        budget_tokens=20e9,
        max_epochs=2,
    )
    np.testing.assert_allclose(region.high, [0.3, 0.8, 1.0])
    assert region.high_why == ("max_epochs = 2", "max_epochs = 2", "")


def test_the_tighter_bound_is_the_one_that_is_named():
    """1 epoch is 0.1 of the run for books and code: above the cap of one, below the other's."""
    region = of(
        cap={"books": 0.05, "code": 0.5},
        available_tokens={"books": 1e9, "code": 1e9, "web": 10e9},
        budget_tokens=10e9,
        max_epochs=1,
    )
    np.testing.assert_allclose(region.high, [0.05, 0.1, 1.0])
    assert region.high_why == ("cap", "max_epochs = 1", "")


def test_protected_domains_keep_their_natural_weight():
    region = of(protected=["code"], floor={"web": 0.2})
    np.testing.assert_allclose(region.low, [0, 0.15, 0.2])
    assert region.low_why == ("", "protected", "floor")


def test_how_far_outside_a_mixture_is():
    region = of(cap={"web": 0.6}, groups={"text": (["books", "web"], (0.0, 0.7))})
    assert region.violation(np.array([0.1, 0.3, 0.6])) == pytest.approx(0)
    assert region.violation(np.array([0.0, 0.2, 0.8])) == pytest.approx(0.2)  # web
    assert region.violation(np.array([0.35, 0.05, 0.6])) == pytest.approx(0.25)  # text


@pytest.mark.parametrize(
    ("asked", "problem", "advice"),
    [
        (
            {"floor": {"books": 0.3}, "cap": {"books": 0.2}},
            r"no weight of 'books' will do: floor asks for 0\.3 .*cap for 0\.2",
            "relax",
        ),
        ({"floor": {"books": 0.6, "web": 0.7}}, r"books.*add up to 1\.3, above 1", "lower"),
        ({"cap": dict.fromkeys(DOMAINS, 0.3)}, r"add up to 0\.9, below 1 \(cap\)", "raise"),
        ({"floor": {"boks": 0.1}}, r"no domain 'boks'.*books", "'books', 'code', 'web'"),
        ({"groups": {"g": (["cod"], (0, 1))}}, r"no domain 'cod'.*code", "'books', 'code', 'web'"),
    ],
)
def test_what_cannot_hold_is_named(asked, problem, advice):
    with pytest.raises(MixtureError, match=problem) as error:
        of(**asked)
    assert advice in hint(error)


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan"), float("inf")])
@pytest.mark.parametrize("where", ["floor", "cap", "groups"])
def test_a_share_is_from_0_to_1(where, share):
    value = {"g": (["web"], (0, share))} if where == "groups" else {"web": share}
    with pytest.raises(MixtureError, match="expected a weight from 0 to 1"):
        of(**{where: value})


def test_too_little_data_for_the_epochs():
    """5B tokens twice fill half of a run of 20B."""
    tokens = {"books": 1e9, "code": 1e9, "web": 3e9}
    with pytest.raises(MixtureError, match=r"add up to 0\.5, below 1 \(max_epochs = 2\)") as error:
        of(available_tokens=tokens, budget_tokens=20e9, max_epochs=2)
    assert "max_epochs" in hint(error)


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        ({"available_tokens": {"web": 1e9}, "budget_tokens": 1e9}, "needs the tokens of .*books"),
        ({"available_tokens": dict.fromkeys(DOMAINS, 1e9)}, "needs the budget"),
    ],
)
def test_epochs_need_tokens_and_a_budget(asked, problem):
    with pytest.raises(MixtureError, match=problem) as error:
        of(max_epochs=4, **asked)
    assert "tokens of every domain" in hint(error)


@pytest.mark.parametrize("epochs", [0, -1])
def test_epochs_are_above_0(epochs):
    with pytest.raises(MixtureError, match="max_epochs must be above 0"):
        of(
            max_epochs=epochs,
            available_tokens=dict.fromkeys(DOMAINS, 1e9),
            budget_tokens=1e9,
        )


def test_the_order_of_what_is_asked_changes_nothing():
    groups = {"b": (["web"], (0.1, 0.9)), "a": (["books", "code"], (0.0, 0.8))}
    here, there = of(groups=groups), of(groups=dict(reversed(groups.items())))
    assert here.row_names == there.row_names == ("a", "b")
    np.testing.assert_array_equal(here.rows, there.rows)
    np.testing.assert_array_equal(here.row_high, [0.8, 0.9])


def test_bounds_only_ever_tighten():
    region = Region.simplex(DOMAINS).capped({"web": 0.5}, "cap").capped({"web": 0.7}, "wide")
    region = region.floored({"web": 0.2}, "floor").floored({"web": 0.1}, "low")
    assert (region.low[2], region.high[2]) == (0.2, 0.5)
    assert (region.low_why[2], region.high_why[2]) == ("floor", "cap")
