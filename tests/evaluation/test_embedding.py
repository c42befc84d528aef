"""Mean hidden states against one forward pass per document."""

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModel, AutoModelForCausalLM, PreTrainedTokenizerFast

from mixture_assets.core.run import ModelSpec
from mixture_assets.embeddings import learn, settings_of
from mixture_assets.evaluation.embedding import summed_states
from mixture_assets.training.model import model_config

TEXTS = ["red blue", "", "green " * 40, "blue green red red", "x"]


@pytest.fixture(params=["llama", "gpt2"])
def folder(request, tmp_path):
    """A model and a tokenizer as a finished run leaves them, in a run's folder."""
    spec = ModelSpec(family=request.param, width=16, layers=2, heads=2, context=8)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(model_config(spec, vocab_size=10))
    target = tmp_path / "runs" / "abc" / "model"
    model.save_pretrained(target)
    words = {"<eos>": 0, "?": 1, "red": 2, "blue": 3, "green": 4}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>").save_pretrained(target)
    return target


def test_a_document_is_the_mean_of_its_own_states(folder):
    found = learn(f"proxy:{folder}", []).embed(TEXTS)
    model = AutoModel.from_pretrained(folder).eval()
    for text, ids in zip(TEXTS, [[2, 3], [], [4] * 32, [3, 4, 2, 2], [1]], strict=True):
        row = found[TEXTS.index(text)]
        if not ids:
            assert not row.any()
            continue
        windows = [ids[i : i + 8] for i in range(0, len(ids), 8)]
        with torch.no_grad():
            states = [model(torch.tensor([w])).last_hidden_state[0] for w in windows]
        mean = torch.cat(states).mean(dim=0)
        assert row == pytest.approx((mean / mean.norm()).numpy(), abs=1e-5)


def test_flops_are_two_a_weight_and_token(folder):
    embedding = learn(f"proxy:{folder}", [])
    assert embedding.flops == 0
    embedding.embed(TEXTS)
    weights = {n: p.numel() for n, p in AutoModel.from_pretrained(folder).named_parameters()}
    n = sum(x for name, x in weights.items() if name not in ("embed_tokens.weight", "wte.weight"))
    assert embedding.flops == 2 * n * (2 + 0 + 32 + 4 + 1)


def test_padding_changes_nothing(folder):
    model = AutoModel.from_pretrained(folder).eval()
    windows = [[2, 3], [4, 2, 3, 3, 2, 4], [1]]
    together = summed_states(model, windows)
    alone = torch.cat([summed_states(model, [w]) for w in windows])
    assert np.allclose(together, alone, atol=1e-5)


def test_a_run_is_found_in_the_store_and_named_by_its_content(folder, tmp_path):
    by_run = settings_of("proxy:abc", store=tmp_path)
    assert by_run == settings_of(f"proxy:{folder}")
    assert by_run == settings_of(f"proxy:{folder.parent}")
    (folder / "config.json").write_text((folder / "config.json").read_text() + " ")
    assert settings_of(f"proxy:{folder}") != by_run
