"""What one update of a mixture costs, in training steps: four ways to the alignments.

A training step is forward, backward, clipping and AdamW on 128 sequences. An update step is the
same with alignments measured on its sequences, and with the specialist gradient of 32 sequences
beside it. Cost = time of an update step / time of a training step - 1. The source's own way is
there too: a batch of 8 sequences drawn from every domain for this alone, one backward each.

One core, CPU seconds of the process, medians of rounds in which everything takes its turn.
Prints a Markdown table for each model, then one JSON line. Ten minutes on a busy machine.
"""

# ruff: noqa: E402 (threads and allocator are set before torch is imported)
import json
import os
import time

for key in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[key] = "1"

from mixture_assets.training.allocator import tune_allocator

tune_allocator()

import numpy as np
import torch

from mixture_assets.core.run import ModelSpec, TrainingSpec
from mixture_assets.training.alignment import (
    aligned_backward,
    clip_gradient,
    specialist_gradient,
)
from mixture_assets.training.device import probe
from mixture_assets.training.model import build_model
from mixture_assets.training.optimizer import build_optimizer
from mixture_assets.training.sequences import sequence_losses

SEQUENCES, SPECIALIST, OWN_BATCH = 128, 32, 8
GROUPS = (4, 16, 64)
WAYS = ("naive", "jvp", "finite_difference", "ghost")
MODELS = {
    "width 64, 2 layers, context 64, vocabulary 2,048": (64, 2, 64, 2048),
    "width 128, 4 layers, context 64, vocabulary 4,096": (128, 4, 64, 4096),
}
ROUNDS = 5


class Steps:
    """A model, its optimizer, and the steps to compare."""

    def __init__(self, width, layers, context, vocabulary):
        training = TrainingSpec()
        device = probe(training, context)
        device.apply()
        spec = ModelSpec(width=width, layers=layers, heads=4, context=context)
        self.model = build_model(spec, vocab_size=vocabulary, seed=0, attention=device.attention)
        self.optimizer = build_optimizer(self.model, training)
        random = torch.Generator().manual_seed(0)
        size = (SEQUENCES + SPECIALIST, context + 1)
        tokens = torch.randint(vocabulary, size, generator=random)
        self.tokens, self.specialist = tokens[:SEQUENCES], tokens[SEQUENCES:]

    def plain(self):
        """A training step."""
        sequence_losses(self.model, self.tokens).mean().backward()
        self._finish()

    def update(self, way, m):
        """As in a run: G, clipped; the training step with alignments."""
        gradient = self.target()
        names = [f"g{g}" for g in range(m)]
        aligned_backward(
            self.model,
            self.tokens,
            np.arange(SEQUENCES) % m,
            names,
            dict.fromkeys(names, 1 / m),
            gradient,
            way=way,
            micro_sequences=SEQUENCES,
        )
        self._finish()

    def own_batches(self, m):
        """As in the source: each domain's gradient of a batch of its own, clipped; then a step."""
        gradient = self.target()
        for _ in range(m):
            _, mine = specialist_gradient(self.model, [self.tokens[:OWN_BATCH]])
            clip_gradient(mine, 1.0)
            sum(float(torch.sum(mine[name] * gradient[name])) for name in gradient)
        self.plain()

    def target(self):
        """The specialist gradient, clipped."""
        _, gradient = specialist_gradient(self.model, [self.specialist])
        clip_gradient(gradient, 1.0)
        return gradient

    def _finish(self):
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


def jobs(steps):
    """Everything that takes its turn in a round, by name."""
    work = {"plain": steps.plain, "specialist gradient": steps.target}
    for m in GROUPS:
        work[f"own batches {m}"] = lambda m=m: steps.own_batches(m)
        for way in WAYS:
            work[f"{way} {m}"] = lambda way=way, m=m: steps.update(way, m)
    return work


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


def table(title, cost):
    """Costs as Markdown."""
    columns = ("own batches", *WAYS)
    head = "| groups | " + " | ".join(c.replace("_", " ") for c in columns) + " |"
    lines = [f"{title} (specialist gradient {cost['specialist gradient']:.2f})", "", head]
    lines.append("|" + "---|" * (len(columns) + 1))
    for m in GROUPS:
        cells = " | ".join(f"{cost[f'{c} {m}']:.2f}" for c in columns)
        lines.append(f"| {m} | {cells} |")
    return "\n".join(lines) + "\n"


def main():
    """Both models."""
    answer = {"benchmark": "alignment", "specialist_share": SPECIALIST / SEQUENCES, "models": {}}
    for title, shape in MODELS.items():
        seconds = measure(jobs(Steps(*shape)))
        plain = seconds.pop("plain")
        cost = {name: s / plain - 1 for name, s in seconds.items()}
        cost["specialist gradient"] += 1  # it is a part of a step, no step
        print(table(title, cost), flush=True)
        answer["models"][title] = {name: round(c, 3) for name, c in cost.items()}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
