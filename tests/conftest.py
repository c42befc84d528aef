"""A tiny experiment on generated text: three domains that need different knowledge."""

import json
import random
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

if TYPE_CHECKING:
    from tests.trained import Trained

# How long an example takes is the machine's business: benchmarks measure, tests do not.
hypothesis.settings.register_profile("no deadline", deadline=None)
hypothesis.settings.load_profile("no deadline")

TINY = """
name = "tiny"
store = "store"
[data]
root = "raw"
validation_fraction = 0.2
validation_tokens = 600
settle_seconds = 0
[tokenizer]
vocab_size = 320
[model]
width = 16
layers = 1
heads = 2
context = 32
[training]
batch_tokens = 256
learning_rate = 1e-2
[proxy]
budgets_tokens = [2048, 6144]
base_seeds = [1]
bootstrap = 20
[constraints]
max_epochs = 20
[full]
budget_tokens = 10_000
seeds = [0, 1]
evaluations = 3
"""

_WORDS = {
    "animals": "cat dog horse mouse bird fish runs sleeps eats jumps slowly quickly".split(),
    "numbers": "one two three four five six plus minus times equals zero ten".split(),
    "plants": "oak pine rose grass leaf root grows blooms fades green tall old".split(),
}
_DOCUMENTS = {"animals": 260, "numbers": 200, "plants": 120}


def write_corpus(root: Path) -> None:
    """Three domains of jsonl, of different sizes; the same bytes every time."""
    for domain, words in _WORDS.items():
        rng = random.Random(domain)
        folder = root / domain
        folder.mkdir(parents=True)
        with open(folder / "part-00000.jsonl", "w", encoding="utf-8") as file:
            for number in range(_DOCUMENTS[domain]):
                text = " ".join(rng.choices(words, k=40)) + f". {domain} {number}\n"
                file.write(json.dumps({"text": text}) + "\n")


def write_tiny(folder: Path) -> Path:
    """The experiment file, with its corpus beside it."""
    write_corpus(folder / "raw")
    path = folder / "tiny.toml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="session")
def tiny_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the experiment, its corpus and its tokens: made once, copied by tests."""
    from mixture_assets.corpus import Workspace, build_corpus

    folder = tmp_path_factory.mktemp("tiny")
    build_corpus(Workspace.open(write_tiny(folder)))
    return folder


@pytest.fixture
def tiny(tiny_template: Path, tmp_path: Path) -> Path:
    """The experiment file of a private copy that holds tokens but no run."""
    target = tmp_path / "tiny"
    shutil.copytree(tiny_template, target)
    return target / "tiny.toml"


@pytest.fixture(scope="session")
def trained_template(tiny_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny experiment with results for all its runs, from a formula instead of training."""
    from tests.trained import run_experiment

    folder = tmp_path_factory.mktemp("trained") / "tiny"
    shutil.copytree(tiny_template, folder)
    run_experiment(folder / "tiny.toml")
    return folder


@pytest.fixture
def trained(trained_template: Path, tmp_path: Path) -> "Trained":
    """A private copy of it: file, workspace, corpus, proposal id."""
    from mixture_assets.corpus import Workspace, build_corpus
    from mixture_assets.pipeline import latest_proposal

    path = tmp_path / "tiny" / "tiny.toml"
    shutil.copytree(trained_template, path.parent)
    workspace = Workspace.open(path)
    return path, workspace, build_corpus(workspace), latest_proposal(workspace)
