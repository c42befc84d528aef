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
from mixture_assets.methods.swarm import Swarm
from mixture_assets.run_tables import TableOptions
from mixture_assets.swarms import read_swarm

SETS = {"train": "train_{}_1m.csv"} | {n: f"test_{{}}_{n}.csv" for n in ("1m", "60m", "1B")}
MAIN = "pile_cc"
N_FEW = 64
RENAME_WEIGHTS, RENAME_METRICS = "train_the_pile_{}", "metric/the_pile_{}_val_loss"


def read(folder: Path) -> dict[str, Swarm]:
    """The four sets, by size of the model."""
    return {name: _read(folder, pattern) for name, pattern in SETS.items()}


def _read(folder: Path, pattern: str) -> Swarm:
    tables = TableOptions(
        weight_pattern=RENAME_WEIGHTS,
        metric_pattern=RENAME_METRICS,
        normalise=True,  # rounded to three decimals
    )
    paths = [folder / pattern.format(kind) for kind in ("mixture", "pile_loss")]
    swarm = read_swarm(*paths, tables=tables).swarm
    return swarm.subset(np.argsort([int(run) for run in swarm.runs]))  # the files' order


@dataclass(frozen=True, kw_only=True)
class Row:
    """One law: ranks are Spearman x 100, regrets nats, both of the 512-run fit by default."""

    law: str
    held_out_r2: str = "-"
    rank_1m: str = "-"
    rank_60m: str = "-"
    rank_1b: str = "-"
    regret_1b: str = "-"
    rank_few: str = "-"  # at 1B, from the first 64 runs
    rank_few_mean: str = "-"  # mean over the 8 disjoint blocks of 64
    rank_all: str = "-"  # at 1B, mean over the 13 objectives
    regret_all: str = "-"
    seconds: str = "-"  # of one fit, the fastest of 13


HEADER = Row(
    law="law",
    held_out_r2="held-out R2",
    rank_1m="1M",
    rank_60m="60M",
    rank_1b="1B",
    regret_1b="regret at 1B, nats",
    rank_few="1B from 64 runs",
    rank_few_mean="1B, mean of 8 times 64 runs",
    rank_all="1B, mean of 13 objectives",
    regret_all="their mean regret",
    seconds="s of a fit",
)


def row(law: str, sets: dict[str, Swarm]) -> Row:
    """One law's row."""
    train, large = sets["train"], sets["1B"]
    fits, seconds = {}, []
    for name in sorted(train.metrics):
        begun = time.perf_counter()
        fits[name] = LAWS[law].fit(train.weights, train.metrics[name])
        seconds.append(time.perf_counter() - begun)
    of = {n: Score.of(fits[MAIN](s.weights), s.metrics[MAIN]) for n, s in sets.items()}
    every = [Score.of(fits[n](large.weights), large.metrics[n]) for n in fits]
    blocks = np.arange(len(train.runs)).reshape(-1, N_FEW)
    few_ranks = [rank_from_few(law, train.subset(block), large) for block in blocks]
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
        seconds=f"{min(seconds):.2g}",
    )


def rank_from_few(law: str, few: Swarm, test: Swarm) -> float:
    """Spearman's correlation on `test` of a law that was fitted to few runs."""
    predict = LAWS[law].fit(few.weights, few.metrics[MAIN])
    return Score.of(predict(test.weights), test.metrics[MAIN]).spearman or 0.0


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
    """Print the times, then the table."""
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    folder = Path(sys.argv[1])
    sets = read(folder)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(f"Times on {machine}:")
    print(f"- a decision, 1,000 draws: {seconds_of_a_decision(sets['train']):.1f} s (wanted 10 s)")
    print(
        f"- `mixture laws`, every law: {seconds_of_laws(folder):.1f} s (wanted 120 s)\n", flush=True
    )
    print(markdown([*(row(law, sets) for law in LAWS), *references(sets)]))


if __name__ == "__main__":
    main()
