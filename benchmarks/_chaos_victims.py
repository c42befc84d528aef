"""The processes that `make chaos` kills, and those that only look: one program, several parts.

    python benchmarks/_chaos_victims.py PART ARGUMENT...

Every part says what it is doing, a line at a time, so that whoever kills it knows where it was.
"""

import json
import os
import random
import sys
import time
import warnings
from pathlib import Path

BATCH = 40  # rows between two checkpoints of a writer: what a resume repeats
_LONG = 60_000  # characters: a row of many pages is one that SIGKILL can tear
_PAUSE_SECONDS = 0.025


def write(store: str, name: str, ledger: str) -> None:
    """Log rows as a training does: resume at a checkpoint, acknowledge each row elsewhere.

    A row carries its attempt as loss, so that a row can be told from its repetition.
    """
    from mixture_assets.store.runs import MetricsLog, RunFolder

    run = RunFolder(Path(store), name)
    run.create(_header(name))
    acknowledged = os.open(ledger, os.O_RDWR | os.O_APPEND | os.O_CREAT)
    with run.lock() as is_mine:
        if not is_mine:
            return
        attempt = 1 + _n_lines(f"{ledger}.attempts")
        with open(f"{ledger}.attempts", "a", encoding="ascii") as attempts:
            attempts.write(f"{attempt}\n")
        first = _checkpointed(run)
        with MetricsLog(run) as log:
            for step in range(first, 10**9):
                log.append(_row(name, step, attempt))
                os.write(acknowledged, f"{step} {attempt}\n".encode())
                if step % BATCH == 0:
                    _checkpoint(run, log, step)
                time.sleep(_PAUSE_SECONDS)


def _header(name):
    spec = {"tokens": {"words": 1000}, "seed": 0, "token_sets": {"words": "none"}}
    names = {"purpose": "proxy", "label": name, "experiment": "writers", "scale": "none"}
    return names | {"mixture_name": "none", "spec": spec, "measurement": {"validation_sets": {}}}


def _n_lines(path):
    return len(Path(path).read_text().splitlines()) if Path(path).exists() else 0


def _checkpointed(run):
    path = run.path / "checkpoint" / "step.json"
    return 1 + json.loads(path.read_text())["step"] if path.exists() else 1


def _row(name, step, attempt):
    row = {"kind": "step", "run_id": name, "step": step, "tokens": step, "loss_nats": attempt}
    return row | ({"note": "x" * _LONG} if random.random() < 0.01 else {})


def _checkpoint(run, log, step):
    from mixture_assets.store.files import atomic_write_json

    log.sync()
    atomic_write_json(run.path / "checkpoint" / "step.json", {"step": step})


def ingest(store: str) -> None:
    """Bring the index up to date, again and again."""
    from mixture_assets.store.ingest import attempt

    warnings.simplefilter("always")
    while True:
        _say("begin")
        report = attempt(Path(store))
        _say("end" if report.is_current else f"busy {report.reason}")
        time.sleep(random.uniform(0, 0.6))


def hold(store: str) -> None:
    """Keep the database open, as a shell does that somebody forgot; let go now and then."""
    import duckdb

    path, highest = f"{store}/mixture.duckdb", 0
    while True:
        try:
            with duckdb.connect(path, read_only=True) as connection:
                highest = _look(connection, highest, random.uniform(2, 8))
        except duckdb.Error as error:
            is_usual = "lock" in str(error) or "does not exist" in str(error)
            _say(f"{'busy' if is_usual else 'UNREADABLE'} {str(error).splitlines()[0]}")
        time.sleep(random.uniform(0.5, 4))


def _look(connection, highest, seconds):
    """Count rows until the time is over; a transaction that was undone makes them fewer."""
    deadline = time.monotonic() + seconds
    while True:
        sql = "SELECT count(*) FROM step_metric JOIN run USING (run_id) WHERE purpose = 'proxy' "
        n_rows = connection.execute(sql + "AND experiment = 'writers'").fetchone()[0]
        _say(f"holds {n_rows}" if n_rows >= highest else f"WENT BACK {highest} -> {n_rows}")
        if time.monotonic() > deadline:
            return n_rows
        time.sleep(1)


def ask(store: str, *ledgers: str) -> None:
    """`mixture query` in a loop: every row acknowledged before the question is in the answer."""
    from mixture_assets.store.query import query

    warnings.simplefilter("ignore")
    sql = "SELECT count(*) FROM step_metric JOIN run USING (run_id) WHERE experiment = 'writers'"
    while True:
        acknowledged = sum(len(steps_of(Path(ledger))) for ledger in ledgers)
        try:
            found = query(Path(store), sql).rows[0][0]
        except Exception as error:
            _say(f"UNREADABLE {type(error).__name__}: {error}")
        else:
            is_complete = found >= acknowledged
            _say(f"{'answer' if is_complete else 'SHORT'} {found} of {acknowledged}")
        time.sleep(2)


def steps_of(ledger: Path) -> dict[int, int]:
    """Acknowledged step -> last attempt; a last line without its end was not acknowledged."""
    text = ledger.read_text() if ledger.exists() else ""
    lines = text[: text.rfind("\n") + 1].splitlines()
    return {int(step): int(attempt) for step, attempt in map(str.split, lines)}


def tokenize(experiment: str) -> None:
    """Raw shards to training tokens, once."""
    from mixture_assets.corpus import Workspace, build_corpus

    workspace = Workspace.open(Path(experiment))
    _say("begin")
    build_corpus(workspace)
    _say("end")


def fit(experiment: str) -> None:
    """Fit the curves and record the proposal, again and again."""
    from mixture_assets.corpus import Workspace, build_corpus
    from mixture_assets.pipeline import propose

    workspace = Workspace.open(Path(experiment))
    corpus = build_corpus(workspace)
    while True:
        _say("begin")
        propose(workspace, corpus)
        _say("end")


def _say(line):
    print(line, flush=True)


PARTS = {part.__name__: part for part in (write, ingest, hold, ask, tokenize, fit)}

if __name__ == "__main__":
    PARTS[sys.argv[1]](*sys.argv[2:])
