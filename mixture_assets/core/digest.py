"""Names for things: sha256 over canonical JSON of everything that a thing depends on.

Never digest a path, a time, a rank or a host name: two machines must agree on every name.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from mixture_assets.core.errors import MixtureError

DIGEST_CHARS = 16  # 64 bits: a clash is expected after 4 billion things


def canonical_json(value: Any) -> str:
    """JSON with sorted keys, no spaces and no NaN: one text per value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: Any) -> str:
    """Sixteen hex characters that name a JSON value."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:DIGEST_CHARS]


def file_digest(path: Path) -> str:
    """All 64 hex characters of a file's content.

    Raises:
        MixtureError: There is no such file.
    """
    if not path.is_file():
        raise MixtureError(
            f"there is no file {path}", hint="give a whole folder, as a finished run left it"
        )
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
