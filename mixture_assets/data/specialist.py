"""The specialist set: documents that say what the model should be good at, in two parts.

One part steers, the other judges; a document is in one of them, by its content. Steering
documents become a training stream (repeated where it is shorter than a window) and a set that
the steering loss is measured on, judging documents a set that the judged loss is measured on.
Nothing of either is in any domain's training tokens by our doing.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mixture_assets.core.digest import digest
from mixture_assets.core.errors import MixtureError
from mixture_assets.core.names import SPECIALIST, STEERING
from mixture_assets.data.doc_index import DocIndex
from mixture_assets.data.files import atomic_write, write_json
from mixture_assets.data.split import validation_mask
from mixture_assets.data.token_store import DomainTokens, load_validation
from mixture_assets.data.validation import Choice, write_validation

SPECIALIST_VERSION = 2  # raise when a change of code changes what steers or judges


@dataclass(frozen=True)
class SpecialistSet:
    """What steers and what judges.

    What is trained on and steered by has a name that does not depend on what judges: a run is
    not trained again to be measured on other documents.
    """

    tokens: DomainTokens  # the part that steers, to train on and to measure on
    judging: str  # digest of the documents that judge
    n_judging: int
    n_left_out: int  # documents beyond most_tokens

    @property
    def steering(self) -> str:
        """Digest of the documents that steer, as something to measure on."""
        return self.tokens.validation_digest

    @property
    def validation_sets(self) -> dict[str, str]:
        """What runs are measured on, by name."""
        return {SPECIALIST: self.judging, STEERING: self.steering}


def build_specialist(
    shards: Mapping[str, Path],
    *,
    store: Path,
    tokenizer: str,
    eos_id: int,
    context: int,
    judging_fraction: float,
    most_tokens: int,
    held_out: float | None = None,
    never_steers: Collection[str] = (),
) -> SpecialistSet:
    """Split documents into those that steer and those that judge, and write both.

    Documents that must not steer judge, and beside them those with the lowest content hashes, at
    least one; at least one steers.

    Args:
        shards: Token shards with the documents, by digest.
        store: Root of the store.
        tokenizer: Digest of the tokenizer that made the shards.
        eos_id: Token that ends every document.
        context: Tokens of a training window.
        judging_fraction: Share of the documents that judges.
        most_tokens: Of each part: further documents are left out of it.
        held_out: Only documents that this share of content hashes holds out of a domain's
            training; None: all.
        never_steers: Ids of documents that runs are measured on as something else: they judge,
            be they more than `judging_fraction`.

    Raises:
        MixtureError: Fewer than two different documents, or none that may steer.
    """
    paths = [path for _, path in sorted(shards.items())]
    hashes, n_tokens = _documents(paths, held_out)
    if len(hashes) < 2:
        raise MixtureError(
            f"the specialist set has {len(hashes)} document{'s' * (len(hashes) != 1)}: one has to "
            "steer and another to judge",
            hint="add documents; a txt file is cut at paragraphs where it is longer than "
            "[data] txt_document_chars",
        )
    judges = _judges(hashes, judging_fraction, never_steers)
    judge = _first(hashes[judges], n_tokens[judges], most_tokens)
    steer = _first(hashes[~judges], n_tokens[~judges], most_tokens)
    judging, steering = (
        write_validation(choice, paths, domain=name, tokenizer=tokenizer, store=store)
        for choice, name in ((judge, SPECIALIST), (steer, STEERING))
    )
    tokens = DomainTokens(
        domain=SPECIALIST,
        digest=digest([SPECIALIST_VERSION, steering, eos_id, context]),
        tokenizer=tokenizer,
        eos_id=eos_id,
        available_tokens=steer.n_tokens + len(steer.hashes),
        n_documents=len(steer.hashes),
        n_train_documents=len(steer.hashes),
        n_duplicate_documents=0,
        arrays=[_write_stream(store, steering, eos_id, context)],
        validation_digest=steering,
        validation_tokens=steer.n_tokens,
        validation_documents=len(steer.hashes),
        token_shards=sorted(shards),
    )
    write_json(store / "token_sets" / SPECIALIST / f"{tokens.digest}.json", asdict(tokens))
    return SpecialistSet(
        tokens=tokens,
        judging=judging,
        n_judging=len(judge.hashes),
        n_left_out=len(hashes) - len(judge.hashes) - len(steer.hashes),
    )


def _documents(
    paths: Sequence[Path], held_out: float | None
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Content hashes, ascending and each once, and tokens of the documents to choose from."""
    indexes = [DocIndex.read(path) for path in paths]
    hashes = np.concatenate([index.hashes for index in indexes])
    n_tokens = np.concatenate([index.n_tokens for index in indexes])
    if held_out is not None:
        mask = validation_mask(hashes, held_out)
        hashes, n_tokens = hashes[mask], n_tokens[mask]
    unique, first = np.unique(hashes, return_index=True)
    return unique, n_tokens[first]


def _judges(
    hashes: NDArray[np.uint64], fraction: float, never_steers: Collection[str]
) -> NDArray[np.bool_]:
    """Which documents judge: those that must not steer, then the others by hash."""
    fixed = np.array([int(d, 16) for d in sorted(never_steers)], np.uint64)
    found: NDArray[np.bool_] = np.isin(hashes, fixed)
    if found.all():
        raise MixtureError(
            f"all {len(hashes)} documents that a domain's training never sees are its validation "
            "set, and none of those may steer",
            hint="raise [data] validation_fraction, or lower validation_tokens",
        )
    wanted = min(max(1, round(fraction * len(hashes))), len(hashes) - 1)
    found[np.flatnonzero(~found)[: max(0, wanted - found.sum())]] = True
    return found


def _first(hashes: NDArray[np.uint64], n_tokens: NDArray[np.int64], most_tokens: int) -> Choice:
    """Documents until `most_tokens` are reached, the one that reaches them included."""
    total = np.cumsum(n_tokens)
    n_documents = min(int(np.searchsorted(total, most_tokens)) + 1, len(hashes))
    return Choice(hashes[:n_documents], int(total[n_documents - 1]))


def _write_stream(store: Path, steering: str, eos_id: int, context: int) -> tuple[str, int]:
    """Steering documents, each with its end-of-text, repeated to at least one window."""
    documents = load_validation(store, STEERING, steering)
    eos = documents.input_ids.dtype.type(eos_id)
    once = np.insert(documents.input_ids, documents.offsets[1:], eos)
    stream = np.tile(once, -(-(context + 1) // len(once)))
    relative = f"tokens/{SPECIALIST}/{digest([steering, eos_id, len(stream)])}.npy"
    if not (store / relative).exists():
        with atomic_write(store / relative) as file:
            np.lib.format.write_array(file, stream, version=(1, 0), allow_pickle=False)
    return relative, len(stream)
