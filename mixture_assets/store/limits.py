"""A question may cost so much and no more: time and memory, watched from beside it."""

import contextlib
import resource
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
    watch = _Watch(connection, seconds, n_bytes)
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


class _Watch(threading.Thread):
    def __init__(self, connection: duckdb.DuckDBPyConnection, seconds: float, n_bytes: int) -> None:
        super().__init__(daemon=True)
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
            if self.reason:
                self._connection.interrupt()  # again and again: between two steps it is not heard


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _MAXRSS_BYTES
