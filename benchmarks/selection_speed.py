"""What scoring a document costs, in passes of the model that scores.

Perplexity: throughput against the model's plain forward pass over full windows of as many tokens.
Gradient: cost against a plain forward and backward pass (all weights' gradients) over as many
tokens; projection to 8,192 dimensions, Adam's moments and loading a snapshot included, with full
gradients and with LoRA against a backward of the adapters alone. BM25: documents per second of
both passes, and what that makes for a million.

Documents are from 40 tokens to more than a window, so that windows of many lengths stand in a
batch. Ratios are medians over rounds in which everything takes its turn, in CPU seconds of one
thread: a busy machine does not matter. Prints a Markdown table, then one JSON line. About a minute.
"""

# ruff: noqa: E402 (threads and allocator are set before torch is imported)
import json
import os
import tempfile
import time
from pathlib import Path

for key in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[key] = "1"

from mixture_assets.training.allocator import tune_allocator

tune_allocator()

import numpy as np
import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from mixture_assets.core.run import ModelSpec
from mixture_assets.data.frozen import END_OF_TEXT, freeze
from mixture_assets.selection.bm25 import Bm25
from mixture_assets.selection.documents import Documents, Pool
from mixture_assets.selection.gradient import Gradient
from mixture_assets.selection.perplexity import Perplexity
from mixture_assets.selection.snapshots import Snapshot
from mixture_assets.training.model import build_model

VOCABULARY, CONTEXT = 2048, 256
SPEC = ModelSpec(width=256, layers=3, heads=4, context=CONTEXT)
SCORED, PASSED = 16_384, 4096  # tokens of documents to score, and of plain passes
ALPHA, ROUNDS = 16.0, 3


def tokenizer_in(folder):
    """Byte-level, filled up to the vocabulary with words of consonants that nothing merges to."""
    vocabulary = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    made = Tokenizer(models.BPE(vocabulary, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([END_OF_TEXT])
    made.add_tokens([f"word{i} " for i in range(VOCABULARY - len(vocabulary) - 1)])
    return freeze(made, eos_token=END_OF_TEXT, store=folder)


def documents_of(n_tokens, seed, longest):
    """Random documents of 40 tokens to `longest`, until there are `n_tokens`."""
    random = np.random.default_rng(seed)
    lengths = random.integers(40, longest + 1, n_tokens)
    lengths = lengths[: int(np.searchsorted(lengths.cumsum(), n_tokens)) + 1]
    ids = (257 + random.zipf(1.3, lengths.sum()) % (VOCABULARY - 257)).astype(np.uint16)
    names = [f"{seed:08x}{i:08x}" for i in range(len(lengths))]
    return Documents(names, ids, np.concatenate([[0], lengths.cumsum()]), lengths * 7)


class Held(Pool):
    """A pool in memory."""

    def pieces(self, shard):
        """All at once."""
        yield self.shards[shard]


def snapshot_in(folder, model, alpha=None):
    """A snapshot folder with moments of random gradients."""
    folder.mkdir()
    random = torch.Generator().manual_seed(0)
    trained = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}
    moments = {}
    for name, p in trained.items():
        moments[f"exp_avg.{name}"] = torch.randn(p.shape, generator=random) * 1e-3
        moments[f"exp_avg_sq.{name}"] = torch.rand(p.shape, generator=random) * 1e-6
    save_file(trained, folder / "model.safetensors")
    save_file(moments, folder / "moments.safetensors")
    numbers = {"step": 9, "learning_rate": 1e-3, "beta1": 0.9, "beta2": 0.95, "eps": 1e-8}
    (folder / "snapshot.json").write_text(json.dumps(numbers | {"adam_step": 9}))
    return Snapshot(folder.parent / "base", folder, alpha)


def windows(documents):
    """Full windows, one after the other, for plain passes: inputs and labels of passes."""
    n = PASSED // CONTEXT
    whole = torch.from_numpy(documents.input_ids[: n * CONTEXT].astype(np.int64))
    return whole.view(n, CONTEXT).split(2048 // CONTEXT), n * CONTEXT


def forward(model, parts):
    """A plain forward pass: logits and nothing else."""
    with torch.inference_mode():
        for part in parts:
            model(input_ids=part, use_cache=False)


def backward(model, parts):
    """Forward and backward as in training."""
    for part in parts:
        logits = model(input_ids=part, use_cache=False).logits
        F.cross_entropy(logits[:, :-1].flatten(0, 1), part[:, 1:].flatten()).backward()


def measure(work):
    """Median CPU seconds of each, after a round that does not count."""
    seconds = {name: [] for name in work}
    for counted in range(-1, ROUNDS):
        for name, job in work.items():
            begun = time.process_time()
            job()
            if counted >= 0:
                seconds[name].append(time.process_time() - begun)
    return {name: float(np.median(s)) for name, s in seconds.items()}


def jobs(folder, tokenizer):
    """Everything that takes its turn, and the tokens that each reads."""
    model = build_model(SPEC, vocab_size=VOCABULARY, seed=0, attention="eager")
    model.save_pretrained(folder / "base")
    full = Gradient([snapshot_in(folder / "full", model)])
    adapted = get_peft_model(
        build_model(SPEC, vocab_size=VOCABULARY, seed=0, attention="eager"),
        LoraConfig(r=8, lora_alpha=ALPHA, target_modules="all-linear", lora_dropout=0.0),
    )
    lora = Gradient([snapshot_in(folder / "lora", adapted, ALPHA)])
    perplexity = Perplexity(folder / "base")
    long = documents_of(2 * SCORED, 1, 3 * CONTEXT)
    short = documents_of(SCORED, 1, CONTEXT)
    pool = Held({"pool": long}, tokenizer)
    for selector in (perplexity, full, lora):
        selector.prepare(documents_of(2000, 2, CONTEXT), pool)
    (parts_long, n_long), (parts_short, n_short) = windows(long), windows(short)
    work = {
        "forward": (lambda: forward(model, parts_long), n_long),
        "perplexity": (lambda: perplexity.score(long), len(long.input_ids)),
        "backward": (lambda: backward(model, parts_short), n_short),
        "gradient": (lambda: full.score(short), len(short.input_ids)),
        "lora backward": (lambda: backward(adapted, parts_short), n_short),
        "lora gradient": (lambda: lora.score(short), len(short.input_ids)),
    }
    return {k: f for k, (f, _) in work.items()}, {k: n for k, (_, n) in work.items()}


def bm25(tokenizer):
    """Documents per CPU second, both passes together, and their mean bytes."""
    documents = documents_of(200_000, 3, 560)
    pool = Held({"pool": documents}, tokenizer)
    begun = time.process_time()
    selector = Bm25()
    selector.prepare(documents_of(10_000, 4, 560), pool)
    selector.score(documents)
    spent = time.process_time() - begun
    return len(documents) / spent, float(np.mean([len(t) for t in pool.texts(documents)]))


def main():
    """All selectors that take time."""
    with tempfile.TemporaryDirectory() as name:
        tokenizer = tokenizer_in(Path(name))
        work, tokens = jobs(Path(name), tokenizer)
        seconds = measure(work)
        documents_per_second, n_bytes = bm25(tokenizer)
    per_token = {k: s / tokens[k] for k, s in seconds.items()}
    answer = {
        "benchmark": "selection_speed",
        "perplexity_throughput_of_forward": per_token["forward"] / per_token["perplexity"],
        "gradient_cost_of_backward": per_token["gradient"] / per_token["backward"],
        "lora_gradient_cost_of_backward": per_token["lora gradient"] / per_token["lora backward"],
        "lora_gradient_cost_of_full_backward": per_token["lora gradient"] / per_token["backward"],
        "bm25_minutes_for_a_million_documents": 1e6 / documents_per_second / 60,
        "bm25_bytes_per_document": n_bytes,
    }
    print("| measure | value |\n|---|---|")
    for key, value in list(answer.items())[1:]:
        print(f"| {key.replace('_', ' ')} | {value:.3g} |")
    print(json.dumps({k: v if isinstance(v, str) else round(v, 3) for k, v in answer.items()}))


if __name__ == "__main__":
    main()
