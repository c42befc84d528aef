"""A tokenizer that never changes again, named by what it does rather than what it is called."""

import hashlib
import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from mixture_assets.core.digest import canonical_json, digest
from mixture_assets.core.errors import MixtureWarning
from mixture_assets.data.engine import Encoded, fast_encode, open_fast, reference_encode
from mixture_assets.data.files import atomic_write, write_json

END_OF_TEXT = "<|endoftext|>"

# Changing it renames every token shard. It holds what tokenizers are known to disagree about.
PROBE = (
    "The quick brown fox's 1,234,567.89 jumps; DON'T they'll we've I'd\n\n"
    "def f(x: int) -> str:\n    \treturn f'{x!r:>10}'  # 0xDEADBEEF\r\n  \n   \n"
    '<div class="a-b_c">&amp;</div> https://example.org/?q=%20&r=1#top {"k": [1e-9, null]}\n'
    "\u4e2d\u6587\u5206\u8bcd\u6d4b\u8bd5\u3002\u65e5\u672c\u8a9e\u306e\u30c6\u30b9\u30c8 "
    "\ud55c\uad6d\uc5b4 \u0939\u093f\u0928\u094d\u0926\u0940 \u0627\u0644\u0639\u0631\u0628"
    "\u064a\u0629 \u05e2\u05d1\u05e8\u05d9\u05ea \u0420\u0443\u0441\u0441\u043a\u0438\u0439 "
    "\u0395\u03bb\u03bb\u03b7\u03bd\u03b9\u03ba\u03ac \u0e44\u0e17\u0e22 "
    "\U0001f600\U0001f469\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea \u2764\ufe0f "
    "\u00e9 e\u0301 \ufb01 \u00bd \u00b2 \uff21 \u2028\u2029\u00a0\u3000\u200b\ufeff"
    "\x00\x01\x07\x1b[0m\x7f\x85 \t\t\v\f <|endoftext|> <s></s> <|im_start|> [UNK] "
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa ======================== \U0010ffff \ufffd"
)


@dataclass(frozen=True)
class FrozenTokenizer:
    """A tokenizer in the store."""

    digest: str  # of its vocabulary, its end-of-text token and its ids on PROBE
    vocab_size: int  # highest id + 1: rows that an embedding needs
    eos_id: int
    path: Path  # its tokenizer.json
    reference: Tokenizer = field(repr=False, compare=False)
    fast: Any | None = field(repr=False, compare=False)  # gigatoken's form, where it has one

    @classmethod
    def open(cls, folder: Path) -> "FrozenTokenizer":
        """Open a tokenizer folder that `freeze` wrote."""
        text = (folder / "tokenizer.json").read_text(encoding="utf-8")
        config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        reference = Tokenizer.from_str(text)
        eos_id = reference.token_to_id(config["eos_token"])
        assert eos_id is not None  # `freeze` was given a token of the vocabulary
        fast, reason = open_fast(text)
        if fast is None:
            warnings.warn(
                f"gigatoken cannot be used for tokenizer {folder.name}: {reason}; "
                "`tokenizers` does its work, about 30 times slower",
                MixtureWarning,
                stacklevel=3,
            )
        return cls(
            digest=folder.name,
            vocab_size=_vocab_size(reference),
            eos_id=eos_id,
            path=folder / "tokenizer.json",
            reference=reference,
            fast=fast,
        )

    @property
    def engine(self) -> str:
        """What encodes, as long as it agrees with `tokenizers`."""
        return "tokenizers" if self.fast is None else "gigatoken"

    @property
    def dtype(self) -> type[np.uint16] | type[np.uint32]:
        """The narrowest type that holds every id."""
        return np.uint16 if self.vocab_size <= 1 << 16 else np.uint32

    def encode_flat(self, texts: Sequence[bytes], *, engine: str = "") -> Encoded:
        """Ids of all documents in one array, and how many each has. Text is UTF-8."""
        if (engine or self.engine) == "gigatoken":
            return fast_encode(self.fast, texts)
        return reference_encode(self.reference, [t.decode("utf-8") for t in texts])

    def encode_batch(self, texts: Sequence[str]) -> list[NDArray[np.uint32]]:
        """Ids of each document, without special tokens added."""
        ids, lengths = self.encode_flat([t.encode("utf-8") for t in texts])
        return np.split(ids, np.cumsum(lengths)[:-1]) if len(lengths) else []

    def decode(self, ids: Sequence[int] | NDArray[np.integer]) -> str:
        """The text of some ids."""
        text: str = self.reference.decode([int(i) for i in ids], skip_special_tokens=False)
        return text


def freeze(tokenizer: Tokenizer, *, eos_token: str, store: Path) -> FrozenTokenizer:
    """Put a tokenizer into the store, under the digest of its behaviour."""
    tokenizer.no_truncation()  # some files ship with both: documents must stay whole
    tokenizer.no_padding()
    folder = store / "tokenizers" / behaviour(tokenizer, eos_token)
    if not (folder / "tokenizer.json").exists():
        config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": eos_token}
        write_json(folder / "tokenizer_config.json", config)
        with atomic_write(folder / "tokenizer.json") as file:  # last: its presence means done
            file.write(tokenizer.to_str(pretty=True).encode())
    return FrozenTokenizer.open(folder)


def behaviour(tokenizer: Tokenizer, eos_token: str) -> str:
    """The digest of what a tokenizer does.

    Not of its file: the same tokenizer is written differently by different versions.
    """
    vocabulary = canonical_json(tokenizer.get_vocab(with_added_tokens=True))
    return digest(
        {
            "vocab_size": _vocab_size(tokenizer),
            "vocabulary": hashlib.sha256(vocabulary.encode()).hexdigest(),
            "eos_id": tokenizer.token_to_id(eos_token),
            "probe_ids": tokenizer.encode(PROBE, add_special_tokens=False).ids,
        }
    )


def _vocab_size(tokenizer: Tokenizer) -> int:
    return int(max(tokenizer.get_vocab(with_added_tokens=True).values())) + 1
