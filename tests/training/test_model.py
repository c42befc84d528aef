import pytest
import torch

from mixture_assets.core.errors import MixtureError
from mixture_assets.core.run import LoraSpec, ModelSpec
from mixture_assets.training.lora import adapter_parameters, add_adapters
from mixture_assets.training.model import (
    build_model,
    count_parameters,
    flops_per_token,
    frozen_of,
    model_config,
    parameters_of,
)
from mixture_assets.training.rate import training_flops

SMALL = {"width": 16, "layers": 2, "heads": 2, "context": 8}


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_families_give_logits_and_are_causal(family):
    model = build_model(ModelSpec(family=family, **SMALL), vocab_size=50, seed=0, attention="eager")
    model.eval()
    a = torch.arange(8).unsqueeze(0)
    b = a.clone()
    b[0, -1] = 40
    with torch.no_grad():
        one, two = model(input_ids=a).logits, model(input_ids=b).logits
    assert one.shape == (1, 8, 50)
    torch.testing.assert_close(one[:, :-1], two[:, :-1])
    assert not torch.allclose(one[:, -1], two[:, -1])


def test_the_seed_is_the_model():
    def first(seed):
        model = build_model(ModelSpec(**SMALL), vocab_size=50, seed=seed, attention="eager")
        return torch.cat([p.flatten() for p in model.parameters()])

    assert torch.equal(first(3), first(3))
    assert not torch.equal(first(3), first(4))


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_parameters_are_counted_without_building(family, tied):
    spec = ModelSpec(family=family, tie_embeddings=tied, **SMALL)
    model = build_model(spec, vocab_size=50, seed=0, attention="eager")
    assert count_parameters(spec, vocab_size=50) == parameters_of(model)
    n_all, n_matmul = parameters_of(model)
    looked_up = 0 if tied else 50 * 16
    positions = 8 * 16 if family == "gpt2" else 0
    assert n_all - n_matmul == looked_up + positions


def test_flops_agree_with_torch_counting_a_forward_and_backward():
    from torch.utils.flop_counter import FlopCounterMode

    spec = ModelSpec(width=32, layers=2, heads=2, context=16)
    model = build_model(spec, vocab_size=64, seed=0, attention="eager")
    tokens = torch.zeros(4, 16, dtype=torch.long)
    with FlopCounterMode(display=False) as counter:
        model(input_ids=tokens).logits.sum().backward()
    ours = flops_per_token(parameters_of(model)[1], model.config, 16) * tokens.numel()
    assert ours == pytest.approx(counter.get_total_flops(), rel=0.05)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_flops_of_adapters_agree_with_torch_counting_a_forward_and_backward(family):
    from torch.utils.flop_counter import FlopCounterMode

    spec = ModelSpec(family=family, width=32, layers=6, heads=2, context=16)
    model = build_model(spec, vocab_size=64, seed=0, attention="eager")
    add_adapters(model, LoraSpec(rank=4), seed=0)
    tokens = torch.zeros(4, 16, dtype=torch.long)
    with FlopCounterMode(display=False) as counter:
        model(input_ids=tokens).logits.sum().backward()
    ours = training_flops(spec, vocab_size=64, lora=LoraSpec(rank=4)) * tokens.numel()
    assert ours == pytest.approx(counter.get_total_flops(), rel=0.05)
    assert ours < 0.9 * training_flops(spec, vocab_size=64) * tokens.numel()
    n_matmul, n_frozen = parameters_of(model)[1], frozen_of(model)
    assert n_matmul - n_frozen == adapter_parameters(model)


def test_an_unknown_family_is_named():
    with pytest.raises(
        MixtureError, match=r"unknown model family 'lama' \(did you mean 'llama'\?\)"
    ):
        model_config(ModelSpec(family="lama"), vocab_size=50)


def test_a_misspelt_override_does_not_train_another_model():
    spec = ModelSpec(overrides={"rope_tehta": 1.0})
    with pytest.raises(
        MixtureError, match="overrides has 'rope_tehta', which LlamaConfig does not"
    ):
        model_config(spec, vocab_size=50)


def test_an_override_out_of_range_is_named():
    spec = ModelSpec(overrides={"initializer_range": 30.0})
    with pytest.raises(MixtureError, match=r"does not make a 'llama': .*initializer_range"):
        model_config(spec, vocab_size=50)


@pytest.mark.parametrize(
    ("family", "overrides"),
    [("llama", {"attention_dropout": 0.1}), ("gpt2", {"resid_pdrop": 0.1}), ("opt", {})],
)
def test_dropout_is_refused_with_the_keys_that_turn_it_off(family, overrides):
    with pytest.raises(MixtureError, match="is configured with dropout") as caught:
        model_config(ModelSpec(family=family, overrides=overrides), vocab_size=50)
    assert "= 0.0" in caught.value.hint


def test_other_families_come_through_overrides():
    overrides = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    overrides |= {"num_key_value_heads": 2, "intermediate_size": 32, "max_position_embeddings": 8}
    spec = ModelSpec(family="qwen2", context=8, overrides=overrides)
    model = build_model(spec, vocab_size=50, seed=0, attention="eager")
    assert model(input_ids=torch.zeros(1, 8, dtype=torch.long)).logits.shape == (1, 8, 50)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ({"num_hidden_layers": 10**9}, "asks for 1,000,000,000 layers, more than 1,000"),
        ({"head_dim": 0}, "does not make a 'llama': ZeroDivisionError"),
        ({"head_dim": -1}, "does not make a 'llama': RuntimeError: .* negative dimension"),
        ({"num_attention_heads": 0}, "does not make a 'llama'"),
        ({"hidden_act": "nothing"}, "does not make a 'llama'"),
    ],
)
def test_an_override_that_makes_no_model_is_named(override, message):
    with pytest.raises(MixtureError, match=message):
        count_parameters(ModelSpec(overrides=override), vocab_size=300)
