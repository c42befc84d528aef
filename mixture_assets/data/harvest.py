"""The demo corpus: six domains of real text, taken from the Python installation itself.

No download: code, headers, scripts, prose, licences and readmes lie in every environment that
can run this. `python -m mixture_assets.data.harvest ROOT` fills ROOT and prints a table.
"""

import dataclasses
import hashlib
import json
import re
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import zstandard

from mixture_assets.core.digest import digest
from mixture_assets.core.errors import MixtureError
from mixture_assets.core.units import bytes_text, seconds_text
from mixture_assets.data.files import atomic_write, write_json
from mixture_assets.data.harvest_manifest import (
    MANIFEST,
    is_kept,
    read_manifest,
    refuse_foreign,
)
from mixture_assets.data.harvest_sources import MAX_FILE_DOCUMENTS, Domain, Sources, find_domains
from mixture_assets.data.harvest_text import same_words

HARVEST_VERSION = 1  # raise it when the same installation would give another corpus
MIN_DOCUMENT_BYTES = 200
DOMAINS = ("cpp_headers", "javascript", "licences", "prose", "python_stdlib", "readmes")
SUCCESS = "_SUCCESS"

_LEADING_BLANKS = re.compile(r"\A(?:[ \t]*\n)+")


@dataclass(frozen=True)
class DomainCount:
    """What a harvest kept and left out of one domain."""

    n_documents: int = 0
    n_bytes: int = 0  # UTF-8, of the documents kept
    n_duplicates: int = 0  # documents with the same words as an earlier one, in any domain
    n_too_short: int = 0  # documents under MIN_DOCUMENT_BYTES
    n_unreadable: int = 0  # documents that are minified, or mostly numbers, or (prose) not prose
    n_undecodable: int = 0  # files that are not UTF-8 text
    n_shards: int = 0


@dataclass(frozen=True)
class HarvestReport:
    """Counts by domain, in sorted order."""

    domains: Mapping[str, DomainCount]
    seconds: float
    skipped: bool  # the corpus was there already; counts are those of the harvest that made it

    def __str__(self) -> str:
        names = [f.name.removeprefix("n_") for f in dataclasses.fields(DomainCount)]
        lines = [f"{'domain':<16}" + "".join(f"{name:>13}" for name in names)]
        for domain, count in self.domains.items():
            values = dataclasses.asdict(count) | {"n_bytes": bytes_text(count.n_bytes)}
            lines.append(f"{domain:<16}" + "".join(f"{value!s:>13}" for value in values.values()))
        total = bytes_text(sum(count.n_bytes for count in self.domains.values()))
        how = "there already" if self.skipped else f"in {seconds_text(self.seconds)}"
        return "\n".join([*lines, f"{total} of text {how}"])


@dataclass(frozen=True)
class _Document:
    source: str
    text: str

    def line(self) -> bytes:
        fields = {"text": self.text, "source": self.source}
        return json.dumps(fields, ensure_ascii=False).encode() + b"\n"


def harvest(
    root: Path,
    *,
    max_bytes_per_domain: int = 12_000_000,
    shard_bytes: int = 2_000_000,
    sources: Sources | None = None,
) -> HarvestReport:
    """Fill `root` with six domains of documents from this Python installation, once.

    The same installation gives the same bytes. A corpus that is there is never changed: one
    from another installation is kept, with a MixtureWarning, because results hang on it.

    Args:
        root: Gets one folder per domain, and the manifest harvest.json.
        max_bytes_per_domain: Of UTF-8 text, times the domain's share (harvest_sources); a domain
            that has more gives a sample.
        shard_bytes: Of UTF-8 text per shard, before compression.
        sources: Another installation than the running one.
    """
    started = time.perf_counter()
    found = sources or Sources.running()
    asked = {
        "harvest_version": HARVEST_VERSION,
        "python": found.python,
        "settings": {"max_bytes_per_domain": max_bytes_per_domain, "shard_bytes": shard_bytes},
        "distributions": found.versions(),
    }
    manifest = read_manifest(root)
    skipped = manifest is not None and manifest["complete"] and is_kept(root, manifest, asked)
    if manifest is None or not skipped:
        domains = find_domains(found)
        if manifest is None:
            refuse_foreign(root, domains)
        manifest = {"complete": False, "digest": digest(asked), **asked, "domains": {}}
        write_json(root / MANIFEST, manifest)  # from here on the folders are ours
        _fill(root, domains, manifest)
        write_json(root / MANIFEST, manifest | {"complete": True})
    counts = {name: DomainCount(**row["counts"]) for name, row in manifest["domains"].items()}
    return HarvestReport(counts, time.perf_counter() - started, skipped)


def _fill(root: Path, domains: Mapping[str, Domain], manifest: dict[str, Any]) -> None:
    """Write every domain, and what was written into the manifest."""
    settings = manifest["settings"]
    seen: set[bytes] = set()
    for name, domain in domains.items():
        limit = int(settings["max_bytes_per_domain"] * domain.share)
        documents, count = _collect(domain, seen, limit)
        if not documents:
            raise MixtureError(
                f"this Python installation has no text for {name!r}",
                hint="use your own shards: set [data] root and leave out [data] harvest",
            )
        shards = _write_domain(root / name, documents, settings["shard_bytes"])
        count = dataclasses.replace(count, n_shards=len(shards))
        manifest["domains"][name] = {"counts": dataclasses.asdict(count), "shards": shards}


def _collect(
    domain: Domain, seen: set[bytes], max_bytes: int
) -> tuple[list[_Document], DomainCount]:
    """Documents in hash order until the limit; `seen` holds the words of earlier domains."""
    kept: list[_Document] = []
    n = dict.fromkeys((f.name for f in dataclasses.fields(DomainCount)), 0)
    for source, piece in _pieces(domain, n):
        document = _LEADING_BLANKS.sub("", piece).rstrip()  # the first line stays indented
        fate, size = _judge(document, domain, seen)
        if fate != "n_documents":
            n[fate] += bool(document)
            continue
        if n["n_bytes"] + size > max_bytes:
            break
        kept.append(_Document(source, document))
        seen.add(same_words(document))
        n["n_documents"] += 1
        n["n_bytes"] += size
    return kept, DomainCount(**n)


def _pieces(domain: Domain, n: dict[str, int]) -> Iterator[tuple[str, str]]:
    for unit in domain.units:
        text = unit.load()
        if text is None:
            n["n_undecodable"] += 1
            continue
        for piece in islice(domain.documents(unit.name, text), MAX_FILE_DOCUMENTS):
            yield unit.name, piece


def _judge(document: str, domain: Domain, seen: set[bytes]) -> tuple[str, int]:
    """The count that a document belongs to, and its size in bytes."""
    try:
        size = len(document.encode())
    except UnicodeEncodeError:  # half a surrogate pair, from JSON
        return "n_undecodable", 0
    if size < MIN_DOCUMENT_BYTES:
        return "n_too_short", size
    if not domain.is_clean(document):
        return "n_unreadable", size
    return ("n_duplicates" if same_words(document) in seen else "n_documents"), size


def _write_domain(folder: Path, documents: list[_Document], shard_bytes: int) -> dict[str, str]:
    """Shards, then _SUCCESS; returns the sha256 of every shard by file name."""
    (folder / SUCCESS).unlink(missing_ok=True)
    written: dict[str, str] = {}
    for i, lines in enumerate(_shards(documents, shard_bytes)):
        name = f"part-{i:05d}.jsonl.zst"
        content = zstandard.ZstdCompressor(level=3).compress(lines)
        _write(folder / name, content)
        written[name] = hashlib.sha256(content).hexdigest()
    for path in folder.glob("part-*.jsonl.zst"):  # of an interrupted harvest
        if path.name not in written:
            path.unlink()
    _write(folder / SUCCESS, b"")
    return written


def _shards(documents: list[_Document], shard_bytes: int) -> Iterator[bytes]:
    """JSON lines, in as few shards as the limit allows, all of about one size."""
    lines = [document.line() for document in documents]
    total = sum(map(len, lines))
    target = total / -(-total // shard_bytes)
    shard: list[bytes] = []
    done, n_shards = 0, 0
    for line in lines:
        if shard and done + len(line) / 2 > target * (n_shards + 1):
            yield b"".join(shard)
            shard, n_shards = [], n_shards + 1
        shard.append(line)
        done += len(line)
    yield b"".join(shard)


def _write(path: Path, content: bytes) -> None:
    with atomic_write(path) as file:
        file.write(content)


def main(arguments: list[str]) -> int:
    """Harvest into the one folder that is named."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        sys.stderr.write("usage: python -m mixture_assets.data.harvest ROOT\n")
        return 1
    try:
        report = harvest(Path(arguments[0]))
    except MixtureError as error:
        sys.stderr.write(f"{error}\nhint: {error.hint}\n")
        return 1
    sys.stdout.write(f"{report}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
