"""Files and folders that are complete or absent, and a full disk told in one sentence."""

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mixture_assets.core.errors import MachineError, MixtureError

# A quota and a file size limit (ulimit -f) look different to the kernel, the same to the reader.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A path to write a file or a folder to, which takes the name `path` if the block ends well.

    It lies in the same folder, because a rename across file systems is a copy, and is hidden, so
    that what a SIGKILL leaves is taken for nothing else. Whatever ends the block early removes
    it.

    Raises:
        MachineError: The disk is full.
    """
    with full_disk_named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name[:80]}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
        try:
            yield temporary
            for part in [temporary, *temporary.rglob("*")] if temporary.is_dir() else [temporary]:
                _sync(part)
            os.replace(temporary, path)
        finally:
            if temporary.is_dir():
                shutil.rmtree(temporary)
            temporary.unlink(missing_ok=True)
        sync_folder(path.parent)


@contextmanager
def full_disk_named(path: Path) -> Iterator[None]:
    """Turn 'no space left', the system's or a library's, into a sentence that says where."""
    try:
        yield
    except MixtureError:
        raise
    except Exception as error:
        if not is_disk_full(error):
            raise
        raise MachineError(
            f"no space left while writing {path}",
            hint="free some space, or move `store`, and start again: what is finished is kept",
        ) from error


def is_disk_full(error: BaseException) -> bool:
    """Whether an error says that the disk, or the quota, is full; safetensors says it in words."""
    return getattr(error, "errno", None) in _FULL or any(
        f"os error {code}" in str(error) for code in _FULL
    )


def sync_folder(folder: Path) -> None:
    """Make a rename itself survive a power cut, where the file system offers it."""
    with suppress(OSError):
        _sync(folder)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
