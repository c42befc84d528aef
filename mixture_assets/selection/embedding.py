"""Documents whose embeddings point where those of the specialist documents point.

Source: J. O. Yin, A. M. Rush, "Compute-Constrained Data Selection", ICLR 2025, arXiv:2410.16208,
    the method "Embed".

Differs from the source: any `Embedding` takes the place of gtr-t5-base on the first 256 tokens;
    the mean is over all specialist documents, not over one per sub-task.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixture_assets.core.errors import MixtureError
from mixture_assets.methods.embedding import Embedding, TfidfSvd
from mixture_assets.selection.documents import Documents, Pool
from mixture_assets.selection.selector import OnCpu


@dataclass
class MeanCosine(OnCpu):
    """Mean cosine to the specialist documents, -1 to 1.

    All vectors v have length 1 (or are zeros: such a document scores 0), so that the mean over
    specialist documents s of <v, v_s> is <v, mean of v_s>.
    """

    embedding: Embedding
    name: str = "embedding"
    _pool: Pool | None = field(default=None, repr=False)
    _mean_K: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0), repr=False)

    @property
    def settings(self) -> Mapping[str, Any]:
        """What names the embedding, and what it was learned from."""
        return {"embedding": dict(self.embedding.settings), "learned": _learned(self.embedding)}

    @property
    def flops(self) -> float:
        """Of a language model's forward passes; 0 for what is priced by its seconds."""
        return float(getattr(self.embedding, "flops", 0.0))

    def prepare(self, specialist: Documents, pool: Pool) -> None:
        """Embed the specialist documents.

        Raises:
            MixtureError: The embedding can say nothing about any of them.
        """
        self._pool = pool
        self._mean_K = self._embed(specialist).astype(np.float64).mean(axis=0)
        if not self._mean_K.any():
            raise MixtureError(
                f"the embedding {self.embedding.settings.get('name')!r} knows no word of the "
                f"{len(specialist):,} specialist documents",
                hint="learn it from a sample that has the specialist documents in it",
            )

    def score(self, documents: Documents) -> NDArray[np.float64]:
        """One number for each document."""
        cosines: NDArray[np.float64] = self._embed(documents).astype(np.float64) @ self._mean_K
        return cosines

    def _embed(self, documents: Documents) -> NDArray[np.float32]:
        assert self._pool is not None  # prepared
        texts: Sequence[str] = [t.decode("utf-8", "replace") for t in self._pool.texts(documents)]
        return self.embedding.embed(texts)


def _learned(embedding: Embedding) -> str:
    """Digest of what was learned from a sample, which settings do not say; '' for a model."""
    if not isinstance(embedding, TfidfSvd):
        return ""
    seen = hashlib.sha256("\n".join(embedding.terms).encode())
    seen.update(np.ascontiguousarray(embedding.idf_V).data)
    seen.update(np.ascontiguousarray(embedding.components_KV).data)
    return seen.hexdigest()[:16]
