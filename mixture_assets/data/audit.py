"""Count the stored tokens again, by another way than the one that wrote them.

Expectations come from the token shards through pyarrow, document by document; what is found
comes from the arrays that training reads. Neither looks at the manifest's numbers alone.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mixture_assets.core.errors import MixtureError
from mixture_assets.data.split import is_validation
from mixture_assets.data.token_store import DomainTokens
from mixture_assets.data.validation import load_validation

_UNREADABLE = (OSError, ValueError, EOFError, pa.ArrowInvalid, MixtureError)


@dataclass(frozen=True)
class DomainAudit:
    """One domain's training arrays beside its token shards."""

    domain: str
    tokens_expected: int = 0  # of training documents, with an end-of-text token each
    tokens_found: int = 0
    ends_expected: int = 0  # end-of-text tokens
    ends_found: int = 0
    unreadable: str = ""  # why a file could not be read

    @property
    def problem(self) -> str:
        """What is wrong, in one sentence; empty if nothing is."""
        if self.unreadable:
            return f"{self.domain!r} cannot be audited: {self.unreadable}"
        if self.tokens_found != self.tokens_expected:
            return (
                f"{self.domain!r} has {self.tokens_found:,} training tokens, its shards give "
                f"{self.tokens_expected:,}"
            )
        if self.ends_found != self.ends_expected:
            return (
                f"{self.domain!r} has {self.ends_found:,} end-of-text tokens, its shards give "
                f"{self.ends_expected:,}"
            )
        return ""


def audit_domain(tokens: DomainTokens, *, store: Path, validation_fraction: float) -> DomainAudit:
    """Count a domain's training tokens in its arrays and in its token shards."""
    try:
        return _audited(tokens, store, validation_fraction)
    except _UNREADABLE as error:
        return DomainAudit(tokens.domain, unreadable=str(error))


def _audited(tokens: DomainTokens, store: Path, validation_fraction: float) -> DomainAudit:
    n_documents = n_tokens = n_ends = 0
    for batch in _train_rows(tokens.shard_paths(store), validation_fraction):
        n_documents += batch.num_rows
        n_tokens += pc.sum(pc.list_value_length(batch["input_ids"])).as_py() or 0
        n_ends += int((pc.list_flatten(batch["input_ids"]).to_numpy() == tokens.eos_id).sum())
    arrays = tokens.windows(store)
    return DomainAudit(
        tokens.domain,
        tokens_expected=n_tokens + n_documents,
        tokens_found=sum(map(len, arrays)),
        ends_expected=n_ends + n_documents,
        ends_found=sum(int((array == tokens.eos_id).sum()) for array in arrays),
    )


def _train_rows(paths: Sequence[Path], fraction: float) -> Iterator[Any]:
    """The training documents of token shards, a row group at a time."""
    for path in paths:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(columns=["doc_id", "input_ids"]):
                keep = [not is_validation(d, fraction) for d in batch["doc_id"].to_pylist()]
                yield batch.filter(pa.array(keep, pa.bool_()))


def empty_domains(domains: Sequence[DomainTokens], *, store: Path) -> list[str]:
    """Domains with nothing to train on, or nothing to measure with, by what the files hold."""
    return [tokens.domain for tokens in domains if not _has_content(tokens, store)]


def _has_content(tokens: DomainTokens, store: Path) -> bool:
    try:
        held_out = load_validation(store, tokens.domain, tokens.validation_digest)
        return len(held_out.input_ids) > 0 and sum(map(len, tokens.windows(store))) > 0
    except _UNREADABLE:
        return False


def trained_validation_documents(domains: Sequence[DomainTokens], *, store: Path) -> dict[str, int]:
    """Domain -> validation documents, of whatever domain, that stand in its training arrays.

    Compares tokens, not document names: it sees a leak however it came about.
    """
    held_out = {d for tokens in domains for d in _validation_documents(tokens, store)}
    sizes = np.unique([len(document) for document in held_out])
    return {
        tokens.domain: sum(
            document in held_out
            for array in tokens.windows(store)
            for document in _documents(array, tokens.eos_id, sizes)
        )
        for tokens in domains
    }


def _validation_documents(tokens: DomainTokens, store: Path) -> Iterator[bytes]:
    found = load_validation(store, tokens.domain, tokens.validation_digest)
    for begin, end in pairwise(found.offsets.tolist()):
        yield found.input_ids[begin:end].tobytes()


def _documents(
    array: NDArray[np.integer], eos_id: int, sizes: NDArray[np.int64]
) -> Iterator[bytes]:
    """What stands between two end-of-text tokens, if it has one of these sizes in bytes."""
    ends = np.flatnonzero(array == eos_id)
    begins = np.concatenate([[0], ends[:-1] + 1])
    candidates = np.isin((ends - begins) * array.itemsize, sizes)
    for begin, end in zip(begins[candidates].tolist(), ends[candidates].tolist(), strict=True):
        yield array[begin:end].tobytes()
