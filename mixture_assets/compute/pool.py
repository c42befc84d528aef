"""A pool of training subprocesses on this machine, one per core.

Single-threaded: the main thread starts workers and polls, so that an interrupt reaches its
`finally` and no worker is left behind. All workers get the whole list of runs and take
whichever is free (training.worker); the pool only counts what finishes, blames what dies, and
replaces dead workers. Nothing is lost with the pool itself: the next one finds what is done.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from mixture_assets.core.errors import MixtureError
from mixture_assets.core.files import full_disk_named
from mixture_assets.store.runs import RunFolder

_POLL_SECONDS = 0.1
_POLL_SHARE = 20.0  # of the time that a look takes
_GRACE_SECONDS = 8.0  # to finish a step and write a checkpoint
_ENDED_WELL = (0, 75, -signal.SIGTERM)  # 75: see training.worker


@dataclass
class PoolReport:
    """What happened to the runs."""

    done: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)  # run -> reason
    of_machine: set[str] = field(default_factory=set)  # failed ones that may do later
    already_done: list[str] = field(default_factory=list)
    seconds: float = 0.0


@dataclass
class _Worker:
    process: subprocess.Popen[str]
    log: IO[str]


def default_workers() -> int:
    """One per core that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def run_pool(
    store: Path,
    run_ids: Sequence[str],
    *,
    workers: int = 0,
    attempts: int = 3,
    on_settled: Callable[[str], None] = lambda run_id: None,
    on_look: Callable[[], None] = lambda: None,
) -> PoolReport:
    """Train every run that has no result yet; return when all have a result or a failure.

    Args:
        store: Root of the store; the run folders exist.
        run_ids: Longest first balances best.
        workers: Processes at a time; 0 means one per core.
        attempts: How often a run may take its worker down (out of memory, SIGKILL) before it
            is recorded as failed. A run that fails by its own fault is never started again.
        on_settled: Called on this thread with each run as it gets a result or a failure.
        on_look: Called on this thread at every look at the runs.
    """
    begun = time.monotonic()
    folders = {run_id: RunFolder(store, run_id) for run_id in run_ids}
    report = PoolReport(already_done=[r for r, f in folders.items() if f.is_complete()])
    for run_id in report.already_done:
        on_settled(run_id)
    waiting = {r: f for r, f in folders.items() if r not in report.already_done}
    for folder in waiting.values():
        folder.clear_failure()  # asked for again: a new chance
    pool = _Pool(store, list(waiting), workers or default_workers(), attempts)
    try:
        while waiting:
            looked = time.monotonic()
            pool.keep_alive(waiting)
            for run_id in [r for r, f in waiting.items() if _is_settled(f)]:
                _record(report, run_id, waiting.pop(run_id))
                on_settled(run_id)
            on_look()
            # A look at 10^4 run folders takes a while: it must not take a core from training.
            time.sleep(max(_POLL_SECONDS, _POLL_SHARE * (time.monotonic() - looked)))
    finally:
        pool.stop(waiting)
    report.seconds = time.monotonic() - begun
    return report


def _is_settled(folder: RunFolder) -> bool:
    return folder.is_complete() or folder.has_failed()


def _record(report: PoolReport, run_id: str, folder: RunFolder) -> None:
    failure = folder.failure()
    if failure is None:
        report.done.append(run_id)
    else:
        report.failed[run_id] = failure["reason"]
        if failure.get("is_of_machine"):
            report.of_machine.add(run_id)


class _Pool:
    """The living workers."""

    def __init__(self, store: Path, run_ids: list[str], size: int, attempts: int) -> None:
        self.store, self.run_ids, self.attempts = store, run_ids, attempts
        self.size = min(size, len(run_ids))
        self.crashes: Counter[str] = Counter()
        self.workers: list[_Worker] = []
        self.started = 0

    def keep_alive(self, waiting: dict[str, RunFolder]) -> None:
        """Start what is missing, and blame the run that a dead worker held."""
        for worker in [w for w in self.workers if w.process.poll() is not None]:
            self.workers.remove(worker)
            self._bury(worker, waiting)
        while waiting and len(self.workers) < min(self.size, len(waiting)):
            self._start()

    def _start(self) -> None:
        log_path = self.store / "logs" / f"worker-{os.getpid()}-{self.started}.log"
        with full_disk_named(log_path):
            log_path.parent.mkdir(parents=True, exist_ok=True)
            log = open(log_path, "w", encoding="utf-8")
        # Rotated, so that two workers do not race for the same lock at every step.
        turn = self.started % max(1, len(self.run_ids))
        order = self.run_ids[turn:] + self.run_ids[:turn]
        self.started += 1
        process = subprocess.Popen(
            [sys.executable, "-m", "mixture_assets.training", str(self.store)],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # its own group: stopped as a whole, not by our Ctrl-C
            env=os.environ | _one_thread() | {"MIXTURE_POOL_PID": str(os.getpid())},
        )
        self.workers.append(_Worker(process, log))  # first: an interrupt may come at any moment
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write("\n".join(order))
            process.stdin.close()

    def _bury(self, worker: _Worker, waiting: dict[str, RunFolder]) -> None:
        worker.log.close()
        code = worker.process.returncode
        if code in _ENDED_WELL:
            Path(worker.log.name).unlink(missing_ok=True)
            return
        # It may have died on its way up: then some run that nobody holds is to blame.
        free = (r for r, f in waiting.items() if not f.is_locked())
        run_id = _last_run(worker) or next(free, "")
        if run_id not in waiting or _is_settled(waiting[run_id]):
            return
        self.crashes[run_id] += 1
        if self.crashes[run_id] >= self.attempts:
            waiting[run_id].write_failure(
                f"its process {_death(code)} {self.crashes[run_id]} times",
                hint=f"read {worker.log.name}; too little memory is the usual reason",
                attempts=self.crashes[run_id],
            )

    def stop(self, waiting: dict[str, RunFolder]) -> None:
        """Ask every worker to write a checkpoint and leave; insist after a while.

        A second interrupt while we wait means: at once.
        """
        held = {_last_run(worker) for worker in self.workers}  # not what another pool trains
        for worker in self.workers:
            _signal_group(worker.process, signal.SIGTERM)
        try:
            self._await(_GRACE_SECONDS)
        finally:
            for worker in self.workers:
                self._end(worker)
            for run_id, folder in waiting.items():
                _cancel(folder, is_held=run_id in held)

    def _await(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        for worker in self.workers:
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.process.wait(timeout=max(0.0, deadline - time.monotonic()))

    def _end(self, worker: _Worker) -> None:
        _signal_group(worker.process, signal.SIGKILL)
        worker.process.wait()
        worker.log.close()
        if worker.process.returncode in _ENDED_WELL:
            Path(worker.log.name).unlink(missing_ok=True)


def _cancel(folder: RunFolder, *, is_held: bool) -> None:
    """Leave a row about a run that was under way, unless somebody else goes on with it."""
    with contextlib.suppress(MixtureError):  # a full disk: it is resumable without the row too
        if _is_settled(folder) or folder.is_locked():
            return
        if is_held or folder.status() == "interrupted":
            folder.write_failure(
                "stopped on request", hint="start again to resume it", status="cancelled"
            )


def _last_run(worker: _Worker) -> str:
    """The run that a dead worker held: it begins every line of its log with its name."""
    lines = Path(worker.log.name).read_text(encoding="utf-8", errors="replace").splitlines()
    named = [line.split()[1] for line in lines if line.startswith("run ")]
    return named[-1] if named else ""


def _one_thread() -> dict[str, str]:
    """Math libraries read these when they load; the worker sets its own count afterwards."""
    return dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1") | {
        "TOKENIZERS_PARALLELISM": "false",
        "THP_MEM_ALLOC_ENABLE": "1",
    }


def _signal_group(process: subprocess.Popen[str], number: int) -> None:
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)


def _death(code: int) -> str:
    return f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
