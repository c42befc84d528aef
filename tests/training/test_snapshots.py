"""Snapshots of a run: the state of a plain AdamW on the same batches, and nothing lost."""

import dataclasses
import itertools
import json

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from mixture_assets.core.errors import MixtureError
from mixture_assets.core.run import ModelSpec, RunSpec
from mixture_assets.corpus import Workspace, build_corpus
from mixture_assets.plans import PlannedRun, plan_proxies
from mixture_assets.running import create_runs
from mixture_assets.selection.snapshots import Snapshot, load_trained
from mixture_assets.store.runs import RunFolder
from mixture_assets.training.loop import Interrupted, train
from mixture_assets.training.model import build_model
from mixture_assets.training.snapshots import snapshot_steps
from mixture_assets.training.state import prepare

MOMENTS = ("exp_avg", "exp_avg_sq")


def quiet(line):
    pass


def with_snapshots(tiny, n, **changes):
    workspace = Workspace.open(tiny)
    run = plan_proxies(workspace, build_corpus(workspace))[0]
    spec = dataclasses.replace(run.spec, snapshots=n, **changes)
    run = PlannedRun(spec, run.measurement, "full", "test")
    create_runs(workspace, [run])
    return workspace, run, RunFolder(workspace.store, run.run_id)


def files(folder):
    paths = sorted(p for p in folder.path.glob("snapshots/**/*") if p.is_file())
    return {str(p.relative_to(folder.path)): p.read_bytes() for p in paths}


def test_parts_are_equal_and_end_with_the_run():
    assert snapshot_steps(100, 4) == [25, 50, 75, 100]
    assert snapshot_steps(7, 7) == [1, 2, 3, 4, 5, 6, 7]
    assert snapshot_steps(7, 0) == []
    for n_steps in range(1, 40):
        for n in range(1, n_steps + 1):
            steps = [0, *snapshot_steps(n_steps, n)]
            lengths = [b - a for a, b in itertools.pairwise(steps)]
            assert len(lengths) == n
            assert steps[-1] == n_steps
            assert min(lengths) >= max(1, max(lengths) - 1)


def test_a_run_without_snapshots_keeps_its_name(tiny):
    _, run, _ = with_snapshots(tiny, 3)
    without = dataclasses.replace(run.spec, snapshots=0)
    assert "snapshots" not in without.to_json()
    assert without.digest != run.spec.digest
    assert RunSpec.from_json(run.spec.to_json()) == run.spec


def test_snapshots_are_those_of_a_plain_adam(tiny):
    workspace, run, folder = with_snapshots(tiny, 3)
    state = prepare(workspace.store, run.run_id, say=quiet)
    n = state.layout.n_steps
    batches = [torch.from_numpy(state.sampler.batch(i)) for i in range(n)]
    train(workspace.store, run.run_id, say=quiet)
    rates = [r["learning_rate"] for r in folder.metrics() if r["kind"] == "step"]

    spec = run.spec.model
    model = build_model(spec, vocab_size=320, seed=run.spec.seed, attention="eager")
    state = {name: [torch.zeros_like(p), torch.zeros_like(p)] for name, p in _named(model)}
    ends = snapshot_steps(n, 3)
    for step, tokens in enumerate(batches, start=1):
        logits = model(input_ids=tokens[:, :-1]).logits
        F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        with torch.no_grad():
            for name, p in _named(model):
                m, v = state[name]
                m.mul_(0.9).add_(0.1 * p.grad)
                v.mul_(0.95).add_(0.05 * p.grad**2)
                update = (m / (1 - 0.9**step)) / ((v / (1 - 0.95**step)).sqrt() + 1e-8)
                decay = 0.1 if p.dim() > 1 else 0.0
                p.mul_(1 - rates[step - 1] * decay).sub_(rates[step - 1] * update)
                p.grad = None
        if step in ends:
            k = ends.index(step)
            taken = folder.path / "snapshots" / str(k + 1)
            snapshot = Snapshot(folder.model_path, taken)
            kept, found = snapshot.trained(), snapshot.moments()
            part = rates[([0, *ends])[k] : step]
            assert found.learning_rate == pytest.approx(sum(part) / len(part), rel=1e-12)
            assert found.adam_step == step
            assert json.loads((taken / "snapshot.json").read_text())["step"] == step
            assert (found.beta1, found.beta2, found.eps) == (0.9, 0.95, 1e-8)
            for name, p in _named(model):
                torch.testing.assert_close(kept[name], p, rtol=1e-4, atol=1e-5)
                first, second = state[name]
                torch.testing.assert_close(found.exp_avg[name], first, rtol=1e-3, atol=1e-5)
                torch.testing.assert_close(found.exp_avg_sq[name], second, rtol=1e-3, atol=1e-7)
    last = load_file(folder.path / "snapshots" / "3" / "model.safetensors")
    model = load_file(folder.model_path / "model.safetensors")
    assert all(torch.equal(last[name], model[name]) for name in last)


def _named(model):
    return list(model.named_parameters())


def test_snapshots_change_no_weight_and_survive_a_resume_bit_for_bit(tiny, tmp_path):
    workspace, plain, plain_folder = with_snapshots(tiny, 0)
    train(workspace.store, plain.run_id, say=quiet)
    _, run, folder = with_snapshots(tiny, 4)
    train(workspace.store, run.run_id, say=quiet)
    model = (folder.model_path / "model.safetensors").read_bytes()
    assert model == (plain_folder.model_path / "model.safetensors").read_bytes()
    assert not (plain_folder.path / "snapshots").exists()
    whole = files(folder)
    assert len(whole) == 4 * 3
    folder.path.rename(tmp_path / "kept")
    create_runs(workspace, [run])
    for stops_after in (2, 1, 3):
        steps = iter(range(stops_after - 1))
        with pytest.raises(Interrupted):
            train(
                workspace.store,
                run.run_id,
                say=quiet,
                should_stop=lambda steps=steps: next(steps, None) is None,
            )
    (folder.path / "checkpoint" / "latest.safetensors").unlink()  # it starts over, past them again
    train(workspace.store, run.run_id, say=quiet)
    assert files(folder) == whole


def test_more_snapshots_than_steps_are_told_before_training(tiny):
    workspace, run, _ = with_snapshots(tiny, 1000)
    with pytest.raises(MixtureError, match=r"a run of \d+ steps cannot have 1000 snapshots"):
        prepare(workspace.store, run.run_id, say=quiet)


def test_a_damaged_snapshot_and_one_of_another_model_are_told(tiny, tmp_path):
    workspace, run, folder = with_snapshots(tiny, 1)
    train(workspace.store, run.run_id, say=quiet)
    snapshot = folder.path / "snapshots" / "1"
    other = tmp_path / "other"
    spec = ModelSpec(width=32, layers=1, heads=2, context=32)
    build_model(spec, vocab_size=320, seed=0, attention="eager").save_pretrained(other)
    model = AutoModelForCausalLM.from_pretrained(other)
    trained = Snapshot(other, snapshot).trained()
    with pytest.raises(MixtureError, match=r"has parameters that .* has not.*'model\.embed"):
        load_trained(model, trained, snapshot)
    path = snapshot / "moments.safetensors"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(MixtureError, match="is no snapshot of a run"):
        Snapshot(folder.model_path, snapshot).moments()
    assert set(json.loads((snapshot / "snapshot.json").read_text())) == {
        *("step", "learning_rate", "beta1", "beta2", "eps", "adam_step")
    }
