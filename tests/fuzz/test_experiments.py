"""Thousands of mistyped experiment files: each is planned, or refused in one sentence."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given

from mixture_assets import corpus, plans
from mixture_assets.core.experiment import Experiment
from mixture_assets.corpus import Corpus, Workspace
from mixture_assets.training.model import count_parameters
from tests.conftest import TINY
from tests.fuzz.endings import Endings, fuzz_settings, invoke
from tests.fuzz.experiments import experiment_files

FEW_PARAMETERS = 200  # of layers and of width: a model's shape is told without allocating it


@pytest.fixture(scope="module")
def endings() -> Iterator[Endings]:
    counted = Endings("experiment files")
    yield counted
    counted.report()
    assert counted.n_succeeded > 10
    assert counted.n_refused > 10


@pytest.fixture(scope="module")
def tokens(tiny_template: Path) -> Corpus:
    (tiny_template / "tiny.toml").write_text(TINY)
    return corpus.build_corpus(Workspace.open(tiny_template / "tiny.toml"))


@given(content=experiment_files())
@fuzz_settings(0.3, small=120)
def test_an_experiment_file_is_planned_or_refused_in_one_sentence(
    content: bytes, tiny_template: Path, tokens: Corpus, endings: Endings
) -> None:
    path = tiny_template / "fuzz.toml"
    path.write_bytes(content)
    before = files(tiny_template / "store")

    def attempt() -> list[plans.PlannedRun]:
        workspace = Workspace.open(path)
        corpus.landed(workspace)
        planned = plans.plan_proxies(workspace, tokens)
        if is_small(workspace.experiment):
            count_parameters(workspace.experiment.model, vocab_size=tokens.tokenizer.vocab_size)
        return planned

    planned = endings.of(attempt)
    assert planned is None or all(run.spec.budget_tokens > 0 for run in planned)
    after = files(tiny_template / "store")
    assert before <= after
    require_whole(after - before)


@given(content=experiment_files())
@fuzz_settings(0.02, small=30)
def test_an_experiment_file_through_the_command_line(content: bytes, tiny_template: Path) -> None:
    path = tiny_template / "fuzz.toml"
    path.write_bytes(content)
    output = invoke("status", "--experiment", path)
    assert output.startswith("Error: ") or "next: mixture run" in output


def is_small(experiment: Experiment) -> bool:
    return max(experiment.model.layers, experiment.model.width) <= FEW_PARAMETERS


def require_whole(made: set[Path]) -> None:
    """What a look at an experiment notes is JSON that can be read; an empty file is a lock."""
    for path in (p for p in made if p.is_file() and p.stat().st_size):
        assert path.suffix == ".json", path
        json.loads(path.read_text())


def files(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))
