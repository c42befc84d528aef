from pathlib import Path

import pytest

from mixture_assets.core.errors import MixtureError
from mixture_assets.core.experiment import load_experiment

MINIMAL = """
name = "mine"
[data]
root = "raw"
[full]
budget_tokens = 5e9
"""


def write(tmp_path, text):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return path


def test_the_demo_experiment_loads():
    experiment = load_experiment(Path("experiments/demo.toml"))
    assert experiment.name == "demo"
    assert experiment.data.harvest
    assert len(experiment.proxy.budgets_tokens) == 2


def test_defaults_fill_what_is_not_said_and_5e9_is_a_count(tmp_path):
    experiment = load_experiment(write(tmp_path, MINIMAL))
    assert experiment.full.budget_tokens == 5_000_000_000
    assert isinstance(experiment.full.budget_tokens, int)
    assert experiment.training.batch_tokens == 2048


def test_paths_are_relative_to_the_file(tmp_path):
    experiment = load_experiment(write(tmp_path, MINIMAL))
    assert experiment.data_root == str(tmp_path / "raw")
    url = MINIMAL.replace('"raw"', '"s3://bucket/raw"')
    assert load_experiment(write(tmp_path, url)).data_root == "s3://bucket/raw"


def test_a_tokenizer_beside_the_file_is_found_and_a_hub_name_is_left_alone(tmp_path):
    experiment = load_experiment(write(tmp_path, MINIMAL))
    (tmp_path / "mine").mkdir()
    assert experiment.beside("mine") == str(tmp_path / "mine")
    assert experiment.beside("org/model") == "org/model"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nam = 1" + MINIMAL, r"unknown key 'nam' \(did you mean 'name'\?\)"),
        (MINIMAL + "budget_token = 3", r"full has an unknown key 'budget_token' \(did you mean"),
        (MINIMAL.replace("5e9", '"5e9"'), "budget_tokens must be int, got '5e9'"),
        (MINIMAL.replace("5e9", "0"), "budget_tokens must be > 0"),
        (MINIMAL.replace("5e9", "true"), "budget_tokens must be int, got True"),
        (MINIMAL + 'mixtures = ["unifrom"]', r"unknown name 'unifrom' \(did you mean 'uniform'"),
        (MINIMAL + "[proxy]\nshrink = 2.0", "shrink and grow must be around 1"),
        (MINIMAL + "[proxy]\nbudgets_tokens = [9, 3]", "budgets_tokens must be growing"),
        (MINIMAL + '[training]\nschedule = "linear"', "must be one of 'cosine', 'wsd'"),
        (MINIMAL + "[model]\nwidth = 65", "width must be a multiple of heads"),
        (MINIMAL + "[data.datasets.'../up']\npath = 'x'", "'../up' is not a domain name"),
        (MINIMAL + "seeds = [0, 0]", "seeds must be different"),
        (MINIMAL + "[training]\nclip_norm = 0", "clip_norm must be > 0"),
        (MINIMAL + "[training]\nwarmup_fraction = 3", "warmup_fraction must be in"),
        (MINIMAL + "[training]\nbeta1 = 2", "beta1, beta2 must be < 1"),
        (MINIMAL + "[objective.weights]\na = 0", "weights must be > 0 somewhere"),
        ("folder = '/x'" + MINIMAL, "unknown key 'folder'"),
        (MINIMAL + "[constraints]\nfloor = -3", "floor must be in"),
        (MINIMAL + "[tokenizer]\nvocab_size = 3", "vocab_size must be >= 257"),
        (MINIMAL + "[proxy_model]\nwidth = 65", "proxy_model: width must be a multiple of heads"),
        (MINIMAL + "[model]\ncontext = 4096", "model: context must be from 1 to"),
        (MINIMAL + "[proxy]\nevaluations = 0", "evaluations must be > 0"),
        ("[data]\nroot='x'\n[full]\nbudget_tokens=1", "lacks 'name'"),
        ("compute = 3" + MINIMAL, "compute must be a table, got 3"),
        (MINIMAL + "weights = 3", "weights must be a table, got 3"),
        ("name = ", "is not valid TOML"),
        ("x = " + "[" * 5000, "is not valid TOML"),
        ("x = " + "9" * 5000, "is not valid TOML"),
        (MINIMAL.replace("5e9", "1e30"), "budget_tokens must be int, got 1e\\+30"),
        (MINIMAL.replace("5e9", str(10**30)), "budget_tokens must be a number of at most 64 bits"),
        (MINIMAL.replace("5e9", "2e15"), "full: budget_tokens must be > 0 and <= 1e15"),
        (MINIMAL + "seeds = [-1]", "full: seeds must be from 0 to"),
        (MINIMAL + f"seeds = [{2**63}]", "full: seeds must be a number of at most 64 bits"),
        (MINIMAL + "mixtures = []", "full: mixtures must be at least one"),
        (MINIMAL + 'mixtures = ["natural", "natural"]', "full: mixtures must be .* different"),
        (MINIMAL + "[training]\nlearning_rate = inf", "learning_rate must be a finite number"),
        (MINIMAL + "[training]\nweight_decay = nan", "weight_decay must be a finite number"),
        (MINIMAL + "[model]\ncontext = 1e9", "model: context must be from 1 to"),
        (MINIMAL + "[model]\nlayers = 1e6", "model: layers must be <= 1000"),
        (MINIMAL + "[model]\nwidth = 6\nheads = 6", "width must be an even multiple of heads"),
        (MINIMAL + "[model]\noverrides = {a = 2026-01-01}", "overrides.a must be a number, a text"),
        (MINIMAL + "[model]\noverrides = {a = [nan]}", "overrides.a must be a finite number"),
        (MINIMAL + "[tokenizer]\nvocab_size = 1e9", "vocab_size must be .* <= 10 million"),
        (MINIMAL + "[compute]\nworkers = 1e6", "compute: workers must be >= 0 and <= 1024"),
        (MINIMAL + "[proxy]\ngrow = inf", "proxy: grow must be a finite number"),
        (MINIMAL + "[proxy]\nbase_seeds = [1, 1]", "proxy: base_seeds must be different"),
        (MINIMAL + "[objective.weights]\n'a\\nb' = 'x'", r"weights.a\\nb must be float, got 'x'"),
        (MINIMAL.replace('"raw"', '""'), "data: root must be a folder, unless"),
        (MINIMAL.replace('"raw"', '"s3://x"\nharvest = true'), "data: root must be a local folder"),
        (MINIMAL.replace('"raw"', r'"a\u0000b"'), "data: root = 'a.x00b' is no path"),
        (f"store = '{'x' * 5000}'" + MINIMAL, "store = 'xxx.* is no path: File name too long"),
        ("store = '/dev/null/x'" + MINIMAL, "store = '/dev/null/x' is no path: Not a directory"),
        ("store = '/dev/null'" + MINIMAL, "store = '/dev/null' is not a folder, but a file"),
        (MINIMAL.replace('"mine"', '"../up"'), "name = '../up' is no name of an experiment"),
    ],
)
def test_every_mistake_is_named(tmp_path, text, message):
    with pytest.raises(MixtureError, match=message):
        load_experiment(write(tmp_path, text))


def test_an_endless_number_of_epochs_is_refused_since_no_digest_can_say_it(tmp_path):
    with pytest.raises(MixtureError, match="max_epochs must be a finite number, got inf"):
        load_experiment(write(tmp_path, MINIMAL + "[constraints]\nmax_epochs = inf"))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(MixtureError, match="no experiment file at"):
        load_experiment(tmp_path / "none.toml")
