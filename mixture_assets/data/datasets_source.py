"""A `datasets` dataset as a domain: written once as jsonl.zst shards, then like any other."""

import itertools
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson
import zstandard

from mixture_assets.core.digest import digest
from mixture_assets.core.errors import MixtureError, quoted
from mixture_assets.core.files import full_disk_named, sync_folder
from mixture_assets.core.names import nearest
from mixture_assets.data.files import atomic_write
from mixture_assets.data.messages import first_sentence

_MARKER = "_SUCCESS"  # holds the settings that the shards were made with


def land_dataset(
    name: str,
    target: Path,
    *,
    split: str = "train",
    config_name: str | None = None,
    revision: str | None = None,
    text_field: str = "text",
    max_documents: int | None = None,
    shard_documents: int = 10_000,
    write_field: str = "text",
) -> Path:
    """Write a dataset's texts to `target`, unless the same request was landed there before.

    All shards appear at once, when the last is complete.

    Args:
        name: Folder made by `save_to_disk`, or anything that `datasets.load_dataset` takes,
            such as a hub name; the latter is streamed, so that only what is kept is downloaded.
        target: Folder of the domain.
        split: Of the dataset.
        config_name: Of the dataset.
        revision: Of a hub dataset: branch, tag or commit.
        text_field: Column of the dataset that holds the text.
        max_documents: Stop after so many.
        shard_documents: In each shard.
        write_field: Field of the shards that holds the text: [data] text_field.
    """
    request = {
        "name": name,
        "split": split,
        "config_name": config_name,
        "revision": revision,
        "text_field": text_field,
        "max_documents": max_documents,
        "shard_documents": shard_documents,
        "write_field": write_field,
        "content": _local_content(name),
    }
    if _landed_request(target) == request:
        return target
    rows = _open(name, config_name, split, revision)
    texts = itertools.islice(_texts(rows, name, text_field), max_documents)
    _write_folder(target, texts, shard_documents, write_field, request)
    return target


def _local_content(name: str) -> str:
    """Names, sizes and times below a local folder, so that a changed one is landed again.

    Empty for a hub name: pin `revision`, or what was landed first stays.
    """
    folder = Path(name)
    if not folder.exists():
        return ""
    files = sorted(p for p in (folder.rglob("*") if folder.is_dir() else [folder]) if p.is_file())
    stats = [(str(p.relative_to(folder)), p.stat().st_size, p.stat().st_mtime_ns) for p in files]
    return digest(stats)


def _landed_request(target: Path) -> Any:
    """The settings of what lies in `target`; MixtureError if somebody else put it there."""
    if not target.exists():
        return None
    try:
        return json.loads((target / _MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        if target.is_dir() and not any(target.iterdir()):
            return None
        raise MixtureError(
            f"{str(target)!r} holds files that do not come from a dataset",
            hint="rename the domain in [data.datasets], or move the files away",
        ) from error


def _open(name: str, config_name: str | None, split: str, revision: str | None) -> Any:
    import datasets  # half a second, and most experiments have none

    folder = Path(name)
    saved = [folder / "state.json", folder / "dataset_dict.json"]
    try:
        if not any(path.is_file() for path in saved):
            return datasets.load_dataset(
                name, config_name, split=split, revision=revision, streaming=True
            )
        found = datasets.load_from_disk(name)
    except Exception as error:  # the library raises dozens of kinds, the network more
        raise MixtureError(
            f"cannot open the dataset {name!r}: {first_sentence(error)}",
            hint="check path, config and split in [data.datasets], and the network for a hub name",
        ) from error
    if not isinstance(found, Mapping):
        return found
    if split not in found:
        raise MixtureError(
            f"the dataset {name!r} has no split {split!r}{nearest(split, found)}",
            hint=f"its splits are: {', '.join(map(str, found))}",
        )
    return found[split]


def _readable(rows: Iterable[Any], name: str) -> Iterator[Any]:
    """The rows; a streamed file is only read here, and then found to be damaged."""
    number = 0
    try:
        for number, row in enumerate(rows, 1):  # noqa: B007
            yield row
    except Exception as error:  # as in _open
        raise MixtureError(
            f"the dataset {name!r} cannot be read after row {number:,}: {first_sentence(error)}",
            hint="a file of it is damaged, or the network is gone: mend it and start again",
        ) from error


def _texts(rows: Iterable[Mapping[str, Any]], name: str, field: str) -> Iterator[str]:
    for number, row in enumerate(_readable(rows, name), 1):
        if field not in row:
            raise MixtureError(
                f"the dataset {name!r} has no column {field!r}{nearest(field, row)}: "
                f"it has {', '.join(map(repr, row))}",
                hint="name the column that holds the text: text_field in [data.datasets]",
            )
        if not isinstance(text := row[field], str):
            raise MixtureError(
                f"row {number:,} of the dataset {name!r} has no text in {field!r}: "
                f"{quoted(text, 40)}",
                hint="filter such rows out, or name another column",
            )
        yield text


def _write_folder(
    target: Path, texts: Iterator[str], shard_documents: int, field: str, request: Any
) -> None:
    """Fill a hidden folder, then give it its name."""
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        with full_disk_named(target):
            aside.chmod(0o755)
            n_shards = 0
            while batch := list(itertools.islice(texts, shard_documents)):
                _write_shard(aside / f"part-{n_shards:05}.jsonl.zst", batch, field)
                n_shards += 1
            if not n_shards:
                raise MixtureError(
                    f"no document in split {request['split']!r} of the dataset {request['name']!r}",
                    hint="check split and max_documents in [data.datasets]",
                )
            with atomic_write(aside / _MARKER) as file:
                file.write(json.dumps(request, sort_keys=True).encode())
            if target.exists():
                os.replace(target, aside / "_replaced")  # an earlier request, removed below
            os.replace(aside, target)
            shutil.rmtree(target / "_replaced", ignore_errors=True)
            sync_folder(target.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _write_shard(path: Path, texts: list[str], field: str) -> None:
    lines = b"".join(orjson.dumps({field: text}) + b"\n" for text in texts)
    with atomic_write(path) as file:
        file.write(zstandard.ZstdCompressor(level=3, write_checksum=True).compress(lines))
