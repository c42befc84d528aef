"""A small pool of real text in two token shards, and specialist documents whose copies it has."""

import csv
import hashlib
import inspect
import json
import textwrap
import types
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from mixture_assets.core.run import ModelSpec
from mixture_assets.data.shards import discover
from mixture_assets.data.tokenizer import train_tokenizer
from mixture_assets.selection.documents import Documents, Pool
from mixture_assets.training.model import build_model

REFERENCE = Path(__file__).parents[3] / "shared" / "reference" / "ccds"
FULL_FLOPS = {"7B": 4.593e18, "13B": 8.638e18, "70B": 4.926e19}  # one pass over the pool
SPECIALIST = [
    "The oak and the old pine grow tall; the grass around the oak fades when the leaf falls.",
    "A rose blooms, its root grows deep, and the pine beside the rose keeps every green leaf.",
    "Tall grass, green leaf, old root: the oak grows slowly and the rose blooms twice a year.",
]
# Each says what a specialist document says, a word or two aside.
PLANTED = [
    "The oak and the old pine grow tall; the grass around the oak fades when a leaf falls.",
    "A rose blooms, its root grows deep, and the pine near the rose keeps every green leaf.",
    "Tall grass, green leaf, old root: the oak grows slowly and the rose blooms once a year.",
]


def doc_id(text):
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def write_shard(path, texts, tokenizer):
    """A token shard written out here, with two row groups."""
    ids = [tokenizer.reference.encode(t, add_special_tokens=False).ids for t in texts]
    table = pa.table(
        {
            "doc_id": pa.array([doc_id(t) for t in texts]),
            "input_ids": pa.array(ids, pa.list_(pa.uint16())),
            "n_tokens": pa.array([len(i) for i in ids], pa.int32()),
            "n_bytes": pa.array([len(t.encode()) for t in texts], pa.int32()),
        }
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=max(1, len(texts) // 2 + 1))
    return path


@pytest.fixture(scope="session")
def english():
    """Pieces of the standard library's source, of many lengths."""
    modules = (json, textwrap, inspect, types)
    return [
        inspect.getsource(m)[i : i + 40 + 35 * (i // 490 % 7)]
        for m in modules
        for i in range(0, 4900, 490)
    ]


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory, english):
    folder = tmp_path_factory.mktemp("tokenizer")
    raw = folder / "raw/code/a.jsonl"
    raw.parent.mkdir(parents=True)
    raw.write_text("".join(json.dumps({"text": t}) + "\n" for t in english + SPECIALIST))
    shards = discover(str(folder / "raw"), cache=folder / "shards.json")
    return train_tokenizer(shards, vocab_size=400, store=folder / "store")


@pytest.fixture
def pool_of(tmp_path, tokenizer):
    """pool_of(texts, texts, ...) writes a shard for each; excluded= are texts."""

    def write(*shards, excluded=()):
        paths = {}
        for texts in shards:
            name = hashlib.sha256("".join(texts).encode()).hexdigest()[:16]
            paths[name] = write_shard(tmp_path / "pool" / f"{name}.parquet", texts, tokenizer)
        return Pool(paths, tokenizer, frozenset(map(doc_id, excluded)))

    return write


@pytest.fixture
def documents_of(tmp_path, tokenizer):
    """Documents of texts."""

    def read(texts) -> Documents:
        path: Path = tmp_path / "asked" / f"{len(list(tmp_path.rglob('*')))}.parquet"
        return Documents.read(write_shard(path, texts, tokenizer))

    return read


@pytest.fixture
def pool(pool_of, english):
    """40 documents and 3 that nearly are the specialist's, in two shards."""
    return pool_of(english[:17] + PLANTED[:2], english[17:] + PLANTED[2:])


@pytest.fixture
def specialist(documents_of):
    return documents_of(SPECIALIST)


@pytest.fixture
def scores_of():
    """Scores by text's id, of all pieces of a pool."""

    def score(selector, pool):
        found = {}
        for shard in pool.shards:
            for piece in pool.pieces(shard):
                found |= dict(zip(piece.doc_ids, selector.score(piece).tolist(), strict=True))
        return found

    return score


@pytest.fixture
def first_are_planted(scores_of):
    """Whether the planted documents have the highest scores."""

    def check(selector, pool, sign=1):
        found = scores_of(selector, pool)
        ranked = sorted(found, key=lambda i: -sign * found[i])
        return set(ranked[: len(PLANTED)]) == set(map(doc_id, PLANTED))

    return check


def texts_of(pool):
    """By id, in any order."""
    pieces = [p for shard in pool.shards for p in pool.pieces(shard)]
    return {i: pool.tokenizer.decode(p[r]) for p in pieces for r, i in enumerate(p.doc_ids)}


def rank_correlation(one, other):
    a, b = (np.argsort(np.argsort(x)) for x in (one, other))
    return float(np.corrcoef(a, b)[0, 1])


CONTEXT = 32


def tiny_model(family, tokenizer, width=32, **overrides):
    """A model of two layers."""
    spec = ModelSpec(
        family=family, width=width, layers=2, heads=2, context=CONTEXT, overrides=overrides
    )
    return build_model(spec, vocab_size=tokenizer.vocab_size, seed=0, attention="eager")


def loss_of(model, ids, eos_id):
    """Mean nats of a document's tokens, one window after the other, written out plainly."""
    stream = [eos_id, *ids]
    nats = []
    for start in range(0, len(ids), CONTEXT):
        window = torch.tensor([stream[start : start + CONTEXT + 1]])
        log_p = model(input_ids=window[:, :-1]).logits[0].log_softmax(-1)
        nats.append(-log_p.gather(1, window[0, 1:, None])[:, 0])
    return torch.cat(nats).mean()


def tune(model, texts, tokenizer, steps=40, learning_rate=1e-2):
    """Train on texts; the optimizer."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], learning_rate)
    ids = [tokenizer.reference.encode(t).ids for t in texts]
    for _ in range(steps):
        optimizer.zero_grad()
        torch.stack([loss_of(model, i, tokenizer.eos_id) for i in ids]).mean().backward()
        optimizer.step()
    return optimizer


@pytest.fixture(scope="session")
def tuned(tmp_path_factory, tokenizer):
    """Folders of models that know the specialist set by heart, by family."""
    folders = {}
    for family in ("llama", "gpt2"):
        model = tiny_model(family, tokenizer)
        tune(model, SPECIALIST, tokenizer)
        folders[family] = tmp_path_factory.mktemp(family)
        model.save_pretrained(folders[family])
    return folders


@pytest.fixture(scope="session")
def published():
    """Read a table of the reference data, which is not part of the repository."""

    def read(name):
        path = REFERENCE / f"ccds_{name}.csv"
        if not path.exists():
            pytest.skip(f"reference data {path.name} is not beside this checkout")
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    return read
