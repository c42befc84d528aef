"""Works through a list of runs, one at a time, beside other workers with the same list."""

import contextlib
import ctypes
import os
import signal
import sys
import time
import warnings
from pathlib import Path

from mixture_assets.core.errors import MachineError, MixtureError
from mixture_assets.store.runs import RunFolder
from mixture_assets.training.loop import CHECKPOINT_SECONDS, Interrupted, train
from mixture_assets.training.measure import measure_missing

_PR_SET_PDEATHSIG = 1
_WAIT_SECONDS = 0.2
INTERRUPTED = 75  # exit code: stopped on request, everything resumable (EX_TEMPFAIL)


def main(arguments: list[str]) -> int:
    """Train the runs named on standard input, one id a line. Returns the exit code."""
    store = Path(arguments[0])
    run_ids = sys.stdin.read().split()
    stop = _StopRequest()
    _die_with_parent()
    warnings.simplefilter("always")
    try:
        while waiting := [r for r in run_ids if not _is_settled(store, r)]:
            if not any([_try_to_train(store, run_id, stop) for run_id in waiting]):
                time.sleep(_WAIT_SECONDS)  # the rest is in the hands of other workers
            if stop.is_set:
                return INTERRUPTED
    except Interrupted:
        return INTERRUPTED
    return 0


class _StopRequest:
    """Set by SIGTERM, by SIGINT, and by the death of the pool: finish the step and leave."""

    def __init__(self) -> None:
        self._was_asked = False
        self._parent = int(os.environ.get("MIXTURE_POOL_PID", "0"))
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._set)

    def _set(self, _signal: int, _frame: object) -> None:
        self._was_asked = True

    @property
    def is_set(self) -> bool:
        """Whether to stop; a pool that died by SIGKILL leaves its workers another parent."""
        return self._was_asked or bool(self._parent and os.getppid() != self._parent)

    def __call__(self) -> bool:
        return self.is_set


def _is_settled(store: Path, run_id: str) -> bool:
    folder = RunFolder(store, run_id)
    return folder.is_complete() or folder.has_failed()


def _try_to_train(store: Path, run_id: str, stop: _StopRequest) -> bool:
    """Train one run unless somebody else has it, or a stop was asked for."""
    folder = RunFolder(store, run_id)
    with folder.lock() as is_mine:
        if not is_mine or stop.is_set or _is_settled(store, run_id):
            return False
        with open(folder.path / "log.txt", "a", buffering=1, encoding="utf-8") as log:

            def say(line: str) -> None:
                with contextlib.suppress(OSError):  # a full disk: lines are not worth a training
                    print(f"run {run_id} {line}", flush=True)  # noqa: T201 - the pool reads it
                    print(line, file=log)

            say("taken")
            try:
                seconds = float(os.environ.get("MIXTURE_CHECKPOINT_SECONDS", CHECKPOINT_SECONDS))
                # A model that was deleted since is made again, to the same bits.
                if folder.result() is None or not folder.model_path.exists():
                    train(store, run_id, should_stop=stop, say=say, checkpoint_seconds=seconds)
                if measured := measure_missing(store, run_id):
                    say(f"measured on {', '.join(measured)}")
            except MixtureError as error:
                say(f"failed: {error}")
                is_of_machine = isinstance(error, MachineError)
                folder.write_failure(str(error), hint=error.hint, is_of_machine=is_of_machine)
    return True


def _die_with_parent() -> None:
    """Have Linux say at once that the pool is gone; elsewhere the next step finds out."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
