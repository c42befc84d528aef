"""What every online method holds, its state on paper, and the epoch caps on what it samples."""

import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixture_assets.core.errors import MixtureError
from mixture_assets.core.mixture import Mixture
from mixture_assets.methods.online import (
    ONLINE,
    Feedback,
    OnlineState,
    capped,
    online_method,
    settings_of,
)

GROUPS = ["books", "code", "web", "wiki"]
EVERY = pytest.mark.parametrize("name", ONLINE)
alignments = st.lists(st.floats(-1, 1), min_size=4, max_size=4)
positive = st.lists(st.floats(0.01, 1), min_size=4, max_size=4)


def named(values, names=GROUPS):
    return dict(zip(names, values, strict=True))


def told(values, **changed):
    alignment = values if isinstance(values, dict) else named(values)
    said = {"learning_rate": 1e-3, "specialist_norm": 1.0, "clip_norm": 1.0} | changed
    return Feedback(alignment=alignment, standard_error=dict.fromkeys(alignment, 0.1), **said)


@EVERY
def test_an_aligned_group_gains_and_the_others_lose(name):
    method = online_method(name, {})
    before = method.start(Mixture.uniform(GROUPS))
    after = method.update(before, told([0.5, 0, 0, 0]))
    assert after.weights["books"] > before.weights["books"]
    assert all(after.weights[n] < before.weights[n] for n in GROUPS[1:])
    assert method.sampled(after)["books"] > method.sampled(before)["books"]
    assert after.n_updates == 1


def test_an_opposed_group_loses():
    method = online_method("dga", {})
    before = method.start(Mixture.uniform(GROUPS))
    after = method.update(before, told([-0.5, 0, 0, 0]))
    assert after.weights["books"] < before.weights["books"]
    assert all(after.weights[n] > before.weights[n] for n in GROUPS[1:])


@EVERY
@given(start=positive, steps=st.lists(alignments, min_size=1, max_size=8), scale=st.floats(0, 1e3))
@settings(max_examples=40, deadline=None)
def test_weights_stay_on_the_simplex_and_above_the_floor(name, start, steps, scale):
    method = online_method(name, {"floor": 0.02})
    state = method.start(Mixture.proportional_to(named(start)))
    for values in steps:
        state = method.update(state, told([scale * a for a in values]))
        for mixture in (state.weights, state.average, method.sampled(state)):
            assert math.fsum(mixture.values()) == pytest.approx(1, abs=1e-12)
            assert min(mixture.values()) >= 0.02 / 4 * (1 - 1e-9)


@EVERY
@given(start=positive, level=st.floats(-1, 1))
@settings(max_examples=40, deadline=None)
def test_a_constant_alignment_changes_nothing(name, start, level):
    method = online_method(name, {})
    before = method.start(Mixture.proportional_to(named(start)))
    after = method.update(before, told([level] * 4))
    assert dict(after.weights) == pytest.approx(dict(before.weights), rel=1e-12)
    assert dict(method.sampled(after)) == pytest.approx(dict(method.sampled(before)), rel=1e-12)


@EVERY
@given(
    start=positive,
    steps=st.lists(alignments, min_size=1, max_size=5),
    renamed=st.permutations(GROUPS),
)
@settings(max_examples=40, deadline=None)
def test_names_carry_the_numbers_and_positions_do_not(name, start, steps, renamed):
    method, new = online_method(name, {}), dict(zip(GROUPS, renamed, strict=True))
    one = method.start(Mixture.proportional_to(named(start)))
    two = method.start(Mixture.proportional_to({new[n]: x for n, x in named(start).items()}))
    for values in steps:
        one = method.update(one, told(values))
        reverse = reversed(named(values).items())
        two = method.update(two, told({new[n]: x for n, x in reverse}))
    expected = {new[n]: w for n, w in method.sampled(one).items()}
    assert dict(method.sampled(two)) == pytest.approx(expected, rel=1e-11)


@EVERY
def test_a_group_that_was_not_measured_keeps_its_weight(name):
    method = online_method(name, {"floor": 0.0})
    before = method.start(Mixture({"books": 0.1, "code": 0.2, "web": 0.3, "wiki": 0.4}))
    after = method.update(before, told({"books": 0.9, "code": 0.1, "web": 0.2}))
    assert after.weights["wiki"] == pytest.approx(0.4, rel=1e-12)
    alone = method.start(Mixture({"books": 1 / 6, "code": 2 / 6, "web": 3 / 6}))
    alone = method.update(alone, told({"books": 0.9, "code": 0.1, "web": 0.2}))
    expected = {n: 0.6 * w for n, w in alone.weights.items()}
    assert {n: after.weights[n] for n in expected} == pytest.approx(expected, rel=1e-12)


@EVERY
@given(start=positive, steps=st.lists(alignments, max_size=6))
@settings(max_examples=40, deadline=None)
def test_a_state_on_paper_is_the_same_state_bit_for_bit(name, start, steps):
    method = online_method(name, {})
    state = method.start(Mixture.proportional_to(named(start)))
    for values in steps:
        state = method.update(state, told(values))
    read = OnlineState.from_json(json.loads(json.dumps(state.to_json())))
    assert read == state
    assert method.update(read, told([0.1, 0.2, 0.3, 0.4])) == method.update(
        state, told([0.1, 0.2, 0.3, 0.4])
    )


@EVERY
def test_a_weight_that_starts_at_zero_is_lifted_to_the_floor(name):
    method = online_method(name, {"floor": 0.04})
    state = method.start(Mixture({"books": 0, "code": 0.25, "web": 0.25, "wiki": 0.5}))
    assert state.weights["books"] == pytest.approx(0.01)
    assert state.weights["wiki"] / state.weights["web"] == pytest.approx(2)


# --- by name ----------------------------------------------------------------------------------


def test_an_unknown_method_is_told_with_the_nearest():
    with pytest.raises(MixtureError, match=r"'dgaa' \(did you mean 'dga'\?\)") as error:
        online_method("dgaa", {})
    assert error.value.hint == "known online methods: dga, doge"


def test_an_unknown_setting_is_told_with_the_nearest():
    with pytest.raises(MixtureError, match=r"dga has no setting 'etta' \(did you mean 'eta'\?\)"):
        online_method("dga", {"etta": 1.0})


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("dga", "eta", -1.0),
        ("dga", "eta", math.inf),
        ("dga", "eta", "1.5"),
        ("dga", "eta", True),
        ("dga", "ema", 0.0),
        ("dga", "ema", 1.1),
        ("dga", "floor", 1.0),
        ("dga", "floor", math.nan),
        ("dga", "update_steps", 0),
        ("dga", "update_steps", 1.5),
        ("doge", "mu", 0.0),
        ("doge", "most", -1),
        ("doge", "floor", -0.1),
    ],
)
def test_a_setting_that_cannot_be_is_named(name, key, value):
    with pytest.raises(MixtureError, match=f"^{key} must be a .*number.*, got"):
        online_method(name, {key: value})


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"alignment": {"web": 0.1, "code": math.nan}}, "the alignment of 'code' is nan"),
        ({"specialist_norm": math.inf}, "norm of the specialist gradient is inf"),
        ({"alignment": {}}, "without the alignment of any group"),
    ],
)
def test_numbers_of_a_diverged_run_are_refused(changed, said):
    fine = {"alignment": {"web": 0.1}, "learning_rate": 1.0, "specialist_norm": 1.0}
    with pytest.raises(MixtureError, match=said):
        Feedback(standard_error={}, **(fine | changed))


@EVERY
def test_an_alignment_of_nobody_is_named(name):
    method = online_method(name, {})
    with pytest.raises(MixtureError, match=r"no group 'webb' \(did you mean 'web'\?\)"):
        method.update(method.start(Mixture.uniform(GROUPS)), told({"webb": 0.1, "code": 0.2}))


# --- epoch caps -------------------------------------------------------------------------------


def test_what_a_capped_domain_gives_up_goes_to_the_others_in_proportion():
    wanted = Mixture({"books": 0.6, "code": 0.2, "web": 0.1, "wiki": 0.1})
    got = capped(
        wanted,
        period_tokens=100,
        used_tokens={"books": 10, "wiki": 50},
        most_tokens={"books": 40, "code": 1000, "web": 1000, "wiki": 50},
    )
    expected = {"books": 0.3, "code": 0.7 * 2 / 3, "web": 0.7 / 3, "wiki": 0.0}
    assert dict(got) == pytest.approx(expected, abs=1e-12)


def test_a_mixture_within_its_caps_is_untouched():
    wanted = Mixture({"code": 1 / 3, "web": 2 / 3})
    most = {"code": 50, "web": 67}
    assert capped(wanted, period_tokens=100, used_tokens={}, most_tokens=most) is wanted


@given(
    weights=st.lists(st.floats(0, 1), min_size=4, max_size=4).filter(lambda x: sum(x) > 0.1),
    most=st.lists(st.integers(0, 400), min_size=4, max_size=4),
)
@settings(max_examples=200, deadline=None)
def test_caps_against_pouring_drop_by_drop(weights, most):
    """Give out the excess in rounds until nothing is over: another way to the fixed point."""
    if sum(most) < 100:
        return
    wanted = Mixture.proportional_to(named(weights))
    got = capped(wanted, period_tokens=100, used_tokens={}, most_tokens=named(most))
    w, cap = np.array(list(wanted.values())), np.array(most) / 100
    if cap[w > 1e-9].sum() < 1.001:  # the rest is by room, tested by hand elsewhere
        return
    poured = w.copy()
    for _ in range(50):
        over = poured > cap
        poured = np.where(over, cap, poured)
        free = (poured < cap) & (w > 0)
        poured[free] += w[free] / w[free].sum() * (1 - poured.sum())
    assert list(got.values()) == pytest.approx(poured.tolist(), abs=1e-9)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=15, deadline=None)
def test_no_cap_is_ever_broken_and_all_the_data_can_be_read(seed):
    """A run as long as all caps together, steered at random, reads every domain to its cap."""
    rng = np.random.default_rng(seed)
    most = named(rng.integers(50, 400, size=4).tolist())
    method, used = online_method("dga", {"eta": 3.0, "ema": 0.5}), dict.fromkeys(GROUPS, 0)
    state, left = method.start(Mixture.uniform(GROUPS)), sum(most.values())
    while left:
        period = min(left, int(rng.integers(1, 60)))
        mixture = capped(
            method.sampled(state), period_tokens=period, used_tokens=used, most_tokens=most
        )
        for name, tokens in mixture.split(period).items():
            used[name] += tokens
        assert all(used[n] <= most[n] for n in GROUPS)
        state, left = method.update(state, told(rng.normal(size=4).tolist())), left - period
    assert used == most


def test_a_period_that_no_cap_leaves_room_for_is_told():
    with pytest.raises(MixtureError, match="nothing is left of 'code'") as error:
        capped(
            Mixture.uniform(["code", "web"]),
            period_tokens=100,
            used_tokens={"code": 50, "web": 80},
            most_tokens={"code": 50, "web": 120},
        )
    assert "40 of 170 allowed tokens are left" in str(error.value)
    assert "max_epochs" in error.value.hint


def test_a_domain_without_a_cap_is_named():
    with pytest.raises(MixtureError, match="unknown domains: 'web'"):
        capped(
            Mixture.uniform(["code", "web"]),
            period_tokens=1,
            used_tokens={},
            most_tokens={"code": 5},
        )


@EVERY
def test_all_settings_are_told_and_make_the_method_again(name):
    method = online_method(name, {"floor": 0, "update_steps": 7})
    said = settings_of(method)
    assert online_method(name, said) == method
    assert said == {f.name: getattr(method, f.name) for f in dataclasses.fields(method)}
    assert {n for n, x in said.items() if type(x) is int} == {"update_steps"}
