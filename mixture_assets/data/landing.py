"""What lies under a raw root, told from names, sizes and times: no file is opened."""

import hashlib
from pathlib import PurePosixPath
from typing import Any

from mixture_assets.core.digest import DIGEST_CHARS
from mixture_assets.core.errors import MixtureError
from mixture_assets.core.names import validate_domain
from mixture_assets.data.shards import FORMATS, file_system


def landed_domains(root: str) -> dict[str, str]:
    """Domain -> fingerprint of its shards' names, sizes and times; {} if there is no root.

    A folder without a shard, or with a name that no domain can have, has not landed.
    """
    fs, path = file_system(str(root))
    if not fs.isdir(path):
        return {}
    folders = {PurePosixPath(name).name: name for name in fs.ls(path, detail=False)}
    found = {}
    for domain, folder in sorted(folders.items()):
        shards = _shards(fs, folder) if _can_be_domain(domain) and fs.isdir(folder) else []
        if shards:
            lines = "\n".join(shards).encode("utf-8", "surrogateescape")  # names are any bytes
            found[domain] = hashlib.sha256(lines).hexdigest()[:DIGEST_CHARS]
    return found


def _shards(fs: Any, folder: str) -> list[str]:
    """One line per shard: name, size and time."""
    entries = fs.find(folder, detail=True)
    return [
        f"{name.removeprefix(folder)} {info['size']} {info.get('mtime', info.get('ETag', ''))}"
        for name, info in sorted(entries.items())
        if name.endswith(FORMATS) and not _is_hidden(name.removeprefix(folder))
    ]


def _is_hidden(name: str) -> bool:
    return any(part.startswith((".", "_")) for part in PurePosixPath(name.strip("/")).parts)


def _can_be_domain(name: str) -> bool:
    try:
        validate_domain(name)
    except MixtureError:
        return False
    return not name.startswith("_")
