import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mixture_assets.core.run import ModelSpec
from mixture_assets.evaluation.losses import evaluate, lay_out, summarise
from mixture_assets.training.model import build_model

EOS = 0
DOCUMENTS = [[5, 6, 7], [8], list(range(1, 20)), [3, 4]]


def stream(documents=DOCUMENTS, context=8):
    ids = np.array([t for d in documents for t in d], np.uint16)
    offsets = np.cumsum([0] + [len(d) for d in documents])
    n_bytes = np.array([3 * len(d) for d in documents])
    return lay_out(ids, offsets, n_bytes, eos_id=EOS, context=context)


@pytest.fixture(scope="module")
def model():
    spec = ModelSpec(width=16, layers=1, heads=2, context=8)
    return build_model(spec, vocab_size=32, seed=0, attention="eager")


def test_every_token_of_every_document_is_predicted_once():
    s = stream()
    labels = s.label_WC.numpy().ravel()
    kept = labels[labels >= 0]
    assert list(kept) == [t for d in DOCUMENTS for t in [*d, EOS]]
    owners = s.document_WC.ravel()[labels >= 0]
    assert list(owners) == [i for i, d in enumerate(DOCUMENTS) for _ in [*d, EOS]]
    inputs = s.input_WC.numpy().ravel()[: len(kept)]
    assert list(inputs) == [EOS, *kept[:-1]]


def test_agrees_with_a_loop_over_single_tokens(model):
    """A naive reference: one window, one token at a time, in Python floats."""
    s = stream()
    nats, tokens = [0.0] * len(DOCUMENTS), [0] * len(DOCUMENTS)
    for w in range(len(s.input_WC)):
        logits = model(input_ids=s.input_WC[w : w + 1]).logits[0].detach()
        for c, owner in enumerate(s.document_WC[w]):
            if owner >= 0:
                nats[owner] += float(F.cross_entropy(logits[c], s.label_WC[w, c]))
                tokens[owner] += 1
    found = evaluate(model, {"web": s}, batch=3)["web"]
    assert found.loss_nats == pytest.approx(sum(nats) / sum(tokens), rel=1e-6)
    assert found.n_tokens == sum(tokens) == sum(len(d) + 1 for d in DOCUMENTS)
    assert found.bits_per_byte == pytest.approx(sum(nats) / math.log(2) / (3 * 25), rel=1e-6)
    assert found.perplexity == pytest.approx(math.exp(found.loss_nats))
    assert found.n_documents == 4


def test_the_batch_does_not_matter_and_the_model_stays_in_training(model):
    model.train()
    one, many = (evaluate(model, {"web": stream()}, batch=b)["web"] for b in (1, 64))
    assert one.loss_nats == pytest.approx(many.loss_nats, rel=1e-6)
    assert model.training


def test_the_standard_error_is_that_of_resampled_documents():
    rng = np.random.default_rng(0)
    tokens = rng.integers(20, 400, 300).astype(float)
    nats = tokens * rng.normal(3, 0.5, 300)
    found = summarise(nats, tokens, 4 * tokens)
    resampled = []
    for _ in range(4000):
        pick = rng.integers(0, 300, 300)
        resampled.append(nats[pick].sum() / tokens[pick].sum())
    assert found.loss_se_nats == pytest.approx(np.std(resampled), rel=0.08)


def test_a_single_document_has_no_standard_error():
    assert summarise(np.array([3.0]), np.array([2.0]), np.array([8.0])).loss_se_nats is None


def test_a_uniform_model_costs_the_logarithm_of_its_vocabulary(model):
    with torch.no_grad():
        saved = [p.clone() for p in model.parameters()]
        for p in model.parameters():
            p.zero_()
        found = evaluate(model, {"web": stream()}, batch=8)["web"]
        for p, old in zip(model.parameters(), saved, strict=True):
            p.copy_(old)
    assert found.loss_nats == pytest.approx(math.log(32), rel=1e-6)
