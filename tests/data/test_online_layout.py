import json

import hypothesis.strategies as st
import numpy as np
from hypothesis import given, settings

from mixture_assets.data.online_layout import OnlineLayout

DOMAINS = ("a", "b", "c", "d")


def periods(layout, rng, zero=()):
    """The layout to its end: random mixtures, two sequences a domain in each update step.

    Yields the period's number and its update step, when the period has begun.
    """
    for number in range(layout.n_updates + 1):
        weights = rng.dirichlet(np.ones(len(DOMAINS)))
        weights[[DOMAINS.index(z) for z in zero if number]] = 0
        mixture = dict(zip(DOMAINS, weights / weights.sum(), strict=True))
        n = layout.update_batch // len(DOMAINS)
        update = [(g, g, n) for g in range(len(DOMAINS))] if number else []
        drawn = layout.stratified(update)
        layout.append(mixture, update)
        yield number, drawn


def new(n_sequences, batch=6, update_batch=8, update_steps=5):
    return OnlineLayout(DOMAINS, 32, batch, update_batch, update_steps, n_sequences)


def every_sequence(layout, rng):
    for number, (_, domain, ordinal) in periods(layout, rng):
        if number:
            yield number * layout.update_steps, domain, ordinal
        for step in range(layout.first_step(number), layout.n_steps):
            if layout.period_of(step) == number:
                yield step, *layout.sequences(step)


@settings(max_examples=60)
@given(st.integers(1, 300), st.integers(1, 9), st.integers(1, 7), st.integers(0, 10**6))
def test_every_window_is_read_in_turn_and_every_step_has_its_size(n, batch, steps, seed):
    layout = new(n, batch, 8, steps)
    seen = {d: [] for d in range(len(DOMAINS))}
    sizes = []
    for step, domain, ordinal in every_sequence(layout, np.random.default_rng(seed)):
        assert step == len(sizes)
        sizes.append(len(domain))
        assert len(domain) == layout.first_sequence(step + 1) - layout.first_sequence(step)
        for d, j in zip(domain.tolist(), ordinal.tolist(), strict=True):
            seen[d].append(j)
    assert sum(sizes) == n
    assert all(sizes)
    assert all(sizes[t] == (8 if layout.is_update(t) else batch) for t in range(len(sizes) - 1))
    for d, ordinals in seen.items():  # within a step in any order, and never twice
        assert sorted(ordinals) == list(range(len(ordinals)))
        assert layout.realised_tokens[DOMAINS[d]] == 32 * len(ordinals)


@settings(max_examples=60)
@given(st.integers(30, 400), st.integers(0, 10**6))
def test_the_mixtures_are_held_over_all_periods_to_a_sequence(n, seed):
    layout = new(n)
    mixed = sum(layout.counts.copy() for _ in periods(layout, np.random.default_rng(seed)))
    assert np.abs(mixed - layout.owed).max() <= 2
    assert mixed.sum() == round(layout.owed.sum())


@settings(max_examples=60)
@given(st.integers(30, 400), st.integers(0, 10**6))
def test_a_domain_without_weight_is_not_drawn(n, seed):
    layout = new(n)
    for number, _ in periods(layout, np.random.default_rng(seed), zero=("b", "d")):
        if number:
            assert layout.counts[1] == layout.counts[3] == 0


def test_a_restored_layout_goes_on_as_the_first_would_have():
    first = new(200)
    for mixture in ({"a": 0.7, "b": 0.3}, {"a": 0.1, "c": 0.9}):
        first.append(mixture, [(0, 0, 3), (1, 2, 5)])
    second = new(200)
    second.restore(json.loads(json.dumps(first.to_json())))
    for layout in (first, second):
        layout.append({"a": 1 / 3, "b": 1 / 3, "d": 1 / 3})
        assert layout.n_periods == 3
    assert np.array_equal(first.counts, second.counts)
    assert first.realised_tokens == second.realised_tokens
    assert np.array_equal(first.owed, second.owed)


@settings(max_examples=200)
@given(st.integers(1, 300), st.integers(1, 64), st.integers(0, 1024), st.integers(1, 200))
def test_update_steps_are_as_large_as_asked_while_a_tenth_of_the_tokens_holds_them(
    n_groups, batch, group_tokens, update_steps
):
    layout = OnlineLayout.planned(
        DOMAINS,
        n_groups=n_groups,
        budget_tokens=10**7,
        batch_tokens=32 * batch,
        group_tokens=group_tokens,
        update_steps=update_steps,
        context=32,
    )

    def share(per_group):  # of a period that begins with its update step
        return per_group * n_groups / (per_group * n_groups + (update_steps - 1) * batch)

    found, asked = layout.update_batch / n_groups, -(-group_tokens // 32)
    least = max(2, batch // n_groups)  # no longer than other steps, or two of each group
    assert found == int(found) >= least
    if found < asked:
        assert share(found + 1) > 0.1
    if found > least:
        assert found <= asked
        assert share(found) <= 0.1 + 1e-12


@settings(max_examples=60)
@given(st.integers(30, 400), st.integers(1, 70), st.integers(0, 10**6))
def test_steps_laid_out_together_are_those_laid_out_one_by_one(n, together, seed):
    layout = new(n)
    for number, _ in periods(layout, np.random.default_rng(seed)):
        first = layout.first_step(number)
        steps = [s for s in range(first, layout.n_steps) if layout.period_of(s) == number]
        for start in steps[::together]:
            several = [layout.sequences(s) for s in steps if start <= s < start + together]
            expected = [np.concatenate(part) for part in zip(*several, strict=True)]
            found = layout.sequences(start, together)
            assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


def test_what_a_checkpoint_keeps_does_not_grow_with_the_run():
    layout, sizes = new(10_000), []
    for _ in periods(layout, np.random.default_rng(0)):
        sizes.append(len(json.dumps(layout.to_json())))
    assert len(sizes) > 200
    assert max(sizes) < 2 * sizes[0]
