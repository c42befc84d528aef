"""Perplexity against a plain loop over the model."""

import json
import shutil

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from mixture_assets.core.errors import MixtureError
from mixture_assets.core.run import TrainingSpec
from mixture_assets.selection.choose import choose
from mixture_assets.selection.perplexity import Perplexity
from mixture_assets.selection.scores import write_scores
from mixture_assets.selection.windows import IGNORED, batches, windows_of
from tests.selection.conftest import CONTEXT, PLANTED, doc_id, loss_of, texts_of


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("batch_tokens", [1, 100, 0])
def test_scores_are_the_mean_losses_of_a_plain_loop(
    tuned, pool, specialist, scores_of, family, batch_tokens
):
    selector = Perplexity(tuned[family], batch_tokens=batch_tokens)
    selector.prepare(specialist, pool)
    found, texts = scores_of(selector, pool), texts_of(pool)
    model = AutoModelForCausalLM.from_pretrained(tuned[family]).eval()
    encode, eos_id = pool.tokenizer.reference.encode, pool.tokenizer.eos_id
    lengths = {i: len(encode(t).ids) for i, t in texts.items()}
    assert min(lengths.values()) < CONTEXT < max(lengths.values())
    with torch.no_grad():
        expected = {i: float(loss_of(model, encode(t).ids, eos_id)) for i, t in texts.items()}
    assert found == pytest.approx(expected, rel=1e-5)
    looked_up = ("embed_tokens", "wte", "wpe")  # tied: the head is a matrix product too
    weights = sum(
        p.numel() for n, p in model.named_parameters() if not any(e in n for e in looked_up)
    )
    per_token = 2 * (weights + model.get_output_embeddings().weight.numel())
    attention = 4 * 2 * 32 * CONTEXT  # 4 layers d C, at most
    assert per_token <= selector.flops / sum(lengths.values()) <= per_token + attention


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_near_copies_of_the_specialist_set_are_the_least_perplexing(
    tuned, pool, specialist, first_are_planted, tmp_path, family
):
    selector = Perplexity(tuned[family], order="lowest")
    found = write_scores(tmp_path / "store", selector, pool, specialist)
    assert first_are_planted(selector, pool, sign=-1)
    smallest = sum(len(pool.tokenizer.reference.encode(t).ids) for t in PLANTED) / pool.n_tokens
    assert set(choose(found, smallest).doc_ids) == set(map(doc_id, PLANTED))
    highest = write_scores(
        tmp_path / "store", Perplexity(tuned[family], order="highest"), pool, specialist
    )
    assert set(choose(highest, 1.0).doc_ids[-3:]) == set(map(doc_id, PLANTED))


def test_windows_hold_every_token_once(documents_of, english, tokenizer):
    documents = documents_of([*english[:9], "x"])
    windows = windows_of(documents.n_tokens, 20)
    seen = {}
    for batch in batches(documents, windows, eos_id=7777, batch_tokens=60):
        assert batch.input_WL.shape[0] == 1 or batch.input_WL.numel() <= 60
        for owner, inputs, labels in zip(
            batch.owner_W.tolist(), batch.input_WL.tolist(), batch.label_WL.tolist(), strict=True
        ):
            own = [x for x in labels if x != IGNORED]
            assert labels == own + [IGNORED] * (len(labels) - len(own))
            before = inputs[: len(own)]
            assert before[1:] == own[:-1]
            seen.setdefault(owner, []).append((before[0], own))
    for row in range(len(documents)):
        stream = [7777, *documents[row].tolist()]
        cut = [stream[i : i + 21] for i in range(0, len(stream) - 1, 20)]
        assert sorted(seen[row]) == sorted((c[0], c[1:]) for c in cut)
    short = windows_of(documents.n_tokens, 20, most_windows=1)
    assert short.owner.tolist() == list(range(len(documents)))
    assert short.length.tolist() == np.minimum(documents.n_tokens, 20).tolist()


def test_another_tokenizer_and_no_model_are_refused(tuned, pool, specialist, tmp_path):
    def refusal(change):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        shutil.copytree(tuned["llama"], folder)
        change(folder)
        with pytest.raises(MixtureError) as error:
            Perplexity(folder).prepare(specialist, pool)
        return str(error.value)

    def other_tokenizer(folder):
        described = json.loads(pool.tokenizer.path.read_text())
        vocabulary = described["model"]["vocab"]
        one, two = list(vocabulary)[-2:]
        vocabulary[one], vocabulary[two] = vocabulary[two], vocabulary[one]
        (folder / "tokenizer.json").write_text(json.dumps(described))

    assert "has another tokenizer than the pool" in refusal(other_tokenizer)
    assert "it has no config.json" in refusal(lambda f: (f / "config.json").unlink())
    assert "is no causal language model" in refusal(lambda f: (f / "model.safetensors").unlink())
    shutil.copy(pool.tokenizer.path, tuned["llama"] / "tokenizer.json")
    Perplexity(tuned["llama"]).prepare(specialist, pool)
    small = AutoModelForCausalLM.from_pretrained(tuned["llama"])
    small.resize_token_embeddings(90)
    small.save_pretrained(tmp_path / "small")
    with pytest.raises(MixtureError, match="a vocabulary of 90 tokens, the pool's tokenizer"):
        Perplexity(tmp_path / "small").prepare(specialist, pool)


def test_settings_name_weights_and_arithmetic_and_no_path(tuned, tmp_path):
    one = Perplexity(tuned["llama"])
    copy = shutil.copytree(tuned["llama"], tmp_path / "copy")
    assert Perplexity(copy).settings == one.settings
    assert Perplexity(tuned["gpt2"]).settings != one.settings
    assert Perplexity(tuned["llama"], training=TrainingSpec(threads=2)).settings != one.settings
    assert str(tuned["llama"]) not in json.dumps(dict(one.settings))


def test_a_broken_model_leaves_one_sentence(tuned, pool, specialist, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(tuned["llama"])
    model.model.norm.weight.data.fill_(float("nan"))
    model.save_pretrained(tmp_path / "broken")
    with pytest.raises(MixtureError, match="'perplexity' gave 43 of 43 documents no finite number"):
        write_scores(tmp_path / "store", Perplexity(tmp_path / "broken"), pool, specialist)
