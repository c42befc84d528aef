"""Bytes of a raw shard in large blocks, decompressed, with every way of being damaged named."""

import hashlib
import zlib
from collections.abc import Iterator

import fsspec
import zstandard

from mixture_assets.core.errors import MixtureError
from mixture_assets.data.shards import RawShard

_BLOCK = 1 << 20  # bytes read at a time; larger blocks gained nothing
_GZIP_BLOCK = 1 << 17  # of an archive; at most _BLOCK of what it unpacks to is held
_ZSTD_PIECE = 1 << 12  # its answer cannot be limited, and 4 bytes can unpack to 128 KiB
_ZSTD_BLOCK = 1 << 18  # of what many pieces unpack to
_WINDOW = 1 << 31  # zstd --long=31; the default limit refuses --long archives


def blocks(shard: RawShard) -> Iterator[bytes]:
    """The shard's decompressed content.

    Raises:
        MixtureError: The archive is damaged or cut off, or the file is not the one that was
            discovered: its digest names everything made from it, so it must not have changed.
    """
    if shard.format.endswith(".gz"):
        return _unpacked(shard, _raw_blocks(shard, _GZIP_BLOCK), "gzip", _Gzip)
    if shard.format.endswith(".zst"):
        raw = _pieces(_raw_blocks(shard, _BLOCK), _ZSTD_PIECE)
        return _joined(_unpacked(shard, raw, "zstd", _Zstd))
    return _raw_blocks(shard, _BLOCK)


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


def _pieces(blocks_: Iterator[bytes], size: int) -> Iterator[bytes]:
    return (block[i : i + size] for block in blocks_ for i in range(0, len(block), size))


def _joined(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Blocks again: every block costs its reader a step."""
    held: list[bytes] = []
    n_bytes = 0
    for piece in pieces:
        held.append(piece)
        n_bytes += len(piece)
        if n_bytes >= _ZSTD_BLOCK:
            yield b"".join(held)
            held, n_bytes = [], 0
    if held:
        yield b"".join(held)


class _Gzip:
    """A member of a gzip file, unpacked in blocks however much the input unpacks to."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._stream.eof

    @property
    def unused_data(self) -> bytes:
        return self._stream.unused_data

    def decompress(self, data: bytes) -> Iterator[bytes]:
        while out := self._stream.decompress(data, _BLOCK):
            yield out
            if len(out) < _BLOCK:
                return
            data = self._stream.unconsumed_tail


class _Zstd:
    """A frame of a zstd file."""

    def __init__(self) -> None:
        self._stream = zstandard.ZstdDecompressor(max_window_size=_WINDOW).decompressobj()

    @property
    def eof(self) -> bool:
        return bool(self._stream.eof)

    @property
    def unused_data(self) -> bytes:
        return bytes(self._stream.unused_data)

    def decompress(self, data: bytes) -> Iterator[bytes]:
        out = self._stream.decompress(data)
        yield from _pieces(iter([out]), _BLOCK)


def _unpacked(
    shard: RawShard, raw: Iterator[bytes], kind: str, start: type[_Gzip] | type[_Zstd]
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
                yield from member.decompress(block)
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
