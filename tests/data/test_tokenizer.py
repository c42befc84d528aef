import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from mixture_assets.core.errors import MixtureError, MixtureWarning
from mixture_assets.data.frozen import END_OF_TEXT, PROBE
from mixture_assets.data.tokenizer import load_tokenizer, train_tokenizer

unicode_text = st.text(st.characters(exclude_categories=["Cs"]))


@pytest.fixture
def corpus(land, found, english):
    """Two domains, one of them 30 times larger."""
    land("code", "a.jsonl", english)
    land("poems", "a.jsonl", ["Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich. "])
    return {domain: found(domain) for domain in ("code", "poems")}


def train(corpus, store, **settings):
    return train_tokenizer(corpus, **{"vocab_size": 400, "store": store, **settings})


@settings(deadline=None)  # the first call opens the engines
@given(st.lists(unicode_text))
def test_decoding_gives_back_any_text(tokenizer, texts):
    assert [tokenizer.decode(ids) for ids in tokenizer.encode_batch(texts)] == texts


@settings(deadline=None)  # the first call opens the engines
@given(st.lists(unicode_text))
def test_both_engines_agree_on_any_text(tokenizer, texts):
    raw = [t.encode() for t in texts]
    for fast, slow in zip(
        tokenizer.encode_flat(raw, engine="gigatoken"),
        tokenizer.encode_flat(raw, engine="tokenizers"),
        strict=True,
    ):
        assert fast.tolist() == slow.tolist()


def test_engines_agree_on_the_probe_and_it_is_what_it_says(tokenizer):
    (ids,) = tokenizer.encode_batch([PROBE])
    assert tokenizer.decode(ids) == PROBE
    assert ids.tolist() == tokenizer.reference.encode(PROBE).ids
    assert tokenizer.engine == "gigatoken"
    for wanted in ("中", "😀", "def f", "\x00", "\t", "\u2028", "<|endoftext|>"):
        assert wanted in PROBE


def test_training_is_done_once(corpus, tmp_path):
    first = train(corpus, tmp_path / "store")
    assert first.vocab_size == 400
    assert first.reference.token_to_id(END_OF_TEXT) == first.eos_id
    assert first.path == tmp_path / "store/tokenizers" / first.digest / "tokenizer.json"
    for shard in corpus["code"]:
        open(shard.url, "w").close()  # training again would fail on an empty shard
    assert train(corpus, tmp_path / "store") == first
    with pytest.raises(MixtureError, match="has changed"):
        train(corpus, tmp_path / "store", seed=1)


def test_training_gives_the_same_bytes_anywhere(corpus, tmp_path):
    stores = [tmp_path / "a", tmp_path / "b"]
    paths = [train(corpus, store).path for store in stores]
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_a_scarce_domain_is_not_spelt_out_in_bytes(corpus, tmp_path):
    tokenizer = train(corpus, tmp_path / "store", vocab_size=300, sample_bytes_per_domain=80)
    (ids,) = tokenizer.encode_batch([" Boxkämpfer"])
    assert len(ids) < len(" Boxkämpfer".encode())


def test_says_when_the_sample_is_too_small_for_the_vocabulary(land, found, tmp_path):
    land("poems", "a.jsonl", ["one two"])
    with pytest.warns(MixtureWarning, match=r"of 7 characters gives only \d+ of 1,000 tokens"):
        train({"poems": found("poems")}, tmp_path / "store", vocab_size=1000)


def test_refuses_a_vocabulary_without_room_for_bytes(corpus, tmp_path):
    with pytest.raises(MixtureError, match="a vocabulary of 256 is too small"):
        train(corpus, tmp_path / "store", vocab_size=256)


def test_the_digest_follows_behaviour_not_the_file(tokenizer, tmp_path):
    text = json.loads(tokenizer.path.read_text())
    (tmp_path / "same.json").write_text(json.dumps(text))  # other white space
    text["normalizer"] = {"type": "NFC"}
    (tmp_path / "other.json").write_text(json.dumps(text))
    same = load_tokenizer(str(tmp_path / "same.json"), store=tmp_path / "store")
    other = load_tokenizer(str(tmp_path / "other.json"), store=tmp_path / "store")
    assert same.digest == tokenizer.digest != other.digest
    assert other.vocab_size == tokenizer.vocab_size


def test_loads_a_file_a_folder_and_a_digest(tokenizer, tmp_path):
    store = tmp_path / "store"
    by_file = load_tokenizer(str(tokenizer.path), store=store)
    by_folder = load_tokenizer(str(tokenizer.path.parent), store=store)
    by_digest = load_tokenizer(tokenizer.digest, store=store)
    assert by_file == by_folder == by_digest
    assert by_file.path.is_relative_to(store)
    assert (by_file.digest, by_file.eos_id) == (tokenizer.digest, tokenizer.eos_id)


def test_truncation_and_padding_in_the_file_are_off(tokenizer, tmp_path):
    cutting = Tokenizer.from_file(str(tokenizer.path))
    cutting.enable_truncation(4)
    cutting.enable_padding(length=4)
    cutting.save(str(tmp_path / "tokenizer.json"))
    loaded = load_tokenizer(str(tmp_path), store=tmp_path / "store")
    assert loaded.digest == tokenizer.digest
    for engine in ("gigatoken", "tokenizers"):
        assert len(loaded.encode_flat([b"a b c d e f g h", b"a"], engine=engine)[0]) > 8, engine


def word_level(folder, *, special):
    """A tokenizer of a kind that gigatoken does not have."""
    tokenizer = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.WordLevelTrainer(special_tokens=["[UNK]", *special], show_progress=False)
    tokenizer.train_from_iterator(["one two three"], trainer)
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    return str(folder)


def test_a_model_that_gigatoken_lacks_is_left_to_tokenizers(tmp_path):
    name = word_level(tmp_path / "words", special=["</s>"])
    with pytest.warns(MixtureWarning, match="gigatoken cannot be used .*WordLevel"):
        tokenizer = load_tokenizer(name, store=tmp_path / "store")
    assert tokenizer.engine == "tokenizers"
    (ids,) = tokenizer.encode_batch(["two one"])
    assert ids.tolist() == [tokenizer.reference.token_to_id(w) for w in ("two", "one")]


def test_the_end_of_text_token_is_named_or_known(tmp_path):
    name = word_level(tmp_path / "words", special=[])
    with pytest.raises(MixtureError, match="has no end-of-text token") as caught:
        load_tokenizer(name, store=tmp_path / "store")
    assert "tokenizer_config.json" in caught.value.hint
    (tmp_path / "words/tokenizer_config.json").write_text('{"eos_token": {"content": "three"}}')
    with pytest.warns(MixtureWarning, match="gigatoken"):
        tokenizer = load_tokenizer(name, store=tmp_path / "store")
    assert tokenizer.reference.id_to_token(tokenizer.eos_id) == "three"


def test_works_where_gigatoken_is_not_installed(tokenizer, tmp_path):
    program = f"""
import sys, warnings
sys.modules["gigatoken"] = None  # what `import` finds where there is no such package
from pathlib import Path
from mixture_assets.data.tokenizer import load_tokenizer
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    tokenizer = load_tokenizer({str(tokenizer.path)!r}, store=Path({str(tmp_path)!r}))
print(tokenizer.digest, tokenizer.engine, caught[0].message)
"""
    out = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert out.stdout.startswith(f"{tokenizer.digest} tokenizers gigatoken cannot be used")
    assert "it is not installed" in out.stdout


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("/no/such/tokenizer.json", "no tokenizer at '/no/such/tokenizer.json'"),
        ("./missing", "no tokenizer at 'missing'"),
        ("not a name", "cannot get the tokenizer 'not a name'"),
    ],
)
def test_says_that_there_is_no_such_tokenizer(tmp_path, name, problem):
    with pytest.raises(MixtureError, match=problem) as caught:
        load_tokenizer(name, store=tmp_path)
    assert caught.value.hint


def test_says_that_a_file_is_no_tokenizer(tmp_path):
    (tmp_path / "tokenizer.json").write_text('{"model": 1}')
    with pytest.raises(MixtureError, match=r"tokenizer\.json' is not a tokenizer"):
        load_tokenizer(str(tmp_path), store=tmp_path / "store")
    assert not (tmp_path / "store").exists()
