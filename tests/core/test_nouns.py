import math

import pytest

from mixture_assets.core.digest import digest
from mixture_assets.core.errors import MixtureError, shortlist
from mixture_assets.core.names import validate_domain
from mixture_assets.core.problem import Objective, Problem, ProxyRun
from mixture_assets.core.run import ModelSpec, RunSpec, TrainingSpec
from mixture_assets.core.units import bytes_text, flops_text, seconds_text, tokens_text


@pytest.mark.parametrize(
    "name", ["../up", "a/b", "a\\b", ".hidden", "-option", "a,b", "a b", "", "a..b", "x" * 101, "ä"]
)
def test_a_domain_name_cannot_leave_its_folder(name):
    with pytest.raises(MixtureError, match="is not a domain name"):
        validate_domain(name)


@pytest.mark.parametrize("name", ["web", "wiki:de", "c4_en", "python-3.11", "2024"])
def test_ordinary_names_pass(name):
    assert validate_domain(name) == name


def test_the_objective_is_a_mean_of_perplexities_not_a_perplexity_of_means():
    losses = {"a": math.log(10), "b": math.log(30)}
    assert Objective().value(losses) == pytest.approx(20)
    assert Objective(metric="loss").value(losses) == pytest.approx(math.log(300) / 2)
    assert Objective(weights={"a": 3.0, "b": 1.0}).value(losses) == pytest.approx(15)
    assert Objective(weights={"a": 1.0}).value(losses) == pytest.approx(10)


def test_an_objective_over_a_domain_without_a_loss_is_an_error():
    with pytest.raises(MixtureError, match="the objective weighs 'c', which have no loss"):
        Objective(weights={"c": 1.0}).value({"a": 1.0})


def test_natural_is_in_proportion_to_tokens():
    problem = Problem(available_tokens={"b": 300, "a": 100}, budget_tokens=10)
    assert dict(problem.natural) == {"a": 0.25, "b": 0.75}
    assert dict(problem.uniform) == {"a": 0.5, "b": 0.5}
    assert problem.domains == ["a", "b"]


def test_a_run_is_named_by_everything_that_its_result_depends_on():
    spec = RunSpec(
        tokens={"a": 10},
        seed=0,
        model=ModelSpec(),
        training=TrainingSpec(),
        vocab_size=300,
        token_sets={"a": "x"},
        numeric_path="cpu",
    )
    assert RunSpec.from_json(spec.to_json()) == spec
    assert RunSpec.from_json(spec.to_json()).digest == spec.digest
    import dataclasses

    others = [
        dataclasses.replace(spec, **change)
        for change in (
            {"tokens": {"a": 11}},
            {"seed": 1},
            {"model": ModelSpec(width=128)},
            {"training": TrainingSpec(learning_rate=1.0)},
            {"token_sets": {"a": "z"}},
            {"numeric_path": "cuda"},
            {"vocab_size": 301},
        )
    ]
    assert len({spec.digest, *(o.digest for o in others)}) == 8


def test_a_request_is_named_by_tokens_and_seed_in_any_order():
    one, two = ProxyRun(tokens={"a": 1, "b": 2}), ProxyRun(tokens={"b": 2, "a": 1})
    assert one.digest == two.digest != ProxyRun(tokens={"a": 1, "b": 2}, seed=1).digest
    assert one.budget_tokens == 3


def test_a_digest_refuses_what_has_no_single_text():
    with pytest.raises(ValueError, match="Out of range float values"):
        digest(float("nan"))


def test_numbers_read_as_people_write_them():
    assert tokens_text(1_200_000) == "1.2M"
    assert tokens_text(5e9) == "5B"
    assert flops_text(3.1e12) == "3.1 TFLOP"
    assert flops_text(4.593e18) == "4.59e+18 FLOP"
    assert bytes_text(12_300_000) == "12.3 MB"
    assert seconds_text(5.04) == "5.0 s"
    assert seconds_text(725) == "12 min 5 s"
    assert seconds_text(12_000) == "3 h 20 min"
    assert shortlist(["b", "a", "d", "c"]) == "'a', 'b', 'c', ..."
