"""A bad domain stops nothing else: it is left out, or goes on with its last good state.

Only a domain that the experiment file names is an error. A quarantine ends by itself, when the
domain's files or the settings that they are read with change, and it builds.
"""

import warnings
from collections.abc import Collection, Iterable, Mapping

from mixture_assets.core.digest import digest
from mixture_assets.core.errors import MachineError, MixtureError, MixtureWarning
from mixture_assets.data.overlap import read_hashes, worst_overlap
from mixture_assets.data.token_store import DomainTokens, find_domain
from mixture_assets.store.domain_log import (
    DomainState,
    note_bad,
    note_good,
    note_restless,
    read_domains,
)
from mixture_assets.workspace import Workspace


def quarantined(workspace: Workspace) -> dict[str, DomainState]:
    """The domains in quarantine; each state says why."""
    states = read_domains(workspace.store, workspace.experiment.name)
    return {name: state for name, state in states.items() if state.problem}


def left_out(workspace: Workspace) -> set[str]:
    """Domains that are bad, or were waited for in vain, and have no state to go on with."""
    states = read_domains(workspace.store, workspace.experiment.name)
    missing = {n: s for n, s in states.items() if s.problem or s.is_given_up}
    return {name for name, state in missing.items() if not state.good_token_set}


def is_named(workspace: Workspace, domain: str) -> bool:
    """Whether the experiment file asks for this domain: then leaving it out is no answer."""
    data = workspace.experiment.data
    return domain in data.domains or domain in data.datasets


def leave_out(
    workspace: Workspace, domain: str, error: MixtureError, *, fingerprint: str = ""
) -> None:
    """Quarantine a domain and warn; raises if it is named, or if the machine is at fault.

    Args:
        workspace: Whose domain it is.
        domain: Its name.
        error: What is wrong with it.
        fingerprint: Of files that need not be read again until they change.
    """
    if is_named(workspace, domain) or isinstance(error, MachineError):
        raise error
    key = _key(workspace, fingerprint) if fingerprint else ""
    name = workspace.experiment.name
    note_bad(workspace.store, name, domain, str(error), error.hint, key=key)
    warn_of(workspace, [domain])


def give_up(workspace: Workspace, domain: str, error: MixtureError) -> None:
    """Go on without what a domain that never settles is about to be; raises if it is named.

    One that never landed is not quarantined: nothing is wrong with it.
    """
    if is_named(workspace, domain):
        raise error
    name = workspace.experiment.name
    state = note_restless(workspace.store, name, domain, str(error), error.hint)
    if state.problem == str(error):
        warn_of(workspace, [domain])
    else:
        why = "has changed again" if state.is_here else "has not landed yet"
        _warn(f"{domain!r} {why} and {_fate(state)}: {error}; {error.hint}")


def warn_of(workspace: Workspace, domains: Iterable[str]) -> None:
    """One MixtureWarning for each quarantined domain."""
    states = read_domains(workspace.store, workspace.experiment.name)
    for name in domains:
        _warn(f"{name!r} is quarantined and {_fate(states[name])}: {states[name].problem}")


def _fate(state: DomainState) -> str:
    return "goes on with its last good state" if state.good_token_set else "is left out"


def _warn(message: str) -> None:
    warnings.warn(message, MixtureWarning, stacklevel=4)


def not_worth_reading(workspace: Workspace, landed: Mapping[str, str]) -> list[str]:
    """Quarantined domains whose files and settings are those that were found bad."""
    return [
        name
        for name, state in quarantined(workspace).items()
        if state.refused_key and state.refused_key == _key(workspace, landed.get(name, ""))
    ]


def require_two(
    workspace: Workspace,
    domains: Collection[str],
    awaited: Mapping[str, MixtureError] | None = None,
) -> None:
    """MixtureError about a quarantined or awaited domain if fewer than two are left without."""
    bad = {n: s for n, s in quarantined(workspace).items() if n not in set(domains)}
    has_state = {name for name, state in bad.items() if state.good_token_set}
    if len({*domains, *has_state}) >= 2:
        return
    if bad:
        state = bad[min(bad)]
        raise MixtureError(state.problem, hint=state.hint)
    if awaited:
        raise awaited[min(awaited)]


def remember(workspace: Workspace, token_sets: Mapping[str, str], *, maker: str) -> None:
    """Note the token sets of a corpus: the states to fall back to. Ends their quarantines."""
    key = _key(workspace, maker)
    note_good(workspace.store, workspace.experiment.name, token_sets, key=key)


def last_good(
    workspace: Workspace, domains: Iterable[str], *, maker: str
) -> dict[str, DomainTokens]:
    """Tokens as they last were in a corpus, of those domains that the same tokenizer made."""
    states = read_domains(workspace.store, workspace.experiment.name)
    key = _key(workspace, maker)
    wanted = {n: states[n] for n in domains if n in states and states[n].good_key == key}
    found = {n: find_domain(workspace.store, n, s.good_token_set) for n, s in wanted.items()}
    return {name: tokens for name, tokens in found.items() if tokens is not None}


def without_too_small(
    workspace: Workspace, domains: Mapping[str, DomainTokens]
) -> dict[str, DomainTokens]:
    """The domains, without new ones that no proxy run could grow within max_epochs.

    Only beside an earlier corpus: a small folder that lands then ends no re-fit of the others.
    Before, the plan says that the settings ask for too much, and leaves nothing out.
    """
    proxy, max_epochs = workspace.experiment.proxy, workspace.experiment.constraints.max_epochs
    states, left = read_domains(workspace.store, workspace.experiment.name), dict(domains)
    is_new = {n for n in left if n not in states or not states[n].good_token_set}
    if len(is_new) == len(left):
        return left
    for name in sorted(is_new, key=lambda n: (left[n].available_tokens, n)):
        wanted = proxy.grow * max(proxy.budgets_tokens) / len(left)
        available = left[name].available_tokens
        if is_named(workspace, name) or wanted <= max_epochs * available + 1:
            continue
        error = MixtureError(
            f"{name!r} has {available:,} training tokens: the largest proxy run on it would read "
            f"them {wanted / available:.3g} times, max_epochs is {max_epochs:g}",
            hint="add data, lower [proxy] budgets_tokens, or raise [constraints] max_epochs",
        )
        leave_out(workspace, name, error)
        del left[name]
    return left


def without_overlaps(
    workspace: Workspace, domains: Mapping[str, DomainTokens], *, maker: str
) -> dict[str, DomainTokens]:
    """The domains, without those that share too many documents with another.

    Of two, the one goes that is newer here: one that never was in a corpus, else one that is
    not as it was, else the later name. It falls back to its last good state if that is another.
    """
    left = dict(domains)
    limit = workspace.experiment.data.max_shared
    hashes = {name: read_hashes(d.shard_paths(workspace.store)) for name, d in left.items()}
    good = last_good(workspace, left, maker=maker)
    states = read_domains(workspace.store, workspace.experiment.name)
    is_new = {n: n not in states or not states[n].good_token_set for n in left}
    while found := worst_overlap(hashes, max_shared=limit):
        name = max(
            (found.first, found.second),
            key=lambda n: (not is_named(workspace, n), is_new[n], good.get(n) != left[n], n),
        )
        leave_out(workspace, name, found.error)
        fallback = good.get(name)
        if fallback is not None and fallback != left[name]:
            left[name] = fallback
            hashes[name] = read_hashes(fallback.shard_paths(workspace.store))
        else:
            del left[name], hashes[name]
    return left


def _key(workspace: Workspace, subject: str) -> str:
    """A digest of files or tokenizer, and of all settings that decide whether text is usable."""
    e = workspace.experiment
    return digest(
        [
            subject,
            e.data.text_field,
            e.data.txt_document_chars,
            e.data.validation_fraction,
            e.data.validation_tokens,
            e.model.context,
            e.training.batch_tokens,
        ]
    )
