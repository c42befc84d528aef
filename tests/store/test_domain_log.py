"""Events of domains: what is recorded, once, whoever looks first."""

import json
import multiprocessing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mixture_assets.store.domain_log import note_bad, note_folders, note_good, read_domains
from mixture_assets.store.query import query
from mixture_assets.store.records import list_records


@dataclass
class Folder:
    shards: dict[str, str] = field(default_factory=dict)
    n_bytes: int = 7

    @property
    def fingerprint(self) -> str:
        return json.dumps(self.shards)


A, B, C = {"a": "1 1"}, {"b": "2 1"}, {"c": "3 1"}


def events(store, columns="domain, event"):
    sql = f"SELECT {columns} FROM domain_event ORDER BY domain, number"
    return query(store, sql).rows


def see(store, *steps):
    """Notes of one domain 'x'; None: its folder is gone."""
    for shards in steps:
        here = {} if shards is None else {"x": Folder(shards)}
        note_folders(store, "e", here, {"x": "its folder is gone"} if shards is None else {})


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([A], ["landed"]),
        ([A, A, A], ["landed"]),
        ([A, A | B], ["landed", "grew"]),
        ([A | B, A], ["landed", "shrank"]),
        ([A, B], ["landed", "changed"]),
        ([A, {"a": "1 2"}], ["landed", "changed"]),
        ([A | B, A | C], ["landed", "changed"]),
        ([A, None, None], ["landed", "vanished"]),
        ([A, None, A], ["landed", "vanished", "returned"]),
        ([A, B, A, B], ["landed", "changed", "changed", "changed"]),
        ([None], []),
    ],
)
def test_a_change_is_one_event(tmp_path, steps, expected):
    see(tmp_path, *steps)
    assert [event for _, event in events(tmp_path)] == expected


def test_an_event_tells_what_was_and_what_is(tmp_path):
    see(tmp_path, A, A | B, None)
    rows = events(tmp_path, "number, fingerprint, previous_fingerprint, n_shards, n_bytes, reason")
    a, both = Folder(A).fingerprint, Folder(A | B).fingerprint
    assert rows == [
        (1, a, "", 1, 7, None),
        (2, both, a, 2, 7, None),
        (3, both, both, 0, 0, "its folder is gone"),
    ]


def test_a_quarantine_begins_once_and_ends_with_a_good_state(tmp_path):
    see(tmp_path, A)
    for _ in range(3):
        note_bad(tmp_path, "e", "x", "'x/a' is not valid gzip", "copy it again", key="k")
    see(tmp_path, A)
    assert read_domains(tmp_path, "e")["x"].problem == "'x/a' is not valid gzip"
    see(tmp_path, B)
    note_good(tmp_path, "e", {"x": "t1"}, key="g")
    note_good(tmp_path, "e", {"x": "t1"}, key="g")
    rows = events(tmp_path, "event, reason, hint")
    assert rows == [
        ("landed", None, None),
        ("quarantined", "'x/a' is not valid gzip", "copy it again"),
        ("changed", None, None),
        ("released", "was: 'x/a' is not valid gzip", None),
    ]
    state = read_domains(tmp_path, "e")["x"]
    assert (state.problem, state.good_token_set, state.good_key) == ("", "t1", "g")


def test_a_quarantined_domain_that_vanishes_is_forgotten_and_so_is_its_good_state(tmp_path):
    see(tmp_path, A)
    note_good(tmp_path, "e", {"x": "t1"}, key="g")
    note_bad(tmp_path, "e", "x", "bad", "")
    see(tmp_path, None)
    state = read_domains(tmp_path, "e")["x"]
    assert (state.problem, state.is_here, state.good_token_set) == ("", False, "")


def test_experiments_have_their_own_events(tmp_path):
    note_folders(tmp_path, "e", {"x": Folder(A)}, {})
    note_folders(tmp_path, "f", {"x": Folder(A)}, {})
    assert len(events(tmp_path)) == 2


def test_a_lost_state_file_writes_no_event_twice(tmp_path):
    """As after a kill between the record and the state."""
    see(tmp_path, A)
    before = events(tmp_path, "*")
    (tmp_path / "domains" / "e.json").unlink()
    see(tmp_path, A)
    assert events(tmp_path, "*") == before


def _look(store: str) -> None:
    for shards in [A, A | B, B] * 5:
        see(Path(store), shards)


def test_two_that_look_at_once_leave_one_line_of_events(tmp_path):
    context = multiprocessing.get_context("spawn")
    looking = [context.Process(target=_look, args=(str(tmp_path),)) for _ in range(2)]
    for process in looking:
        process.start()
    for process in looking:
        process.join()
        assert process.exitcode == 0
    numbers = [number for (number,) in events(tmp_path, "number")]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(list_records(tmp_path, "domain_event")) == len(numbers)
    assert read_domains(tmp_path, "e")["x"].n_events == len(numbers)
