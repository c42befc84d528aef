"""A basis of distributions: sums by hand, draws by enumeration, and very many domains."""

import itertools
import math
import time
import tracemalloc

import numpy as np
import pytest
from scipy.stats import chisquare

from mixture_assets.core.errors import MixtureError
from mixture_assets.core.mixture import Mixture
from mixture_assets.methods.basis import Basis, domain_mixture, draw
from mixture_assets.methods.crisp import specialist_mixture
from mixture_assets.methods.dga import DGA
from mixture_assets.methods.online import Feedback, capped

TOKENS = {"c0": 100, "c1": 300, "c2": 600}
COUNTS = {"medicine": {"c0": 3, "c2": 1}, "law": {"c1": 4}}


def test_members_are_histograms_natural_and_uniform():
    basis = Basis.from_counts(COUNTS, TOKENS, pseudo_count=1, natural=True, uniform=True)
    assert list(basis) == ["law", "medicine", "natural", "uniform"]
    assert dict(basis["medicine"]) == pytest.approx({"c0": 4 / 7, "c1": 1 / 7, "c2": 2 / 7})
    assert dict(basis["natural"]) == pytest.approx({"c0": 0.1, "c1": 0.3, "c2": 0.6})
    assert "music" not in basis
    assert dict(basis["uniform"]) == pytest.approx(dict.fromkeys(TOKENS, 1 / 3))


@pytest.mark.parametrize("pseudo_count", [0.0, 0.3, 5])
def test_a_histogram_is_that_of_crisp(pseudo_count):
    basis = Basis.from_counts({"medicine": {"c0": 2.7, "c2": 1}}, TOKENS, pseudo_count=pseudo_count)
    full = {"c0": 2.7, "c1": 0, "c2": 1}
    expected = specialist_mixture(full, pseudo_count=pseudo_count)
    assert dict(basis["medicine"]) == pytest.approx(dict(expected), rel=1e-14)


def test_weights_by_domain_are_the_weighted_sum():
    basis = Basis.from_counts(COUNTS, TOKENS, natural=True)
    got = domain_mixture(basis, {"natural": 0.5, "law": 0.2, "medicine": 0.3})
    expected = {"c0": 0.05 + 0.3 * 0.75, "c1": 0.15 + 0.2, "c2": 0.3 + 0.3 * 0.25}
    assert dict(got) == pytest.approx(expected, rel=1e-14)
    assert math.fsum(got.values()) == pytest.approx(1, abs=1e-12)


def test_the_order_of_rows_and_columns_changes_nothing():
    share = np.array([[0.1, 0.2, 0.7], [0.5, 0.5, 0.0]])
    one = Basis(("b", "a"), ("z", "x", "y"), share)
    two = Basis(("a", "b"), ("x", "y", "z"), share[::-1][:, [1, 2, 0]])
    assert dict(one) == dict(two)
    weights = {"a": 0.25, "b": 0.75}
    assert domain_mixture(one, weights) == domain_mixture(two, weights)
    rng = np.random.default_rng
    assert draw(one, "b", 50, rng(1)) == draw(two, "b", 50, rng(1))


def test_draws_are_multinomial_by_enumeration():
    """Every outcome of three draws, its chance by adding up all 27 sequences."""
    basis, rng, n_sets = (
        Basis.of({"p": {"x": 0.2, "y": 0.5, "z": 0.3}}),
        np.random.default_rng(2),
        20_000,
    )
    p = dict(basis["p"])
    chance = dict.fromkeys(itertools.product(range(4), repeat=3), 0.0)
    for sequence in itertools.product(p, repeat=3):
        chance[tuple(sequence.count(d) for d in p)] += math.prod(p[d] for d in sequence)
    chance = {k: v for k, v in chance.items() if v}
    seen = dict.fromkeys(chance, 0)
    for _ in range(n_sets):
        counts = draw(basis, "p", 3, rng)
        seen[tuple(counts.get(d, 0) for d in p)] += 1
    expected = [n_sets * v for v in chance.values()]
    assert chisquare(list(seen.values()), expected).pvalue > 1e-3


def test_a_domain_without_weight_is_never_drawn():
    share = np.append(np.full(9_999, 1 / 9_999), 0.0)
    basis = Basis(("p",), tuple(f"c{i:05}" for i in range(10_000)), share[None])
    counts = draw(basis, "p", 10**12, np.random.default_rng(0))
    assert "c09999" not in counts
    assert sum(counts.values()) == 10**12


def test_no_draws_are_no_domains():
    assert draw(Basis.of({"p": {"x": 1.0}}), "p", 0, np.random.default_rng(0)) == {}


# --- mistakes ---------------------------------------------------------------------------------


def test_members_that_are_the_same_are_named():
    counts = {"law": {"c0": 1, "c1": 2}, "code": {"c2": 1}, "courts": {"c0": 2, "c1": 4}}
    with pytest.raises(MixtureError, match="'courts' and 'law' are the same distribution"):
        Basis.from_counts(counts, TOKENS)


def test_natural_that_is_uniform_is_refused():
    with pytest.raises(MixtureError, match="'natural' and 'uniform' are the same"):
        Basis.from_counts({}, dict.fromkeys(TOKENS, 5), natural=True, uniform=True)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Basis.of({}), "at least one member"),
        (lambda: Basis.of({"p": {"x": 1.0}, "q": {"y": 1.0}}), "'q' is not over the domains"),
        (lambda: Basis.of({"p": {"x": 0.5, "y": 0.4}}), "'p' sum to 0.9, not 1"),
        (lambda: Basis.of({"p": {"x": 1.5, "y": -0.5}}), "'p' are finite and >= 0"),
        (lambda: Basis(("p", "p"), ("x",), np.ones((2, 1))), "names of their own, not so 'p'"),
        (lambda: Basis(("p",), ("x", "y"), np.ones((1, 1))), r"shape \(1, 1\)"),
        (lambda: Basis.from_counts({"law": {}}, TOKENS), "'law' has no documents"),
        (lambda: Basis.from_counts({"law": {"c0": -1}}, TOKENS), "not so for 'c0'"),
        (lambda: Basis.from_counts(COUNTS, TOKENS, pseudo_count=-1), "^pseudo_count must be"),
        (lambda: Basis.from_counts({}, TOKENS), "at least one member"),
        (lambda: Basis.from_counts({"law": {"c9": 1}}, TOKENS), "'law' names unknown .*'c9'"),
        (
            lambda: Basis.from_counts({"natural": {"c0": 1}}, TOKENS, natural=True),
            "a histogram is called 'natural'",
        ),
        (lambda: domain_mixture(Basis.of({"p": {"x": 1.0}}), {"q": 1.0}), "'p', 'q' in only one"),
        (lambda: Basis.of({"law": {"x": 1.0}}).row("laws"), "no member .laws. .did you mean .law."),
    ],
)
def test_mistakes_are_named(make, said):
    with pytest.raises(MixtureError, match=said):
        make()


# --- very many domains ------------------------------------------------------------------------


@pytest.mark.parametrize(("n_domains", "most_seconds"), [(4_096, 2.0), (262_144, 20.0)])
def test_a_plan_over_very_many_domains_takes_seconds(n_domains, most_seconds):
    """Histograms, an update, weights by domain, caps and a draw, as an online run does them."""
    rng, domains = np.random.default_rng(0), [f"c{i:06}" for i in range(n_domains)]
    tokens = dict(zip(domains, rng.integers(10_000, 20_000, size=n_domains).tolist(), strict=True))
    counts = {
        f"set {j}": dict.fromkeys(rng.choice(domains, size=200, replace=False).tolist(), 1)
        for j in range(6)
    }
    began = time.perf_counter()
    basis = Basis.from_counts(counts, tokens, natural=True, uniform=True)
    method = DGA()
    state = method.start(Mixture.uniform(list(basis)))
    alignment = dict.fromkeys(basis, 0.0) | {"set 0": 1.0}
    state = method.update(state, Feedback(alignment, {}, 1e-3, 1.0))
    mixture = domain_mixture(basis, method.sampled(state))
    period = sum(tokens.values()) // 5
    within = capped(mixture, period_tokens=period, used_tokens={}, most_tokens=tokens)
    drawn = draw(basis, "uniform", 256, rng)
    assert time.perf_counter() - began < most_seconds
    assert sum(drawn.values()) == 256
    assert all(within[d] * period <= tokens[d] * (1 + 1e-12) for d in domains)
    assert max(mixture[d] * period / tokens[d] for d in domains) > 1  # so the caps did bind
    assert math.fsum(within.values()) == pytest.approx(1, abs=1e-9)


def test_the_arrays_of_very_many_domains_are_the_memory():
    n_members, domains = 16, tuple(f"c{i:06}" for i in range(262_144))
    share_ND = np.random.default_rng(0).dirichlet(np.ones(len(domains)), size=n_members)
    names = tuple(f"set {j:02}" for j in range(n_members))
    tracemalloc.start()
    basis = Basis(names, domains, share_ND)
    domain_mixture(basis, Mixture.uniform(list(basis)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * share_ND.nbytes + 200 * len(domains)
