"""Bytes of a raw shard in large blocks, decompressed, with every way of being damaged named."""

import hashlib
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import fsspec
import zstandard

from mixture_assets.core.errors import MixtureError
from mixture_assets.data.shards import RawShard

_BLOCK = 1 << 20  # bytes read at a time; larger blocks gained nothing
_PACKED_BLOCK = 1 << 17  # of an archive: a block of repeated text can unpack to 1000 times that
_WINDOW = 1 << 31  # zstd --long=31; the default limit refuses --long archives


def blocks(shard: RawShard) -> Iterator[bytes]:
    """The shard's decompressed content.

    Raises:
        MixtureError: The archive is damaged or cut off, or the file is not the one that was
            discovered: its digest names everything made from it, so it must not have changed.
    """
    is_packed = shard.format.endswith((".gz", ".zst"))
    raw = _raw_blocks(shard, _PACKED_BLOCK if is_packed else _BLOCK)
    if shard.format.endswith(".gz"):
        return _decompressed(shard, raw, "gzip", lambda: zlib.decompressobj(wbits=31))
    if shard.format.endswith(".zst"):
        archive = zstandard.ZstdDecompressor(max_window_size=_WINDOW)
        return _decompressed(shard, raw, "zstd", archive.decompressobj)
    return raw


def gone(shard: RawShard) -> MixtureError:
    """The error for a shard that is no longer the one that was discovered."""
    return MixtureError(
        f"{shard.name!r} has changed since it was discovered",
        hint="start again when nothing writes to the raw data any more",
    )


def _raw_blocks(shard: RawShard, size: int) -> Iterator[bytes]:
    hasher = hashlib.sha256()
    try:
        with fsspec.open(shard.url, "rb") as file:
            while block := file.read(size):
                hasher.update(block)
                yield block
    except FileNotFoundError as error:
        raise gone(shard) from error
    if not hasher.hexdigest().startswith(shard.digest):
        raise gone(shard)


def _decompressed(
    shard: RawShard, raw: Iterator[bytes], kind: str, start: Callable[[], Any]
) -> Iterator[bytes]:
    """Members one after the other, as `cat a.gz b.gz` makes them.

    Both libraries return what they have when the input ends early and say nothing, so the end of
    the last member is checked here.
    """
    member = None
    try:
        for block in raw:
            while block:
                if member is None:
                    block = block.lstrip(b"\0")  # gzip allows zero padding between members
                    if not block:
                        break
                    member = start()
                if out := member.decompress(block):
                    yield out
                block = member.unused_data if member.eof else b""
                member = None if member.eof else member
    except (zlib.error, zstandard.ZstdError) as error:
        raise MixtureError(
            f"{shard.name!r} is not valid {kind}: {error}", hint="write or download it again"
        ) from error
    if member is not None:
        raise MixtureError(
            f"{shard.name!r} ends in the middle of its {kind} stream: it is half-written",
            hint="write or download it again, then rename it into place when it is complete",
        )
