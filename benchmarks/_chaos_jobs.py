"""Processes of `make chaos` under watch: started, read line by line, killed, started again."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import psutil

_VICTIMS = Path(__file__).with_name("_chaos_victims.py")
_PATIENCE_SECONDS = 300
_N_WRITERS, _N_INGESTERS = 4, 2
_DELETE_SHARE = 0.03  # of the kills, after which the database is deleted under everybody's feet


def part(name: str, *arguments: object) -> list[str]:
    """The command that plays one part of _chaos_victims.py."""
    return [sys.executable, str(_VICTIMS), name, *map(str, arguments)]


class Watched:
    """A process whose output is read as it comes."""

    def __init__(self, command: list[str]) -> None:
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            env=os.environ | {"MIXTURE_CHECKPOINT_SECONDS": "0.2", "OMP_NUM_THREADS": "1"},
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    @property
    def last(self) -> str:
        """The newest line."""
        return self.lines[-1] if self.lines else ""

    def wait_for(self, line: str) -> None:
        """Wait until the process says this."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while line not in self.lines:
            if self.process.poll() is not None or time.monotonic() > deadline:
                self._reader.join(1)
                raise SystemExit("a part failed:\n" + "\n".join(self.lines[-20:]))
            time.sleep(0.005)

    def kill(self) -> bool:
        """Kill it; whether it was alive until now."""
        was_alive = self.process.poll() is None
        self.process.kill()
        self.process.wait()
        self._reader.join(5)
        return was_alive


class MainJob(Watched):
    """`mixture run`, which says on stderr where it is."""

    def __init__(self, experiment: Path) -> None:
        program = "from mixture_assets.cli import main; main()"
        command = [sys.executable, "-c", program, "run", "--json", "--experiment", str(experiment)]
        super().__init__(command)

    @property
    def stage(self) -> str:
        """Start, tokenizing, proxies, fits (after an ingest), full, report."""
        stage, left = "start", 0
        for line in list(self.lines):
            if line.startswith("data: "):
                stage = "tokenizing"
            elif line.startswith(("proxy runs: ", "full runs: ")):
                stage, left = "full" if line[0] == "f" else "proxies", int(line.split()[2])
            elif line.startswith("  ") and " tokens in " in line:
                left -= 1
                stage = stage if left else {"proxies": "fits", "full": "report"}[stage]
        return stage

    def wait_for_stage(self, wanted: str) -> str:
        """Wait until the job is there, or past it, or over; returns where it is then."""
        order = ("start", "tokenizing", "proxies", "fits", "full", "report")
        while order.index(self.stage) < order.index(wanted) and self.process.poll() is None:
            time.sleep(0.01)
        if self.process.poll() is None:
            return self.stage
        self._reader.join(5)
        if self.stage != "report":
            raise SystemExit("`mixture run` failed:\n" + "\n".join(self.lines[-20:]))
        return "over"

    def strike(self, victim: str, rng: random.Random) -> bool:
        """Kill the main process, one worker, or all; whether anything was alive to be killed."""
        workers = self._workers()
        if self.process.poll() is not None or (victim == "worker" and not workers):
            return False
        for worker in {"main": [], "worker": rng.sample(workers, min(1, len(workers)))}.get(
            victim, workers
        ):
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)
        if victim != "worker":
            self.kill()
        return True

    def kill_all(self) -> None:
        """End it and its workers."""
        self.strike("all", random.Random(0))

    def _workers(self) -> list[int]:
        try:
            return [child.pid for child in psutil.Process(self.process.pid).children()]
        except psutil.NoSuchProcess:
            return []


class Crowd:
    """Writers and ingesters, killed in turn by a thread; a holder and an asker, left alone."""

    def __init__(self, store: Path, folder: Path, chaos) -> None:
        self.store, self.chaos = store, chaos
        self.ledgers = {f"writer{n}": folder / f"writer{n}.ledger" for n in range(_N_WRITERS)}
        self.commands = {n: part("write", store, n, path) for n, path in self.ledgers.items()}
        self.commands |= {f"ingest{n}": part("ingest", store) for n in range(_N_INGESTERS)}
        self.rng = random.Random(chaos.rng.random())
        self.counts: Counter[str] = Counter()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._harass)

    def __enter__(self) -> "Crowd":
        self.store.mkdir(parents=True, exist_ok=True)
        self.jobs = {name: Watched(command) for name, command in self.commands.items()}
        self.holder = Watched(part("hold", self.store))
        self.asker = Watched(part("ask", self.store, *self.ledgers.values()))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        for job in (*self.jobs.values(), self.holder, self.asker):
            job.kill()

    def _harass(self) -> None:
        while not self._stop.wait(self.rng.uniform(0.4, 1.8)):
            name = self.rng.choice(sorted(self.jobs))
            job = self.jobs[name]
            if not job.kill():
                self.counts["different_exit"] += 1
                print("\n".join(job.lines[-20:]), file=sys.stderr)
            self._count(name, job)
            self.jobs[name] = Watched(self.commands[name])
            if self.rng.random() < _DELETE_SHARE:
                (self.store / "mixture.duckdb").unlink(missing_ok=True)
                self.counts["databases_deleted"] += 1

    def _count(self, name: str, job: Watched) -> None:
        """A kill counts where it landed; a writer's end of file may be torn on top."""
        self.counts["unreadable"] += sum("damaged" in line for line in job.lines)
        if name.startswith("ingest"):
            self.chaos.note("ingest" if job.last == "begin" else "ingest, idle or refused")
            return
        self.chaos.note("writing rows")
        if self.rng.random() < 0.3:
            self._tear(self.store / "runs" / name / "metrics.jsonl", name)

    def _tear(self, path: Path, name: str) -> None:
        """Leave half a line, as a power cut would; the writer is dead."""
        line = f'{{"kind":"step","run_id":"{name}","step":1,"tokens":1,"loss_nats":-1}}'
        if path.exists():
            with open(path, "a", encoding="utf-8") as file:
                file.write(line[: self.rng.randrange(1, len(line))])
            self.counts["torn_lines_added"] += 1

    def seen(self) -> Counter[str]:
        """What the lookers saw."""
        lines = [*self.holder.lines, *self.asker.lines]
        for word, name in (
            ("UNREADABLE", "unreadable"),
            ("WENT BACK", "went_back"),
            ("SHORT", "short_answers"),
            ("answer", "answers"),
            ("holds", "holds"),
            ("busy", "found_it_busy"),
        ):
            hits = [line for line in lines if line.startswith(word)]
            self.counts[name] += len(hits)
            for line in hits[:3] if word.isupper() else []:
                print(line, file=sys.stderr)
        return self.counts
