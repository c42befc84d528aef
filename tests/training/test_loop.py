import contextlib
import dataclasses
import json
import resource
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mixture_assets.core.errors import MixtureError, MixtureWarning
from mixture_assets.corpus import Workspace, build_corpus
from mixture_assets.data.token_store import load_validation
from mixture_assets.plans import PlannedRun, plan_proxies
from mixture_assets.running import create_runs
from mixture_assets.store.runs import RunFolder
from mixture_assets.training.checkpoint import (
    Progress,
    load_checkpoint,
    save_checkpoint,
)
from mixture_assets.training.device import probe
from mixture_assets.training.kept import keep_model
from mixture_assets.training.loop import Interrupted, train
from mixture_assets.training.result import evaluation_steps
from mixture_assets.training.state import check_parity, prepare


def quiet(line):
    pass


@pytest.fixture
def planned(tiny):
    """One run of the tiny experiment: its workspace and its plan."""
    workspace = Workspace.open(tiny)
    run = plan_proxies(workspace, build_corpus(workspace))[0]
    measurement = dataclasses.replace(run.measurement, evaluations=3)
    run = PlannedRun(run.spec, measurement, "full", "test")
    create_runs(workspace, [run])
    return workspace, run


def weights(workspace, run):
    return load_file(RunFolder(workspace.store, run.run_id).path / "model" / "model.safetensors")


def rows(workspace, run, kind):
    folder = RunFolder(workspace.store, run.run_id)
    return [r for r in folder.metrics() if r["kind"] == kind]


def test_an_interrupted_run_ends_in_the_same_bits(planned, tmp_path):
    workspace, run = planned
    train(workspace.store, run.run_id, say=quiet)
    undisturbed = weights(workspace, run)
    result = RunFolder(workspace.store, run.run_id).result()
    folder = RunFolder(workspace.store, run.run_id).path
    folder.rename(tmp_path / "kept")
    create_runs(workspace, [run])

    for stops_after in (1, 4, 2, 7):
        steps = iter(range(stops_after))
        with pytest.raises(Interrupted):
            train(
                workspace.store,
                run.run_id,
                say=quiet,
                should_stop=lambda steps=steps: next(steps, None) is None,
            )
    train(workspace.store, run.run_id, say=quiet)

    again = weights(workspace, run)
    assert again.keys() == undisturbed.keys()
    assert all(torch.equal(again[k], undisturbed[k]) for k in again)
    assert RunFolder(workspace.store, run.run_id).result()["losses"] == result["losses"]
    losses = {r["step"]: r["loss_nats"] for r in rows(workspace, run, "step")}
    kept = [json.loads(x) for x in (tmp_path / "kept" / "metrics.jsonl").read_text().splitlines()]
    assert losses == {r["step"]: r["loss_nats"] for r in kept if r["kind"] == "step"}


def test_a_run_lost_after_its_last_step_still_finishes(planned):
    workspace, run = planned
    n_steps = prepare(workspace.store, run.run_id, say=quiet).layout.n_steps
    steps = iter(range(n_steps - 1))
    with pytest.raises(Interrupted):
        train(
            workspace.store,
            run.run_id,
            say=quiet,
            should_stop=lambda: next(steps, None) is None,
        )
    result = train(workspace.store, run.run_id, say=quiet)
    assert set(result["losses"]) == {"animals", "numbers", "plants"}


def test_a_run_learns_and_draws_what_was_asked(planned):
    workspace, run = planned
    result = train(workspace.store, run.run_id, say=quiet)
    steps = rows(workspace, run, "step")
    assert steps[-1]["loss_nats"] < steps[0]["loss_nats"] - 0.5
    for domain, asked in result["requested_tokens"].items():
        assert abs(result["realised_tokens"][domain] - asked) <= run.spec.model.context
    assert sum(result["realised_tokens"].values()) == steps[-1]["tokens"]
    evaluated = sorted({r["step"] for r in rows(workspace, run, "evaluation")})
    assert evaluated == evaluation_steps(result["steps"], 3)
    assert result["flops_train"] > 6 * 16 * sum(result["realised_tokens"].values())
    assert not (RunFolder(workspace.store, run.run_id).path / "checkpoint").exists()


def test_the_finished_model_loads_in_transformers_and_scores_as_recorded(planned):
    """The recorded loss, recomputed with Hugging Face alone, a document at a time."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    workspace, run = planned
    result = train(workspace.store, run.run_id, say=quiet)
    folder = RunFolder(workspace.store, run.run_id).path / "model"
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.decode(tokenizer("the cat runs")["input_ids"]) == "the cat runs"
    documents = load_validation(
        workspace.store, "plants", run.measurement.validation_sets["plants"]
    )
    eos = model.config.eos_token_id
    text = np.concatenate(
        [
            np.append(documents.input_ids[a:b], eos)
            for a, b in zip(documents.offsets, documents.offsets[1:], strict=False)
        ]
    ).astype(np.int64)
    stream = torch.from_numpy(np.insert(text, 0, eos))
    nats, context = 0.0, run.spec.model.context
    for start in range(0, len(stream) - 1, context):
        window = stream[start : start + context + 1].unsqueeze(0)
        with torch.no_grad():
            loss = model(input_ids=window, labels=window).loss
        nats += float(loss) * (window.shape[1] - 1)
    recorded = result["losses"]["plants"]
    assert recorded["n_tokens"] == len(text)
    assert recorded["loss_nats"] == pytest.approx(nats / len(text), rel=1e-5)


def test_a_nan_loss_is_an_error_that_names_the_step_and_leaves_no_result(planned):
    workspace, run = planned
    training = dataclasses.replace(run.spec.training, learning_rate=1e30, clip_norm=1e30)
    wild = PlannedRun(
        dataclasses.replace(run.spec, training=training), run.measurement, "full", "wild"
    )
    create_runs(workspace, [wild])
    with pytest.raises(
        MixtureError, match=r"the (loss|gradient norm) of run \w+ is (nan|inf) at step \d+"
    ) as caught:
        train(workspace.store, wild.run_id, say=quiet)
    assert "learning_rate" in caught.value.hint
    assert RunFolder(workspace.store, wild.run_id).result() is None
    train(workspace.store, run.run_id, say=quiet)  # everything else is unharmed


def test_a_run_planned_for_other_arithmetic_is_refused(planned):
    workspace, run = planned
    other = PlannedRun(
        dataclasses.replace(run.spec, numeric_path="abacus"), run.measurement, "full", "other"
    )
    create_runs(workspace, [other])
    with pytest.raises(MixtureError, match="was planned for abacus, this machine is torch"):
        train(workspace.store, other.run_id, say=quiet)


@contextlib.contextmanager
def full_disk():
    """Every file of this process ends at 10 kB, as on a disk without space."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_checkpoint_on_a_full_disk_leaves_the_old_one(planned, tmp_path):
    workspace, run = planned
    folder = tmp_path / "checkpoint"
    state = prepare(workspace.store, run.run_id, say=quiet)
    save_checkpoint(folder, state.model, state.optimizer, Progress(3, 1.5))

    with full_disk(), pytest.raises(MixtureError, match=r"no space left while writing .*latest"):
        save_checkpoint(folder, state.model, state.optimizer, Progress(9, 9.9))
    assert [p.name for p in folder.iterdir()] == ["latest.safetensors"]
    assert load_checkpoint(folder, state.model, state.optimizer) == Progress(3, 1.5)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.99])
def test_a_checkpoint_that_was_cut_off_is_told_and_costs_the_steps(planned, tmp_path, share):
    workspace, run = planned
    state = prepare(workspace.store, run.run_id, say=quiet)
    before = {name: p.detach().clone() for name, p in state.model.named_parameters()}
    save_checkpoint(tmp_path, state.model, state.optimizer, Progress(3, 1.5))
    content = (tmp_path / "latest.safetensors").read_bytes()
    (tmp_path / "latest.safetensors").write_bytes(content[: int(len(content) * share)])
    with pytest.warns(MixtureWarning, match="is damaged .*: the run starts from step 0"):
        assert load_checkpoint(tmp_path, state.model, state.optimizer) is None
    assert not any(state.optimizer.state.values())
    assert all(torch.equal(before[n], p) for n, p in state.model.named_parameters())


def test_a_model_on_a_full_disk_leaves_nothing_half_written(planned):
    workspace, run = planned
    state = prepare(workspace.store, run.run_id, say=quiet)
    with full_disk(), pytest.raises(MixtureError, match=r"no space left while writing .*model"):
        keep_model(workspace.store, state.folder, state.model, run.spec)
    assert [p.name for p in state.folder.path.iterdir()] == ["spec.json"]


def retrained(workspace, run, **changes):
    training = dataclasses.replace(run.spec.training, **changes)
    path = probe(training, run.spec.model.context).numeric_path
    spec = dataclasses.replace(run.spec, training=training, numeric_path=path)
    other = PlannedRun(spec, run.measurement, "full", "other")
    create_runs(workspace, [other])
    assert other.run_id != run.run_id
    return train(workspace.store, other.run_id, say=quiet)["losses"]


def test_bf16_is_another_numeric_path_with_nearly_the_same_losses(planned):
    workspace, run = planned
    if probe(dataclasses.replace(run.spec.training, precision="auto"), 32).precision != "bf16":
        pytest.skip("this machine has no native bf16")
    exact = train(workspace.store, run.run_id, say=quiet)["losses"]
    reduced = retrained(workspace, run, precision="bf16")
    for domain, loss in exact.items():
        assert reduced[domain]["loss_nats"] == pytest.approx(loss["loss_nats"], abs=0.1)


def test_reduced_precision_that_gives_another_loss_is_refused(planned):
    """Embeddings so large that bf16 logits are off by whole nats."""
    workspace, run = planned
    training = dataclasses.replace(run.spec.training, precision="bf16")
    device = probe(training, run.spec.model.context)
    if device.precision != "bf16":
        pytest.skip("this machine has no native bf16")
    spec = dataclasses.replace(run.spec, training=training, numeric_path=device.numeric_path)
    wild = PlannedRun(spec, run.measurement, "full", "wild")
    create_runs(workspace, [wild])
    state = prepare(workspace.store, wild.run_id, say=quiet)
    with torch.no_grad():
        state.model.get_input_embeddings().weight.mul_(1e6)
    with pytest.raises(MixtureError, match=r"bf16 gives a loss of .* where fp32 gives"):
        check_parity(state)


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_run_learns_the_same(planned):
    workspace, run = planned
    exact = train(workspace.store, run.run_id, say=quiet)["losses"]
    compiled = retrained(workspace, run, compile=True)
    for domain, loss in exact.items():
        assert compiled[domain]["loss_nats"] == pytest.approx(loss["loss_nats"], abs=0.05)


def test_evaluations_are_spread_evenly_and_include_the_end():
    assert evaluation_steps(100, 4) == [25, 50, 75, 100]
    assert evaluation_steps(3, 10) == [1, 2, 3]
    assert evaluation_steps(7, 1) == [7]
