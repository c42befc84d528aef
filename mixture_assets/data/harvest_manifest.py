"""The manifest of a harvest: what made the corpus in a folder, and whether it may stay.

It lies at the root, beside the domains' folders: `complete` is false until every domain is
written, so that an interrupted harvest is neither a corpus nor somebody else's folder.
"""

import json
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mixture_assets.core.digest import digest
from mixture_assets.core.errors import MixtureError, MixtureWarning, shortlist

MANIFEST = "harvest.json"


def read_manifest(root: Path) -> dict[str, Any] | None:
    """The manifest under a root, or None if no harvest began there."""
    path = root / MANIFEST
    if not path.exists():
        return None
    try:
        manifest: dict[str, Any] = json.loads(path.read_bytes())
        manifest["complete"], manifest["digest"], manifest["domains"]
    except (ValueError, KeyError, TypeError) as error:
        raise MixtureError(
            f"{str(path)!r} is not a harvest manifest", hint="delete the folder to harvest again"
        ) from error
    return manifest


def refuse_foreign(root: Path, domains: Iterable[str]) -> None:
    """MixtureError if a folder of one of the domains is there already."""
    foreign = [name for name in domains if (root / name).exists()]
    if foreign:
        raise MixtureError(
            f"{str(root)!r} holds folders that no harvest wrote: {shortlist(foreign)}",
            hint="harvest into a folder of its own, or set [data] harvest = false",
        )


def is_kept(root: Path, manifest: Mapping[str, Any], asked: Mapping[str, Any]) -> bool:
    """Whether the corpus stays as it is; MixtureWarning if another installation made it."""
    missing = [
        f"{domain}/{name}"
        for domain, row in manifest["domains"].items()
        for name in row["shards"]
        if not (root / domain / name).is_file()
    ]
    is_ours = manifest["digest"] == digest(asked)
    if missing and not is_ours:
        raise MixtureError(
            f"{str(root)!r} lacks shards of another installation's harvest: {shortlist(missing)}",
            hint="delete the folder to harvest again; results on the old corpus stay in the store",
        )
    if not missing and not is_ours:
        warnings.warn(
            MixtureWarning(
                f"the corpus in {str(root)!r} was harvested differently ("
                f"{_difference(manifest, asked)}) and is kept; delete the folder to harvest again"
            ),
            stacklevel=3,  # names the caller of harvest
        )
    return not missing


def _difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """What changed, in few words: 'python 3.11.6, now 3.12.1; 2 distributions: ...'."""
    parts = [
        f"{key} {old[key]}, now {new[key]}"
        for key in ("harvest_version", "python", "settings")
        if old[key] != new[key]
    ]
    before, after = set(old["distributions"].items()), set(new["distributions"].items())
    changed = {name for name, _ in before ^ after}
    if changed:
        parts.append(f"{len(changed)} distributions: {shortlist(changed)}")
    return "; ".join(parts)
