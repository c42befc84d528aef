"""Reading a pool, against the texts that were written."""

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from mixture_assets.data.detokenize import document_bytes
from mixture_assets.data.frozen import PROBE, freeze
from tests.selection.conftest import PLANTED, doc_id, texts_of


def test_a_pool_is_read_piece_by_piece(pool, english):
    pieces = [p for shard in pool.shards for p in pool.pieces(shard)]
    assert len(pieces) == 4  # two row groups of two shards
    assert texts_of(pool) == {doc_id(t): t for t in english + PLANTED}
    assert pool.n_documents == len(english) + len(PLANTED)
    encoded = [pool.tokenizer.reference.encode(t).ids for t in english + PLANTED]
    assert pool.n_tokens == sum(map(len, encoded)) == sum(p.n_tokens.sum() for p in pieces)
    for piece in pieces:
        assert piece.n_bytes.tolist() == [len(t) for t in pool.texts(piece)]


def test_excluded_and_equal_documents_do_not_count_twice(pool_of, english):
    pool = pool_of(english[:5] + english[3:5], english[2:8], excluded=[english[0], english[7]])
    assert set(texts_of(pool)) == {doc_id(t) for t in english[1:7]}
    encoded = [pool.tokenizer.reference.encode(t).ids for t in english[1:7]]
    assert (pool.n_documents, pool.n_tokens) == (6, sum(map(len, encoded)))


TEXTS = ["plain", "\u4e2d\u6587 caf\u00e9 \U0001f600", PROBE, "a<|endoftext|>b\x00\n", "x"]


def _byte_level(alphabet):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer


def _word_piece():
    tokenizer = Tokenizer(models.WordLevel({"<unk>": 0, "plain": 1, "x": 2, "<eos>": 3}, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(["<eos>"])
    return tokenizer


@pytest.mark.parametrize(
    ("make", "eos"),
    [
        (lambda: _byte_level(pre_tokenizers.ByteLevel.alphabet()), "<|endoftext|>"),
        (_word_piece, "<eos>"),
    ],
)
@pytest.mark.filterwarnings("ignore:gigatoken cannot be used")
def test_bytes_are_what_the_tokenizer_itself_decodes(tmp_path, make, eos):
    tokenizer = freeze(make(), eos_token=eos, store=tmp_path)
    ids = [tokenizer.reference.encode(t, add_special_tokens=False).ids for t in TEXTS]
    offsets = np.cumsum([0, *map(len, ids)])
    found = document_bytes(tokenizer, np.concatenate(ids).astype(np.uint16), offsets)
    assert found == [tokenizer.decode(i).encode() for i in ids]
    if eos == "<|endoftext|>":
        assert found == [t.encode() for t in TEXTS]
