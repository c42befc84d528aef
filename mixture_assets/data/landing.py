"""What lies under a raw root, told from names, sizes and times: no file is opened.

A folder has landed when nothing in it changed for a while, or when a `_SUCCESS` marker says so.
For local files "changed" is the inode change time: copying tools set modification times into
the past, the change time nobody can set. Objects of a store appear whole, with their
LastModified.
"""

import datetime
import errno
import functools
import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from mixture_assets.core.digest import DIGEST_CHARS
from mixture_assets.core.errors import MixtureError
from mixture_assets.data.shards import file_system, format_of, is_half_written, is_local, is_visible

SUCCESS = "_SUCCESS"
_MARKER_SLACK_SECONDS = 0.5  # writing the marker changes its folder, a moment after
_OURS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)  # faults that say nothing about a folder
_STAMPS = ("LastModified", "last_modified", "updated", "mtime", "created")


@dataclass(frozen=True)
class Folder:
    """A sub-folder of a raw root, as it lies there."""

    name: str
    shards: Mapping[str, str]  # name below the folder -> size and modification time
    n_bytes: int  # of the shards
    changed_at: float  # newest change of anything in it: seconds since 1970, 0 if untold
    newest: str  # what changed then, below the folder; '' is the folder itself
    is_marked: bool  # a _SUCCESS that is not older than any shard, nor than a removal
    problem: str = ""  # why it cannot be read: then nothing else is known of it

    @functools.cached_property
    def fingerprint(self) -> str:
        """Names the shards' names, sizes and times."""
        lines = "\n".join(f"{name} {stamp}" for name, stamp in self.shards.items())
        return hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()[:DIGEST_CHARS]

    def is_settled(self, now: float, settle_seconds: float) -> bool:
        """Whether copying is over.

        A change in the future counts by its distance, so that files from before a clock was set
        back have settled; a file server whose clock runs ahead by more than `settle_seconds`
        needs markers.
        """
        return self.is_marked or abs(now - self.changed_at) >= settle_seconds


@dataclass(frozen=True)
class Root:
    """A raw root: its visible sub-folders, and when one of them came or went."""

    exists: bool
    folders: Mapping[str, Folder] = field(default_factory=dict)
    changed_at: float = 0.0


def look(root: str) -> Root:
    """All sub-folders of a raw root; domain names are not checked."""
    fs, path = file_system(str(root))
    if is_local(fs):
        return _look_local(Path(path))
    fs.invalidate_cache()  # a sensor lives for days, and listings are kept for ever
    if not fs.isdir(path):
        return Root(False)
    entries = {PurePosixPath(e["name"]).name: e for e in fs.ls(path, detail=True)}
    names = sorted(n for n, e in entries.items() if is_visible(n) and fs.isdir(e["name"]))
    # Other faults of a store are of its network, and pass.
    read = functools.partial(_read, faults=PermissionError)
    return Root(True, {n: read(n, _objects(fs, entries[n]["name"])) for n in names})


@dataclass(frozen=True)
class _Entry:
    name: str  # below the folder
    changed_at: float
    size: int = 0
    stamp: str = ""  # of its content; '' for folders


def _look_local(root: Path) -> Root:
    try:
        with os.scandir(root) as entries:
            names = sorted(e.name for e in entries if is_visible(e.name) and _is_folder(e))
        changed_at = root.stat().st_ctime
    except (FileNotFoundError, NotADirectoryError):
        return Root(False)
    except PermissionError as error:
        raise MixtureError(
            f"the raw root {str(root)!r} cannot be read: {error.strerror}", hint="give read access"
        ) from error
    folders = {name: _read(name, _files(f"{root}/{name}")) for name in names}
    return Root(True, folders, changed_at)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether this may be a domain. A link to itself may, so that somebody is told of it."""
    try:
        return entry.is_dir()
    except OSError:
        return True


def _read(name: str, entries: Iterator[_Entry], faults: type[OSError] = OSError) -> Folder:
    """A folder as it lies there, or with the reason why that cannot be seen."""
    try:
        return _folder(name, entries)
    except faults as error:
        if error.errno in _OURS:
            raise
        problem = error.strerror or str(error)
        problem += f": {error.filename!r}" if error.filename else ""
        return Folder(name, {}, 0, 0.0, "", is_marked=False, problem=problem)


def _stat_of_file(entry: os.DirEntry[str]) -> os.stat_result | None:
    """Of what a link leads to; None for one that leads to itself, and for what is no file."""
    try:
        return entry.stat() if entry.is_file() else None
    except OSError:
        return None


def _files(folder: str, below: str = "") -> Iterator[_Entry]:
    """Files and folders; a link counts as what it leads to, and one to a folder as nothing.

    os.scandir, because a tick of the sensor may look at 10,000 files.
    """
    try:
        yield _Entry(below, os.stat(folder).st_ctime)
        with os.scandir(folder) as entries:
            for entry in entries:
                name = f"{below}/{entry.name}" if below else entry.name
                if entry.is_dir(follow_symlinks=False):
                    yield from _files(entry.path, name)
                elif found := _stat_of_file(entry):
                    yield _Entry(name, found.st_ctime, found.st_size, str(found.st_mtime_ns))
    except FileNotFoundError:
        return  # it went while we looked: its folder has changed, which the next look sees


def _objects(fs: Any, folder: str) -> Iterator[_Entry]:
    for name, info in fs.find(folder, detail=True).items():
        stamp = next((info[key] for key in _STAMPS if info.get(key) is not None), "")
        content = str(info.get("ETag") or stamp)
        below = name.removeprefix(folder).strip("/")
        yield _Entry(below, _seconds(stamp), int(info["size"]), content or "-")


def _seconds(stamp: Any) -> float:
    """A time as a store tells it, in seconds since 1970; 0 if it cannot be read."""
    try:
        if isinstance(stamp, str):
            stamp = datetime.datetime.fromisoformat(stamp)
        if isinstance(stamp, datetime.datetime):
            return stamp.timestamp()
        return float(stamp)
    except (TypeError, ValueError):
        return 0.0


def _folder(name: str, entries: Iterator[_Entry]) -> Folder:
    """Sum up a listing.

    Hidden files and unknown names count as changes: some tools copy under such names, for
    minutes. A marker is compared only with what could be data, and with removals.
    """
    shards, n_bytes, newest = {}, 0, _Entry("", 0.0)
    marked_at, data_changed_at = -1.0, 0.0
    for entry in entries:
        if entry.changed_at > newest.changed_at:
            newest = entry
        if entry.name == SUCCESS:
            marked_at = entry.changed_at
        elif not entry.stamp:
            data_changed_at = max(data_changed_at, entry.changed_at - _MARKER_SLACK_SECONDS)
        elif all(map(is_visible, entry.name.split("/"))):
            if format_of(entry.name):
                shards[entry.name] = f"{entry.size} {entry.stamp}"
                n_bytes += entry.size
            elif not is_half_written(entry.name):
                continue
            data_changed_at = max(data_changed_at, entry.changed_at)
    return Folder(
        name=name,
        shards=dict(sorted(shards.items())),
        n_bytes=n_bytes,
        changed_at=newest.changed_at,
        newest=newest.name,
        is_marked=marked_at >= data_changed_at,
    )
