"""The experiment of `make chaos`: generated text in many small shards, runs of a second or two."""

import json
import random
from pathlib import Path

EXPERIMENT = """
name = "chaos"
store = "store"
[data]
root = "raw"
settle_seconds = 0
validation_fraction = 0.2
validation_tokens = 600
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
[compute]
attempts = 100  # a run that we kill again and again is not to be given up
[proxy]
budgets_tokens = [{small}, {large}]
base_seeds = [1]
bootstrap = 100
[constraints]
max_epochs = 1000
[full]
budget_tokens = {full}
seeds = [0]
evaluations = 3
"""
_WORDS = {
    "animals": "cat dog horse mouse bird fish runs sleeps eats jumps slowly quickly",
    "numbers": "one two three four five six plus minus times equals zero ten",
    "plants": "oak pine rose grass leaf root grows blooms fades green tall old",
}
_SHARDS = {"animals": 60, "numbers": 50, "plants": 40}
_DOCUMENTS = 12  # in each shard


def write_experiment(folder: Path, scale: float = 1.0) -> Path:
    """The experiment file with its corpus beside it; the same bytes every time.

    Args:
        folder: Where to.
        scale: Length of its runs; 1 is a second or two on one core.
    """
    for domain, words in _WORDS.items():
        rng, vocabulary = random.Random(domain), words.split()
        (folder / "raw" / domain).mkdir(parents=True)
        for shard in range(_SHARDS[domain]):
            texts = (
                f"{' '.join(rng.choices(vocabulary, k=40))}. {domain} {shard} {number}\n"
                for number in range(_DOCUMENTS)
            )
            lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
            (folder / "raw" / domain / f"part-{shard:05}.jsonl").write_text(lines)
    path = folder / "chaos.toml"
    budgets = {"small": 15_000, "large": 45_000, "full": 120_000}
    path.write_text(EXPERIMENT.format(**{k: int(n * scale) for k, n in budgets.items()}))
    return path
