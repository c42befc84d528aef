"""Clusters of document vectors by k-means, and the histogram of other documents over them.

Source:
    Grangier, Fan, Seto and Ablin, "Task-Adaptive Pretrained Language Models via
    Clustered-Importance Sampling", ICLR 2025, 2410.03735: (hierarchical) k-means of embedded
    documents, and the specialist set's share of each nearest centroid.

Shapes:
    N documents, K clusters, D dimensions of the embedding.

Differs from the source:
    k-means is scikit-learn's. Beyond 256 clusters it runs in two levels, but a document belongs
    to the nearest of all centroids, as a specialist document does, and not to the nearest one
    below its parent. Clusters that are too small give their documents to the next nearest
    centroid, and are named in a note.
"""

import heapq
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from mixture_assets.core.errors import MixtureError

Vectors = NDArray[np.floating]

CLUSTER_VERSION = 1  # raise it when the same vectors would give other clusters
_ONE_LEVEL = 256  # clusters; more cost too much in one level
_IN_MEMORY = 50_000  # vectors; more go through in batches
_BLOCK = 1 << 24  # distances held at a time
_NAMED = 20  # dissolved clusters in the note
_STARTS = 3  # k-means from so many starting points; the best is kept


@dataclass(frozen=True, eq=False)
class Clustering:
    """Centroids, the largest cluster first, and which of them each vector is nearest to."""

    centroids_KD: NDArray[np.float32]
    assignment_N: NDArray[np.int64]
    notes: tuple[str, ...] = ()  # about clusters that were dissolved

    @property
    def sizes_K(self) -> NDArray[np.int64]:
        """Vectors by cluster."""
        return np.bincount(self.assignment_N, minlength=len(self.centroids_KD))

    @property
    def names(self) -> list[str]:
        """'cluster-000' for the largest, and so on."""
        return cluster_names(len(self.centroids_KD))


def cluster_names(n_clusters: int) -> list[str]:
    """Names that sort as their numbers do: three digits or more."""
    width = max(3, len(str(n_clusters - 1)))
    return [f"cluster-{i:0{width}}" for i in range(n_clusters)]


def cluster(
    vectors_ND: Vectors,
    n_clusters: int,
    *,
    branching: int | None = None,
    least: int = 1,
    seed: int = 0,
) -> Clustering:
    """Group vectors by k-means; every one of them is in the cluster of its nearest centroid.

    Args:
        vectors_ND: One row for each document. Another order can give other clusters.
        n_clusters: At most so many come out: see `least`.
        branching: Clusters of the first level; 1 for a single level. Default: a single level up
            to 256 clusters, and the square root of `n_clusters` beyond.
        least: Smaller clusters are dissolved, the smallest first.
        seed: Of the starting points.

    Raises:
        MixtureError: There are fewer distinct vectors than clusters.
    """
    vectors = np.ascontiguousarray(vectors_ND, np.float32)
    _check(vectors, n_clusters, branching)
    n_parents = branching or (1 if n_clusters <= _ONE_LEVEL else math.isqrt(n_clusters))
    with threadpool_limits(1):  # sums in one order: the same bits on any number of cores
        centroids = _centroids(vectors, n_clusters, min(n_parents, n_clusters), seed)
        first = nearest(vectors, centroids)
        kept, assignment, gone = _dissolve(vectors, centroids, first, max(1, least))
    return _largest_first(centroids, assignment, kept, gone, max(1, least))


def nearest(vectors_ND: Vectors, centroids_KD: Vectors) -> NDArray[np.int64]:
    """Index of the centroid at the least Euclidean distance; the first of those that are equal."""
    centroids = np.asarray(centroids_KD, np.float64)
    half_squares = (centroids**2).sum(axis=1) / 2
    rows = max(1, _BLOCK // len(centroids))
    found = np.empty(len(vectors_ND), np.int64)
    for first in range(0, len(vectors_ND), rows):
        block = np.asarray(vectors_ND[first : first + rows], np.float64)
        found[first : first + rows] = np.argmin(half_squares - block @ centroids.T, axis=1)
    return found


def histogram(vectors_ND: Vectors, centroids_KD: Vectors, names: Sequence[str]) -> dict[str, int]:
    """How many vectors are nearest to each centroid, by its name, zeros included."""
    if len(set(names)) != len(centroids_KD):
        raise MixtureError(f"{len(centroids_KD)} centroids have {len(set(names))} distinct names")
    counts = np.bincount(nearest(vectors_ND, centroids_KD), minlength=len(names))
    return dict(sorted(zip(names, counts.tolist(), strict=True)))


def _check(vectors: NDArray[np.float32], n_clusters: int, branching: int | None) -> None:
    if n_clusters < 1 or (branching is not None and branching < 1):
        raise MixtureError(
            f"the number of clusters and the branching are 1 or more, got {n_clusters}"
            + (f" and {branching}" if branching is not None else "")
        )
    if vectors.ndim != 2 or not np.isfinite(vectors).all():
        raise MixtureError("vectors to cluster are rows of finite numbers")
    n_distinct = _distinct(vectors, n_clusters)
    if n_distinct < n_clusters:
        raise MixtureError(
            f"{n_clusters} clusters cannot be made of {len(vectors)} documents, "
            f"{n_distinct} of them distinct",
            hint=f"ask for {n_distinct} clusters or fewer" if n_distinct else "give some text",
        )


def _distinct(vectors: NDArray[np.float32], enough: int) -> int:
    """Distinct rows, counted up to `enough`."""
    seen: set[bytes] = set()
    for row in vectors:
        seen.add(row.tobytes())
        if len(seen) >= enough:
            break
    return len(seen)


def _centroids(
    vectors: NDArray[np.float32], n_clusters: int, n_parents: int, seed: int
) -> NDArray[np.float32]:
    """In one level, or k-means within each cluster of a first k-means."""
    if n_parents == 1:
        return _k_means(vectors, n_clusters, seed)
    parents = nearest(vectors, _k_means(vectors, n_parents, seed))
    members = [vectors[parents == p] for p in range(n_parents)]
    members = [m for m in members if len(m)]
    limits = [_distinct(m, n_clusters) for m in members]
    shares = _share_out(n_clusters, [len(m) for m in members], limits)
    return np.concatenate([_k_means(m, k, seed) for m, k in zip(members, shares, strict=True)])


def _share_out(n_clusters: int, sizes: Sequence[int], limits: Sequence[int]) -> list[int]:
    """Children of every parent: one at least, `limits` at most, and else in proportion to size."""
    shares = [1] * len(sizes)
    queue: list[tuple[float, int]] = [
        (-n, i) for i, n in enumerate(sizes) if limits[i] > 1
    ]  # documents per child
    heapq.heapify(queue)
    for _ in range(n_clusters - len(sizes)):
        _, i = heapq.heappop(queue)
        shares[i] += 1
        if shares[i] < limits[i]:
            heapq.heappush(queue, (-sizes[i] / shares[i], i))
    return shares


def _k_means(vectors: NDArray[np.float32], k: int, seed: int) -> NDArray[np.float32]:
    kind = KMeans if len(vectors) <= _IN_MEMORY else MiniBatchKMeans
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # empty clusters: named in a note
        found = kind(k, n_init=_STARTS, random_state=seed).fit(vectors)
    return np.asarray(found.cluster_centers_, np.float32)


def _dissolve(
    vectors: NDArray[np.float32],
    centroids: NDArray[np.float32],
    assignment: NDArray[np.int64],
    least: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64], dict[int, int]]:
    """Which centroids stay, the one of each vector, and the vectors of those that are gone.

    The smallest goes first, and its vectors to the nearest of those that are left.
    """
    kept = np.arange(len(centroids))
    gone: dict[int, int] = {}
    while len(kept) > 1:
        sizes = np.bincount(assignment, minlength=len(centroids))[kept]
        if sizes.min() >= least:
            break
        lost = int(kept[sizes.argmin()])
        gone[lost] = int(sizes.min())
        kept = kept[kept != lost]
        moved = np.flatnonzero(assignment == lost)
        assignment[moved] = kept[nearest(vectors[moved], centroids[kept])]
    return kept, assignment, gone


def _largest_first(
    centroids: NDArray[np.float32],
    assignment: NDArray[np.int64],
    kept: NDArray[np.int64],
    gone: Mapping[int, int],
    least: int,
) -> Clustering:
    sizes = np.bincount(assignment, minlength=len(centroids))[kept]
    order = kept[np.lexsort((*centroids[kept].T[::-1], -sizes))]
    place = np.zeros(len(centroids), np.int64)
    place[order] = np.arange(len(order))
    names = cluster_names(len(order))
    heirs = nearest(centroids[list(gone)], centroids[order]) if gone else ()
    parts = [f"{n} near {names[i]}" for n, i in zip(gone.values(), heirs, strict=True)]
    rest = [f"and {len(parts) - _NAMED} more"] if len(parts) > _NAMED else []
    note = f"{len(gone)} clusters of fewer than {least} documents were dissolved: "
    notes = (note + ", ".join(parts[:_NAMED] + rest),) if gone else ()
    return Clustering(centroids[order], place[assignment], notes)
