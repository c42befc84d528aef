"""Whole files or nothing: written aside, flushed, renamed into place."""

import json
from pathlib import Path
from typing import Any

from mixture_assets.core.errors import MixtureError
from mixture_assets.core.files import atomic_path


def atomic_write_bytes(path: Path, content: bytes) -> None:
    """Replace `path` in one step; a reader sees the old content or the new, never half.

    Raises:
        MixtureError: The disk is full. Nothing half-written is left behind.
    """
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


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
