"""A question without end is ended: by the clock, or by the memory that it takes."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mixture_assets.core.errors import MixtureError
from mixture_assets.store.query import query


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
