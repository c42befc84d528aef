"""A projection that keeps inner products: exactly, or with the variance that it promises."""

import math

import numpy as np
import pytest
import torch

from mixture_assets.selection.sketch import places_of


def project(tensors, places, dimensions):
    """Buckets of one vector, made of the matrices of `tensors`."""
    total = torch.zeros(1, dimensions)
    for name, matrix in tensors.items():
        rows = matrix if matrix.dim() == 2 else matrix[None]
        places[name].add(places[name].signed(rows)[None], total)
    return total[0]


def flat(tensors):
    return torch.cat([t.flatten().double() for t in tensors.values()])


def cosine(one, other):
    return float(torch.cosine_similarity(one.double(), other.double(), dim=0))


def vectors(kind, seed=0):
    """Two alike gradients of three parameters, spread in one way or another."""
    random = torch.Generator().manual_seed(seed)
    shapes = {"a": (40, 30), "b": (7, 50), "bias": (60,)}
    one = {n: torch.randn(s, generator=random) for n, s in shapes.items()}
    other = {n: 0.6 * t + torch.randn(t.shape, generator=random) for n, t in one.items()}
    for v in (one, other):
        if kind == "few columns":
            v["a"][:, 3:] *= 0.01
        elif kind == "few rows":
            v["a"][2:] *= 0.01
        elif kind == "rank one":
            v["a"] = torch.outer(v["a"][:, 0], v["a"][0])
        elif kind == "one matrix":
            v["a"] *= 30
    return one, other


@pytest.mark.parametrize("kind", ["even", "few columns", "few rows", "rank one", "one matrix"])
@pytest.mark.parametrize("dimensions", [64, 100, 256])
def test_inner_products_have_the_right_mean_and_the_promised_variance(kind, dimensions):
    one, other = vectors(kind)
    shapes = {n: t.shape for n, t in one.items()}
    norms = float(flat(one).norm() * flat(other).norm())
    exact = float(flat(one) @ flat(other)) / norms
    found = []
    for seed in range(400):
        places = places_of(shapes, dimensions=dimensions, seed=seed)
        x, y = (project(v, places, dimensions) for v in (one, other))
        found.append(float(x @ y) / norms)
    sd = math.sqrt((1 + exact**2) / dimensions)
    assert abs(np.mean(found) - exact) < 4 * sd / 20
    assert np.std(found) < 1.15 * sd  # 400 draws tell it to 4 %


def test_nothing_is_lost_with_a_bucket_for_every_entry():
    one, other = vectors("even")
    shapes = {n: t.shape for n, t in one.items()}
    places = places_of(shapes, dimensions=2048, seed=3)
    x, y = (project(v, places, 2048) for v in (one, other))
    assert cosine(x, y) == pytest.approx(cosine(flat(one), flat(other)), abs=1e-6)
    assert sorted(x[x != 0].abs().tolist()) == sorted(flat(one).float().abs().tolist())


def test_places_follow_from_names_and_seed():
    shapes = {"a": (40, 30), "b": (7, 50), "bias": (60,)}
    one, other = vectors("even")
    turned = dict(reversed(shapes.items()))
    a, b, c = (
        project(one, places_of(s, dimensions=64, seed=seed), 64)
        for s, seed in ((shapes, 1), (turned, 1), (shapes, 2))
    )
    assert torch.allclose(a, b, atol=1e-5)
    assert not torch.allclose(a, c, atol=0.1)
    both = {n: one[n] + other[n] for n in one}
    places = places_of(shapes, dimensions=64, seed=1)
    apart = sum(project(v, places, 64) for v in (one, other))
    assert torch.allclose(project(both, places, 64), apart, atol=1e-4)
