"""Runs that train adapters: what a plain loop over W + (alpha / rank) B A would give."""

import dataclasses
import json
import math

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file
from torch.func import functional_call
from transformers import AutoModelForCausalLM

from mixture_assets.core.errors import MixtureError
from mixture_assets.core.run import LoraSpec, ModelSpec, RunSpec, StartSpec
from mixture_assets.corpus import Workspace, build_corpus
from mixture_assets.evaluation.losses import evaluate
from mixture_assets.plans import PlannedRun, plan_proxies
from mixture_assets.running import create_runs
from mixture_assets.selection import snapshots
from mixture_assets.store.runs import RunFolder
from mixture_assets.training.loop import Interrupted, train
from mixture_assets.training.lora import add_adapters, merge_adapters
from mixture_assets.training.measure import streams_of
from mixture_assets.training.model import build_model
from mixture_assets.training.model_files import load_model
from mixture_assets.training.start import adopt_model, model_folder
from mixture_assets.training.state import prepare

LLAMA = ModelSpec(width=16, layers=2, heads=2, context=32)
GPT2 = ModelSpec(family="gpt2", width=16, layers=2, heads=2, context=32)
SCALE = 24.0 / 4


def quiet(line):
    pass


def adapted(tiny, spec=LLAMA, *, targets=(), **changes):
    """A run of the tiny experiment that trains adapters of a model that was here before."""
    workspace = Workspace.open(tiny)
    run = plan_proxies(workspace, build_corpus(workspace))[0]
    folder = tiny.parent / "there"
    build_model(spec, vocab_size=320, seed=5, attention="eager").save_pretrained(folder)
    name, model = adopt_model(workspace.store, folder)
    start = StartSpec(model=name, lora=LoraSpec(rank=4, alpha=24.0, targets=targets))
    spec = dataclasses.replace(run.spec, model=model, start=start, **changes)
    run = PlannedRun(spec, run.measurement, "full", "adapted")
    create_runs(workspace, [run])
    return workspace, run, RunFolder(workspace.store, run.run_id)


def interrupted(workspace, run, stops_after):
    steps = iter(range(stops_after - 1))
    with pytest.raises(Interrupted):
        train(workspace.store, run.run_id, say=quiet, should_stop=lambda: next(steps, None) is None)


def test_a_specification_with_adapters_is_read_back(tiny):
    _, run, _ = adapted(tiny, targets=("q_proj", "v_proj"))
    assert RunSpec.from_json(json.loads(json.dumps(run.spec.to_json()))) == run.spec
    whole = dataclasses.replace(run.spec, start=StartSpec(model=run.spec.start.model))
    assert RunSpec.from_json(json.loads(json.dumps(whole.to_json()))) == whole
    assert whole.digest != run.spec.digest


@pytest.mark.parametrize(("spec", "is_transposed"), [(LLAMA, False), (GPT2, True)])
def test_adapters_are_trained_as_a_plain_loop_would(tiny, spec, is_transposed):
    """The loop writes the adapted weights down, and lets autograd find the rest."""
    workspace, run, folder = adapted(tiny, spec)
    state = prepare(workspace.store, run.run_id, say=quiet)
    batches = [torch.from_numpy(state.sampler.batch(i)) for i in range(state.layout.n_steps)]
    pairs = {}
    for name, p in state.model.named_parameters():
        layer, found, which = name.partition(".lora_")
        if found:
            pairs.setdefault(layer, {})[which[0]] = p.detach().clone().requires_grad_()
    assert len(pairs) == (7 if spec is LLAMA else 4) * spec.layers
    assert all(not pair["B"].any() and pair["A"].any() for pair in pairs.values())
    train(workspace.store, run.run_id, say=quiet)
    rates = [r["learning_rate"] for r in folder.metrics() if r["kind"] == "step"]

    base = AutoModelForCausalLM.from_pretrained(model_folder(workspace.store, run.spec.start.model))
    frozen = dict(base.named_parameters())

    def weights():
        changed = {}
        for layer, pair in pairs.items():
            change = SCALE * pair["B"] @ pair["A"]
            change = change.T if is_transposed else change
            changed[f"{layer}.weight"] = frozen[f"{layer}.weight"].detach() + change
        return changed

    trained = [p for pair in pairs.values() for p in pair.values()]
    optimizer = torch.optim.AdamW(trained, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)
    for rate, tokens in zip(rates, batches, strict=True):
        optimizer.param_groups[0]["lr"] = rate
        logits = functional_call(base, weights(), (tokens[:, :-1],)).logits
        F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()).backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
    ours = load_file(folder.model_path / "model.safetensors")
    for name, value in weights().items():
        change, found = value - frozen[name], ours.pop(name) - frozen[name]
        assert change.norm() > 0.05
        assert (found - change).norm() < 2e-3 * change.norm()  # Adam divides rounding by ~0
    assert ours, "embeddings, norms, biases"
    assert all(torch.equal(tensor, frozen[name]) for name, tensor in ours.items())


@pytest.mark.parametrize("spec", [LLAMA, GPT2])
def test_the_merged_model_read_by_transformers_has_the_recorded_losses(tiny, spec):
    workspace, run, folder = adapted(tiny, spec)
    result = train(workspace.store, run.run_id, say=quiet)
    model, loading = AutoModelForCausalLM.from_pretrained(
        folder.model_path, output_loading_info=True
    )
    assert not loading["missing_keys"]
    assert not loading["unexpected_keys"]
    sets = run.measurement.validation_sets
    eos_id = model.config.eos_token_id
    streams = streams_of(workspace.store, sets, eos_id=eos_id, context=32)
    for domain, loss in evaluate(model, streams, batch=16).items():
        assert loss.loss_nats == pytest.approx(result["losses"][domain]["loss_nats"], rel=1e-5)
    assert result["n_params"] == sum(p.numel() for p in model.parameters())
    layers = {n: m for n, m in model.named_modules() if hasattr(m, "weight") and "mlp." in n}
    assert layers, "ordinary layers again"
    assert adopt_model(workspace.store, folder.model_path)[1] == run.spec.model


def test_an_interrupted_run_ends_in_the_same_bits_and_checkpoints_hold_adapters_only(
    tiny, tmp_path
):
    workspace, run, folder = adapted(tiny, snapshots=3)
    result = train(workspace.store, run.run_id, say=quiet)
    folder.path.rename(tmp_path / "kept")
    create_runs(workspace, [run])
    for stops_after in (1, 3, 2):
        interrupted(workspace, run, stops_after)
        with safe_open(folder.path / "checkpoint" / "latest.safetensors", "pt") as file:
            assert all(".lora_" in key for key in file.keys())
    assert train(workspace.store, run.run_id, say=quiet)["losses"] == result["losses"]
    for name in ("model/model.safetensors", "snapshots/2/model.safetensors"):
        assert (folder.path / name).read_bytes() == (tmp_path / "kept" / name).read_bytes()


def test_flops_count_no_gradient_of_frozen_weights(tiny):
    workspace, run, _ = adapted(tiny)
    result = train(workspace.store, run.run_id, say=quiet)
    n_adapter = 2 * 4 * (4 * (16 + 16) + 3 * (16 + 48))  # 2 layers, rank 4
    assert result["n_adapter_params"] == n_adapter
    n, attention = result["n_params"], 12 * 2 * 16 * 32  # tied: every weight is in a product
    tokens = sum(result["realised_tokens"].values())
    assert result["flops_train"] == (4 * n + 6 * n_adapter + attention) * tokens
    scored = sum(loss["n_tokens"] for loss in result["losses"].values())
    assert result["flops_eval"] == pytest.approx((2 * (n + n_adapter) + attention / 3) * scored)


def test_a_snapshot_of_adapters_is_put_on_the_model_that_the_run_started_from(tiny):
    workspace, run, folder = adapted(tiny, targets=("q_proj", "down_proj"), snapshots=2)
    train(workspace.store, run.run_id, say=quiet)
    base = model_folder(workspace.store, run.spec.start.model)
    snapshot = snapshots.Snapshot(base, folder.path / "snapshots" / "2")
    model, last, weights = (
        load_model(base, attention="eager"),
        snapshot.moments(),
        snapshot.trained(),
    )
    snapshots.add_adapters(model, snapshot)
    snapshots.load_trained(model, weights, snapshot.folder)
    trained = set(weights)
    assert {n.split(".")[-3] for n in trained} == {"q_proj", "down_proj"}
    assert set(last.exp_avg) == set(last.exp_avg_sq) == trained
    kept = AutoModelForCausalLM.from_pretrained(folder.model_path)
    tokens = torch.arange(32).unsqueeze(0)
    with torch.no_grad():
        logits = [m(input_ids=tokens).logits for m in (model, kept)]
    torch.testing.assert_close(*logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("spec", [LLAMA, GPT2])
def test_fresh_adapters_change_nothing_and_the_seed_is_the_adapter(spec):
    plain = build_model(spec, vocab_size=50, seed=0, attention="eager").eval()
    tokens = torch.arange(32).unsqueeze(0)
    logits = plain(input_ids=tokens).logits
    drawn = []
    for seed in (3, 3, 4):
        model = build_model(spec, vocab_size=50, seed=0, attention="eager").eval()
        add_adapters(model, LoraSpec(), seed=seed)
        torch.testing.assert_close(model(input_ids=tokens).logits, logits)
        trained = [p.flatten() for p in model.parameters() if p.requires_grad]
        drawn.append(torch.cat(trained))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    merge_adapters(model)
    before, after = plain.state_dict(), model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not hasattr(model, "peft_config")


@pytest.mark.parametrize(
    ("lora", "message"),
    [
        (LoraSpec(rank=0), "a rank of at least 1"),
        (LoraSpec(alpha=math.nan), "an alpha above 0, got 8 and nan"),
        (LoraSpec(targets=("q_porj",)), r"is named 'q_porj' \(did you mean 'q_proj'\?\)"),
        (LoraSpec(targets=("q_proj", "lm_head")), "is named 'lm_head'"),
    ],
)
def test_adapters_that_cannot_be_are_told(lora, message):
    model = build_model(LLAMA, vocab_size=50, seed=0, attention="eager")
    with pytest.raises(MixtureError, match=message) as caught:
        add_adapters(model, lora, seed=0)
    assert caught.value.hint
    assert all(p.requires_grad for p in model.parameters())
