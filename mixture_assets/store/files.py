"""Whole files or nothing: written aside, flushed, renamed into place."""

import errno
import json
import os
import secrets
from pathlib import Path
from typing import Any

from mixture_assets.core.errors import MixtureError

# A quota and a file size limit look different to the kernel and the same to the reader.
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def atomic_write_bytes(path: Path, content: bytes) -> None:
    """Replace `path` in one step; a reader sees the old content or the new, never half.

    Raises:
        MixtureError: The disk is full. Nothing half-written is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # In the same folder, because a rename across file systems is a copy. Hidden, so that a
    # temporary left by SIGKILL is taken for nothing else.
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise disk_error(error, path) from error
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def atomic_write_text(path: Path, content: str) -> None:
    """Replace a UTF-8 text file in one step."""
    atomic_write_bytes(path, content.encode())


def atomic_write_json(path: Path, value: Any) -> None:
    """Replace a JSON file in one step; NaN and infinity are refused."""
    atomic_write_text(path, json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n")


def read_json_object(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file; None if there is no file, MixtureError if it is broken."""
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        raise MixtureError(
            f"{path} is not valid JSON: {error}", hint="delete it and start again: it is made anew"
        ) from error
    if not isinstance(value, dict):
        raise MixtureError(
            f"{path} holds a {type(value).__name__} where an object belongs",
            hint="delete it and start again: it is made anew",
        )
    return value


def disk_error(error: OSError, path: Path) -> Exception:
    """What to raise for a failed write: MixtureError for a full disk, else the error itself."""
    if error.errno not in _NO_SPACE:
        return error
    return MixtureError(
        f"no space left while writing {path}",
        hint="free some disk space, or move `store`; what was written before is unharmed",
    )


def _sync_folder(folder: Path) -> None:
    """Make a rename itself survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:  # some network file systems cannot; the rename has still happened
        pass
    finally:
        os.close(descriptor)
