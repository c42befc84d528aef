"""What became of each domain of an experiment: events as records, and the state they led to.

<store>/domains/<experiment>.json holds the state; records of kind `domain_event` hold what
happened. The sensor and the command line both write here, under one lock; an event that is
written twice has the same name.
"""

import contextlib
import dataclasses
import fcntl
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from mixture_assets.core.digest import digest
from mixture_assets.store.files import atomic_write_json, read_json_object
from mixture_assets.store.records import read_record, write_record

KIND = "domain_event"


class Landed(Protocol):
    """A settled folder."""

    @property
    def shards(self) -> Mapping[str, str]:
        """Name -> size and time."""

    @property
    def fingerprint(self) -> str:
        """Of the shards."""

    @property
    def n_bytes(self) -> int:
        """Of the shards."""


@dataclass(frozen=True)
class DomainState:
    """What is known of a domain. All fields but the first three are for us."""

    fingerprint: str = ""  # of its files when they had last settled
    problem: str = ""  # why it is quarantined; '' if it is not
    hint: str = ""
    is_here: bool = False
    shards: Mapping[str, str] = field(default_factory=dict)  # name -> size and time
    n_bytes: int = 0
    n_events: int = 0
    refused_key: str = ""  # files and settings that the problem is about; '': looked at each time
    good_token_set: str = ""  # that was last in a corpus
    good_key: str = ""  # tokenizer and settings that made it
    is_given_up: bool = False  # somebody waited in vain for its files to come to rest


@dataclass(frozen=True)
class _Event:
    event: str
    domain: str
    before: DomainState
    after: DomainState
    reason: str = ""
    hint: str = ""


def read_domains(store: Path, experiment: str) -> dict[str, DomainState]:
    """State by domain, those that vanished included."""
    found = read_json_object(_path(store, experiment)) or {"domains": {}}
    return {name: DomainState(**state) for name, state in sorted(found["domains"].items())}


def note_folders(
    store: Path,
    experiment: str,
    folders: Mapping[str, Landed],
    vanished: Mapping[str, str],
    *,
    known: Mapping[str, DomainState] | None = None,
) -> None:
    """Record what landed, grew, shrank, changed, returned or vanished since the last look.

    Args:
        store: Root of the store.
        experiment: Its name.
        folders: Settled folders by domain; a domain that is not named stays as it is.
        vanished: Domain -> why it counts as gone.
        known: The states, if they were just read.
    """
    states = read_domains(store, experiment) if known is None else known
    at_rest = {*folders, *vanished}
    is_awaited_again = any(s.is_given_up for name, s in states.items() if name in at_rest)
    if not (is_awaited_again or _news(states, folders, vanished)):
        return  # the common case takes no lock
    with _editing(store, experiment) as states:
        for event in _news(states, folders, vanished):
            _write(store, experiment, event, states)
        for name in at_rest & states.keys():
            states[name] = replace(states[name], is_given_up=False)


def note_bad(
    store: Path, experiment: str, domain: str, problem: str, hint: str, *, key: str = ""
) -> None:
    """Quarantine a domain; a second time with the same problem is no event."""
    before = read_domains(store, experiment).get(domain, DomainState())
    if (before.problem, before.hint, before.refused_key) == (problem, hint, key):
        return
    with _editing(store, experiment) as states:
        before = states.get(domain, DomainState())
        after = replace(before, problem=problem, hint=hint, refused_key=key)
        if before.problem == problem:
            states[domain] = after
        else:
            _write(
                store,
                experiment,
                _Event("quarantined", domain, before, after, problem, hint),
                states,
            )


def note_restless(
    store: Path, experiment: str, domain: str, problem: str, hint: str
) -> DomainState:
    """Give up waiting for a domain; a good one that is here is quarantined until it settles.

    What never landed is in no quarantine: there is nothing wrong with it. Nor does this replace
    the reason of another quarantine. Returns the state.
    """
    before = read_domains(store, experiment).get(domain, DomainState())
    if before.is_here and not before.problem:
        note_bad(store, experiment, domain, problem, hint)
    with _editing(store, experiment) as states:
        states[domain] = replace(states.get(domain, DomainState()), is_given_up=True)
        return states[domain]


def note_good(store: Path, experiment: str, token_sets: Mapping[str, str], *, key: str) -> None:
    """Remember the token sets of a corpus, and release its domains from quarantine.

    Args:
        store: Root of the store.
        experiment: Its name.
        token_sets: Domain -> digest.
        key: Names tokenizer and settings that made them.
    """
    with _editing(store, experiment) as states:
        for domain, token_set in sorted(token_sets.items()):
            before = states.get(domain, DomainState())
            after = replace(
                before, problem="", hint="", refused_key="", good_token_set=token_set, good_key=key
            )
            states[domain] = after
            if before.problem:
                event = _Event("released", domain, before, after, f"was: {before.problem}")
                _write(store, experiment, event, states)


def _news(
    states: Mapping[str, DomainState], folders: Mapping[str, Landed], vanished: Mapping[str, str]
) -> list[_Event]:
    events = []
    for name, folder in sorted(folders.items()):
        before = states.get(name, DomainState())
        if before.is_here and before.fingerprint == folder.fingerprint:
            continue
        after = replace(
            before,
            is_here=True,
            fingerprint=folder.fingerprint,
            shards=dict(folder.shards),
            n_bytes=folder.n_bytes,
        )
        events.append(_Event(_change(before, after), name, before, after))
    for name, reason in sorted(vanished.items()):
        before = states.get(name, DomainState())
        if before.is_here or before.problem:
            # Nothing to go on with either: text that somebody deleted is not trained on again.
            after = DomainState(fingerprint=before.fingerprint)
            events.append(_Event("vanished", name, before, after, reason))
    return events


def _change(before: DomainState, after: DomainState) -> str:
    if not before.is_here:
        return "returned" if before.fingerprint else "landed"
    old, new = before.shards.items(), after.shards.items()
    if old < new:
        return "grew"
    return "shrank" if new < old else "changed"


def _write(store: Path, experiment: str, event: _Event, states: dict[str, DomainState]) -> None:
    """The record first: killed before the state is written, the same event is found again."""
    number = event.before.n_events + 1
    after = replace(event.after, n_events=number)
    event_id = digest([experiment, event.domain, number, event.event, after.fingerprint])
    row = {
        "event_id": event_id,
        "experiment": experiment,
        "domain": event.domain,
        "event": event.event,
        "number": number,
        "fingerprint": after.fingerprint,
        "previous_fingerprint": event.before.fingerprint,
        "n_shards": len(after.shards),
        "n_bytes": after.n_bytes,
        "reason": event.reason or None,
        "hint": event.hint or None,
        "seen_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    if read_record(store, KIND, event_id) is None:
        write_record(store, KIND, event_id, {"domain_event": [row]})
    states[event.domain] = after


@contextlib.contextmanager
def _editing(store: Path, experiment: str) -> Iterator[dict[str, DomainState]]:
    """The states, written back if the block changed them; nobody else edits meanwhile."""
    path = _path(store, experiment)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path.with_name(f".{experiment}.lock"), os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        states = read_domains(store, experiment)
        before = dict(states)
        yield states
        if states != before:
            value: dict[str, Any] = {n: dataclasses.asdict(s) for n, s in states.items()}
            atomic_write_json(path, {"domains": value})
    finally:
        os.close(descriptor)


def _path(store: Path, experiment: str) -> Path:
    return Path(store) / "domains" / f"{experiment}.json"
