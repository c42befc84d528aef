"""Files that are either complete or absent."""

import errno
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from mixture_assets.core.errors import MixtureError

# EFBIG: the file size limit of the process (ulimit -f), which is a quota too.
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file that takes the name `path` only if the block ends well.

    Whatever ends the block early (an error, Ctrl-C, a full disk) removes the temporary. Its name
    is hidden, so a killed process leaves nothing that discovery would take for a shard.
    """
    with full_disk_named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.name[:80]}.", suffix=".tmp"
        )
        temporary = Path(name)
        try:
            os.fchmod(handle, 0o666 & ~_umask())  # mkstemp gives 0600: colleagues could not read
            with os.fdopen(handle, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Write JSON with sorted keys, atomically."""
    with atomic_write(path) as file:
        file.write((json.dumps(value, sort_keys=True, indent=1) + "\n").encode())


@contextmanager
def full_disk_named(path: Path) -> Iterator[None]:
    """Turn the system's 'no space left' into a sentence that says where."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise MixtureError(
            f"the disk is full: {path.name!r} could not be written to {str(path.parent)!r}",
            hint="free some space, or move `store`, and start again: what is finished is kept",
        ) from error


def sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut, where the file system offers it."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
