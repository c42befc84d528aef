"""Does steering beat importance sampling? Two regimes of its paper, on real text, at our scale.

The text is the demo's, harvested from the Python installation; its READMEs are the specialist set,
and the other five domains, cut into clusters, are what can be trained on.

    few tokens    16 clusters of 25,000 tokens each, and READMEs enough to steer: whoever reads
                  little reads it often
    few wishes    64 clusters of all text, and 6 README documents to steer

Each regime trains uniform, natural, specialist-only, importance sampling, DGA with and without
its moving average, and DoGE-style weights, from the same seeds. Judged on READMEs that steer
nothing, and on the clusters' own held-out documents (what was forgotten). Intervals are 90 %,
paired by seed.

    .venv/bin/python benchmarks/dga_regimes.py FOLDER [--seeds 5] [--tokens 1000000]
"""

import argparse
import dataclasses
import json
import math
import statistics
from pathlib import Path

from scipy.stats import t as student

from mixture_assets import pipeline, running
from mixture_assets.clusters import ClusterOptions, write_clusters
from mixture_assets.core.names import RESERVED, SPECIALIST, STEERING
from mixture_assets.corpus import Workspace
from mixture_assets.data.harvest import harvest
from mixture_assets.data.readers import documents
from mixture_assets.data.shards import shards_at
from mixture_assets.plans import plan_full_runs

EXPERIMENT = """
name = "{name}"
store = "store"
[data]
root = "{root}"
validation_fraction = 0.15
validation_tokens = 2_000
max_shared = 1.0
[tokenizer]
vocab_size = 2048
[model]
width = 64
layers = 2
heads = 2
context = 64
overrides = {{initializer_range = 0.1}}
[training]
batch_tokens = 2048
learning_rate = 7e-3
[constraints]
max_epochs = 1000
[full]
budget_tokens = {tokens}
seeds = {seeds}
mixtures = ["uniform", "natural", "specialist", "importance", "dga", "doge"]
evaluations = 6
[specialist]
path = "{wishes}"
judging_fraction = {judging}
most_tokens = 40_000
[online]
specialist_tokens = 2048
[online.dga]
eta = 15.0
update_steps = {update_steps}
"""
VARIANTS = {  # of [online.dga], beside its defaults
    "dga": {},
    "dga without moving average": {"ema": 1.0},
}


def texts_of(folder):
    """Documents of a folder of shards, in order."""
    shards = shards_at(str(folder), "domain", cache=folder / ".cache")
    return [text for shard in shards for text in documents(shard) if text.strip()]


def pieces(texts, chars=1500):
    """Documents cut short, so that there are some to hold out of every little cluster."""
    return [text[i : i + chars] for text in texts for i in range(0, len(text), chars)]


def write_texts(folder, texts):
    """One shard of documents."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"text": text}) for text in texts]
    (folder / "part.jsonl").write_text("\n".join(lines))
    (folder / "_SUCCESS").touch()


def prepare(folder):
    """Raw roots of both regimes and the specialist documents: made once."""
    if not (folder / "harvest").exists():
        harvest(folder / "harvest")
        (folder / "harvest" / "readmes").rename(folder / "readmes")
    for n in (16, 64):
        write_clusters(folder / "harvest", folder / f"clusters{n}", ClusterOptions(n_clusters=n))
    if not (folder / "few").exists():
        for cluster in sorted(p for p in (folder / "clusters16").iterdir() if p.is_dir()):
            kept, length = [], 0
            for text in pieces(texts_of(cluster)):
                kept.append(text)
                length += len(text)
                if length > 85_000:  # about 25,000 tokens
                    break
            write_texts(folder / "few" / cluster.name, kept)
    wishes = texts_of(folder / "readmes")
    write_texts(folder / "many_wishes", wishes)
    write_texts(folder / "few_wishes", wishes[:: max(1, len(wishes) // 60)][:60])


def workspace_of(folder, name, variant, asked):
    """The experiment of a regime, with one variant of DGA."""
    few = name == "few tokens"
    text = EXPERIMENT.format(
        name=name.replace(" ", "_"),
        root="few" if few else "clusters64",
        wishes="many_wishes" if few else "few_wishes",
        judging=0.5 if few else 0.9,
        tokens=asked.tokens,
        seeds=list(range(asked.seeds)),
        # 64 clusters need a larger batch to be told apart: less often, so that it stays a fifth.
        update_steps=asked.update_steps if few else 3 * asked.update_steps,
    )
    path = folder / f"{name.replace(' ', '_')}.toml"
    path.write_text(text)
    workspace = Workspace.open(path)
    e = workspace.experiment
    dga = {**e.online.dga, **VARIANTS[variant]}
    full = e.full if variant == "dga" else dataclasses.replace(e.full, mixtures=("dga",))
    online = dataclasses.replace(e.online, dga=dga)
    return Workspace(dataclasses.replace(e, online=online, full=full))


def losses_of(folder, name, asked):
    """Mixture -> seed -> (judged, steering, mean over domains, share of time for steering)."""
    found, corpus = {}, None
    for variant in VARIANTS:
        workspace = workspace_of(folder, name, variant, asked)
        corpus = corpus or pipeline.prepare(workspace, say=print)
        planned = plan_full_runs(workspace, corpus, None)
        running.train(
            workspace, planned, on_settled=lambda run: print("done", run.label, flush=True)
        )
        for run in planned:
            result = running.result_of(workspace, run)
            losses = {d: row["loss_nats"] for d, row in result["losses"].items()}
            general = statistics.fmean(x for d, x in losses.items() if d not in RESERVED)
            cost = result.get("seconds_steering")
            share = None if cost is None else cost / (result["seconds"] - cost)
            label = variant if run.mixture_name == "dga" else run.mixture_name
            row = (losses[SPECIALIST], losses[STEERING], general, share)
            found.setdefault(label, {})[run.spec.seed] = row
    return found


def interval(values):
    """Mean and half of its 90 % interval over seeds."""
    half = math.nan
    if len(values) > 1:
        half = (
            student.ppf(0.95, len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
        )
    return statistics.fmean(values), half


def report(name, found):
    """The table of a regime, in Markdown."""
    print(f"\n{name}\n")
    print(
        "| mixture | judged (nats) | minus importance | steering (nats) | domains (nats) | time |"
    )
    print("|---|---|---|---|---|---|")
    for label, by_seed in sorted(
        found.items(), key=lambda item: interval([r[0] for r in item[1].values()])
    ):
        rows = [by_seed[s] for s in sorted(by_seed)]
        cells = [interval([r[i] for r in rows]) for i in range(3)]
        difference = [by_seed[s][0] - found["importance"][s][0] for s in sorted(by_seed)]
        against = "" if label == "importance" else "{:+.3f} ± {:.3f}".format(*interval(difference))
        shares = [r[3] for r in rows if r[3] is not None]
        time = f"+{statistics.median(shares):.1%}" if shares else ""
        shown = ["{:.3f} ± {:.3f}".format(*cell) for cell in cells]
        print(
            f"| {label} | {shown[0]} | {against} | {shown[1]} | {shown[2]} | {time} |", flush=True
        )


def main():
    """Both regimes, or one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--update-steps", type=int, default=10)
    parser.add_argument("--regime", choices=["few tokens", "few wishes"])
    asked = parser.parse_args()
    prepare(asked.folder)
    for name in [asked.regime] if asked.regime else ["few tokens", "few wishes"]:
        report(name, losses_of(asked.folder, name, asked))


if __name__ == "__main__":
    main()
