"""The index: one ingest of 100,000 step rows, and questions to a million of them.

Run folders as training leaves them: 1,000 runs of 1,000 steps, then 10,000 runs of 20. A query is
the whole command, from the start of its process. Prints one JSON line. About a minute.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mixture_assets.store.ingest import ingest
from mixture_assets.store.runs import RunFolder
from mixture_assets.store.scan import scan
from mixture_assets.store.status import run_table

DOMAINS = ("books", "code", "news", "prose", "web", "wiki")
EXPERIMENT = 'name = "b"\nstore = "."\n[data]\nroot = "raw"\n[full]\nbudget_tokens = 1\n'
GROUPED = "SELECT run_id, arg_max(loss_nats, step) FROM step_metric GROUP BY run_id"
MAIN = "from mixture_assets.cli import main; main()"


def make_runs(store, prefix, n_runs, n_steps):
    """Finished runs, with the files that training writes."""
    for number in range(n_runs):
        run = RunFolder(store, f"{prefix}{number:06d}")
        tokens = dict.fromkeys(DOMAINS, 1000 * n_steps)
        spec = {"tokens": tokens, "seed": number, "token_sets": dict.fromkeys(DOMAINS, "set")}
        words = {"purpose": "proxy", "label": f"run {number}", "experiment": "b", "scale": "small"}
        run.create(words | {"mixture_name": "base", "spec": spec})
        with open(run.metrics_path, "w", encoding="utf-8") as file:
            for step in range(1, n_steps + 1):
                file.write(json.dumps(step_row(run.run_id, step, number)) + "\n")
        losses = {d: {"loss_nats": 3 + number / n_runs, "perplexity": 20.0} for d in DOMAINS}
        run.write_result({"steps": n_steps, "losses": losses, "realised_tokens": tokens})


def step_row(run_id, step, seed):
    """One row of metrics.jsonl."""
    return {
        "kind": "step",
        "run_id": run_id,
        "step": step,
        "tokens": step * 6000,
        "loss_nats": 3 + (seed * 7919 + step * 104729) % 1000 / 1000,
        "learning_rate": 0.003,
        "grad_norm": 1.5,
        "tokens_per_second": 18_000.0,
        "seconds": step * 0.1,
    }


def seconds_of(call, *, times=1):
    """The best of several: other work on the machine only ever adds."""
    best = float("inf")
    for _ in range(times):
        begun = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - begun)
    return round(best, 3)


def command_seconds(store, *words):
    """A whole `mixture` command, from the start of its process; the best of three."""
    path = store / "experiment.toml"
    path.write_text(EXPERIMENT)
    line = [sys.executable, "-c", MAIN, *words, "--experiment", str(path), "--json"]
    return seconds_of(lambda: subprocess.run(line, check=True, stdout=subprocess.DEVNULL), times=3)


def first_ingest_seconds():
    """100,000 step rows of ten runs, into a store that has no index yet."""
    with tempfile.TemporaryDirectory() as folder:
        make_runs(Path(folder), "r", 10, 10_000)
        return seconds_of(lambda: ingest(Path(folder)))


def added_ingest_seconds(store):
    """The same rows again, beside what the index has."""
    make_runs(store, "added", 10, 10_000)
    return seconds_of(lambda: ingest(store))


def a_million_rows():
    """Questions, and ingests that add little or nothing, over 1,000 runs of 1,000 steps."""
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder)
        make_runs(store, "r", 1000, 1000)
        return {
            "ingest_million_seconds": seconds_of(lambda: ingest(store)),
            "ingest_nothing_seconds": seconds_of(lambda: ingest(store), times=3),
            "query_million_seconds": command_seconds(store, "query", GROUPED),
            "ingest_added_seconds": added_ingest_seconds(store),
        }


def ten_thousand_runs():
    """Looking at 10,000 run folders."""
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder)
        make_runs(store, "r", 10_000, 20)
        return {
            "ingest_10k_runs_seconds": seconds_of(lambda: ingest(store)),
            "scan_10k_runs_seconds": seconds_of(lambda: scan(store), times=3),
            "status_10k_runs_seconds": seconds_of(lambda: run_table(store), times=3),
            "query_10k_runs_seconds": command_seconds(store, "query", "SELECT count(*) FROM run"),
        }


def main():
    """All of it."""
    answer = {"benchmark": "store", "ingest_100k_seconds": first_ingest_seconds()}
    print(json.dumps(answer | a_million_rows() | ten_thousand_runs()))


if __name__ == "__main__":
    main()
