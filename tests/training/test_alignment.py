"""Alignments of real Hugging Face models, against gradients taken one group at a time."""

import contextlib
import itertools
import json
import os
import subprocess
import sys
import textwrap
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mixture_assets.core.errors import MixtureError, MixtureWarning
from mixture_assets.core.run import ModelSpec
from mixture_assets.training import directional, ghost
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
    for way, micro in itertools.product(WAYS, (100, 3)):
        done = step(model, tokens, gradient, way, micro)
        assert done.loss_nats == pytest.approx(float(plain), rel=1e-6)
        for (name, p), g in zip(model.named_parameters(), grads, strict=True):
            torch.testing.assert_close(
                p.grad, g, rtol=1e-4, atol=1e-6 * float(g.abs().max()), msg=f"{way} {name}"
            )


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
