"""A domain's training tokens as flat arrays, and its validation documents.

Training text is one long stream: documents without the held-out ones, each followed by the
end-of-text token. Arrays are memory-mapped by the sampler. Names depend on content alone, so
renaming a raw file changes nothing.
"""

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from mixture_assets.core.digest import digest
from mixture_assets.core.errors import MixtureError
from mixture_assets.data.doc_index import DocIndex, flat_ids, hashes_of, row_groups
from mixture_assets.data.files import atomic_write, write_json
from mixture_assets.data.split import validation_mask
from mixture_assets.data.tokenize import TokenShard
from mixture_assets.data.validation import (
    ValidationSet,
    choose,
    is_written,
    load_validation,
    validation_path,
    write_validation,
)

__all__ = ["DomainTokens", "ValidationSet", "build_domain", "find_domain", "load_validation"]

STORE_VERSION = 1  # raise when a change of code changes an array
_ARRAY_TOKENS = 1 << 22  # smaller shards share an array: windows do not cross arrays


@dataclass(frozen=True)
class DomainTokens:
    """What can be trained on, and what it is measured on."""

    domain: str
    digest: str
    tokenizer: str  # digest
    eos_id: int
    available_tokens: int  # of all arrays, end-of-text included: one pass over the domain
    n_documents: int  # held-out ones included
    n_train_documents: int
    n_duplicate_documents: int  # whose content came before in the domain; they are kept
    arrays: list[tuple[str, int]]  # path in the store, tokens
    validation_digest: str
    validation_tokens: int
    validation_documents: int
    token_shards: list[str]  # digests

    @classmethod
    def load(cls, store: Path, domain: str, digest: str) -> "DomainTokens":
        """Read a manifest."""
        path = _manifest(store, domain, digest)
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise MixtureError(
                f"the store has no training tokens {digest} of {domain!r}",
                hint="`mixture run` makes what is missing",
            ) from error
        fields["arrays"] = [(str(name), int(n)) for name, n in fields["arrays"]]
        return cls(**fields)

    def windows(self, store: Path) -> list[NDArray[np.integer]]:
        """The arrays, memory-mapped: nothing is read until it is used."""
        return [np.load(store / name, mmap_mode="r", allow_pickle=False) for name, _ in self.arrays]

    def shard_paths(self, store: Path) -> list[Path]:
        """The token shards behind the arrays."""
        return [store / "tokens" / self.domain / f"{s}.parquet" for s in self.token_shards]


def build_domain(
    token_shards: Sequence[TokenShard],
    *,
    store: Path,
    eos_id: int,
    validation_fraction: float,
    validation_tokens: int,
    context: int,
    min_train_tokens: int,
) -> DomainTokens:
    """Split a domain, and write its arrays and its validation documents.

    Args:
        token_shards: All of one domain, by one tokenizer, in any order.
        store: Root of the store.
        eos_id: Token that ends every training document.
        validation_fraction: Share of all content hashes that is held out of training.
        validation_tokens: Held-out documents are evaluated until so many tokens are reached.
        context: Tokens of a training window.
        min_train_tokens: One batch.
    """
    shards = [s for _, s in sorted({s.digest: s for s in token_shards}.items())]
    domain = shards[0].domain
    key = digest([STORE_VERSION, eos_id, validation_fraction])[:8]
    name = digest([STORE_VERSION, [s.digest for s in shards], key, validation_tokens])
    limits = {"context": context, "min_train_tokens": min_train_tokens}
    if (found := find_domain(store, domain, name)) is not None:
        _require_enough(domain, [n for _, n in found.arrays], found.validation_documents, **limits)
        return found
    indexes = [DocIndex.read(s.path) for s in shards]
    train_tokens = [_train_tokens(index, validation_fraction) for index in indexes]
    groups = _grouped(train_tokens)
    sizes = [sum(train_tokens[i] for i in group) for group in groups]
    choice = choose(indexes, fraction=validation_fraction, tokens=validation_tokens)
    _require_enough(domain, sizes, len(choice.hashes), **limits)

    arrays = []
    for group, size in zip(groups, sizes, strict=True):
        members = [shards[i] for i in group]
        relative = f"tokens/{domain}/{_joined_name(members)}.{key}.npy"
        _write_array(store / relative, members, size, eos_id, validation_fraction)
        arrays.append((relative, size))
    hashes = np.concatenate([index.hashes for index in indexes])
    tokens = DomainTokens(
        domain=domain,
        digest=name,
        tokenizer=shards[0].tokenizer,
        eos_id=eos_id,
        available_tokens=sum(sizes),
        n_documents=len(hashes),
        n_train_documents=int((~validation_mask(hashes, validation_fraction)).sum()),
        n_duplicate_documents=len(hashes) - len(np.unique(hashes)),
        arrays=arrays,
        validation_digest=write_validation(
            choice,
            [s.path for s in shards],
            domain=domain,
            tokenizer=shards[0].tokenizer,
            store=store,
        ),
        validation_tokens=choice.n_tokens,
        validation_documents=len(choice.hashes),
        token_shards=[s.digest for s in shards],
    )
    write_json(_manifest(store, domain, name), asdict(tokens))  # last: its presence means done
    return tokens


def find_domain(store: Path, domain: str, name: str) -> DomainTokens | None:
    """A token set that was built before and whose files are all there."""
    if not _manifest(store, domain, name).exists():
        return None
    found = DomainTokens.load(store, domain, name)
    has_arrays = all(_is_complete(store / path, n) for path, n in found.arrays)
    has_validation = is_written(
        validation_path(store, domain, found.validation_digest), found.validation_documents
    )
    return found if has_arrays and has_validation else None


def _manifest(store: Path, domain: str, name: str) -> Path:
    return store / "token_sets" / domain / f"{name}.json"


def _joined_name(shards: Sequence[TokenShard]) -> str:
    return shards[0].digest if len(shards) == 1 else digest([s.digest for s in shards])


def _train_tokens(index: DocIndex, fraction: float) -> int:
    """Length of a shard's training stream."""
    is_train = ~validation_mask(index.hashes, fraction)
    return int(index.n_tokens[is_train].sum() + is_train.sum())


def _grouped(tokens: Sequence[int]) -> list[list[int]]:
    """Shards that share an array: neighbours, until it holds 4 M tokens. No array is empty.

    A folder of short txt files would otherwise lose the end of every file, or all of it.
    """
    starts = itertools.accumulate(
        tokens, lambda held, n: n if held >= _ARRAY_TOKENS else held + n, initial=0
    )
    groups: list[list[int]] = [[]]
    for i, (held, n) in enumerate(zip(starts, tokens, strict=False)):
        if held >= _ARRAY_TOKENS:
            groups.append([])
        if n:
            groups[-1].append(i)
    return [group for group in groups if group]


def _require_enough(
    domain: str, sizes: Sequence[int], n_validation: int, context: int, min_train_tokens: int
) -> None:
    n_tokens = sum(sizes)
    if n_tokens < min_train_tokens:
        raise MixtureError(
            f"{domain!r} has {n_tokens:,} training tokens, less than one batch of "
            f"{min_train_tokens:,}",
            hint="add data, lower [training] batch_tokens, or leave the domain out",
        )
    if max(sizes, default=0) <= context:
        raise MixtureError(
            f"{domain!r} has {n_tokens:,} training tokens, less than one window of {context:,} + 1",
            hint="add data, lower [model] context, or leave the domain out",
        )
    if not n_validation:
        raise MixtureError(
            f"{domain!r} has no validation document: its content hashes all fall on the training "
            "side",
            hint="raise [data] validation_fraction, lower txt_document_chars, or add data",
        )


def _write_array(
    path: Path, shards: Sequence[TokenShard], size: int, eos_id: int, fraction: float
) -> None:
    """Write the training stream of some shards as one .npy, unless it is there."""
    if _is_complete(path, size):
        return
    with atomic_write(path) as file:
        written = 0
        for part in _train_streams(shards, eos_id, fraction):
            if not written:
                _write_header(file, part.dtype, size)
            file.write(part.data)  # not into a memory map: on a full disk that kills the process
            written += len(part)
    assert written == size


def _write_header(file: BinaryIO, dtype: np.dtype[Any], size: int) -> None:
    header = {
        "descr": np.lib.format.dtype_to_descr(dtype),
        "fortran_order": False,
        "shape": (size,),
    }
    np.lib.format.write_array_header_1_0(file, header)


def _is_complete(path: Path, size: int) -> bool:
    try:
        return len(np.load(path, mmap_mode="r", allow_pickle=False)) == size
    except (FileNotFoundError, ValueError, EOFError):
        return False


def _train_streams(
    shards: Sequence[TokenShard], eos_id: int, fraction: float
) -> Iterator[NDArray[np.integer]]:
    """Training documents, each with its end-of-text, a row group at a time."""
    for table in itertools.chain.from_iterable(row_groups(s.path) for s in shards):
        ids, n_tokens = flat_ids(table), table["n_tokens"].to_numpy()
        is_train = ~validation_mask(hashes_of(table["doc_id"].to_pylist()), fraction)
        lengths = n_tokens[is_train].astype(np.int64) + 1
        stream = np.full(int(lengths.sum()), eos_id, ids.dtype)
        is_text = np.ones(len(stream), bool)
        is_text[np.cumsum(lengths) - 1] = False
        stream[is_text] = ids[np.repeat(is_train, n_tokens)]
        yield stream
