"""Runs that go on from a model: taken into the store, loaded, and trained as a plain loop would."""

import dataclasses
import json
import math
import shutil
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModelForCausalLM

from mixture_assets.core.errors import MixtureError
from mixture_assets.core.run import ModelSpec, RunSpec, StartSpec, TrainingSpec
from mixture_assets.corpus import Workspace, build_corpus
from mixture_assets.data.frozen import FrozenTokenizer
from mixture_assets.data.tokenizer import same_tokenizer
from mixture_assets.plans import PlannedRun, plan_proxies
from mixture_assets.running import create_runs
from mixture_assets.store.runs import RunFolder
from mixture_assets.training.loop import Interrupted, train
from mixture_assets.training.model import build_model, model_config
from mixture_assets.training.model_files import load_model
from mixture_assets.training.start import adopt_model, model_folder
from mixture_assets.training.state import prepare

SMALL = {"width": 16, "layers": 2, "heads": 2, "context": 32}
QWEN = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
QWEN |= {"num_key_value_heads": 1, "intermediate_size": 32, "max_position_embeddings": 32}
SHAPES = {
    "llama": ModelSpec(**SMALL, overrides={"num_key_value_heads": 1, "hidden_act": "gelu"}),
    "rope": ModelSpec(
        **SMALL, overrides={"rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}}
    ),
    "gpt2": ModelSpec(family="gpt2", **SMALL, tie_embeddings=False),
    "qwen2": ModelSpec(family="qwen2", **SMALL, overrides=QWEN),
}


def quiet(line):
    pass


def local_model(folder, spec=None, *, vocab_size=320, seed=5):
    """A checkpoint as somebody else would have left it, and the model itself."""
    spec = spec or ModelSpec(width=16, layers=1, heads=2, context=32)
    model = build_model(spec, vocab_size=vocab_size, seed=seed, attention="eager")
    model.save_pretrained(folder)
    return model


@pytest.fixture
def proxy(tiny):
    """One run of the tiny experiment, from fresh weights."""
    workspace = Workspace.open(tiny)
    return workspace, plan_proxies(workspace, build_corpus(workspace))[0]


def started(proxy, folder, **changes):
    """The same run from the model in a folder."""
    workspace, run = proxy
    name, model = adopt_model(workspace.store, folder)
    fields = {"model": model, "start": StartSpec(model=name)} | changes
    run = PlannedRun(dataclasses.replace(run.spec, **fields), run.measurement, "full", "started")
    create_runs(workspace, [run])
    return workspace, run


def weights(workspace, run):
    return load_file(RunFolder(workspace.store, run.run_id).model_path / "model.safetensors")


# --- taking a model into the store ------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_a_model_is_described_so_that_its_weights_fit(tmp_path, shape):
    spec = SHAPES[shape]
    original = local_model(tmp_path / "there", spec, vocab_size=50).eval()
    name, described = adopt_model(tmp_path, tmp_path / "there")
    assert json.loads(json.dumps(dataclasses.asdict(described))) == dataclasses.asdict(described)
    tokens = torch.arange(32).unsqueeze(0)
    kept = load_model(model_folder(tmp_path, name), attention="eager")
    rebuilt = build_model(described, vocab_size=50, seed=9, attention="eager").eval()
    rebuilt.load_state_dict(kept.state_dict())
    with torch.no_grad():
        logits = [m(input_ids=tokens).logits for m in (original, kept, rebuilt)]
    assert torch.equal(logits[0], logits[1])
    assert torch.equal(logits[0], logits[2])


@pytest.mark.parametrize("shape", ["llama", "rope", "gpt2"])
def test_what_our_own_runs_leave_is_described_in_their_own_words(tmp_path, shape):
    local_model(tmp_path / "there", SHAPES[shape], vocab_size=50)
    assert adopt_model(tmp_path, tmp_path / "there")[1] == SHAPES[shape]


def test_the_name_is_of_weights_and_architecture_alone(tmp_path):
    first = tmp_path / "first"
    model = local_model(first)
    name, _ = adopt_model(tmp_path, first)
    elsewhere = tmp_path / "other" / "place"
    model.save_pretrained(elsewhere, max_shard_size="5KB")
    assert (elsewhere / "model.safetensors.index.json").exists()
    (elsewhere / "tokenizer.json").write_text("{}")
    config = json.loads((elsewhere / "config.json").read_text())
    config |= {"use_cache": False, "pad_token_id": 0, "attention_dropout": 0.3, "anything": 1}
    (elsewhere / "config.json").write_text(json.dumps(config))
    assert adopt_model(tmp_path, elsewhere)[0] == name
    shutil.copytree(first, tmp_path / "hotter")
    config = json.loads((first / "config.json").read_text()) | {"rms_norm_eps": 1e-5}
    (tmp_path / "hotter" / "config.json").write_text(json.dumps(config))
    assert adopt_model(tmp_path, tmp_path / "hotter")[0] != name
    with torch.no_grad():
        next(model.parameters())[0, 0] += 1e-6
    model.save_pretrained(tmp_path / "moved")
    assert adopt_model(tmp_path, tmp_path / "moved")[0] != name


def test_a_half_precision_checkpoint_is_the_same_numbers_in_fp32(tmp_path):
    model = local_model(tmp_path / "whole").bfloat16()
    model.save_pretrained(tmp_path / "half")
    name, _ = adopt_model(tmp_path, tmp_path / "half")
    kept = load_file(model_folder(tmp_path, name) / "model.safetensors")
    for key, tensor in load_file(tmp_path / "half" / "model.safetensors").items():
        assert kept[key].dtype == torch.float32
        assert torch.equal(kept[key], tensor.float())


def test_what_is_no_model_is_told_in_one_sentence(tmp_path):
    def problem(change):
        folder = tmp_path / "broken"
        shutil.rmtree(folder, ignore_errors=True)
        model = local_model(folder)
        change(folder, model)
        with pytest.raises(MixtureError) as caught:
            adopt_model(tmp_path, folder)
        assert caught.value.hint
        return str(caught.value)

    def pickled(folder, model):
        (folder / "model.safetensors").unlink()
        torch.save(model.state_dict(), folder / "pytorch_model.bin")

    def cut_off(folder, model):
        path = folder / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-100])

    def with_(**changes):
        def change(folder, model):
            tensors = load_file(folder / "model.safetensors")
            for key, value in changes.items():
                tensors[key] = value
            kept = {k: t for k, t in tensors.items() if t is not None}
            save_file(kept, folder / "model.safetensors", {"format": "pt"})

        return change

    def configured(**changes):
        def change(folder, model):
            config = json.loads((folder / "config.json").read_text()) | changes
            (folder / "config.json").write_text(json.dumps(config))

        return change

    nan = torch.full((16,), math.nan)
    assert "its weights are pickle ('pytorch_model.bin'), and only safetensors" in problem(pickled)
    assert "no config.json" in problem(lambda f, m: (f / "config.json").unlink())
    assert "has no weights" in problem(lambda f, m: (f / "model.safetensors").unlink())
    assert "is no causal language model that transformers reads" in problem(cut_off)
    assert "lacks 1 weights" in problem(with_(**{"model.norm.weight": None}))
    assert "has 1 weights" in problem(with_(**{"model.extra.weight": nan}))
    assert "NaN or infinite weights in 'model.norm.weight'" in problem(
        with_(**{"model.norm.weight": nan})
    )
    assert "is no causal language model" in problem(configured(hidden_size=24))
    assert "is no causal language model" in problem(configured(model_type="bert-like"))
    assert "is quantized" in problem(configured(quantization_config={"quant_method": "awq"}))
    assert "adapter" in problem(lambda f, m: (f / "adapter_config.json").write_text("{}"))
    assert "no config.json" in problem(lambda f, m: shutil.rmtree(f))


def test_a_model_that_looks_ahead_is_told(tmp_path):
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    sizes |= {"intermediate_size": 32, "vocab_size": 50, "max_position_embeddings": 32}
    for is_decoder in (True, False):
        config = AutoConfig.for_model("bert", **sizes, is_decoder=is_decoder)
        AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / str(is_decoder))
    assert adopt_model(tmp_path, tmp_path / "True")[1].family == "bert"
    with pytest.raises(MixtureError, match="is a 'bert' that sees the tokens after a token"):
        adopt_model(tmp_path, tmp_path / "False")


def test_two_who_adopt_the_same_model_at_once_are_both_served(tmp_path, monkeypatch):
    local_model(tmp_path / "there")
    name, spec = adopt_model(tmp_path, tmp_path / "there")
    kept = (model_folder(tmp_path, name) / "model.safetensors").read_bytes()
    exists, calls = Path.exists, []

    def late(path):  # the other one's folder appears between the look and the renaming
        if path == model_folder(tmp_path, name) and not calls:
            calls.append(path)
            return False
        return exists(path)

    monkeypatch.setattr(Path, "exists", late)
    assert adopt_model(tmp_path, tmp_path / "there") == (name, spec)
    assert calls
    assert (model_folder(tmp_path, name) / "model.safetensors").read_bytes() == kept
    assert [p.name for p in (tmp_path / "models").iterdir()] == [name]


# --- runs -------------------------------------------------------------------------------------


def test_runs_without_a_start_keep_their_names(proxy):
    """The digest is what this specification had before a run could start from a model."""
    plain = RunSpec(
        tokens={"a": 100, "b": 50},
        seed=1,
        model=ModelSpec(),
        training=TrainingSpec(),
        vocab_size=320,
        token_sets={"a": "x", "b": "y"},
        numeric_path="p",
        tokenizer="t",
    )
    assert plain.digest == "778ab51747ca150f"
    _, run = proxy
    assert "start" not in run.spec.to_json()
    spec = dataclasses.replace(run.spec, start=StartSpec(model="0" * 16))
    assert spec.digest != run.spec.digest
    assert RunSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


def test_a_started_run_is_a_plain_loop_from_the_same_weights(proxy, tmp_path):
    model = local_model(tmp_path / "there")
    workspace, run = started(proxy, tmp_path / "there")
    state = prepare(workspace.store, run.run_id, say=quiet)
    batches = [torch.from_numpy(state.sampler.batch(i)) for i in range(state.layout.n_steps)]
    result = train(workspace.store, run.run_id, say=quiet)

    training, n = run.spec.training, len(batches)
    matrices = [p for p in model.parameters() if p.dim() > 1]
    gains = [p for p in model.parameters() if p.dim() == 1]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": gains, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95), eps=1e-8)
    warm = max(1, round(0.1 * n))
    for step, tokens in enumerate(batches):
        cosine = 0.1 + 0.9 * (1 + math.cos(math.pi * (step - warm + 1) / (n - warm))) / 2
        rate = training.learning_rate * ((step + 1) / warm if step < warm else cosine)
        for group in optimizer.param_groups:
            group["lr"] = rate
        logits = model(input_ids=tokens[:, :-1]).logits
        loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    ours = weights(workspace, run)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(ours[name], parameter.detach(), rtol=1e-5, atol=1e-6)
    assert result["steps"] == n > 5
    assert result["n_params"] == sum(p.numel() for p in model.parameters())


def test_a_run_goes_on_where_another_one_ended(proxy):
    """Its first loss is that of the other one's end, on the same batch."""
    workspace, first = proxy
    create_runs(workspace, [first])
    train(workspace.store, first.run_id, say=quiet)
    left = RunFolder(workspace.store, first.run_id).model_path
    _, run = started(proxy, left)
    assert run.spec.model == first.spec.model
    state = prepare(workspace.store, run.run_id, say=quiet)
    tokens = torch.from_numpy(state.sampler.batch(0))
    with torch.no_grad():
        other = AutoModelForCausalLM.from_pretrained(left)
        labels = tokens[:, 1:].flatten()
        before = F.cross_entropy(other(input_ids=tokens[:, :-1]).logits.flatten(0, 1), labels)
    train(workspace.store, run.run_id, say=quiet)
    rows = [r for r in RunFolder(workspace.store, run.run_id).metrics() if r["kind"] == "step"]
    assert rows[0]["loss_nats"] == pytest.approx(float(before), rel=1e-6)
    assert rows[0]["loss_nats"] < math.log(run.spec.vocab_size) - 0.5


def test_an_interrupted_started_run_ends_in_the_same_bits(proxy, tmp_path):
    local_model(tmp_path / "there")
    workspace, run = started(proxy, tmp_path / "there")
    result = train(workspace.store, run.run_id, say=quiet)
    whole = weights(workspace, run)
    RunFolder(workspace.store, run.run_id).path.rename(tmp_path / "kept")
    create_runs(workspace, [run])
    for stops_after in (1, 3, 2):
        steps = iter(range(stops_after - 1))
        with pytest.raises(Interrupted):
            train(
                workspace.store,
                run.run_id,
                say=quiet,
                should_stop=lambda steps=steps: next(steps, None) is None,
            )
    assert train(workspace.store, run.run_id, say=quiet)["losses"] == result["losses"]
    again = weights(workspace, run)
    assert all(torch.equal(again[k], whole[k]) for k in whole)


def test_windows_may_be_shorter_than_the_models(proxy, tmp_path):
    local_model(tmp_path / "there")
    workspace, run = proxy
    _, model = adopt_model(workspace.store, tmp_path / "there")
    short = dataclasses.replace(model, context=16)
    workspace, run = started(proxy, tmp_path / "there", model=short)
    assert prepare(workspace.store, run.run_id, say=quiet).sampler.batch(0).shape == (16, 17)
    longer = dataclasses.replace(model, context=64)
    workspace, run = started(proxy, tmp_path / "there", model=longer)
    with pytest.raises(MixtureError, match="a context of 64 tokens is longer than the model's 32"):
        prepare(workspace.store, run.run_id, say=quiet)


def test_a_run_that_does_not_fit_its_model_is_told_before_it_trains(proxy, tmp_path):
    local_model(tmp_path / "larger", vocab_size=321)
    workspace, run = started(proxy, tmp_path / "larger")
    with pytest.raises(MixtureError, match=r"has a vocabulary of 321 tokens, .* one of 320"):
        prepare(workspace.store, run.run_id, say=quiet)
    local_model(tmp_path / "there")
    workspace, run = started(proxy, tmp_path / "there", model=ModelSpec(width=32, context=32))
    with pytest.raises(MixtureError, match=r"the run says it trains .*width=32"):
        prepare(workspace.store, run.run_id, say=quiet)
    workspace, run = started(proxy, tmp_path / "there", start=StartSpec(model="f" * 16))
    with pytest.raises(MixtureError, match="there is no model ffffffffffffffff in"):
        prepare(workspace.store, run.run_id, say=quiet)


def test_another_tokenizer_of_as_many_tokens_is_told(proxy, tmp_path):
    workspace, run = proxy
    local_model(tmp_path / "there")
    ours = workspace.store / "tokenizers" / run.spec.tokenizer / "tokenizer.json"
    said = json.loads(ours.read_text())
    vocabulary = said["model"]["vocab"]
    one, two = list(vocabulary)[40:42]
    vocabulary[one], vocabulary[two] = vocabulary[two], vocabulary[one]
    (tmp_path / "there" / "tokenizer.json").write_text(json.dumps(said))
    workspace, run = started(proxy, tmp_path / "there")
    cut = Tokenizer.from_file(str(ours))  # how much text a model was fed is no other vocabulary
    cut.enable_truncation(8)
    cut.enable_padding(length=16)
    cut.save(str(tmp_path / "cut.json"))
    assert same_tokenizer(tmp_path / "cut.json", FrozenTokenizer.open(ours.parent))
    with pytest.raises(MixtureError, match=r"has another tokenizer\.json than"):
        prepare(workspace.store, run.run_id, say=quiet)
    (model_folder(workspace.store, run.spec.start.model) / "tokenizer.json").write_text("{}")
    with pytest.raises(MixtureError, match="or one that cannot be read"):
        prepare(workspace.store, run.run_id, say=quiet)


def test_a_padding_token_of_the_checkpoint_is_trained_like_any_other(proxy, tmp_path):
    """transformers gives the embedding of a padding token no gradient."""
    model = local_model(tmp_path / "there")
    model.config.pad_token_id = 17
    model.save_pretrained(tmp_path / "there")
    workspace, run = started(proxy, tmp_path / "there")
    state = prepare(workspace.store, run.run_id, say=quiet)
    assert state.model.get_input_embeddings().padding_idx is None
    assert model_config(run.spec.model, vocab_size=320).pad_token_id is None
