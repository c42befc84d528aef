"""How much do eta, the update period, the moving average and clipping matter to DGA?

The demo's text without its READMEs, which are the specialist set; the demo's model. Each setting
is moved away from the defaults alone. Printed: the loss on READMEs that steer nothing, minus that
of importance sampling and of uniform from the same seeds, with 90 % intervals over seeds.

    .venv/bin/python benchmarks/dga_sensitivity.py FOLDER [--seeds 3] [--tokens 600000]
"""

import argparse
import dataclasses
import math
import statistics
from pathlib import Path

from scipy.stats import t as student

from mixture_assets import pipeline, running
from mixture_assets.core.names import SPECIALIST
from mixture_assets.corpus import Workspace
from mixture_assets.data.harvest import harvest
from mixture_assets.plans import plan_full_runs

EXPERIMENT = """
name = "sensitivity"
store = "store"
[data]
root = "harvest"
validation_tokens = 8_192
[tokenizer]
vocab_size = 2048
[model]
width = 64
layers = 2
heads = 2
context = 64
overrides = {{initializer_range = 0.1}}
[training]
batch_tokens = 512
learning_rate = 7e-3
[constraints]
max_epochs = 100
[full]
budget_tokens = {tokens}
seeds = {seeds}
mixtures = ["uniform", "natural", "importance", "specialist", "dga"]
evaluations = 1
[specialist]
path = "readmes"
"""
DEFAULTS = {"eta": 5.0, "update_steps": 30, "ema": 0.1, "floor": 0.01}
OF_RUN = {"clip_norm": 1.0, "specialist_tokens": 256, "group_tokens": 256, "start": "natural"}
SWEEPS = {
    "eta": [1.5, 15.0, 50.0],
    "update_steps": [10, 100],
    "ema": [0.03, 0.3, 1.0],
    "floor": [0.1],
    "clip_norm": [0.0],
    "specialist_tokens": [128, 512, 2048],
    "group_tokens": [128, 1024],
    "start": ["importance"],
}


def settings():
    """(name of the setting, value, settings of the method, settings of the run)."""
    yield "defaults", "", DEFAULTS, OF_RUN
    for name, values in SWEEPS.items():
        for value in values:
            method, run = dict(DEFAULTS), dict(OF_RUN)
            (method if name in DEFAULTS else run)[name] = value
            yield name, value, method, run


def planned(workspace, corpus, mixtures):
    """Full runs of some mixtures."""
    full = dataclasses.replace(workspace.experiment.full, mixtures=mixtures)
    workspace = Workspace(dataclasses.replace(workspace.experiment, full=full))
    return plan_full_runs(workspace, corpus, None)


def judged(workspace, runs):
    """Mixture -> losses by seed on the documents that judge, and the results."""
    found = {}
    for run in runs:
        result = running.result_of(workspace, run)
        loss = result["losses"][SPECIALIST]["loss_nats"]
        found.setdefault(run.mixture_name, {})[run.spec.seed] = (loss, result)
    return found


def interval(values):
    """'mean ± half of the 90 % interval'."""
    if len(values) < 2:
        return f"{values[0]:+.3f}"
    error = statistics.stdev(values) / math.sqrt(len(values))
    return f"{statistics.fmean(values):+.3f} ± {student.ppf(0.95, len(values) - 1) * error:.3f}"


def main():
    """One line a setting, in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=600_000)
    asked = parser.parse_args()
    if not (asked.folder / "readmes").exists():
        harvest(asked.folder / "harvest")
        (asked.folder / "harvest" / "readmes").rename(asked.folder / "readmes")
    path = asked.folder / "sensitivity.toml"
    path.write_text(EXPERIMENT.format(tokens=asked.tokens, seeds=list(range(asked.seeds))))
    workspace = Workspace.open(path)
    corpus = pipeline.prepare(workspace)
    static = planned(workspace, corpus, ("uniform", "natural", "importance", "specialist"))
    steered = []
    for name, value, method, run in settings():
        online = dataclasses.replace(workspace.experiment.online, dga=method, **run)
        moved = Workspace(dataclasses.replace(workspace.experiment, online=online))
        steered.append((name, value, planned(moved, corpus, ("dga",))))
    running.train(workspace, [*static, *(run for _, _, runs in steered for run in runs)])
    fixed = judged(workspace, static)
    for name, runs in fixed.items():
        print(f"{name}: {interval([loss for loss, _ in runs.values()])} nats")
    print("| setting | value | minus importance (nats) | minus uniform | largest weight | time |")
    print("|---|---|---|---|---|---|")
    for name, value, several in steered:
        runs = judged(workspace, several)["dga"]
        against = [
            interval([loss - fixed[other][seed][0] for seed, (loss, _) in sorted(runs.items())])
            for other in ("importance", "uniform")
        ]
        largest = statistics.fmean(max(r["final_weights"].values()) for _, r in runs.values())
        shares = [
            r["seconds_steering"] / (r["seconds"] - r["seconds_steering"]) for _, r in runs.values()
        ]
        cost = f"+{statistics.median(shares):.1%}"
        print(
            f"| {name} | {value} | {against[0]} | {against[1]} | {largest:.2f} | {cost} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
