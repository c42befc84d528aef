"""A seeded random projection of gradients that costs a few operations per entry.

Source: M. Charikar, K. Chen, M. Farach-Colton, "Finding Frequent Items in Data Streams", ICALP
    2002 (count sketch); K. Weinberger et al., "Feature Hashing for Large Scale Multitask
    Learning", ICML 2009: it keeps inner products, a Johnson-Lindenstrauss projection of one entry
    per column.

Every entry of a vector is added, with a random sign, to one of K buckets. For unit vectors x and y
with inner product c, the buckets' inner product has mean c and variance at most (1 + c^2) / K, as
for a dense Gaussian projection, which would cost K operations per entry instead of one.

Shapes:
    S sequences; R x C a matrix of parameters, D >= C its row in memory; K buckets.

Differs from the source: places are not drawn one by one, so that the projection is plain additions
    of consecutive memory. Entry (r, c) stands at r D + c after columns are shuffled, D has no
    divisor in common with K, and the bucket is the place modulo K, the matrices one after the
    other. Two entries of a row or of a column share no bucket before K places are through, and
    vectors of no more than K places keep every inner product exactly. Columns are shuffled, and
    filled up to D, in the factor of a gradient that has them, before it is multiplied.
"""

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Places:
    """Where the entries of one matrix go."""

    column_D: Tensor  # which column comes c-th; beyond the last, any
    sign_RD: Tensor  # 1 or -1; 0 beyond the last column
    first: int  # bucket of the first entry

    def columns(self, right: Tensor) -> Tensor:
        """(..., C) shuffled and filled up with zeros, (..., D)."""
        placed = right.index_select(-1, self.column_D)
        placed[..., right.shape[-1] :] = 0
        return placed

    def signed(self, matrix_RC: Tensor) -> Tensor:
        """A matrix as its entries stand, with their signs, R x D."""
        return self.columns(matrix_RC) * self.sign_RD

    def add(self, matrices_SRD: Tensor, total_SK: Tensor) -> None:
        """Add placed matrices to the buckets of their sequences."""
        flat, k = matrices_SRD.flatten(1), total_SK.shape[1]
        begun = min(k - self.first, flat.shape[1])
        total_SK[:, self.first : self.first + begun] += flat[:, :begun]
        rounds = (flat.shape[1] - begun) // k
        if rounds:
            whole = flat[:, begun : begun + rounds * k]
            total_SK += whole.reshape(-1, rounds, k).sum(dim=1)
        rest = flat[:, begun + rounds * k :]
        total_SK[:, : rest.shape[1]] += rest


def places_of(
    shapes: Mapping[str, Sequence[int]], *, dimensions: int, seed: int, device: str = "cpu"
) -> dict[str, Places]:
    """Places of every matrix, by the name of its parameter; a vector is one row.

    Args:
        shapes: Of the parameters; their order does not matter.
        dimensions: Buckets.
        seed: Of columns' order and signs.
        device: Where gradients are.
    """
    found, first = {}, 0
    for name, shape in sorted(shapes.items()):
        n_rows, n_columns = (1, *shape)[-2:]
        width = next(d for d in range(n_columns, n_columns + dimensions) if _apart(d, dimensions))
        random = np.random.default_rng([seed, zlib.crc32(name.encode())])
        column = np.resize(random.permutation(n_columns), width)
        sign = random.choice(np.array([-1, 1], np.float32), (n_rows, width))
        sign[:, n_columns:] = 0
        column_D, sign_RD = (torch.from_numpy(array).to(device) for array in (column, sign))
        found[name] = Places(column_D, sign_RD, first)
        first = (first + n_rows * width) % dimensions
    return found


def _apart(width: int, dimensions: int) -> bool:
    return math.gcd(width, dimensions) == 1
