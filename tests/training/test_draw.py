"""What a steered run draws: as long as asked, within every cap, and nothing read twice."""

import json

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from mixture_assets.core.errors import MixtureError
from mixture_assets.core.mixture import Mixture
from mixture_assets.data.online_layout import OnlineLayout, whole_caps
from mixture_assets.methods.basis import Basis
from mixture_assets.training.draw import Draw, shared_out

CONTEXT = 32


def new(caps, n_sequences, *, batch=8, per_group=2, update_steps=4, basis=None):
    """A draw of domains, or of members of a basis; caps in sequences."""
    domains = tuple(sorted(caps))
    groups = basis.names if basis else domains
    layout = OnlineLayout(
        domains, CONTEXT, batch, len(groups) * per_group, update_steps, n_sequences
    )
    return Draw(layout, basis, groups, {d: n * CONTEXT for d, n in caps.items()}, seed=0)


def random_caps(rng, n_domains, n):
    """Caps of very different sizes that just leave room for a run of n sequences."""
    parts = rng.multinomial(n, rng.dirichlet(np.full(n_domains, 0.3)))
    caps = {f"d{i:02}": int(part) + 2 for i, part in enumerate(parts)}
    assert sum(whole_caps({d: c * CONTEXT for d, c in caps.items()}, CONTEXT).values()) == n
    return caps


def random_basis(rng, domains, n_members):
    """Members that leave most domains out, beside one that has them all."""
    found = {tuple(np.full(len(domains), 1 / len(domains)))}
    for _ in range(n_members):
        share = rng.dirichlet(np.full(len(domains), 0.1))
        share[share < 0.01] = 0
        found.add(tuple((share / share.sum()).tolist()))
    members = {f"m{i}": dict(zip(domains, m, strict=True)) for i, m in enumerate(sorted(found))}
    return Basis.of(members)


def weights(draw, rng):
    shares = 0.99 * rng.dirichlet(np.full(len(draw.groups), 0.3)) + 0.01 / len(draw.groups)
    return Mixture.proportional_to(dict(zip(draw.groups, shares.tolist(), strict=True)))


def run_through(draw, rng):
    """Every period to the end of the run; the update steps by the way."""
    updates, now = [], draw.next_period(weights(draw, rng), [])
    for _ in range(draw.layout.n_updates):
        updates.append(draw.strata(now))
        now = draw.next_period(weights(draw, rng), updates[-1])
    return updates


def assert_whole(draw, caps):
    drawn = {d: n // CONTEXT for d, n in draw.layout.realised_tokens.items()}
    assert sum(drawn.values()) == draw.layout.n_sequences
    assert all(drawn[d] <= caps[d] for d in caps)


@pytest.mark.parametrize(("update_steps", "n"), [(1, 83), (4, 4 * 8 + 6 + 3 * (6 + 3 * 8))])
def test_a_period_that_is_its_update_step_alone_breaks_no_cap(update_steps, n):
    caps = {"a": n, "b": n, "c": n // 2}
    draw = new(caps, n, update_steps=update_steps)
    assert draw.layout.length(draw.layout.n_updates) == (0 if update_steps > 1 else (n - 8) % 6)
    run_through(draw, np.random.default_rng(0))
    assert_whole(draw, caps)


runs = given(
    st.integers(2, 20),
    st.integers(4, 40),
    st.integers(1, 11),
    st.integers(2, 6),
    st.floats(1.0, 12.0),
    st.integers(0, 10**6),
)


@settings(max_examples=150)
@runs
def test_a_run_that_fits_its_caps_is_trained_to_its_end_within_them(
    n_domains, batch, update_steps, per_group, length, seed
):
    rng = np.random.default_rng(seed)
    n = round(length * batch * update_steps) + 1
    caps = random_caps(rng, n_domains, n)
    draw = new(caps, n, batch=batch, per_group=per_group, update_steps=update_steps)
    updates = run_through(draw, rng)
    assert_whole(draw, caps)
    assert all(sum(k for *_, k in u) == draw.layout.update_batch for u in updates)


@settings(max_examples=100)
@runs
def test_a_run_over_a_basis_does_so_too(n_domains, batch, update_steps, per_group, length, seed):
    rng = np.random.default_rng(seed)
    n = round(length * batch * update_steps) + 1
    caps = random_caps(rng, n_domains, n)
    basis = random_basis(rng, sorted(caps), 3)
    draw = new(caps, n, batch=batch, per_group=per_group, update_steps=update_steps, basis=basis)
    updates = run_through(draw, rng)
    assert_whole(draw, caps)
    for update in updates:
        assert sum(k for *_, k in update) == draw.layout.update_batch
        assert all(basis.share_ND[g, d] > 0 for g, d, _ in update)


def test_a_domain_is_measured_for_as_long_as_there_is_text_of_it():
    caps = {f"d{i:02}": 250 for i in range(64)}  # less than the whole batch: 64 domains of 4
    draw = new(caps, 64 * 125, per_group=4, update_steps=100)
    now = draw.next_period(Mixture.uniform(list(caps)), [])
    assert [k for *_, k in draw.strata(now)] == [4] * 64
    draw.layout.drawn[0], draw.layout.drawn[1] = 248, 245  # none and three are left below the cap
    found = {d: k for _, d, k in draw.strata(now)}
    assert found[1] == 3
    assert set(found) == set(range(1, 64))
    assert sum(found.values()) == 256
    assert max(found.values()) == 5


def test_a_step_that_the_caps_leave_no_room_for_is_one_sentence():
    draw = new({"a": 4, "b": 4, "c": 500}, 100)
    now = draw.next_period(Mixture.uniform(["a", "b", "c"]), [])
    draw.layout.drawn[:] = 2, 2, 497
    with pytest.raises(MixtureError, match="would break the epoch cap of every domain: 32 tokens"):
        draw.strata(now)


@settings(max_examples=200)
@given(st.integers(0, 60), st.lists(st.integers(0, 12), min_size=1, max_size=8))
def test_what_is_shared_out_is_as_even_as_the_limits_allow(total, room):
    found = shared_out(total, room)
    assert sum(found) == min(total, sum(room))
    assert all(n <= limit for n, limit in zip(found, room, strict=True))
    least_open = min((n for n, r in zip(found, room, strict=True) if n < r), default=None)
    if least_open is not None:  # nobody has more than one above who could still take one
        assert max(found) <= least_open + 1


def test_members_of_a_basis_draw_their_domains_in_proportion():
    basis = Basis.of(
        {
            "all": dict.fromkeys(("a", "b", "c", "d"), 0.25),
            "some": {"a": 0.6, "b": 0.4, "c": 0.0, "d": 0.0},
        }
    )
    draw = new(dict.fromkeys("abcd", 10**7), 10**6, per_group=20_000, basis=basis)
    counts = np.zeros((2, 4))
    for g, d, n in draw.strata(Mixture.uniform(["all", "some"])):
        counts[g, d] += n
    assert counts.sum(axis=1).tolist() == [20_000, 20_000]
    error = np.sqrt(basis.share_ND * (1 - basis.share_ND) / 20_000)
    assert (np.abs(counts / 20_000 - basis.share_ND) <= 4 * error).all()


def test_a_run_of_long_periods_reads_every_window_in_turn_also_when_it_goes_on():
    rng, seen = np.random.default_rng(0), {d: [] for d in range(3)}
    caps = dict.fromkeys("abc", 10**6)
    draw = new(caps, 9 * 200, batch=6, update_steps=150)
    now, first = draw.next_period(weights(draw, rng), []), 0
    assert draw.layout.n_updates == 1
    for step in range(draw.layout.n_steps):
        if draw.layout.is_update(step):
            update = draw.strata(now)
            _, domain, ordinal = draw.layout.stratified(update)
            now = draw.next_period(weights(draw, rng), update)
        else:
            domain, ordinal = draw.batch(step)
        for d, j in zip(domain.tolist(), ordinal.tolist(), strict=True):
            seen[d].append(j)
        assert len(domain) == draw.layout.first_sequence(step + 1) - first
        first += len(domain)
        if step % 41 == 40:  # the process is another one
            again = new(caps, 9 * 200, batch=6, update_steps=150)
            again.next_period(weights(again, rng), [])
            again.batch(0)
            again.restore(json.loads(json.dumps(draw.to_json())))
            draw = again
    for ordinals in seen.values():
        assert sorted(ordinals) == list(range(len(ordinals)))


def test_the_mixture_over_a_basis_is_what_is_drawn_within_the_caps():
    basis = Basis.of({"all": {"a": 0.2, "b": 0.4, "c": 0.4}, "one": {"a": 1.0, "b": 0.0, "c": 0.0}})
    draw = new({"a": 130, "b": 10**4, "c": 10**4}, 2000, update_steps=50, basis=basis)
    wanted = Mixture({"all": 0.5, "one": 0.5})
    now = draw.next_period(wanted, [])
    for number in range(draw.layout.n_updates + 1):
        assert now == wanted
        length = draw.layout.length(number)
        found = draw.layout.counts / length
        assert np.abs(found - list(draw.mixture.values())).max() <= 2 / length
        if number < draw.layout.n_updates:
            now = draw.next_period(wanted, draw.strata(now))
    assert draw.mixture == Mixture({"a": 0.0, "b": 0.5, "c": 0.5})
    again = new({"a": 130, "b": 10**4, "c": 10**4}, 2000, update_steps=50, basis=basis)
    again.next_period(wanted, [])
    again.restore(json.loads(json.dumps(draw.to_json())))
    assert again.mixture == draw.mixture
