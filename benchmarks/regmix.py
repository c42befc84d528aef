"""Every law on RegMix's published runs, and how long a decision on them takes.

512 runs of 1M parameters on 17 domains of the Pile are fitted; 256 runs of 1M, the same 256
mixtures at 60M and 64 runs of 1B are foretold. Writes a table in Markdown to stdout.

The runs are those of github.com/sail-sg/regmix, folder data/ (MIT licence; commit b004d3a was
used). The argument is a folder with train_mixture_1m.csv, train_pile_loss_1m.csv and
test_mixture_SIZE.csv, test_pile_loss_SIZE.csv for SIZE in 1m, 60m and 1B:

    python benchmarks/regmix.py FOLDER
"""

import os
import platform
import subprocess
import sys
import time
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from mixture_assets.methods.decision import DEFAULT_LAW, decide
from mixture_assets.methods.laws import LAWS, Score, score_laws
from mixture_assets.methods.swarm import Array, Swarm
from mixture_assets.swarms import SwarmOptions

SETS = {"train": "train_{}_1m.csv"} | {n: f"test_{{}}_{n}.csv" for n in ("1m", "60m", "1B")}
MAIN = "pile_cc"
N_FEW = 64
RENAME_WEIGHTS, RENAME_METRICS = "train_the_pile_{}", "metric/the_pile_{}_val_loss"


def read(folder: Path) -> dict[str, Swarm]:
    """The four sets, by size of the model."""
    return {name: _read(folder, pattern) for name, pattern in SETS.items()}


def _read(folder: Path, pattern: str) -> Swarm:
    options = SwarmOptions.from_text(
        ratios=folder / pattern.format("mixture"),
        metrics=folder / pattern.format("pile_loss"),
        objective=MAIN,
        rename_weights=RENAME_WEIGHTS,
        rename_metrics=RENAME_METRICS,
        normalise=True,  # rounded to three decimals
    )
    return options.read().swarm


@dataclass(frozen=True, kw_only=True)
class Row:
    """One law: ranks are Spearman x 100, regrets nats, both of the 512-run fit by default."""

    law: str
    held_out_r2: str = "-"
    rank_1m: str = "-"
    rank_60m: str = "-"
    rank_1b: str = "-"
    regret_1b: str = "-"
    rank_few: str = "-"  # at 1B from the first 64 runs
    rank_few_mean: str = "-"  # mean over the 8 disjoint blocks of 64
    rank_all: str = "-"  # at 1B, mean over the 13 objectives
    regret_all: str = "-"
    seconds: str = "-"  # of one fit


HEADER = Row(
    law="law",
    held_out_r2="held-out R2",
    rank_1m="1M",
    rank_60m="60M",
    rank_1b="1B",
    regret_1b="regret at 1B, nats",
    rank_few="1B from 64 runs",
    rank_few_mean="- mean of 8 blocks",
    rank_all="1B, mean of 13 objectives",
    regret_all="- regret",
    seconds="s of a fit",
)


def row(law: str, sets: dict[str, Swarm]) -> Row:
    """One law's row."""
    train, large, few = sets["train"], sets["1B"], in_the_files_order(sets["train"])
    begun = time.perf_counter()
    predict = LAWS[law].fit(train.weights, train.metrics[MAIN])
    seconds = time.perf_counter() - begun
    of = {n: Score.of(predict(s.weights), s.metrics[MAIN]) for n, s in sets.items()}
    blocks = [few[i : i + N_FEW] for i in range(0, len(few), N_FEW)]
    few_ranks = [score(law, train.subset(block), large, MAIN).spearman for block in blocks]
    every = [score(law, train, large, name) for name in sorted(train.metrics)]
    (held_out,) = score_laws(train.weights, train.metrics[MAIN], laws=(law,))
    return Row(
        law=f"`{law}`" + (" (the default)" if law == DEFAULT_LAW else ""),
        held_out_r2=f"{held_out.cross_validated.r2:.3f}",
        rank_1m=rank(of["1m"].spearman),
        rank_60m=rank(of["60m"].spearman),
        rank_1b=rank(of["1B"].spearman),
        regret_1b=f"{of['1B'].regret:.3f}",
        rank_few=rank(few_ranks[0]),
        rank_few_mean=rank(np.mean(few_ranks)),
        rank_all=rank(np.mean([s.spearman for s in every])),
        regret_all=f"{np.mean([s.regret for s in every]):.3f}",
        seconds=f"{seconds:.2f}",
    )


def score(law: str, train: Swarm, test: Swarm, objective: str) -> Score:
    """Fitted to some runs, scored on others."""
    predict = LAWS[law].fit(train.weights, train.metrics[objective])
    return Score.of(predict(test.weights), test.metrics[objective])


def in_the_files_order(swarm: Swarm) -> Array:
    """Places of the runs by their number: a swarm sorts them as text."""
    return np.argsort([int(run) for run in swarm.runs])


def rank(spearman: float | None) -> str:
    """As people write it."""
    return "-" if spearman is None else f"{100 * spearman:.1f}"


def references(sets: dict[str, Swarm]) -> list[Row]:
    """What a law that knew the truth at 1M would reach at 60M, and what no law reaches."""
    small, medium, large = sets["1m"], sets["60m"], sets["1B"]
    if small.runs != medium.runs or not np.allclose(small.weights, medium.weights):
        raise SystemExit("the runs at 1M and 60M are of different mixtures")
    true = spearmanr(small.metrics[MAIN], medium.metrics[MAIN]).statistic
    lost = {n: float((x - x.min()).mean()) for n, x in large.metrics.items()}
    chance = f"{np.mean(list(lost.values())):.3f}"
    return [
        Row(law="the true ranks at 1M", rank_60m=rank(true)),
        Row(
            law="always the mean: any run",
            held_out_r2="0",
            regret_1b=f"{lost[MAIN]:.3f}",
            regret_all=chance,
        ),
    ]


def markdown(rows: list[Row]) -> str:
    """A table."""
    names = [f.name for f in fields(Row)]
    lines = [[getattr(r, n) for n in names] for r in (HEADER, *rows)]
    lines.insert(1, ["---"] * len(names))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def seconds_of_a_decision(train: Swarm) -> float:
    """1,000 draws, 512 runs, 17 domains."""
    begun = time.perf_counter()
    decide(train, {MAIN: 1.0})
    return time.perf_counter() - begun


def seconds_of_laws(folder: Path) -> float:
    """The whole command, every law, with the interpreter's start."""
    files = ["ratios", "metrics", "test-ratios", "test-metrics"]
    paths = [SETS[s].format(kind) for s in ("train", "1m") for kind in ("mixture", "pile_loss")]
    command = [sys.executable, "-c", "from mixture_assets.cli import cli; cli()", "laws"]
    for option, path in zip(files, paths, strict=True):
        command += [f"--{option}", str(folder / path)]
    command += ["--rename-weights", RENAME_WEIGHTS, "--rename-metrics", RENAME_METRICS]
    command += ["--normalise", "--objective", MAIN, "--json"]
    begun = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


def main() -> None:
    """Print the table, then the times."""
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    folder = Path(sys.argv[1])
    sets = read(folder)
    print(markdown([*(row(law, sets) for law in LAWS), *references(sets)]), flush=True)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(f"\nTimes on {machine}:")
    print(f"- a decision, 1,000 draws: {seconds_of_a_decision(sets['train']):.1f} s (wanted 10 s)")
    print(f"- `mixture laws`, every law: {seconds_of_laws(folder):.1f} s (wanted 120 s)")


if __name__ == "__main__":
    main()
