"""Online methods by name, and the epoch caps on what they sample.

An online method is a frozen dataclass of hyper-parameters; a new one is a file and a line here.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from mixture_assets.core.errors import MixtureError, shortlist
from mixture_assets.core.mixture import Mixture
from mixture_assets.core.names import nearest
from mixture_assets.core.units import tokens_text
from mixture_assets.methods.dga import DGA
from mixture_assets.methods.doge import DoGE
from mixture_assets.methods.online_state import Feedback, OnlineMethod, OnlineState
from mixture_assets.methods.waterfill import PowerGain, fill

__all__ = [
    "ONLINE",
    "Feedback",
    "OnlineMethod",
    "OnlineState",
    "capped",
    "online_method",
    "settings_of",
]

ONLINE: Mapping[str, type[DGA] | type[DoGE]] = {"dga": DGA, "doge": DoGE}


def online_method(name: str, settings: Mapping[str, Any]) -> DGA | DoGE:
    """An online method with settings of its own, the others at their defaults."""
    if name not in ONLINE:
        raise MixtureError(
            f"no online method is called {name!r}{nearest(name, ONLINE)}",
            hint=f"known online methods: {', '.join(ONLINE)}",
        )
    known = [f.name for f in fields(ONLINE[name])]
    unknown = [key for key in settings if key not in known]
    if unknown:
        raise MixtureError(
            f"{name} has no setting {unknown[0]!r}{nearest(unknown[0], known)}",
            hint=f"settings of {name}: {', '.join(known)}",
        )
    return ONLINE[name](**settings)


def settings_of(method: DGA | DoGE) -> dict[str, float]:
    """Every setting of a method, what was left at its default too; 3 and 3.0 are the same."""
    found = {f.name: getattr(method, f.name) for f in fields(method)}
    return found | {f.name: float(found[f.name]) for f in fields(method) if f.type is float}


def capped(
    mixture: Mixture,
    *,
    period_tokens: int,
    used_tokens: Mapping[str, int],
    most_tokens: Mapping[str, int],
) -> Mixture:
    """The mixture for the next period, no domain read beyond what its cap leaves.

        w_i' = min(s w_i, (most_i - used_i) / period_tokens)      s >= 1: the sum is 1

    So what a capped domain gives up goes to the others in proportion to their weights, and a
    domain that is used up gets 0. `Mixture.split(period_tokens)` of it keeps every cap exactly.

    Args:
        mixture: What the method would sample.
        period_tokens: Length of the next period.
        used_tokens: Tokens drawn so far by domain; 0 where a domain is missing.
        most_tokens: Tokens that may ever be drawn, by domain: max_epochs * available, rounded down.
    """
    mixture.check_domains(most_tokens)
    left = {n: max(most_tokens[n] - used_tokens.get(n, 0), 0) for n in mixture}
    _check_room(left, period_tokens, most_tokens)
    weight_D = np.array(list(mixture.values()))
    cap_D = np.array([left[n] / period_tokens for n in mixture])
    if (weight_D <= cap_D).all():
        return mixture
    gain = PowerGain(k=weight_D, p=np.ones(len(mixture)), a=np.zeros(len(mixture)))
    cap = dict(zip(mixture, cap_D.tolist(), strict=True))
    return fill(list(mixture), gain, cap=cap)


def _check_room(
    left: Mapping[str, int], period_tokens: int, most_tokens: Mapping[str, int]
) -> None:
    if period_tokens < 1:
        raise MixtureError(f"a period has at least 1 token, got {period_tokens}")
    if sum(left.values()) >= period_tokens:
        return
    spent = [name for name, tokens in left.items() if tokens == 0]
    named = f"; nothing is left of {shortlist(spent)}" if spent else ""
    raise MixtureError(
        f"the next {tokens_text(period_tokens)} tokens would break the epoch cap of every domain: "
        f"{tokens_text(sum(left.values()))} of {tokens_text(sum(most_tokens[n] for n in left))} "
        f"allowed tokens are left{named}",
        hint="lower [full] budget_tokens, raise [constraints] max_epochs, or add data",
    )
