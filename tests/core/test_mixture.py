import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixture_assets.core.errors import MixtureError
from mixture_assets.core.mixture import Mixture
from mixture_assets.core.schedule import MixtureSchedule

amounts = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=3), st.floats(0.01, 1e9), min_size=1
)


@given(amounts)
def test_is_on_the_simplex_whatever_the_order(by_domain):
    mixture = Mixture.proportional_to(by_domain)
    assert sum(mixture.values()) == pytest.approx(1)
    backwards = Mixture.proportional_to(dict(reversed(by_domain.items())))
    assert backwards == mixture
    assert hash(backwards) == hash(mixture)
    assert backwards.digest == mixture.digest
    assert list(mixture) == sorted(by_domain)


def test_an_error_survives_pickling_with_its_hint():
    with pytest.raises(MixtureError, match=r"must sum to 1, got 1\.2 over 2 domains") as caught:
        Mixture({"web": 0.7, "code": 0.5})
    copy = pickle.loads(pickle.dumps(caught.value))
    assert copy.hint == caught.value.hint != ""


@pytest.mark.parametrize("bad", [-0.1, float("nan"), float("inf")])
def test_refuses_weights_that_are_not_probabilities(bad):
    with pytest.raises(MixtureError, match="must be finite and >= 0"):
        Mixture({"web": bad, "code": 1.0})


def test_refuses_amounts_that_sum_to_nothing():
    with pytest.raises(MixtureError, match="cannot normalise"):
        Mixture.proportional_to({"web": 0.0})


def test_names_an_unknown_domain_and_the_one_that_was_meant():
    with pytest.raises(MixtureError, match=r"unknown domains: 'wbe' \(did you mean 'web'\?\)"):
        Mixture({"wbe": 1.0}).check_domains(["web", "code"])


def test_epochs_count_passes_over_the_data():
    mixture = Mixture({"web": 0.5, "code": 0.5})
    assert mixture.epochs(100, {"web": 200, "code": 10}) == {"web": 0.25, "code": 5.0}


def test_a_schedule_survives_json_and_refuses_disorder():
    schedule = MixtureSchedule(((0, Mixture({"a": 1.0})), (10, Mixture({"b": 1.0}))))
    assert MixtureSchedule.from_json(schedule.to_json()) == schedule
    with pytest.raises(MixtureError, match="strictly growing starts"):
        MixtureSchedule(((5, Mixture({"a": 1.0})),))
