"""Snapshots of tiny runs, written by hand, and scores by autograd, one document at a time."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from tests.selection.conftest import CONTEXT, SPECIALIST, loss_of, tiny_model, tune

ALPHA = 12.0
EPS = 1e-2  # as large as gradients are: bias corrections are seen in a cosine only through it
_LAYERS = {"llama": r".*(_proj)$", "gpt2": r".*(c_attn|c_proj|c_fc)$"}


@dataclass
class Case:
    """A run's snapshots, as (base model folder, snapshot folder, alpha), and its model."""

    family: str
    lora: bool
    base: Path
    folders: list[Path]

    def model(self, folder):
        """The model at a snapshot, loaded by peft and transformers alone."""
        model = AutoModelForCausalLM.from_pretrained(self.base).eval()
        if self.lora:
            model = _with_adapters(model, self.family)
        missing, unexpected = model.load_state_dict(
            load_file(folder / "model.safetensors"), strict=False
        )
        assert not unexpected
        assert self.lora or set(missing) <= {"lm_head.weight"}
        return model


def make_case(tmp, family, lora, tokenizer, texts):
    """Two snapshots of a run on the specialist set and a little else."""
    base = tmp / "base"
    biases = {"attention_bias": True} if family == "llama" else {}
    tiny_model(family, tokenizer, **biases).save_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base)
    if lora:
        model = _with_adapters(model, family)
    folders = []
    for k, rate in enumerate((1e-2, 4e-3), start=1):
        optimizer = tune(model, SPECIALIST + texts, tokenizer, steps=6, learning_rate=rate)
        folders.append(tmp / "snapshots" / str(k))
        _write(folders[-1], model, optimizer, rate)
    return Case(family, lora, base, folders)


def _with_adapters(model, family):
    torch.manual_seed(1)
    config = LoraConfig(r=4, lora_alpha=ALPHA, target_modules=_LAYERS[family], lora_dropout=0.0)
    model = get_peft_model(model, config)
    for name, p in model.named_parameters():
        if "lora_B" in name:  # they start at zero, and lora_A has no gradient then
            torch.nn.init.normal_(p, std=0.02)
    return model


def _write(folder, model, optimizer, rate):
    folder.mkdir(parents=True)
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    state = {n: optimizer.state[p] for n, p in trained.items()}
    kinds = ("exp_avg", "exp_avg_sq")
    moments = {f"{kind}.{n}": s[kind].clone() for kind in kinds for n, s in state.items()}
    save_file({n: p.detach().clone() for n, p in trained.items()}, folder / "model.safetensors")
    save_file(moments, folder / "moments.safetensors")
    numbers = {"step": 6, "learning_rate": rate, "adam_step": 6}
    numbers |= {"beta1": 0.9, "beta2": 0.95, "eps": EPS}
    (folder / "snapshot.json").write_text(json.dumps(numbers))


def is_compared(name):
    """Linear layers of the blocks, by their names in Llama and GPT-2."""
    is_block = ".layers." in name or ".h." in name
    return is_block and "norm" not in name and ".ln_" not in name


def gradient(model, ids, eos_id, most=CONTEXT):
    """Of a document's first tokens, by name, from autograd."""
    named = {n: p for n, p in model.named_parameters() if p.requires_grad and is_compared(n)}
    loss = loss_of(model, ids[:most], eos_id)
    return dict(zip(named, torch.autograd.grad(loss, list(named.values())), strict=True))


def adam_step(found, folder):
    """What torch's own AdamW makes of a gradient: its step, divided by the learning rate."""
    moments = load_file(folder / "moments.safetensors")
    steps = {}
    for name, g in found.items():
        p = torch.nn.Parameter(torch.zeros_like(g))
        optimizer = torch.optim.AdamW([p], lr=1.0, betas=(0.9, 0.95), eps=EPS, weight_decay=0.0)
        optimizer.state[p] = {
            "step": torch.tensor(6.0),
            "exp_avg": moments[f"exp_avg.{name}"].clone(),
            "exp_avg_sq": moments[f"exp_avg_sq.{name}"].clone(),
        }
        p.grad = g.clone()
        optimizer.step()
        steps[name] = -p.detach()
    return steps


def flat(found):
    return torch.cat([found[n].double().flatten() for n in sorted(found)])


def reference(case, documents, specialist, eos_id, most=CONTEXT):
    """Scores of documents, as lists of ids, without any projection."""
    scores, rates = torch.zeros(len(documents), dtype=torch.float64), []
    for folder in case.folders:
        model = case.model(folder)
        rates.append(json.loads((folder / "snapshot.json").read_text())["learning_rate"])
        targets = [flat(gradient(model, s, eos_id, most)) for s in specialist]
        for row, ids in enumerate(documents):
            z = flat(adam_step(gradient(model, ids, eos_id, most), folder))
            cosines = [torch.cosine_similarity(z, t, dim=0) for t in targets]
            scores[row] += rates[-1] * torch.stack(cosines).mean()
    return (scores / sum(rates)).tolist()
