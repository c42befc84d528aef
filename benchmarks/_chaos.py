"""At least 200 SIGKILLs at random moments, and then the question what they cost: nothing.

An experiment on generated text is run twice: undisturbed, and beside it one whose processes are
killed while they tokenize, train proxies, fit and train in full. Meanwhile, in the same store,
four writers log rows and two rival ingesters update the index, all killed too; one process holds
the database open, and one asks it. `make chaos` runs it, in about a quarter of an hour.

    .venv/bin/python benchmarks/_chaos.py [--kills N] [--minutes M] [--scale X] [--seed S]

Progress goes to stderr, one JSON line to stdout; the exit code is 1 on any violation.
"""

import argparse
import itertools
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from _chaos_checks import check_rows, different, differing_tables, run_bits, token_bytes
from _chaos_experiment import write_experiment
from _chaos_jobs import Crowd, MainJob, Watched, part

from mixture_assets.store.ingest import attempt
from mixture_assets.store.records import read_record
from mixture_assets.store.runs import list_runs

SHARES = {"tokenizing": 0.2, "proxies": 0.2, "fits": 0.15, "full": 0.2, "ingest": 0.25}
STAGES = tuple(SHARES)
_BEFORE_KILL_SECONDS = 1.0  # at most, once the stage has begun its work
_START_SHARE = 0.15  # of the kills in training may hit processes that are on their way up
_ZERO = ("lost", "duplicated", "outdated", "unreadable", "went_back", "short", "different")


class Chaos:
    """An experiment that is disturbed, and what is known of the same one undisturbed."""

    def __init__(self, folder: Path, asked: argparse.Namespace) -> None:
        self.rng, self.folder = random.Random(asked.seed), folder
        self.deadline = time.monotonic() + 60 * asked.minutes
        self.victims = itertools.cycle(("main", "worker", "all", "worker"))
        self.quota = Counter({stage: max(1, round(asked.kills * s)) for stage, s in SHARES.items()})
        self.kills: Counter[str] = Counter()
        self.found: Counter[str] = Counter()
        self.calm = write_experiment(folder / "undisturbed", asked.scale)
        self.experiment = write_experiment(folder / "disturbed", asked.scale)
        self.store = self.experiment.parent / "store"

    def undisturbed(self) -> None:
        """Run the reference; every later state is compared with it, bit for bit."""
        job = Watched(part("tokenize", self.calm))
        job.wait_for("begin")
        begun = time.monotonic()
        job.process.wait()
        self.tokenizing_seconds = time.monotonic() - begun
        store = self.calm.parent / "store"
        self.tokens = token_bytes(store)
        job = MainJob(self.calm)
        if job.process.wait():
            raise SystemExit("the undisturbed run failed:\n" + "\n".join(job.lines[-20:]))
        self.bits, self.proposal = run_bits(store), proposal_of(store)

    def blame(self, what: str, names: list[str]) -> None:
        """Count what is not as it must be, and name it."""
        self.found[what] += len(names)
        if names:
            say(f"{what}: {names}")

    def is_due(self, stage: str) -> bool:
        """Whether this stage has kills to come, and there is time for them."""
        return self.kills[stage] < self.quota[stage] and time.monotonic() < self.deadline

    def note(self, stage: str) -> None:
        """Count a kill that landed in a stage."""
        self.kills[stage] += 1
        if self.kills.total() % 20 == 0:
            say(f"{self.kills.total()} kills: {dict(self.kills)}")

    def tokenizing(self) -> None:
        """Kill raw shards -> training tokens; whenever it is done, compare, and begin anew."""
        while self.is_due("tokenizing"):
            job = Watched(part("tokenize", self.experiment))
            job.wait_for("begin")
            time.sleep(self.rng.uniform(0, self.tokenizing_seconds / 3))
            if job.kill() and job.last == "begin":
                self.note("tokenizing")
            elif job.last == "end":
                self.compare_tokens()
                for name in ("tokens", "token_sets", "validation", "tokenizers"):
                    shutil.rmtree(self.store / name)
        Watched(part("tokenize", self.experiment)).process.wait()
        self.compare_tokens()

    def compare_tokens(self) -> None:
        """Token files, byte for byte."""
        names = different(self.tokens, token_bytes(self.store))
        self.blame("different_tokens", names)
        self.found["compared_tokens"] += 1

    def training(self, stage: str, purpose: str) -> None:
        """Kill `mixture run` in one stage: its main process, a worker, all of them, in turn."""
        job = None
        while self.is_due(stage):
            if job is None or job.process.poll() is not None:
                job = MainJob(self.experiment)
            if job.wait_for_stage(stage) != stage:  # trained already: compare, and begin anew
                job.kill_all()
                self.compare_runs()
                self.forget(purpose)
                continue
            self.wait_for_training(job, stage)
            time.sleep(self.rng.uniform(0, _BEFORE_KILL_SECONDS))
            landed, is_training, victim = job.stage, self.is_training(), next(self.victims)
            if job.strike(victim, self.rng):
                self.note(landed)
                self.found[f"killed_{victim}"] += 1
                self.found["killed_in_training"] += is_training
        if job is not None:
            job.kill_all()

    def wait_for_training(self, job: MainJob, stage: str) -> None:
        """Most kills are to hit a training, not the seconds in which processes start."""
        is_patient = self.rng.random() > _START_SHARE
        while is_patient and job.stage == stage and job.process.poll() is None:
            if self.is_training():
                return
            time.sleep(0.02)

    def is_training(self) -> bool:
        """Whether a worker is at a run of the experiment."""
        runs = (r for r in list_runs(self.store) if not r.run_id.startswith("writer"))
        return any(run.is_locked() for run in runs)

    def fits(self) -> None:
        """Kill the fit and the recording of the proposal."""
        while self.is_due("fits"):
            job = Watched(part("fit", self.experiment))
            job.wait_for("begin")
            time.sleep(self.rng.uniform(0, _BEFORE_KILL_SECONDS))
            if job.kill() and job.last == "begin":
                self.note("fits")
            self.found["different_proposals"] += proposal_of(self.store) != self.proposal

    def forget(self, purpose: str) -> None:
        """Remove the run folders of one purpose, so that they are trained again."""
        for path in self.store.glob("runs/*/spec.json"):
            header = json.loads(path.read_text())
            if (header["experiment"], header["purpose"]) == ("chaos", purpose):
                path.parent.rename(self.folder / f"forgotten-{path.parent.name}")
                shutil.rmtree(self.folder / f"forgotten-{path.parent.name}")

    def compare_runs(self, *, is_complete: bool = False) -> None:
        """Losses and models of the runs that are done, bit for bit."""
        bits = run_bits(self.store)
        expected = self.bits if is_complete else {k: self.bits.get(k) for k in bits}
        self.blame("different_runs", different(expected, bits))
        self.found["compared_runs"] += len(bits)

    def finish(self) -> None:
        """Let the experiment end undisturbed, and compare everything."""
        job = MainJob(self.experiment)
        self.found["different_exit"] += job.process.wait() != 0
        self.compare_runs(is_complete=True)
        self.found["different_proposals"] += proposal_of(self.store) != self.proposal

    def run(self) -> None:
        """All stages, with the crowd around them."""
        say("undisturbed run")
        self.undisturbed()
        crowd = Crowd(self.store, self.folder, self)
        with crowd:
            self.tokenizing()
            self.training("proxies", "proxy")
            self.training("full", "full")
            self.finish()
            self.fits()
            while self.is_due("ingest"):
                time.sleep(0.2)
        self.found.update(crowd.seen())
        attempt(self.store)
        self.found.update(check_rows(self.store, crowd.ledgers))
        tables = differing_tables(self.store, lambda: attempt(self.store))
        self.blame("different_tables", tables)


def proposal_of(store: Path) -> object:
    """The rows of the newest proposal, but for the time."""
    pointer = json.loads((store / "latest" / "chaos.json").read_text())
    rows = read_record(store, "proposal", pointer["proposal_id"])
    return [rows["proposal_weight"], rows["fit_parameter"], rows["edge"], pointer]


def violations(found: Counter[str], kills: Counter[str], quota: Counter[str]) -> list[str]:
    """What must be zero and is not, and what must be some and is none."""
    bad = [f"{name}: {n}" for name, n in found.items() if n and name.startswith(_ZERO)]
    bad += [
        f"too few kills in {s}: {kills[s]} of {quota[s]}" for s in STAGES if kills[s] < quota[s]
    ]
    n_training = kills["proxies"] + kills["full"]
    if found["killed_in_training"] < n_training / 2:
        bad.append(f"too few kills in training: {found['killed_in_training']} of {n_training}")
    needed = ("acknowledged", "answers", "holds", "compared_tokens", "compared_runs")
    return bad + [f"nothing was checked: {name}" for name in needed if not found[name]]


def say(line: str) -> None:
    """Progress, for people."""
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)


def main() -> None:
    """Parse, run, judge."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=220)
    parser.add_argument("--minutes", type=float, default=40)
    parser.add_argument("--scale", type=float, default=1.0, help="length of the runs")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 10**6)
    asked = parser.parse_args()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        chaos = Chaos(Path(name), asked)
        chaos.run()
    bad = violations(chaos.found, chaos.kills, chaos.quota)
    answer = {"benchmark": "chaos", "seed": asked.seed, "kills": chaos.kills.total()}
    answer |= {"kills_by_stage": dict(sorted(chaos.kills.items()))}
    answer |= dict(sorted(chaos.found.items()))
    answer |= {"seconds": round(time.monotonic() - begun), "violations": bad}
    print(json.dumps(answer))
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
