import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixture_assets.core.errors import MixtureError
from mixture_assets.core.mixture import Mixture
from mixture_assets.core.schedule import MixtureSchedule
from mixture_assets.data.sampler import Layout, Sampler

token_counts = st.dictionaries(
    st.sampled_from(["web", "code", "books", "law", "maths"]),
    st.integers(0, 5000),
    min_size=1,
).filter(lambda t: max(t.values()) >= 10)


def lay_out(layout):
    steps = [layout.sequences(s) for s in range(layout.n_steps)]
    return np.concatenate([d for d, _ in steps]), np.concatenate([o for _, o in steps])


@given(token_counts, st.integers(1, 64))
def test_a_static_run_draws_what_was_asked_to_within_one_sequence(tokens, batch):
    layout = Layout.from_tokens(tokens, context=10, batch=batch)
    domain, ordinal = lay_out(layout)
    for i, name in enumerate(layout.domains):
        mine = ordinal[domain == i]
        assert sorted(mine) == list(range(len(mine)))
        assert layout.realised_tokens[name] == 10 * len(mine)
        assert abs(10 * len(mine) - tokens[name]) <= 10


@given(token_counts, st.integers(1, 64))
def test_every_prefix_holds_the_mixture(tokens, batch):
    layout = Layout.from_tokens(tokens, context=10, batch=batch)
    domain, _ = lay_out(layout)
    total, n = layout.n_sequences, len(layout.domains)
    for i, name in enumerate(layout.domains):
        weight = layout.realised_tokens[name] / 10 / total
        strays = np.abs(np.cumsum(domain == i) - weight * np.arange(1, total + 1))
        assert strays.max() <= 1 + weight * n / 2 + 1e-9


@given(token_counts, st.integers(1, 64))
def test_slices_agree_with_sorting_the_whole_run(tokens, batch):
    layout = Layout.from_tokens(tokens, context=10, batch=batch)
    counts = layout.counts[0]
    whole = sorted(((2 * j + 1) / (2 * n), i, j) for i, n in enumerate(counts) for j in range(n))
    domain, ordinal = lay_out(layout)
    assert [(i, j) for _, i, j in whole] == list(zip(domain, ordinal, strict=True))


@settings(max_examples=50)
@given(
    st.lists(st.lists(st.floats(0.01, 1), min_size=3, max_size=3), min_size=1, max_size=6),
    st.integers(10, 500),
)
def test_a_schedule_holds_every_phase_and_carries_its_rounding(rows, phase_tokens):
    mixtures = [Mixture.proportional_to(dict(zip("abc", row, strict=True))) for row in rows]
    schedule = MixtureSchedule(tuple((i * phase_tokens, m) for i, m in enumerate(mixtures)))
    budget = phase_tokens * len(mixtures)
    layout = Layout.from_schedule(schedule, budget_tokens=budget, context=7, batch=4)
    assert layout.n_sequences == round(budget / 7)
    for i, name in enumerate("abc"):
        owed = sum(m[name] for m in mixtures) * phase_tokens / 7
        assert abs(sum(p[i] for p in layout.counts) - owed) < 2
    domain, ordinal = lay_out(layout)
    for i in range(3):
        assert list(ordinal[domain == i]) == list(range((domain == i).sum()))


def arrays_of(sizes):
    start, arrays = 0, {}
    for name, parts in sizes.items():
        arrays[name] = []
        for size in parts:
            arrays[name].append(np.arange(start, start + size, dtype=np.uint32))
            start += size
    return arrays


def test_a_domain_is_read_through_once_before_any_of_it_repeats():
    arrays = arrays_of({"a": [101, 57, 3], "b": [401]})
    per_epoch = sum((n - 1) // 10 for n in (101, 57, 3))
    layout = Layout.from_tokens({"a": 10 * per_epoch * 2, "b": 300}, context=10, batch=4)
    sampler = Sampler(layout, arrays, seed=3)
    starts = [
        int(row[0])
        for step in range(layout.n_steps)
        for row, d in zip(sampler.batch(step), layout.sequences(step)[0], strict=True)
        if layout.domains[d] == "a"
    ]
    first, second = starts[:per_epoch], starts[per_epoch:]
    assert len(set(first)) == per_epoch == 10 + 5
    assert set(second) == set(first)
    assert second != first


def test_batches_are_contiguous_text_of_the_right_domain():
    arrays = arrays_of({"a": [200], "b": [100, 100]})
    layout = Layout.from_tokens({"a": 150, "b": 120}, context=10, batch=8)
    sampler = Sampler(layout, arrays, seed=0)
    for step in range(layout.n_steps):
        for row, d in zip(sampler.batch(step), layout.sequences(step)[0], strict=True):
            assert (np.diff(row) == 1).all()
            assert (row[0] < 200) == (layout.domains[d] == "a")


def test_a_step_is_the_same_whoever_asks_and_in_whatever_order():
    arrays = arrays_of({"a": [500], "b": [300]})
    layout = Layout.from_tokens({"a": 900, "b": 100}, context=10, batch=8)
    forwards = [Sampler(layout, arrays, seed=1).batch(s) for s in range(layout.n_steps)]
    backwards = Sampler(layout, arrays, seed=1)
    for step in reversed(range(layout.n_steps)):
        np.testing.assert_array_equal(backwards.batch(step), forwards[step])
    other = Sampler(layout, arrays, seed=2).batch(0)
    assert not np.array_equal(other, forwards[0])


def test_a_run_that_draws_more_begins_with_the_same_text():
    arrays = arrays_of({"a": [500], "b": [300]})

    def text_of_a(tokens):
        layout = Layout.from_tokens({"a": tokens, "b": 100}, context=10, batch=8)
        sampler = Sampler(layout, arrays, seed=1)
        return [
            tuple(row)
            for step in range(layout.n_steps)
            for row, d in zip(sampler.batch(step), layout.sequences(step)[0], strict=True)
            if d == 0
        ]

    assert text_of_a(300)[:10] == text_of_a(100)


def test_names_the_domain_that_is_shorter_than_a_window():
    layout = Layout.from_tokens({"a": 100, "b": 100}, context=10, batch=2)
    with pytest.raises(MixtureError, match="'b' has no window of 11 training tokens"):
        Sampler(layout, arrays_of({"a": [100], "b": [10]}), seed=0)


def test_a_budget_below_one_sequence_is_an_error():
    with pytest.raises(MixtureError, match="a run of 4 tokens has no sequence of 10 tokens"):
        Layout.from_tokens({"a": 4}, context=10, batch=2)
