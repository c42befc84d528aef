"""What no selection refers to any more: pools, scores, and models that runs went on from.

A selection is on record as soon as a pool is scored; what those records name stays.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from mixture_assets.core.names import POOL, SELECTED
from mixture_assets.store.files import read_json_object
from mixture_assets.store.records import read_records

Kind = Literal["pool", "scores", "start"]


def unused(store: Path, specs: Iterable[dict[str, Any]]) -> Iterator[tuple[Kind, Path, str]]:
    """(kind, path, reason) of each thing.

    Args:
        store: Root of the store.
        specs: Specifications of the runs that stay.
    """
    pools, scores = _recorded(store)
    starts = {spec["start"]["model"] for spec in specs if spec.get("start")}
    for path in sorted(store.glob("pools/*.json")):
        if path.stem not in pools:
            yield "pool", path, "no scores are of it"
    for path in sorted(store.glob("scores/*/*")):
        if path.name not in scores:
            yield "scores", path, "no selection rests on them"
    for path in sorted(store.glob("models/*")):
        if path.name not in starts and not path.name.startswith("."):
            yield "start", path, "no run goes on from it"


def token_files(store: Path) -> set[str]:
    """Token shards of the pools that are scored, and those that they were taken from."""
    found: set[str] = set()
    pools, _ = _recorded(store)
    for path in store.glob("pools/*.json"):
        if path.stem in pools:
            pool = read_json_object(path) or {}
            found |= {str(store / "tokens" / POOL / f"{s}.parquet") for s in pool["shards"]}
            # A pool of domains was taken from their shards, which their token sets name too.
            found |= {str(p) for s in pool["sources"] for p in store.glob(f"tokens/*/{s}.parquet")}
    return found


def shard_folder(domain: str) -> str:
    """Where the token shards behind a token set lie: those of a subset are its pool's."""
    return POOL if domain == SELECTED else domain


def _recorded(store: Path) -> tuple[set[str], set[str]]:
    """Ids of pools and of score sets that selections name."""
    pools: set[str] = set()
    scores: set[str] = set()
    for record in read_records(store, "selection_scores"):
        for row in record["rows"].get("selection_score_set", []):
            pools.add(row["pool_id"])
            scores.add(row["score_set_id"])
    return pools, scores
