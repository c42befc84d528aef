"""Binary and JSON files of the data package, written whole or not at all."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from mixture_assets.core.files import atomic_path


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Open a file that takes the name `path` only if the block ends well."""
    with atomic_path(path) as temporary, open(temporary, "xb") as file:
        yield file


def write_json(path: Path, value: Any) -> None:
    """Write JSON with sorted keys, atomically."""
    with atomic_write(path) as file:
        file.write((json.dumps(value, sort_keys=True, indent=1) + "\n").encode())
