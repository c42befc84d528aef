"""Documents sorted into folders, one for each cluster, with shards as they fill.

Folders are hidden until all are complete, so that half of a cluster never lands as a domain.
"""

import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import orjson
import zstandard

from mixture_assets.data.document_sample import Document
from mixture_assets.data.files import atomic_write


def write_rows(
    out_root: Path,
    documents: Iterable[Document],
    names: Sequence[str],
    assignment: Sequence[int],
    *,
    shard_bytes: int,
    held_bytes: int,
) -> dict[str, dict[str, Any]]:
    """Write every document into the folder of its cluster; what each folder holds, by its name.

    Args:
        out_root: Gets a folder for each of `names`.
        documents: None of them empty.
        names: Of the clusters.
        assignment: Which of `names` each document belongs to, in the order of `documents`.
        shard_bytes: Of lines in a shard, before compression.
        held_bytes: Of lines that are held in memory, over all clusters.
    """
    writers = [_ClusterWriter(out_root / name) for name in names]
    held = 0
    for document, place in zip(documents, assignment, strict=True):
        writer = writers[place]
        held += writer.add(document)
        if writer.held_bytes >= shard_bytes:
            held -= writer.write()
        elif held >= held_bytes:
            held -= max(writers, key=lambda w: w.held_bytes).write()
    rows = {writer.folder.name: writer.close() for writer in writers}
    for writer in writers:
        writer.show()
    return rows


class _ClusterWriter:
    """The folder of one cluster: hidden; shards as they fill, then _SUCCESS."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.held_bytes = 0
        self._lines: list[bytes] = []
        self._shards: dict[str, str] = {}
        self._n_bytes = 0
        self._origins: Counter[str] = Counter()
        self._aside = folder.with_name(f".{folder.name}")
        shutil.rmtree(self._aside, ignore_errors=True)  # of an interrupted call

    def add(self, document: Document) -> int:
        """Hold a document's line; returns its bytes."""
        row = {
            "text": document.text,
            "source_domain": document.domain,
            "source_shard": document.shard,
            "source_document": document.number,
        }
        line = orjson.dumps(row) + b"\n"
        self._lines.append(line)
        self._n_bytes += len(document.text.encode())
        self._origins[document.domain] += 1
        self.held_bytes += len(line)
        return len(line)

    def write(self) -> int:
        """Write the lines that are held as a shard; returns their bytes."""
        content = zstandard.ZstdCompressor(level=3, write_checksum=True).compress(
            b"".join(self._lines)
        )
        name = f"part-{len(self._shards):05}.jsonl.zst"
        self._file(name, content)
        self._shards[name] = hashlib.sha256(content).hexdigest()
        written, self.held_bytes, self._lines = self.held_bytes, 0, []
        return written

    def close(self) -> dict[str, Any]:
        """Write what is left; what the folder holds."""
        if self._lines:
            self.write()
        self._file("_SUCCESS", b"")
        return {
            "n_documents": self._origins.total(),
            "n_bytes": self._n_bytes,
            "from": dict(sorted(self._origins.items())),
            "shards": self._shards,
        }

    def show(self) -> None:
        """Give the folder its name."""
        shutil.rmtree(self.folder, ignore_errors=True)
        os.replace(self._aside, self.folder)

    def _file(self, name: str, content: bytes) -> None:
        with atomic_write(self._aside / name) as file:
            file.write(content)
