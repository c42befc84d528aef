"""Raw shards: what lies under a root, one folder per domain, each named by its content.

A shard whose size and modification time have not changed keeps the digest found before, from
the cache file, and is not opened. Roots are local paths or any fsspec URL.
"""

import hashlib
import json
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from fsspec.core import url_to_fs

from mixture_assets.core.digest import DIGEST_CHARS
from mixture_assets.core.errors import MixtureError, MixtureWarning, shortlist
from mixture_assets.core.names import nearest, validate_domain
from mixture_assets.data.files import write_json

FORMATS = (
    "jsonl",
    "jsonl.gz",
    "jsonl.zst",
    "parquet",
    "txt",
    "txt.gz",
    "txt.zst",
    "arrow",
)
_HALF_WRITTEN = (".tmp", ".part", ".partial", ".crdownload", ".incomplete")
_STAMPS = ("mtime", "LastModified", "last_modified", "updated", "ETag", "created")
KNOWN_FORMATS = f"known formats: {', '.join(FORMATS)}"


@dataclass(frozen=True)
class RawShard:
    """One file of a domain."""

    domain: str
    url: str  # local path, or URL with its protocol
    format: str  # one of FORMATS
    n_bytes: int  # as stored
    digest: str  # of the stored bytes: first 16 hex characters of their sha256
    stamp: str = field(default="", compare=False)  # size and times when it was listed

    @property
    def name(self) -> str:
        """The end of the URL from the domain on: what messages call the shard."""
        return self.domain + "/" + self.url.rpartition(f"/{self.domain}/")[2]


def discover(
    root: str,
    *,
    cache: Path,
    domains: Sequence[str] = (),
    refuse: Callable[[str, MixtureError], None] | None = None,
) -> dict[str, list[RawShard]]:
    """Find the shards of every domain under `root`, or of the named ones, sorted by name.

    A domain is a sub-folder of `root`; shards may lie deeper in it. Hidden files, names that
    begin with an underscore and unknown extensions are passed over; half-written names and
    exact copies of another shard of the domain are left out with a MixtureWarning.

    Args:
        root: Folder or fsspec URL.
        cache: File with the digests found before.
        domains: Which ones; all if empty.
        refuse: Told of each domain that cannot be listed or read, which is then left out;
            without it, that is an error.
    """
    for name in domains:
        validate_domain(name)
    fs, path = file_system(str(root))
    folders = _folders(fs, path, str(root))
    wanted = sorted(domains) if domains else sorted(folders)
    for name in wanted:
        validate_domain(name)
        if name not in folders:
            raise MixtureError(
                f"no domain {name!r} under {str(root)!r}{nearest(name, folders)}",
                hint=f"its folders are: {', '.join(sorted(folders)) or 'none'}",
            )
    known = _read_cache(cache)
    fresh: dict[str, dict[str, Any]] = {}
    found = {}
    for name in wanted:
        try:
            with _reading(name):
                found[name] = _shards(fs, folders[name], name, known, fresh)
        except MixtureError as error:
            if refuse is None:
                raise
            refuse(name, error)
    if any(known.get(url) != entry for url, entry in fresh.items()):
        write_json(cache, {**known, **fresh})
    return found


def shards_at(path: str, domain: str, *, cache: Path, noun: str = "") -> list[RawShard]:
    """The shards of one folder, or one file, that is called `domain` whatever its own name is.

    Messages call it `noun`, by default the set of that name.

    Raises:
        MixtureError: There is nothing, or nothing of a known format.
    """
    fs, name = file_system(path)
    noun = noun or f"{domain} set"
    fresh: dict[str, dict[str, Any]] = {}
    with _reading(domain):
        if fs.isdir(name):
            return _shards(fs, name, domain, _read_cache(cache), fresh, f"the {noun} at {path!r}")
        if not fs.isfile(name):
            raise MixtureError(
                f"no {noun} at {path!r}", hint=f"name a folder or a file; {KNOWN_FORMATS}"
            )
        info = fs.info(name)
        if (format_ := format_of(name)) is None:
            raise MixtureError(f"{path!r} is no text that can be read", hint=KNOWN_FORMATS)
        url = name if is_local(fs) else str(fs.unstrip_protocol(name))
        stamp = _stamp(fs, name, info)
        return [RawShard(domain, url, format_, int(info["size"]), _digest(fs, name), stamp)]


@contextmanager
def _reading(domain: str) -> Iterator[None]:
    """Turn 'permission denied', or a file that went meanwhile, into one sentence."""
    try:
        yield
    except OSError as error:
        raise MixtureError(
            f"a shard of {domain!r} cannot be read: {error.strerror}: {error.filename!r}",
            hint="give read access, or wait until copying is over",
        ) from error


def file_system(root: str) -> tuple[Any, str]:
    """What reads a root, and the root's path in it."""
    try:
        if "::" in root:  # chained file systems read what a file in the root tells them to
            raise ValueError("'::' is not supported")
        fs, path = url_to_fs(root)
        return fs, str(path)
    except (ValueError, ImportError, OSError) as error:
        raise MixtureError(
            f"the root {root!r} cannot be opened: {error}",
            hint="[data] root is a folder, or a URL such as s3://bucket/raw",
        ) from error


def _folders(fs: Any, path: str, root: str) -> dict[str, str]:
    """Sub-folder name -> path."""
    if not fs.isdir(path):
        raise MixtureError(
            f"no folder at {root!r}", hint="[data] root is the folder that holds the domains"
        )
    entries = {PurePosixPath(e["name"]).name: e for e in fs.ls(path, detail=True)}
    folders = {n: e["name"] for n, e in entries.items() if fs.isdir(e["name"]) and is_visible(n)}
    if not folders:
        raise MixtureError(
            f"no domain under {root!r}", hint="make one folder per domain, and put shards in it"
        )
    return folders


def _shards(
    fs: Any,
    folder: str,
    domain: str,
    known: Mapping[str, Mapping[str, Any]],
    fresh: dict[str, dict[str, Any]],
    noun: str = "",
) -> list[RawShard]:
    """The shards of one domain, or of `noun`; what was learned about each goes to `fresh`."""
    infos = {i["name"]: i for i in fs.find(folder, detail=True).values() if _is_file(fs, domain, i)}
    files = {n: i for n, i in infos.items() if all(map(is_visible, _parts_below(n, folder)))}
    _warn_of_half_written(domain, files)
    shards: dict[str, RawShard] = {}  # by digest
    copies: list[str] = []
    for name, info in sorted(files.items()):
        if (format_ := format_of(name)) is None:
            continue
        url = name if is_local(fs) else str(fs.unstrip_protocol(name))
        stamp = _stamp(fs, name, info)  # before the file is read
        fresh[url] = _fingerprint(fs, name, info, known.get(url))
        digest = fresh[url]["digest"]
        shard = RawShard(domain, url, format_, int(info["size"]), digest, stamp)
        if first := shards.get(shard.digest):
            copies.append(f"{shard.name!r} is an exact copy of {first.name!r}")
        else:
            shards[shard.digest] = shard
    if copies:
        more = f", and {len(copies) - 1} others of others" if len(copies) > 1 else ""
        _warn(f"{copies[0]} and is left out{more}")
    if not shards:
        seen = (
            f": it holds {shortlist(_parts_below(n, folder)[-1] for n in infos)}" if infos else ""
        )
        what = noun or f"domain {domain!r}"
        raise MixtureError(f"{what} has no shard{seen}", hint=KNOWN_FORMATS)
    return list(shards.values())


def _is_file(fs: Any, domain: str, info: dict[str, Any]) -> bool:
    """Whether this is data; a link counts as what it leads to, and is measured there."""
    if info["type"] == "file" and not info.get("islink"):
        return True
    if not fs.isfile(info["name"]):
        if info.get("islink"):
            _warn(f"{info['name']!r} of domain {domain!r} is a link to nothing and is left out")
        return False
    if is_local(fs):
        found = os.stat(info["name"])
        info |= {"size": found.st_size, "mtime": found.st_mtime}
    return True


def _fingerprint(
    fs: Any, name: str, info: Mapping[str, Any], known: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Size, time and digest of a file: from the cache if size and time are the same."""
    stamp = next((str(info[key]) for key in _STAMPS if info.get(key) is not None), "")
    entry = {"size": int(info["size"]), "mtime": stamp}
    if stamp and known and {k: known.get(k) for k in entry} == entry and known.get("digest"):
        return {**entry, "digest": str(known["digest"])}
    return {**entry, "digest": _digest(fs, name)}


def require_unchanged(shard: RawShard) -> None:
    """MixtureError if a shard is no longer what was discovered: somebody writes to it."""
    fs, name = url_to_fs(shard.url)
    fs.invalidate_cache()
    try:
        if not shard.stamp or _stamp(fs, name, fs.info(name)) == shard.stamp:
            return
        is_same = _digest(fs, name) == shard.digest  # chmod and hard links change times, too
    except FileNotFoundError:
        is_same = False
    if not is_same:
        raise MixtureError(
            f"{shard.name!r} changed while it was read",
            hint="copy first, then start again; a _SUCCESS in the folder says when all is there",
        )


def _stamp(fs: Any, name: str, info: Mapping[str, Any]) -> str:
    """Size and times; of a local file also the change time, which nobody can set."""
    if is_local(fs):
        found = os.stat(name)
        return f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}"
    return " ".join(str(info.get(key)) for key in ("size", *_STAMPS))


def _digest(fs: Any, name: str) -> str:
    with fs.open(name, "rb") as file:
        hasher = hashlib.sha256()
        while block := file.read(1 << 22):
            hasher.update(block)
    return hasher.hexdigest()[:DIGEST_CHARS]


def _read_cache(path: Path) -> dict[str, dict[str, Any]]:
    """What is known of each URL; nothing if the file is missing or damaged: it is only a cache."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    is_ours = isinstance(entries, dict) and all(isinstance(e, dict) for e in entries.values())
    return entries if is_ours else {}


def is_visible(name: str) -> bool:
    """Neither hidden, nor a marker such as _SUCCESS, nor a cache that `datasets` left."""
    is_cache = name.startswith("cache-") and name.endswith(".arrow")
    return not name.startswith((".", "_")) and not is_cache


def _parts_below(name: str, folder: str) -> list[str]:
    return name.removeprefix(folder).strip("/").split("/")


def format_of(name: str) -> str | None:
    """Which of FORMATS a name ends in."""
    return next((f for f in FORMATS if name.lower().endswith(f".{f}")), None)


def is_half_written(name: str) -> bool:
    """Whether a name is one that downloads and copies have before they are complete."""
    return name.lower().endswith(_HALF_WRITTEN)


def is_local(fs: Any) -> bool:
    """Whether paths of a file system are paths of this machine."""
    return "file" in ((fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol)


def _warn_of_half_written(domain: str, names: Mapping[str, Any]) -> None:
    half = [PurePosixPath(n).name for n in names if is_half_written(n)]
    if half:
        _warn(f"{domain!r} has half-written files, which are left out: {shortlist(half)}")


def _warn(message: str) -> None:
    warnings.warn(message, MixtureWarning, stacklevel=4)
