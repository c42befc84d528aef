import json

import numpy as np
import pytest

from mixture_assets.core.errors import MixtureError
from mixture_assets.data.doc_index import DocIndex
from mixture_assets.data.shards import shards_at
from mixture_assets.data.specialist import build_specialist
from mixture_assets.data.token_store import DomainTokens, load_validation
from mixture_assets.data.tokenize import tokenize_shard
from mixture_assets.data.tokenizer import train_tokenizer

CONTEXT = 16


@pytest.fixture
def built(tmp_path):
    """A function: texts -> (the specialist set, texts by part, the store)."""

    def build(texts, **options):
        folder = tmp_path / "wishes"
        folder.mkdir(exist_ok=True)
        lines = [json.dumps({"text": text}) for text in texts]
        (folder / "a.jsonl").write_text("\n".join(lines))
        raw = shards_at(str(folder), "specialist", cache=tmp_path / "cache.json")
        tokenizer = train_tokenizer({"specialist": raw}, vocab_size=300, store=tmp_path)
        token_shards = [tokenize_shard(s, tokenizer, store=tmp_path) for s in raw]
        made = build_specialist(
            {s.digest: s.path for s in token_shards},
            store=tmp_path,
            tokenizer=tokenizer.digest,
            eos_id=tokenizer.eos_id,
            context=CONTEXT,
            **{"judging_fraction": 0.5, "most_tokens": 10_000} | options,
        )
        parts = {}
        for name, digest in made.validation_sets.items():
            found = load_validation(tmp_path, name, digest)
            spans = zip(found.offsets, found.offsets[1:], strict=False)
            parts[name] = [tokenizer.decode(found.input_ids[a:b]) for a, b in spans]
        return made, parts, tmp_path, tokenizer

    return build


TEXTS = [f"the quick brown fox number {i} jumps over {i * 7} lazy dogs" for i in range(20)]


def test_every_document_steers_or_judges_and_none_does_both(built):
    made, parts, *_ = built(TEXTS)
    assert sorted(parts["specialist"] + parts["specialist_steering"]) == sorted(TEXTS)
    assert len(parts["specialist"]) == len(parts["specialist_steering"]) == 10
    assert made.n_left_out == 0


def test_the_training_stream_is_the_steering_documents_and_nothing_else(built):
    made, parts, store, tokenizer = built(TEXTS)
    loaded = DomainTokens.load(store, "specialist", made.tokens.digest)
    (stream,) = loaded.windows(store)
    ends = np.flatnonzero(stream == tokenizer.eos_id)
    pieces = np.split(stream, ends + 1)[:-1]
    assert [tokenizer.decode(p[:-1]) for p in pieces] == parts["specialist_steering"]
    assert loaded.available_tokens == len(stream)


@pytest.mark.parametrize(("n", "n_judging"), [(2, 1), (3, 2), (5, 2), (7, 4)])
def test_a_handful_of_documents_leaves_some_on_both_sides(built, n, n_judging):
    _, parts, *_ = built(TEXTS[:n])
    assert len(parts["specialist"]) == n_judging
    assert len(parts["specialist_steering"]) == n - n_judging


def test_a_set_shorter_than_a_window_is_repeated(built):
    made, *_, store, _ = built(["a b c", "d e f"])
    (stream,) = made.tokens.windows(store)
    assert len(stream) >= CONTEXT + 1
    once = made.tokens.available_tokens
    assert np.array_equal(stream[once : 2 * once], stream[:once])


def test_one_document_said_twice_is_one_document(built):
    with pytest.raises(MixtureError, match="has 1 document: one has to steer"):
        built(["the same text", "the same text"])


def test_documents_beyond_the_limit_are_counted(built):
    made, parts, *_ = built(TEXTS, most_tokens=60)
    kept = sum(map(len, parts.values()))
    assert made.n_left_out == len(TEXTS) - kept > 0


def test_the_held_out_share_of_a_domain_is_all_that_it_draws_from(built, tmp_path):
    _, parts, store, _ = built(TEXTS, held_out=0.5)
    (path,) = store.glob("tokens/specialist/*.parquet")
    held_out = (DocIndex.read(path).hashes < np.uint64(1 << 63)).sum()
    assert sum(map(len, parts.values())) == held_out < len(TEXTS)


def test_a_file_and_a_folder_with_it_are_the_same_shards(tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "a.jsonl").write_text('{"text": "hello"}\n')
    cache = tmp_path / "cache.json"
    (one,) = shards_at(str(tmp_path / "x"), "specialist", cache=cache)
    (other,) = shards_at(str(tmp_path / "x" / "a.jsonl"), "specialist", cache=cache)
    assert (one.digest, one.format, one.n_bytes) == (other.digest, other.format, other.n_bytes)
    with pytest.raises(MixtureError, match="no specialist set at"):
        shards_at(str(tmp_path / "nothing"), "specialist", cache=cache)
    (tmp_path / "x" / "b.pdf").write_bytes(b"x")
    with pytest.raises(MixtureError, match="is no text that can be read"):
        shards_at(str(tmp_path / "x" / "b.pdf"), "specialist", cache=cache)


def test_what_judges_changes_nothing_of_what_steers(built):
    texts = [f"{text} of many" for text in TEXTS]
    made, parts, store, _ = built(texts)
    manifest = store / "token_sets" / "specialist" / f"{made.tokens.digest}.json"
    before = json.loads(manifest.read_text())
    shorter = [text for text in texts if text != parts["specialist"][0]]
    other, others, *_ = built(shorter, judging_fraction=9 / 19)
    assert others["specialist_steering"] == parts["specialist_steering"]
    assert other.tokens.digest == made.tokens.digest
    assert other.judging != made.judging
    after = json.loads(manifest.read_text())
    assert after["token_shards"] != before["token_shards"]  # where the same documents are now
    assert {k: v for k, v in after.items() if k != "token_shards"} == {
        k: v for k, v in before.items() if k != "token_shards"
    }


@pytest.mark.parametrize(("n_fixed", "n_judging"), [(0, 10), (3, 10), (10, 10), (15, 15), (19, 19)])
def test_documents_that_must_not_steer_judge(built, n_fixed, n_judging):
    _, _, store, _ = built(TEXTS)
    (path,) = store.glob("tokens/specialist/*.parquet")
    ids = [f"{h:016x}" for h in DocIndex.read(path).hashes.tolist()]
    made, *_ = built(TEXTS, never_steers=ids[:n_fixed])  # in the order of TEXTS, not of ids
    judging = load_validation(store, "specialist", made.judging).doc_ids
    steering = load_validation(store, "specialist_steering", made.steering).doc_ids
    assert set(ids[:n_fixed]) <= set(judging)
    assert set(judging) | set(steering) == set(ids)
    assert len(judging) == n_judging
    assert judging == sorted(judging)
    free = sorted(set(ids[n_fixed:]))
    assert steering == free[len(free) - len(steering) :]


def test_where_no_document_may_steer_the_way_out_is_named(built):
    _, _, store, _ = built(TEXTS)
    (path,) = store.glob("tokens/specialist/*.parquet")
    ids = [f"{h:016x}" for h in DocIndex.read(path).hashes.tolist()]
    with pytest.raises(MixtureError, match="none of those may steer") as caught:
        built(TEXTS, never_steers=ids)
    assert "validation_fraction" in "".join(caught.value.__notes__)
