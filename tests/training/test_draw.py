"""What a steered run draws: as long as asked, within every cap, and nothing read twice."""

import numpy as np
import pytest

from mixture_assets.core.mixture import Mixture
from mixture_assets.data.online_layout import OnlineLayout
from mixture_assets.training.draw import Draw

CONTEXT = 32


def new(caps, n_sequences, *, batch=8, per_group=2, update_steps=4):
    """A draw of domains; caps in sequences."""
    domains = tuple(sorted(caps))
    layout = OnlineLayout(
        domains, CONTEXT, batch, len(domains) * per_group, update_steps, n_sequences
    )
    return Draw(layout, None, domains, {d: n * CONTEXT for d, n in caps.items()}, seed=0)


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
