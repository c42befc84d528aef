"""A question may cost so much and no more: time and memory, watched from beside it."""

import contextlib
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Iterator

import duckdb
import psutil

from mixture_assets.core.errors import MixtureError

MAX_SECONDS = 60.0
MAX_MEMORY_BYTES = 6_000_000_000  # growth of the process; DuckDB's own share is limited to 4 GB
_NO_MEMORY = (duckdb.OutOfMemoryException, MemoryError)
_LOOK_SECONDS = 0.05
_STOPS = (signal.SIGINT, signal.SIGTERM)
_MAXRSS_BYTES = 1 if sys.platform == "darwin" else 1024  # unit of ru_maxrss


@contextlib.contextmanager
def limited(
    connection: duckdb.DuckDBPyConnection,
    *,
    seconds: float = MAX_SECONDS,
    n_bytes: int = MAX_MEMORY_BYTES,
) -> Iterator[None]:
    """End what the block asks of `connection` where it takes too long, or too much memory.

    DuckDB does not count the text that a function makes, nor the rows once they are Python's:
    the process is watched as a whole.

    Raises:
        MixtureError: A limit was reached.
    """
    signals = contextlib.ExitStack()
    watch = _Watch(connection, seconds, n_bytes, signals.enter_context(_signals_told()))
    watch.start()
    try:
        yield
    except (duckdb.Error, MemoryError) as error:
        if not watch.reason and not isinstance(error, _NO_MEMORY):
            raise
        watch.reason = watch.reason or "the query was ended: it needs more memory than it may take"
    finally:
        watch.is_over.set()
        watch.join()
        signals.close()
    if watch.reason:
        raise MixtureError(
            watch.reason,
            hint="ask for less: add WHERE or LIMIT, or join on a key; or raise --timeout",
        )


@contextlib.contextmanager
def capped_memory(n_bytes: int) -> Iterator[None]:
    """Let this process grow by so much at most, or as it likes for 0.

    One step of a query that makes a lot of text hears no interrupt and ends only with the
    memory; without this, that of the machine. Not for a process with other work in it.
    """
    if not n_bytes:
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = psutil.Process().memory_info().vms + n_bytes
    limits = [x for x in (wanted, soft, hard) if x != resource.RLIM_INFINITY]
    with contextlib.suppress(ValueError, OSError):  # macOS refuses; the watch remains
        resource.setrlimit(resource.RLIMIT_AS, (min(limits), hard))
    try:
        yield
    finally:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@contextlib.contextmanager
def _signals_told() -> Iterator[int]:
    """A descriptor that tells another thread of each signal as it comes; -1 where that is taken.

    Python runs a handler once DuckDB looks, which it does between two tasks: in a large join
    that can be minutes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield -1
        return
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    earlier = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    if earlier != -1:  # an event loop's
        signal.set_wakeup_fd(earlier)
    try:
        yield reader if earlier == -1 else -1
    finally:
        if earlier == -1:
            signal.set_wakeup_fd(-1)
        os.close(reader)
        os.close(writer)


class _Watch(threading.Thread):
    def __init__(
        self, connection: duckdb.DuckDBPyConnection, seconds: float, n_bytes: int, signals: int
    ) -> None:
        super().__init__(daemon=True)
        self._signals, self._was_stopped = signals, False
        self.is_over = threading.Event()
        self.reason = ""
        self._connection = connection
        self._seconds, self._deadline = seconds, time.monotonic() + seconds
        self._n_bytes, self._ceiling = n_bytes, _peak_bytes() + n_bytes

    def run(self) -> None:
        while not self.is_over.wait(_LOOK_SECONDS):
            if time.monotonic() >= self._deadline:
                self.reason = f"the query was ended after {self._seconds:g} s"
            elif _peak_bytes() > self._ceiling:
                self.reason = f"the query was ended: it took more than {self._n_bytes / 1e9:g} GB"
            if self.reason or self._was_asked_to_stop():
                self._connection.interrupt()  # again and again: between two steps it is not heard

    def _was_asked_to_stop(self) -> bool:
        """Whether somebody asked this process to stop; its handler says the rest."""
        with contextlib.suppress(BlockingIOError):
            if self._signals >= 0 and {*os.read(self._signals, 256)} & {*_STOPS}:
                self._was_stopped = True
        return self._was_stopped


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _MAXRSS_BYTES
