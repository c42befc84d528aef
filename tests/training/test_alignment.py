"""Alignments of real Hugging Face models, against gradients taken one group at a time."""

import gc
import itertools
import json
import os
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mixture_assets.core.errors import MixtureError, MixtureWarning
from mixture_assets.core.run import ModelSpec
from mixture_assets.training import directional
from mixture_assets.training.alignment import (
    aligned_backward,
    choose_way,
    clip_gradient,
    distributed_total,
    specialist_gradient,
)
from mixture_assets.training.model import build_model

VOCABULARY, CONTEXT = 211, 24
NAMES = ("web", "code", "books", "wiki")
WEIGHT = {"web": 0.4, "code": 0.1, "books": 0.3, "wiki": 0.2}
GROUP = np.array([0, 3, 1, 0, 2, 2, 3, 1, 1, 0, 2, 3, 0, 1])  # 4, 4, 3, 3 sequences
WAYS = ("naive", "jvp", "finite_difference", "ghost")
# Relative to |a_i| itself: fp32's own error in these gradients is 1e-7 to 3e-6 of it.
EXACT, DIFFERENCED = 1e-5, 3e-3
MODELS = {
    "llama tied": ("llama", True, {}),
    "llama untied": ("llama", False, {}),
    "llama grouped queries, biases": (
        "llama",
        True,
        {"num_key_value_heads": 2, "attention_bias": True, "mlp_bias": True},
    ),
    "gpt2 tied": ("gpt2", True, {}),
    "gpt2 untied": ("gpt2", False, {}),
}


def model_of(family="llama", tied=True, overrides=None, *, width=64, layers=3, attention="eager"):
    spec = ModelSpec(
        family=family,
        width=width,
        layers=layers,
        heads=4,
        context=CONTEXT,
        tie_embeddings=tied,
        overrides=overrides or {},
    )
    return build_model(spec, vocab_size=VOCABULARY, seed=0, attention=attention)


def text(group, seed):
    """A sequence for each entry of `group`; groups prefer different words."""
    random = np.random.default_rng(seed)
    words = (random.zipf(1.5, (len(group), CONTEXT + 1)) + 17 * np.asarray(group)[:, None]) % 211
    return torch.from_numpy(words)


def loss_of(model, tokens):
    """Written out again, so that nothing of ours is in the reference."""
    logits = model(input_ids=tokens[:, :-1]).logits
    return F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())


def gradient_of(model, tokens):
    grads = torch.autograd.grad(loss_of(model, tokens), list(model.parameters()))
    return {name: g for (name, _), g in zip(model.named_parameters(), grads, strict=True)}


def dot(one, other):
    return sum(float((one[n].double() * other[n].double()).sum()) for n in other)


def reference(model, tokens, gradient, group=GROUP):
    return {
        name: dot(gradient_of(model, tokens[group == g]), gradient) for g, name in enumerate(NAMES)
    }


def a_little_trained(model):
    """Past the start, where gradients are mostly about word frequencies; the same every time."""
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    for step in range(10):
        loss_of(model, text(GROUP, 100 + step)).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return model


def step(model, tokens, gradient, way, micro=100, *, group=GROUP, weight=WEIGHT, **options):
    model.zero_grad(set_to_none=True)
    return aligned_backward(
        model, tokens, group, NAMES, weight, gradient, way=way, micro_sequences=micro, **options
    )


@pytest.fixture(params=MODELS)
def case(request):
    """A model, a stratified batch, and a specialist gradient."""
    model = a_little_trained(model_of(*MODELS[request.param]))
    _, gradient = specialist_gradient(model, [text([1, 1, 3, 1], 7), text([3, 1], 8)])
    clip_gradient(gradient, 1.0)
    return model, text(GROUP, 1), gradient


@pytest.fixture
def small():
    """As `case`, one model of two narrow layers."""
    model = model_of(width=16, layers=2)
    _, gradient = specialist_gradient(model, [text([1, 1, 3], 7)])
    return model, text(GROUP, 1), gradient


def test_every_way_agrees_with_gradients_of_one_group_at_a_time(case):
    model, tokens, gradient = case
    exact = reference(model, tokens, gradient)
    assert min(map(abs, exact.values())) > 1e-3  # no number here is itself rounding
    for way in WAYS:
        found = step(model, tokens, gradient, way).alignments.value
        tolerance = DIFFERENCED if way == "finite_difference" else EXACT
        assert found == pytest.approx(exact, rel=tolerance), way


def test_the_training_gradient_is_the_plain_one_in_every_way(case):
    model, tokens, gradient = case
    losses = [loss_of(model, tokens[GROUP == g]) for g in range(len(NAMES))]
    plain = sum(WEIGHT[name] * loss for name, loss in zip(NAMES, losses, strict=True))
    grads = torch.autograd.grad(plain, list(model.parameters()))
    largest = max(float(g.abs().max()) for g in grads)
    for way, micro in itertools.product(WAYS, (100, 3)):
        done = step(model, tokens, gradient, way, micro)
        assert done.loss_nats == pytest.approx(float(plain.detach()), rel=1e-6)
        for (name, p), g in zip(model.named_parameters(), grads, strict=True):
            # Softmax hardly feels a bias of keys: its gradient is a sum that nearly cancels, so
            # rounding is as small as the terms allow, on some chips more than on others.
            torch.testing.assert_close(
                p.grad, g, rtol=1e-4, atol=1e-7 * largest, msg=lambda m, n=name: f"{n}: {m}"
            )


def test_watching_changes_no_bit_of_the_training_gradient(small):
    model, tokens, gradient = small
    step(model, tokens, gradient, "jvp", 5)  # whose backward nobody watches
    plain = [p.grad for p in model.parameters()]
    step(model, tokens, gradient, "ghost", 5)
    for p, g in zip(model.parameters(), plain, strict=True):
        assert torch.equal(p.grad, g)


def test_nothing_is_kept_after_a_step(small):
    model, tokens, gradient = small

    def living():
        gc.collect()
        return sum(issubclass(type(o), torch.Tensor) for o in gc.get_objects())

    counts = set()
    for _ in range(3):
        for way in WAYS:
            step(model, tokens, gradient, way, 5)
        counts.add(living())
    assert len(counts) == 1


@pytest.mark.parametrize("way", ["ghost", "jvp"])
def test_every_sequence_is_measured_and_pieces_do_not_matter(case, way):
    model, tokens, gradient = case
    exact = [dot(gradient_of(model, tokens[s : s + 1]), gradient) for s in range(len(tokens))]
    alone = np.arange(len(tokens))
    names = [f"s{s}" for s in alone]
    for micro in (1, 5, 100):
        found = aligned_backward(
            model,
            tokens,
            alone,
            names,
            dict.fromkeys(names, 1 / len(names)),
            gradient,
            way=way,
            micro_sequences=micro,
        ).alignments
        got = np.array([found.value[name] for name in names])
        np.testing.assert_allclose(got, exact, rtol=1e-5, atol=1e-6 * np.abs(exact).max())
        assert set(found.standard_error.values()) == {float("inf")}  # one says nothing of spread


def test_standard_errors_follow_the_closed_formula(small):
    model, tokens, gradient = small
    dots = np.array([dot(gradient_of(model, t[None]), gradient) for t in tokens])
    found = step(model, tokens, gradient, "ghost").alignments
    assert found.n_sequences == {"web": 4, "code": 4, "books": 3, "wiki": 3}
    for g, name in enumerate(NAMES):
        mine = dots[GROUP == g]
        expected = mine.std(ddof=1) / np.sqrt(len(mine))
        assert found.standard_error[name] == pytest.approx(expected, rel=1e-4)


def test_naive_has_two_halves_for_an_error_and_the_norms(small):
    model, tokens, gradient = small
    found = step(model, tokens, gradient, "naive", micro=1).alignments
    for g, name in enumerate(NAMES):
        members = np.flatnonzero(GROUP == g)
        halves = [members[: (len(members) + 1) // 2], members[(len(members) + 1) // 2 :]]
        d = [dot(gradient_of(model, tokens[h]), gradient) for h in halves]
        n = [len(h) for h in halves]
        mean = np.average(d, weights=n)
        variance = sum(k * (x - mean) ** 2 for k, x in zip(n, d, strict=True)) / len(members)
        assert found.value[name] == pytest.approx(mean, rel=1e-5)
        assert found.standard_error[name] == pytest.approx(variance**0.5, rel=1e-3)
        whole = gradient_of(model, tokens[members])
        assert found.norm[name] == pytest.approx(dot(whole, whole) ** 0.5, rel=1e-5)
    assert step(model, tokens, gradient, "ghost").alignments.norm is None


def test_the_stratified_step_is_unbiased(small):
    """Over all draws of 2 of 3 web and 3 of 4 code sequences: nothing is left to chance."""
    model, tokens, gradient = small
    names, weight = ("web", "code"), {"web": 0.7, "code": 0.3}
    web, code = tokens[:3], tokens[3:7]
    expected = [
        0.7 * a + 0.3 * b
        for a, b in zip(
            gradient_of(model, web).values(), gradient_of(model, code).values(), strict=True
        )
    ]
    aligned = [dot(gradient_of(model, part), gradient) for part in (web, code)]
    draws = list(
        itertools.product(itertools.combinations(range(3), 2), itertools.combinations(range(4), 3))
    )
    total = [torch.zeros_like(e, dtype=torch.float64) for e in expected]
    value = np.zeros(2)
    for of_web, of_code in draws:
        drawn = torch.cat([web[list(of_web)], code[list(of_code)]])
        model.zero_grad(set_to_none=True)
        done = aligned_backward(
            model,
            drawn,
            np.array([0, 0, 1, 1, 1]),
            names,
            weight,
            gradient,
            way="ghost",
            micro_sequences=8,
        )
        value += [done.alignments.value[name] / len(draws) for name in names]
        for sum_, p in zip(total, model.parameters(), strict=True):
            sum_ += p.grad.double() / len(draws)
    for sum_, e in zip(total, expected, strict=True):
        torch.testing.assert_close(sum_.float(), e, rtol=1e-4, atol=1e-6 * float(e.abs().max()))
    np.testing.assert_allclose(value, aligned, rtol=1e-5)


@pytest.mark.parametrize("way", WAYS)
def test_order_means_nothing(small, way):
    model, tokens, gradient = small
    plain = step(model, tokens, gradient, way).alignments
    shuffle = np.random.default_rng(0).permutation(len(tokens))
    new_place = np.array([2, 0, 3, 1])  # of each old group
    model.zero_grad(set_to_none=True)
    again = aligned_backward(
        model,
        tokens[shuffle],
        torch.from_numpy(new_place[GROUP][shuffle]),
        [NAMES[i] for i in np.argsort(new_place)],
        dict(reversed(WEIGHT.items())),
        gradient,
        way=way,
        micro_sequences=5,
    ).alignments
    assert again.value == pytest.approx(plain.value, rel=1e-3 if "finite" in way else 1e-5)
    assert again.n_sequences == plain.n_sequences


@pytest.mark.parametrize("nothing", [0.0, 1e-300])
def test_a_group_without_weight_is_measured_and_moves_nothing(small, nothing):
    model, tokens, gradient = small
    weight = {"web": 0.7, "code": nothing, "books": 0.3, "wiki": nothing}
    exact = reference(model, tokens, gradient)
    losses = [loss_of(model, tokens[GROUP == g]) for g in (0, 2)]
    plain = torch.autograd.grad(0.7 * losses[0] + 0.3 * losses[1], list(model.parameters()))
    for way in WAYS:
        done = step(model, tokens, gradient, way, 5, weight=weight)
        tolerance = DIFFERENCED if way == "finite_difference" else EXACT
        assert done.alignments.value == pytest.approx(exact, rel=tolerance), way
        for p, g in zip(model.parameters(), plain, strict=True):
            torch.testing.assert_close(p.grad, g, rtol=1e-4, atol=1e-6 * float(g.abs().max()))


def test_all_weights_zero_is_no_step(small):
    model, tokens, gradient = small
    done = step(model, tokens, gradient, "ghost", weight=dict.fromkeys(NAMES, 0.0))
    assert done.loss_nats == 0
    assert done.alignments.value == pytest.approx(reference(model, tokens, gradient), rel=EXACT)
    assert all(p.grad is None for p in model.parameters())


def test_gradients_add_to_what_was_there(small):
    model, tokens, gradient = small
    for way in WAYS:
        step(model, tokens, gradient, way)
        once = [p.grad.clone() for p in model.parameters()]
        aligned_backward(model, tokens, GROUP, NAMES, WEIGHT, gradient, way=way, micro_sequences=9)
        for p, g in zip(model.parameters(), once, strict=True):
            torch.testing.assert_close(p.grad, 2 * g, rtol=1e-4, atol=1e-6 * float(g.abs().max()))


def test_the_specialist_gradient_is_the_mean_over_uneven_batches(small):
    model, _, _ = small
    one, two = text([1, 2, 3], 5), text([0], 6)
    before = torch.ones_like(next(model.parameters()))
    next(model.parameters()).grad = before
    loss, gradient = specialist_gradient(model, iter([one, two]))
    both = torch.cat([one, two])
    assert loss == pytest.approx(float(loss_of(model, both)), rel=1e-6)
    for name, g in gradient_of(model, both).items():
        torch.testing.assert_close(gradient[name], g, rtol=1e-4, atol=1e-6 * float(g.abs().max()))
    grads = [p.grad for p in model.parameters()]
    assert grads[0] is before
    assert grads[1:] == [None] * (len(grads) - 1)


def test_no_specialist_sequence_is_a_mistake(small):
    with pytest.raises(MixtureError, match="no specialist sequence"):
        specialist_gradient(small[0], [])


@pytest.mark.parametrize(("most", "after"), [(0.0, 13.0), (26.0, 13.0), (6.5, 6.5)])
def test_clipping_keeps_the_direction(most, after):
    gradient = {"a": torch.tensor([3.0, 4.0]), "b": torch.tensor([[12.0]])}
    assert clip_gradient(gradient, most) == pytest.approx(13.0)
    scale = after / 13
    torch.testing.assert_close(gradient["a"], torch.tensor([3.0, 4.0]) * scale)
    torch.testing.assert_close(gradient["b"], torch.tensor([[12.0]]) * scale)


def test_finite_differences_give_the_parameters_back_bit_for_bit(small, monkeypatch):
    model, tokens, gradient = small
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    step(model, tokens, gradient, "finite_difference")
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(directional, "_fine_losses", interrupted)
    with pytest.raises(KeyboardInterrupt):
        step(model, tokens, gradient, "finite_difference")
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_a_zero_gradient_aligns_with_nothing(small):
    model, tokens, gradient = small
    zero = {name: torch.zeros_like(g) for name, g in gradient.items()}
    for way in WAYS:
        found = step(model, tokens, zero, way).alignments
        assert set(found.value.values()) | set(found.standard_error.values()) == {0.0}


def test_a_group_without_sequences_is_named(small):
    model, tokens, gradient = small
    with pytest.raises(MixtureError, match=r"1 of 4 groups have no sequence in this step: 'wiki'"):
        step(model, tokens[GROUP < 3], gradient, "ghost", group=GROUP[GROUP < 3])


@pytest.mark.parametrize("way", ["ghost", "jvp"])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_fused_attention_is_no_obstacle(family, way):
    model = model_of(family, width=16, layers=2, attention="sdpa")
    assert choose_way(model, way) == way
    _, gradient = specialist_gradient(model, [text([1, 1], 7)])
    tokens = text(GROUP, 1)
    found = step(model, tokens, gradient, way, 4).alignments.value
    assert found == pytest.approx(reference(model, tokens, gradient), rel=EXACT)


@pytest.mark.parametrize("way", ["ghost", "jvp", "naive"])
def test_under_autocast_the_error_is_that_of_bf16(small, way):
    model, tokens, gradient = small
    exact = reference(model, tokens, gradient)
    done = step(
        model, tokens, gradient, way, 5, autocast=lambda: torch.autocast("cpu", torch.bfloat16)
    )
    largest = max(map(abs, exact.values()))
    assert done.alignments.value == pytest.approx(exact, abs=0.02 * largest)
    assert all(p.grad.dtype == torch.float32 for p in model.parameters())


class Squaring(nn.Linear):
    """Not linear in its weight."""

    def forward(self, x):
        return F.linear(x, self.weight**2, self.bias)


class _OnlyBackwards(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    def backward(ctx, dy):
        (x,) = ctx.saved_tensors
        return dy * x.cos()


class OnlyBackwards(nn.Module):
    def forward(self, x):
        return _OnlyBackwards.apply(x)


def test_a_layer_that_ghost_does_not_know_is_named_and_jvp_takes_over():
    model = model_of(width=16, layers=2)
    assert choose_way(model, "auto") == "ghost"
    model.model.layers[1].mlp.up_proj = Squaring(16, 48)
    layer = r"layer 'model.layers.1.mlp.up_proj' \(Squaring\)"
    with pytest.warns(MixtureWarning, match=rf"by 'jvp', .*'ghost' does not support {layer}"):
        assert choose_way(model, "auto") == "jvp"
    with pytest.raises(MixtureError, match=rf"by 'ghost': it does not support {layer}") as caught:
        choose_way(model, "ghost")
    assert "'naive' or 'finite_difference'" in caught.value.hint
    _, gradient = specialist_gradient(model, [text([1], 7)])
    with pytest.raises(MixtureError, match=rf"ghost alignments do not support {layer}"):
        step(model, text(GROUP, 1), gradient, "ghost")
    assert not any(m._forward_hooks for m in model.modules())


def test_where_nothing_else_goes_naive_does():
    model = model_of(width=16, layers=2)
    model.model.layers[1].mlp.up_proj = Squaring(16, 48)
    model.model.layers[0].mlp.act_fn = OnlyBackwards()
    layer = r"layer 'model.layers.0.mlp.act_fn' \(OnlyBackwards\)"
    with pytest.warns(MixtureWarning, match=rf"by 'naive', .*'jvp' does not support {layer}"):
        assert choose_way(model, "auto") == "naive"
    with pytest.raises(MixtureError, match=rf"by 'jvp': it does not support {layer}"):
        choose_way(model, "jvp")
    _, gradient = specialist_gradient(model, [text([1], 7)])
    with pytest.raises(MixtureError, match=rf"forward-mode derivatives do not support {layer}"):
        step(model, text(GROUP, 1), gradient, "jvp")
    assert choose_way(model, "finite_difference") == "finite_difference"


def test_a_parameter_used_behind_its_layers_back_is_found():
    model = model_of(width=16, layers=2)
    attention = model.model.layers[0].self_attn
    q = attention.q_proj
    attention.k_proj.forward = lambda x: F.linear(x, attention.k_proj.weight + q.weight)
    with pytest.raises(MixtureError, match="outside of their own layers"):
        choose_way(model, "ghost")


def test_an_unknown_way_is_a_mistake():
    with pytest.raises(MixtureError, match="unknown way 'gost'"):
        choose_way(model_of(width=16, layers=2), "gost")


def test_choosing_changes_nothing(small):
    model, _, _ = small
    state = torch.get_rng_state()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        choose_way(model, "auto")
        choose_way(model, "jvp")
    assert torch.equal(state, torch.get_rng_state())
    for name, p in model.named_parameters():
        assert p.grad is None
        assert torch.equal(p, before[name])
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


OTHERS = {
    "norms of queries and keys": ("qwen3", {"head_dim": 8, "num_key_value_heads": 2}),
    "layer norms in parallel": ("phi", {}),
    "gains of 1 + w and a scaled table": (
        "gemma2",
        {"head_dim": 8, "num_key_value_heads": 2, "query_pre_attn_scalar": 8},
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_families_are_known_by_their_layers(name):
    family, more = OTHERS[name]
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    model = model_of(family, overrides={**shape, "intermediate_size": 48, **more})
    assert choose_way(model, "auto") == "ghost"
    _, gradient = specialist_gradient(model, [text([1, 1], 7)])
    tokens = text(GROUP, 1)
    found = step(model, tokens, gradient, "ghost").alignments.value
    exact = reference(model, tokens, gradient)
    assert found == pytest.approx(exact, rel=EXACT, abs=1e-6 * max(map(abs, exact.values())))


def test_one_layer_used_twice_counts_twice(small):
    model, tokens, _ = small
    model.model.layers[1].mlp = model.model.layers[0].mlp
    model.model.layers[1].self_attn.v_proj = model.model.layers[1].self_attn.o_proj
    assert choose_way(model, "auto") == "ghost"
    _, gradient = specialist_gradient(model, [text([1, 1], 7)])
    found = step(model, tokens, gradient, "ghost").alignments.value
    assert found == pytest.approx(reference(model, tokens, gradient), rel=EXACT)


def test_frozen_parameters_and_padding_rows_count_nothing():
    model = model_of(tied=False, width=16, layers=2)
    model.model.layers[0].mlp.up_proj.weight.requires_grad_(False)
    model.model.embed_tokens.padding_idx = 18
    tokens = text(GROUP, 1)
    assert (tokens[:, :-1] == 18).any()
    _, gradient = specialist_gradient(model, [text([1, 1], 7)])
    gradient["model.embed_tokens.weight"][18] = 5.0  # of anything, but never moved
    trained = [p for p in model.parameters() if p.requires_grad]
    exact = {}
    for g, name in enumerate(NAMES):
        grads = torch.autograd.grad(loss_of(model, tokens[GROUP == g]), trained)
        pairs = zip(grads, gradient.values(), strict=True)
        exact[name] = sum(float((a.double() * b).sum()) for a, b in pairs)
    found = step(model, tokens, gradient, "ghost").alignments.value
    assert found == pytest.approx(exact, rel=EXACT)


# One process of two, by hand: a rank has some of the batch and its own specialist sequences.
RANK = """
import json, sys
import torch
sys.path.insert(0, sys.argv[1])
import test_alignment as t

torch.set_num_threads(1)
rank, meeting = int(sys.argv[2]), sys.argv[3]
torch.distributed.init_process_group(
    "gloo", init_method="file://" + meeting, rank=rank, world_size=2
)
print(json.dumps(t.share_of_a_step(slice(0, 5) if rank else slice(5, 14), 1 + 2 * rank)))
torch.distributed.destroy_process_group()
"""


def share_of_a_step(part, n_specialist):
    """What a rank with this part of the batch knows at the end, and its share of the gradient."""
    model = model_of(width=16, layers=2)
    total = distributed_total()
    specialist = text([1, 1, 3, 0], 7)
    mine = specialist[:1] if n_specialist == 1 else specialist[-n_specialist:]
    loss, gradient = specialist_gradient(model, [mine], total=total)
    shared = {}
    for way in WAYS:
        group = GROUP[part]
        done = step(model, text(GROUP, 1)[part], gradient, way, 4, group=group, total=total)
        flat = torch.cat([p.grad.flatten() for p in model.parameters()])
        found = done.alignments
        shared[way] = {
            "loss": done.loss_nats,
            "value": found.value,
            "error": found.standard_error,
            "n": found.n_sequences,
            "norm": found.norm,
            "grad": flat[::37].tolist(),
        }
    return {"specialist": loss, "ways": shared}


def test_two_ranks_measure_what_one_does(tmp_path):
    here, meeting = os.path.dirname(__file__), str(tmp_path / "meeting")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, here, str(rank), meeting],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        for rank in (0, 1)
    ]
    said = [process.communicate(timeout=120) for process in ranks]
    assert [process.returncode for process in ranks] == [0, 0], said
    one, two = (json.loads(out.strip().splitlines()[-1]) for out, _ in said)
    alone = share_of_a_step(slice(None), 4)
    assert one["specialist"] == two["specialist"] == pytest.approx(alone["specialist"], rel=1e-6)
    for way in WAYS:
        a, b, both = one["ways"][way], two["ways"][way], alone["ways"][way]
        assert a["value"] == b["value"]
        rel = DIFFERENCED if way == "finite_difference" else 1e-5
        assert a["value"] == pytest.approx(both["value"], rel=rel)
        assert a["n"] == both["n"] == {"web": 4, "code": 4, "books": 3, "wiki": 3}
        assert a["loss"] == pytest.approx(both["loss"], rel=1e-6)
        if way != "naive":  # whose halves are other halves
            assert a["error"] == pytest.approx(both["error"], rel=1e-3)
        assert a["norm"] is None
        summed = np.add(a["grad"], b["grad"])
        np.testing.assert_allclose(summed, both["grad"], rtol=1e-4, atol=1e-6)
