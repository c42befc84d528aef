"""Tokenizers for the store: trained on a balanced sample of the domains, or anybody's own."""

import hashlib
import json
import re
import warnings
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import huggingface_hub
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from mixture_assets.core.digest import digest
from mixture_assets.core.errors import MixtureError, MixtureWarning
from mixture_assets.data.files import write_json
from mixture_assets.data.frozen import END_OF_TEXT, PROBE, FrozenTokenizer, freeze
from mixture_assets.data.messages import first_sentence
from mixture_assets.data.readers import documents
from mixture_assets.data.shards import RawShard, require_unchanged

__all__ = [
    "FrozenTokenizer",
    "load_tokenizer",
    "same_tokenizer",
    "train_tokenizer",
    "unreadable_samples",
]

TRAIN_VERSION = 1  # raise when a change of code changes what is learned
_DIGEST = re.compile(r"[0-9a-f]{16}")
_SAMPLE_SHARDS = 16  # of a domain, before more are opened
# Used when no tokenizer_config.json names the end-of-text token.
_EOS_TOKENS = (END_OF_TEXT, "<|end_of_text|>", "</s>", "<eos>", "<|im_end|>", "[SEP]")


def train_tokenizer(
    shards_by_domain: Mapping[str, Sequence[RawShard]],
    *,
    vocab_size: int,
    store: Path,
    text_field: str = "text",
    txt_document_chars: int = 4000,
    sample_bytes_per_domain: int = 1_000_000,
    seed: int = 0,
) -> FrozenTokenizer:
    """Train a byte-level BPE on the same amount of text from every domain.

    Not in proportion to size: a scarce domain would be spelt out in bytes. The same inputs find
    the same tokenizer again without training.
    """
    if vocab_size < 257:
        raise MixtureError(
            f"a vocabulary of {vocab_size} is too small: bytes and {END_OF_TEXT} take 257",
            hint="raise [tokenizer] vocab_size",
        )
    settings = {"text_field": text_field, "txt_document_chars": txt_document_chars}
    key = digest(
        {
            "version": TRAIN_VERSION,
            "shards": {d: [s.digest for s in shards] for d, shards in shards_by_domain.items()},
            "vocab_size": vocab_size,
            "sample_bytes_per_domain": sample_bytes_per_domain,
            "seed": seed,
            **settings,
        }
    )
    key_file = store / "tokenizers" / "trained" / f"{key}.json"
    if found := _trained_before(key_file, store):
        return found
    sample = [
        text
        for _, shards in sorted(shards_by_domain.items())
        for text in _sample(shards, sample_bytes_per_domain, seed, settings)
    ]
    tokenizer = freeze(_byte_level_bpe(sample, vocab_size), eos_token=END_OF_TEXT, store=store)
    write_json(key_file, {"tokenizer": tokenizer.digest})
    return tokenizer


def unreadable_samples(
    shards_by_domain: Mapping[str, Sequence[RawShard]],
    *,
    text_field: str,
    txt_document_chars: int,
    sample_bytes_per_domain: int,
) -> dict[str, MixtureError]:
    """Domains whose part of the sample cannot be read, and why: for when training failed."""
    settings = {"text_field": text_field, "txt_document_chars": txt_document_chars}
    found = {}
    for domain, shards in sorted(shards_by_domain.items()):
        try:
            deque(_sample(shards, sample_bytes_per_domain, 0, settings), maxlen=0)
        except MixtureError as error:
            found[domain] = error
    return found


def load_tokenizer(name_or_path: str, *, store: Path) -> FrozenTokenizer:
    """Copy a Hugging Face fast tokenizer into the store.

    Args:
        name_or_path: A tokenizer.json, a folder with one, a hub name, or the digest of a
            tokenizer that is already in the store.
        store: Root of the store.
    """
    stored = store / "tokenizers" / name_or_path
    if _DIGEST.fullmatch(name_or_path) and (stored / "tokenizer.json").is_file():
        return FrozenTokenizer.open(stored)
    path = Path(name_or_path)
    if path.is_dir():
        path = path / "tokenizer.json"
    if not path.is_file():
        path = _download(name_or_path, path)
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # `tokenizers` raises bare Exception
        raise MixtureError(
            f"{str(path)!r} is not a tokenizer: {first_sentence(error)}",
            hint="save it again: transformers' save_pretrained writes tokenizer.json",
        ) from error
    return freeze(tokenizer, eos_token=_eos_token(tokenizer, path), store=store)


def same_tokenizer(path: Path, tokenizer: FrozenTokenizer) -> bool:
    """Whether a tokenizer.json gives the same ids the same meaning; end-of-text may differ."""
    try:
        theirs = Tokenizer.from_file(str(path))
    except Exception:  # `tokenizers` raises bare Exception
        return False
    ours = tokenizer.reference
    theirs.no_truncation()  # how much text a model was fed means nothing to its ids
    theirs.no_padding()
    if theirs.get_vocab(with_added_tokens=True) != ours.get_vocab(with_added_tokens=True):
        return False
    one, other = (t.encode(PROBE, add_special_tokens=False).ids for t in (theirs, ours))
    return bool(one == other)


def _trained_before(key_file: Path, store: Path) -> FrozenTokenizer | None:
    if not key_file.exists():
        return None
    name = json.loads(key_file.read_text(encoding="utf-8"))["tokenizer"]
    folder = store / "tokenizers" / name
    return FrozenTokenizer.open(folder) if (folder / "tokenizer.json").exists() else None


def _sample(
    shards: Sequence[RawShard], n_bytes: int, seed: int, settings: Mapping[str, Any]
) -> Iterator[str]:
    """About `n_bytes` of a domain's text: the starts of up to 16 random shards, more if short."""
    order = sorted(shards, key=lambda s: hashlib.sha256(f"{seed}/{s.digest}".encode()).hexdigest())
    per_shard = -(-n_bytes // max(1, min(len(order), _SAMPLE_SHARDS)))
    left = n_bytes
    for shard in order:
        quota = min(left, per_shard)
        for text in documents(shard, **settings):
            piece = text.encode("utf-8")[:quota].decode("utf-8", "ignore")
            yield piece
            quota -= len(piece.encode("utf-8"))
            left -= len(piece.encode("utf-8"))
            if quota < 4:  # less than any one character may need
                break
        require_unchanged(shard)
        if left < 4:
            return


def _byte_level_bpe(sample: Sequence[str], vocab_size: int) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sample, trainer)
    if (reached := tokenizer.get_vocab_size()) < vocab_size:
        warnings.warn(
            f"the sample of {sum(map(len, sample)):,} characters gives only {reached:,} of "
            f"{vocab_size:,} tokens",
            MixtureWarning,
            stacklevel=3,
        )
    return tokenizer


def _download(name: str, path: Path) -> Path:
    """tokenizer.json of a hub repository, with the configuration beside it if there is one."""
    if path.suffix == ".json" or path.is_absolute() or name.startswith("."):
        raise MixtureError(
            f"no tokenizer at {str(path)!r}",
            hint="[tokenizer] name is a tokenizer.json, a folder that holds one, or a hub name",
        )
    try:
        found = Path(huggingface_hub.hf_hub_download(name, "tokenizer.json"))
    except Exception as error:  # not a name, not there, not allowed, no network
        raise MixtureError(
            f"cannot get the tokenizer {name!r}: {first_sentence(error)}",
            hint="check the name and the network, or give the path of a tokenizer.json",
        ) from error
    try:
        huggingface_hub.hf_hub_download(name, "tokenizer_config.json")
    except huggingface_hub.errors.EntryNotFoundError:
        pass
    return found


def _eos_token(tokenizer: Tokenizer, path: Path) -> str:
    config = path.parent / "tokenizer_config.json"
    named = json.loads(config.read_text(encoding="utf-8")) if config.is_file() else {}
    token = named.get("eos_token")
    candidates = (token["content"] if isinstance(token, dict) else token, *_EOS_TOKENS)
    for candidate in candidates:
        if candidate and tokenizer.token_to_id(candidate) is not None:
            return str(candidate)
    raise MixtureError(
        f"the tokenizer at {str(path)!r} has no end-of-text token",
        hint=f"name one as eos_token in tokenizer_config.json beside it, or add {END_OF_TEXT!r}",
    )
