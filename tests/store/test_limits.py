"""A question without end is ended: by the clock, or by the memory that it takes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from mixture_assets.core.errors import MixtureError
from mixture_assets.corpus import Workspace
from mixture_assets.store import database
from mixture_assets.store.ingest import ingest
from mixture_assets.store.query import query
from tests.conftest import write_tiny
from tests.store import fakes


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT count(*) FROM range(1000000000) a, range(1000000000) b WHERE a.range <> b.range",
        "WITH RECURSIVE t AS (SELECT 1 a UNION ALL SELECT a + 1 FROM t) SELECT count(*) FROM t",
    ],
)
def test_a_query_without_end_is_ended(store: Path, sql: str) -> None:
    begun = time.monotonic()
    with pytest.raises(MixtureError, match=r"the query was ended after 0\.5 s") as caught:
        query(store, sql, seconds=0.5)
    assert 0.5 < time.monotonic() - begun < 10
    assert "LIMIT" in caught.value.hint
    assert query(store, "SELECT count(*) FROM run").rows == [(5,)]


def test_a_query_that_would_take_all_memory_is_ended(store: Path, tmp_path: Path) -> None:
    """In a process of its own, that may grow by 1 GB; nothing is spilled to the disk."""
    program = (
        "import sys; from pathlib import Path; from mixture_assets.store.query import query\n"
        "query(Path(sys.argv[1]), sys.argv[2], cap_bytes=10**9)"
    )
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    for sql in (
        "SELECT repeat('x', 100000000) FROM range(1000)",
        "SELECT list(a.range) FROM range(1000000) a, range(1000) b GROUP BY a.range",
    ):
        done = subprocess.run(
            [sys.executable, "-c", program, str(store), sql],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
            capture_output=True,
            text=True,
        )
        assert "MixtureError: the query was ended: it needs more memory" in done.stderr, sql
    assert not list(folder.iterdir())


SLOW = "SELECT count(*) FROM range(1000000000) a, range(5000) b WHERE a.range <> b.range"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_query_that_is_stopped_says_so_and_is_no_bug(tmp_path: Path, number: int) -> None:
    """DuckDB tells of a signal with a RuntimeError of its own."""
    path = write_tiny(tmp_path)
    Workspace.open(path)
    words = ("query", SLOW, "--timeout", "600", "--experiment", str(path))
    asking = subprocess.Popen(
        [sys.executable, "-c", "from mixture_assets.cli import main; main()", *words],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        # A shell's background job ignores SIGINT, and so would this one.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        while asking.poll() is None and psutil.Process(asking.pid).cpu_times().user < 3:
            time.sleep(0.1)  # its start takes one of these seconds
        asking.send_signal(number)
        _, said = asking.communicate(timeout=30)
    finally:
        asking.kill()
        asking.wait()
    assert (asking.returncode, "stopped" in said, "bug" in said) == (130, True, False), said


def test_a_running_query_delays_no_other_one(store: Path) -> None:
    """It holds the lock that others share; an index that lacks nothing needs no other."""
    ingest(store)
    with database.locked(store, patience_seconds=0, is_shared=True):
        begun = time.monotonic()
        assert query(store, "SELECT count(*) FROM run").rows == [(5,)]
        assert time.monotonic() - begun < 2
        fakes.finished_run(store, "new")
        begun = time.monotonic()
        assert query(store, "SELECT count(*) FROM run").rows == [(6,)]
        assert time.monotonic() - begun < 3
