"""Documents that domains have in common. Weights of two domains with the same text mean nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mixture_assets.core.errors import MixtureError
from mixture_assets.data.doc_index import DocIndex


def overlap_table(hashes: Mapping[str, NDArray[np.uint64]]) -> dict[tuple[str, str], int]:
    """Number of distinct documents that each pair of domains shares; pairs with none are left out.

    One sort over all domains instead of one intersection per pair: after it, equal documents
    stand side by side, and those of k domains meet at the distances 1 to k - 1.
    """
    names = sorted(hashes)
    sets = [np.unique(hashes[name]) for name in names]
    owner = np.repeat(np.arange(len(sets)), [len(s) for s in sets])
    merged = np.concatenate(sets) if sets else np.empty(0, np.uint64)
    order = np.argsort(merged, kind="stable")  # owners ascend within equal documents
    merged, owner = merged[order], owner[order]
    counts = np.zeros((len(names), len(names)), np.int64)
    for distance in range(1, len(names)):
        is_same = merged[distance:] == merged[:-distance]
        if not is_same.any():
            break
        np.add.at(counts, (owner[:-distance][is_same], owner[distance:][is_same]), 1)
    return {(names[i], names[j]): int(counts[i, j]) for i, j in np.argwhere(counts).tolist()}


@dataclass(frozen=True)
class Overlap:
    """Two domains that share more documents than they may."""

    first: str
    second: str
    problem: str

    @property
    def error(self) -> MixtureError:
        """The two, and what to do."""
        return MixtureError(
            self.problem,
            hint="remove them from one domain, join the two, or raise [data] max_shared",
        )


def worst_overlap(hashes: Mapping[str, NDArray[np.uint64]], *, max_shared: float) -> Overlap | None:
    """The pair that shares the largest part of the smaller domain, if that is too much."""
    table = overlap_table(hashes)
    sizes = {name: len(np.unique(h)) for name, h in hashes.items()}
    shares = {pair: n / min(sizes[pair[0]], sizes[pair[1]]) for pair, n in table.items()}
    a, b = max(shares, key=lambda pair: shares[pair], default=("", ""))
    if not shares or shares[a, b] <= max_shared:
        return None
    smaller = min((a, b), key=lambda name: sizes[name])
    problem = (
        f"{a!r} and {b!r} have {table[a, b]:,} documents in common, {100 * shares[a, b]:.3g} % of "
        f"those of {smaller!r}; max_shared is {100 * max_shared:.3g} %"
    )
    return Overlap(a, b, problem)


def read_hashes(paths: Sequence[Path]) -> NDArray[np.uint64]:
    """Content hashes of all documents of some token shards."""
    return np.concatenate([DocIndex.read(path).hashes for path in paths])
