"""Weights in other trainers' words, read back by a parser of that format or by the trainer."""

import json
import math
import re
import shlex
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from mixture_assets.cli import cli
from mixture_assets.core.errors import MixtureError
from mixture_assets.core.mixture import Mixture
from mixture_assets.exports import FORMATS, Weights, exact, export, paths_like

ODD = ["yes", "1e5", "null", "a: b", "# c", "it's", '"q"', "back\\slash", "- x", "~", "[z]"]
ODD += ["\u00e9t\u00e9", "\u8a9e", "\U0001f40d"]
PRINTABLE = st.text(
    st.characters(exclude_categories=("C", "Zl", "Zp")), min_size=1, max_size=12
).filter(str.isprintable)
NAMES = st.sampled_from(ODD) | PRINTABLE


@st.composite
def mixtures(draw, names=NAMES):
    amounts = draw(
        st.dictionaries(names, st.floats(1e-9, 1.0) | st.just(0.0), min_size=1, max_size=20)
    )
    amounts[draw(st.sampled_from(sorted(amounts)))] = draw(st.floats(0.1, 1))
    return Mixture.proportional_to(amounts)


def invoke(*arguments):
    return CliRunner().invoke(cli, [str(a) for a in arguments])


# --- sums -------------------------------------------------------------------------------------


@given(mixtures())
def test_exact_weights_sum_to_1_and_move_no_weight(mixture):
    found = exact(mixture)
    assert math.fsum(found.values()) == 1
    assert found.keys() == set(mixture)
    assert all(abs(found[name] - w) < 4e-16 for name, w in mixture.items())


def test_weights_that_a_person_rounded_sum_to_1_too():
    found = exact({"a": 0.3333333, "b": 0.3333333, "c": 0.3333333})
    assert math.fsum(found.values()) == 1
    assert max(found.values()) - min(found.values()) < 1e-15


# --- each format, read back -------------------------------------------------------------------


@given(mixtures())
def test_json_is_what_export_itself_reads(mixture):
    text = export(Weights(mixture=mixture, budget_tokens=10**12), "json").text
    assert json.loads(text) == {"budget_tokens": 10**12, "weights": exact(mixture)}


@given(mixtures())
def test_toml(mixture):
    text = export(Weights(mixture=mixture, budget_tokens=5), "toml").text
    assert tomllib.loads(text) == {"budget_tokens": 5, "weights": exact(mixture)}


@given(mixtures())
def test_levanter_s_weights_are_floats_by_name_in_yaml(mixture):
    yaml = pytest.importorskip("yaml")
    found = yaml.safe_load(export(Weights(mixture=mixture), "levanter").text)
    assert found == {"train_weights": exact(mixture)}
    assert all(type(w) is float for w in found["train_weights"].values())


def test_a_weight_without_a_point_in_it_is_no_text_to_yaml():
    """Of YAML 1.1, 1e-05 is a text and 1.0e-05 a number."""
    yaml = pytest.importorskip("yaml")
    mixture = Mixture({"a": 1e-05, "b": 0.99999})
    for form in ("levanter", "olmo-core"):
        text = export(Weights(mixture=mixture), form).text
        assert "1.0e-05" in text
        values = re.findall(r": (\S+e-05)", text)
        assert [yaml.safe_load(value) for value in values] == [1e-05]


@given(mixtures())
def test_olmo_core_s_sources_pass_its_own_rules(mixture):
    """0 < target_ratio <= 1, max_repetition_ratio >= 1, some path, and a sum of 1."""
    yaml = pytest.importorskip("yaml")
    epochs = {name: 40 * w for name, w in mixture.items()}
    weights = Weights(
        mixture=mixture, budget_tokens=7, epochs=epochs, paths=paths_like("s/{}/*.npy", [*mixture])
    )
    text = export(weights, "olmo-core").text
    assert text.startswith("# requested_tokens: 7\n")
    sources = yaml.safe_load(text)["sources"]
    assert [s["source_name"] for s in sources] == [n for n, w in mixture.items() if w]
    assert math.fsum(s["target_ratio"] for s in sources) == 1
    for source in sources:
        assert 0 < source["target_ratio"] <= 1
        assert source["paths"] == [f"s/{source['source_name']}/*.npy"]
        passes = epochs[source["source_name"]]
        assert max(1, passes) <= source["max_repetition_ratio"] <= max(1, passes) + 0.02


def test_olmo_core_has_room_for_the_tokens_that_the_weights_ask_for():
    """It refuses a source if int(available x cap) < int(requested x ratio)."""
    yaml = pytest.importorskip("yaml")
    requested = 999_999_937
    mixture = Mixture.proportional_to({f"d{i}": i + 1 / 3 for i in range(1, 40)})
    available = {name: 1_000_003 + 7919 * i for i, name in enumerate(mixture)}
    epochs = mixture.epochs(requested, available)
    weights = Weights(mixture=mixture, budget_tokens=requested, epochs=epochs)
    for source in yaml.safe_load(export(weights, "olmo-core").text)["sources"]:
        most = int(available[source["source_name"]] * source["max_repetition_ratio"])
        assert most >= int(requested * source["target_ratio"])


def blend_of(words):
    """Megatron's documented rule: weights and prefixes in turn, prefixes without outer space."""
    assert len(words) % 2 == 0
    return {path.strip(): float(weight) for weight, path in zip(*[iter(words)] * 2, strict=True)}


@given(mixtures())
def test_megatron_s_blend_as_a_shell_hands_it_over(mixture):
    weights = Weights(mixture=mixture, paths=paths_like("data/{}_text", [*mixture]))
    option, *words = shlex.split(export(weights, "megatron").text)
    assert option == "--data-path"
    found = blend_of(words)
    used = {name: w for name, w in mixture.items() if w}
    assert found == {f"data/{name}_text": w for name, w in exact(used).items()}


@given(mixtures())
def test_huggingface_s_probabilities_follow_their_names(mixture):
    found = json.loads(export(Weights(mixture=mixture), "huggingface").text)
    used = {name: w for name, w in mixture.items() if w}
    assert dict(zip(found["names"], found["probabilities"], strict=True)) == exact(used)


def test_datasets_interleaves_in_the_shares_that_were_exported():
    datasets = pytest.importorskip("datasets")
    mixture = Mixture({"web": 0.55, "code": 0.3, "a: b #": 0.1, "rare": 0.05, "none": 0.0})
    found = json.loads(export(Weights(mixture=mixture), "huggingface").text)
    parts = [datasets.Dataset.from_dict({"of": [name] * 20_000}) for name in found["names"]]
    mixed = datasets.interleave_datasets(parts, probabilities=found["probabilities"], seed=1)
    drawn = mixed["of"][:20_000]
    for name, weight in mixture.items():
        slack = 4 * math.sqrt(weight * (1 - weight) / len(drawn))  # four standard errors
        assert abs(list(drawn).count(name) / len(drawn) - weight) <= slack, name


@given(mixtures())
def test_a_list_repeats_names_in_their_shares(mixture):
    made = export(Weights(mixture=mixture), "nanochat")
    found = json.loads(made.text)
    assert 100 <= len(found) <= 10_000
    for name, weight in mixture.items():
        assert abs(found.count(name) - weight * len(found)) < 1 + 1e-6
        if weight and name not in found:
            assert any("entries" in note for note in made.notes)


def test_a_list_is_spread_evenly_over_its_length():
    """Any beginning of it has every share to within a few entries, not only the whole."""
    mixture = Mixture({"a": 0.5, "b": 0.3, "c": 0.2})
    found = json.loads(export(Weights(mixture=mixture), "nanochat").text)
    for n in range(1, len(found) + 1):
        for name, weight in mixture.items():
            assert abs(found[:n].count(name) - weight * n) < 2


# --- what cannot be held ----------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("name", ["", "two\nlines", "half \ud800", "x" * 201, "bell\a"])
def test_a_name_that_no_file_can_hold_is_refused(form, name):
    with pytest.raises(MixtureError, match="is not a name that a file can hold"):
        export(Weights(mixture=Mixture({name: 1.0})), form)


@pytest.mark.parametrize("path", ["-x/{}", " {}", "{} "])
def test_a_path_that_megatron_would_read_otherwise_is_refused(path):
    weights = Weights(mixture=Mixture({"a": 1.0}), paths=paths_like(path, ["a"]))
    with pytest.raises(MixtureError, match="Megatron does not read"):
        export(weights, "megatron")


@pytest.mark.parametrize("form", ["olmo-core", "megatron", "huggingface", "nanochat"])
def test_a_domain_of_weight_0_is_left_out_by_name(form):
    made = export(Weights(mixture=Mixture({"a": 1.0, "idle": 0.0})), form)
    assert "idle" not in made.text
    assert "left out, as their weight is 0: 'idle'" in made.notes


@pytest.mark.parametrize("form", ["json", "toml", "levanter"])
def test_a_domain_of_weight_0_stays_where_it_does_no_harm(form):
    assert "idle" in export(Weights(mixture=Mixture({"a": 1.0, "idle": 0.0})), form).text


# --- the command ------------------------------------------------------------------------------


@pytest.fixture
def proposal(tmp_path):
    path = tmp_path / "proposal.json"
    weights = {"web": 0.7, "code": 0.3}
    content = {"weights": weights, "budget_tokens": 1000, "epochs": {"web": 2.5, "code": 0.5}}
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize("form", FORMATS)
def test_a_file_is_exported_to_stdout_or_to_a_file(proposal, tmp_path, form):
    shown = invoke("export", proposal, "--format", form)
    assert shown.exit_code == 0, shown.output
    out = tmp_path / "new" / "weights"
    written = invoke("export", proposal, "--format", form, "--out", out)
    assert (written.exit_code, written.stdout) == (0, "")
    assert out.read_text() == shown.stdout
    assert {"web", "code"} <= set(re.findall(r"\w+", shown.stdout))


def test_what_export_writes_it_can_read(proposal, tmp_path):
    out = tmp_path / "again.json"
    invoke("export", proposal, "--out", out)
    assert invoke("export", out).stdout == out.read_text()


def test_the_proposal_of_the_experiment_is_exported(trained):
    path, _, _, proposal_id = trained
    expected = json.loads(invoke("propose", "--experiment", path, "--json").stdout)
    latest = json.loads(invoke("export", "--experiment", path).stdout)
    assert latest["weights"] == pytest.approx(expected["weights"], abs=1e-15)
    assert latest["budget_tokens"] == expected["budget_tokens"]
    named = invoke("export", "--experiment", path, "--proposal", proposal_id[:6])
    assert json.loads(named.stdout) == latest


@pytest.mark.parametrize(
    ("content", "arguments", "problem"),
    [
        ('{"a": 1}', (), "proposal.json has no weights"),
        ("[1]", (), "proposal.json has no weights"),
        ("{", (), "proposal.json is not JSON"),
        ('{"weights": {"a": 1, "a": 0}}', (), "'a' is there twice"),
        ('{"weights": {"a": "1"}}', (), "weight of 'a' is"),
        ('{"weights": {"a": 0.9}}', (), "mixture weights must sum to 1"),
        ('{"weights": {"a": 1}}', ("--format", "yml"), "there is no format 'yml'"),
        ('{"weights": {"a": 1}}', ("--format", "jsn"), "(did you mean 'json'?)"),
        ('{"weights": {"a": 1}}', ("--paths", "data"), "'data' does not say where"),
        ('{"weights": {"a": 1}}', ("--proposal", "x"), "both have weights"),
    ],
)
def test_what_cannot_be_exported_is_one_sentence(tmp_path, content, arguments, problem):
    path = tmp_path / "proposal.json"
    path.write_text(content)
    result = invoke("export", path, *arguments)
    assert result.exit_code == 1
    assert problem in result.output


def test_an_experiment_without_a_proposal_says_so(tiny):
    result = invoke("export", "--experiment", tiny)
    assert result.exit_code == 1
    assert "has no proposal yet" in result.output
    assert not list(Path(tiny).parent.rglob("*.tmp"))
