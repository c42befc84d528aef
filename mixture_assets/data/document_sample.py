"""Documents of raw shards with where they stand, and a sample of them chosen by content."""

import hashlib
import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from mixture_assets.data.readers import documents
from mixture_assets.data.shards import RawShard


@dataclass(frozen=True)
class Document:
    """A text and where it stands."""

    text: str
    domain: str
    shard: str  # digest
    number: int  # within the shard, from 0, empty ones counted

    @property
    def is_empty(self) -> bool:
        """Whether it has nothing but white space."""
        return not self.text.strip()


def placed_documents(
    shards: Iterable[RawShard], *, text_field: str = "text", txt_document_chars: int = 4000
) -> Iterator[Document]:
    """Every document of the shards in order, empty ones included."""
    for shard in shards:
        texts = documents(shard, text_field=text_field, txt_document_chars=txt_document_chars)
        for number, text in enumerate(texts):
            yield Document(text, shard.domain, shard.digest, number)


def content_hash(text: str, seed: int = 0) -> bytes:
    """Sixteen bytes that depend on the text and the seed alone."""
    return hashlib.blake2b(
        text.encode(), digest_size=16, salt=seed.to_bytes(8, "little", signed=True)
    ).digest()


def sample_texts(texts: Iterable[str], n: int, *, seed: int = 0, chars: int) -> dict[bytes, str]:
    """`n` distinct texts by their hashes, those with the lowest: the same for any order.

    Args:
        texts: All of them; each once is enough.
        n: At most so many.
        seed: Another one gives another sample.
        chars: Characters kept of each.
    """
    heap: list[tuple[int, str]] = []  # of negated hashes: the highest on top
    held: set[int] = set()
    for text in texts:
        place = -int.from_bytes(content_hash(text, seed))
        if place in held or (len(heap) == n and place < heap[0][0]):
            continue
        held.add(place)
        entry = (place, text[:chars])
        if len(heap) < n:
            heapq.heappush(heap, entry)
        else:
            held.discard(heapq.heappushpop(heap, entry)[0])
    return {(-place).to_bytes(16): text for place, text in sorted(heap, reverse=True)}


def some_shards(shards: Sequence[RawShard], n_bytes: int, *, seed: int = 0) -> list[RawShard]:
    """Shards in the order of their seeded hashes until they hold `n_bytes`; one at least."""
    chosen: list[RawShard] = []
    for shard in sorted(shards, key=lambda s: content_hash(s.digest, seed)):
        if chosen and sum(s.n_bytes for s in chosen) >= n_bytes:
            break
        chosen.append(shard)
    return chosen
