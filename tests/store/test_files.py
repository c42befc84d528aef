import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mixture_assets.core.errors import MixtureError
from mixture_assets.store.files import (
    atomic_write_bytes,
    atomic_write_json,
    atomic_write_text,
    read_json_object,
)


def test_content_is_replaced_and_no_temporary_is_left(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "a.json"
    atomic_write_text(path, "old")
    atomic_write_bytes(path, b"new")
    assert path.read_text() == "new"
    atomic_write_json(path, {"b": 1, "a": "ü"})
    assert read_json_object(path) == {"b": 1, "a": "ü"}
    assert [p.name for p in path.parent.iterdir()] == ["a.json"]


def test_nan_is_refused_and_the_old_content_stays(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    atomic_write_json(path, {"loss": 1.0})
    with pytest.raises(ValueError, match="not JSON compliant"):
        atomic_write_json(path, {"loss": float("nan")})
    assert read_json_object(path) == {"loss": 1.0}


def test_full_disk_leaves_the_old_content_and_nothing_else(tmp_path: Path) -> None:
    # A file size limit fails half-way through a write, as a full disk does, and needs no root.
    script = """
import sys
from pathlib import Path
from mixture_assets.core.errors import MixtureError
from mixture_assets.store.files import atomic_write_bytes
try:
    atomic_write_bytes(Path(sys.argv[1]), b"x" * 100_000)
except MixtureError as error:
    print(error, "|", error.hint)
"""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))

    path = tmp_path / "result.json"
    path.write_text("old")
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)],
        preexec_fn=limit,
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.stdout.startswith(f"no space left while writing {path} | free some space")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["result.json"]


def test_other_errors_stay_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        atomic_write_text(tmp_path / "folder", "x")
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize("content", ["{", "", "[1]", "[" * 100_000, '"text"'])
def test_broken_json_is_one_error(tmp_path: Path, content: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(MixtureError, match=r"a\.json") as caught:
        read_json_object(path)
    assert "delete it" in caught.value.hint


def test_missing_file_is_none(tmp_path: Path) -> None:
    assert read_json_object(tmp_path / "a.json") is None
