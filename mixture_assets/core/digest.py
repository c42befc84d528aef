"""Names for things: sha256 over canonical JSON of everything that a thing depends on.

Never digest a path, a time, a rank or a host name: two machines must agree on every name.
"""

import hashlib
import json
from typing import Any

DIGEST_CHARS = 16  # 64 bits: a clash is expected after 4 billion things


def canonical_json(value: Any) -> str:
    """JSON with sorted keys, no spaces and no NaN: one text per value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: Any) -> str:
    """Sixteen hex characters that name a JSON value."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:DIGEST_CHARS]
