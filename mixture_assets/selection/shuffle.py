"""A seeded order that depends on nothing but the documents' own hashes.

Source: G. L. Steele, D. Lea, C. H. Flood, "Fast Splittable Pseudorandom Number Generators",
    OOPSLA 2014: the finaliser of SplitMix64 (constants of S. Vigna's version).

Differs from the source: not a stream; a document's number is the output of a generator whose
    state is the document's hash, moved by the first output of the seed's generator.
"""

import numpy as np
from numpy.typing import NDArray

_STEP = np.uint64(0x9E3779B97F4A7C15)


def splitmix(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The next output of SplitMix64 generators in these states."""
    z = state + _STEP
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: NDArray[np.uint64] = z ^ (z >> np.uint64(31))
    return mixed


def shuffled(hashes: NDArray[np.uint64], seed: int) -> NDArray[np.uint64]:
    """A number for each document, uniform over seeds, the same in any pool and order."""
    start = splitmix(np.array([seed % (1 << 64)], np.uint64))
    return splitmix(hashes ^ start)
