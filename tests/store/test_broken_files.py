"""A file that DuckDB cannot take is left out with a word, and everything else is there."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mixture_assets.core.errors import MixtureWarning
from mixture_assets.store import database
from mixture_assets.store.ingest import ingest
from mixture_assets.store.query import query
from mixture_assets.store.records import write_record
from tests.store import fakes


def one(store: Path, sql: str) -> Any:
    return query(store, sql).rows[0][0]


@pytest.fixture(autouse=True)
def quiet() -> None:
    """A warning that no test asks for is a failure."""
    warnings.simplefilter("error", MixtureWarning)


def test_a_shard_whose_name_is_not_utf8_is_kept_with_an_escape(store: Path) -> None:
    name = b"caf\xe9.jsonl".decode(errors="surrogateescape")
    row = {"shard_id": "s0", "domain": "code", "url": name}
    write_record(store, "domain", "odd", {"shard": [row]})
    ingest(store)
    assert one(store, "SELECT url FROM shard WHERE shard_id = 's0'") == "caf\\udce9.jsonl"
    assert one(store, "SELECT count(*) FROM run") == 5
    assert ingest(store).rows == {}


def test_half_a_character_in_a_label_and_in_json_is_escaped(store: Path) -> None:
    changed = fakes.header("odd", label="caf\udce9")
    changed["spec"]["model"] = {"family": "\ud83d and \N{GRINNING FACE}"}
    fakes.write_json(store / "runs" / "odd" / "spec.json", changed)
    ingest(store)
    rows = query(store, "SELECT label, spec->>'$.model.family' FROM run WHERE run_id = 'odd'").rows
    assert rows == [("caf\\udce9", "\\ud83d and \N{GRINNING FACE}")]


def test_a_time_before_the_first_one_is_unknown(store: Path) -> None:
    path = store / "runs" / "r0" / "result.json"
    early = {"finished_at": "0001-01-01T00:00:00+23:00"}
    path.write_text(json.dumps(json.loads(path.read_text()) | early))
    ingest(store)
    sql = "SELECT run_id FROM run WHERE finished_at IS NULL"
    assert query(store, sql).rows == [("r0",)]


def _long_line(path: Path) -> None:
    path.write_text('{"kind": "step", "run_id": "r0", "x": "' + "x" * 40_000_000 + '"}\n')


def _gap(path: Path) -> None:
    """What a power cut leaves: a hole that reads as zeros."""
    with open(path, "ab") as file:
        file.truncate(file.tell() + 40_000_000)
    with open(path, "ab") as file:
        file.write(b"\n")


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("spoil", [_long_line, _gap, _folder])
@pytest.mark.parametrize("is_indexed", [False, True])
def test_a_log_that_cannot_be_read_costs_its_run_alone(
    store: Path, spoil: Callable[[Path], None], is_indexed: bool
) -> None:
    if is_indexed:
        ingest(store)
    spoil(store / "runs" / "r0" / "metrics.jsonl")
    fakes.finished_run(store, "new")
    with pytest.warns(MixtureWarning, match="1 broken files are not in the index: .*runs/r0"):
        report = ingest(store)
    assert (report.is_current, len(report.unreadable)) == (True, 1)
    with pytest.warns(MixtureWarning, match="runs/r0"):
        found = query(store, "SELECT run_id FROM run ORDER BY 1").rows
    expected = ["f0", "f1", "new", *(["r0"] if is_indexed else []), "r1", "r2"]
    assert [name for (name,) in found] == expected


def test_several_bad_files_are_all_found(store: Path) -> None:
    for name in ("f0", "r1", "r2"):
        _folder(store / "runs" / name / "metrics.jsonl")
    with pytest.warns(MixtureWarning, match="3 broken files"):
        assert ingest(store).rows["run"] == 2


def test_files_whose_own_names_are_not_utf8_are_named(store: Path) -> None:
    odd = b"caf\xe9".decode(errors="surrogateescape")
    fakes.finished_run(store, odd)
    fakes.write_json(store / "records" / "note" / f"{odd}.json", {"rows": {}})
    with pytest.warns(MixtureWarning, match="2 broken files .*not UTF-8"):
        ingest(store)
    with pytest.warns(MixtureWarning, match="not UTF-8"):
        assert one(store, "SELECT count(*) FROM run") == 5


def test_a_store_at_a_path_that_is_not_utf8_ends_no_training(tmp_path: Path) -> None:
    store = tmp_path / b"caf\xe9".decode(errors="surrogateescape")
    fakes.finished_run(store, "r0")
    with pytest.warns(MixtureWarning, match="the path of the store is not UTF-8"):
        ingest(store)
    with pytest.warns(MixtureWarning, match="runs/r0"):
        assert one(store, "SELECT count(*) FROM run") == 0


def test_what_is_broken_is_told_also_while_the_index_is_busy(store: Path) -> None:
    ingest(store)
    (store / "runs" / "r1" / "spec.json").write_text("{")
    with (
        database.locked(store, patience_seconds=0, is_shared=True),
        pytest.warns(MixtureWarning, match="1 broken files .*runs/r1"),
    ):
        assert one(store, "SELECT count(*) FROM run") == 4


def test_a_measurement_that_failed_later_is_the_reason_of_a_done_run(store: Path) -> None:
    folder = store / "runs" / "r0"
    asked = fakes.header("r0")["measurement"] | {"validation_sets": {"code": "new"}}
    fakes.write_json(folder / "ask-1.json", asked)
    failure = {"reason": "the model is gone", "hint": "train it", "finished_at": "2027-01-01"}
    fakes.write_json(folder / "failure.json", failure)
    sql = "SELECT status, reason, hint, finished_at::VARCHAR FROM run WHERE run_id = 'r0'"
    time = "2026-01-02 03:05:05"
    assert query(store, sql).rows == [("done", "the model is gone", "train it", time)]
    row = {"domain": "code", "validation_id": "new", "metric_version": 1, "loss": {}}
    fakes.write_json(folder / "losses" / "new-1.json", row)
    assert query(store, sql).rows == [("done", None, None, time)]
