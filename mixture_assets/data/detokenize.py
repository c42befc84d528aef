"""Token ids of many documents back to text, without `tokenizers` where bytes can be looked up.

A byte-level BPE says the same bytes for a token wherever it stands, so that a table does what
`decode` does, 10 times faster. Whether it does is tried on PROBE.
"""

import itertools
import json
from collections.abc import Mapping
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from mixture_assets.data.frozen import PROBE, FrozenTokenizer

# Bytes that byte-level tokenizers write as themselves; the others follow from U+0100 on.
_PRINTABLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]


def document_bytes(
    tokenizer: FrozenTokenizer, input_ids: NDArray[np.integer], offsets: NDArray[np.integer]
) -> list[bytes]:
    """The UTF-8 of each document.

    Args:
        tokenizer: What made the ids.
        input_ids: Of all documents, one after the other.
        offsets: Where each document begins and the last one ends: documents + 1 numbers.
    """
    parts = [input_ids[a:b].tolist() for a, b in itertools.pairwise(offsets)]
    table = _table(tokenizer)
    if table is not None:
        return [b"".join(map(table.__getitem__, part)) for part in parts]
    decoded: list[str] = tokenizer.reference.decode_batch(parts, skip_special_tokens=False)
    return [text.encode("utf-8") for text in decoded]


@lru_cache(maxsize=4)
def _table(tokenizer: FrozenTokenizer) -> Mapping[int, bytes] | None:
    """Bytes by id, or None for a tokenizer that is not a byte-level one."""
    described = json.loads(tokenizer.reference.to_str())
    if (described.get("decoder") or {}).get("type") != "ByteLevel":
        return None
    added = {token["id"]: token["content"].encode() for token in described["added_tokens"]}
    of_char = _byte_of_char()
    vocabulary = tokenizer.reference.get_vocab(with_added_tokens=False)
    try:
        table = {i: bytes(of_char[c] for c in token) for token, i in vocabulary.items()} | added
    except KeyError:  # a character that stands for no byte
        return None
    ids = tokenizer.reference.encode(PROBE, add_special_tokens=False).ids
    said = tokenizer.decode(ids)
    return table if b"".join(table[i] for i in ids) == said.encode() else None


def _byte_of_char() -> dict[str, int]:
    others = [byte for byte in range(0x100) if byte not in set(_PRINTABLE)]
    return {chr(b): b for b in _PRINTABLE} | {chr(0x100 + i): b for i, b in enumerate(others)}
