from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mixture_assets.core.errors import MixtureError
from mixture_assets.store.records import list_records, read_record, read_records, write_record
from tests.store.fakes import proposal_rows

TOKENIZER = {"tokenizer_id": "t0", "vocab_size": 4096, "kind": "bpe", "name": ""}


def test_a_record_is_read_back(tmp_path: Path) -> None:
    path = write_record(tmp_path, "tokenizer", "t0", {"tokenizer": [TOKENIZER]})
    assert path == tmp_path / "records" / "tokenizer" / "t0.json"
    assert read_record(tmp_path, "tokenizer", "t0") == {"tokenizer": [TOKENIZER]}
    assert read_record(tmp_path, "tokenizer", "t1") is None
    write_record(tmp_path, "proposal", "p0", proposal_rows(["r0"], "p0"))
    assert list_records(tmp_path) == [("proposal", "p0"), ("tokenizer", "t0")]
    assert list_records(tmp_path, "proposal") == [("proposal", "p0")]
    assert [r["id"] for r in read_records(tmp_path, "proposal")] == ["p0"]
    assert read_records(tmp_path, "nothing") == []


def test_the_same_record_is_written_once(tmp_path: Path) -> None:
    path = write_record(tmp_path, "proposal", "p0", proposal_rows(["r0"], "p0"))
    before = path.stat()
    later = proposal_rows(["r0"], "p0", created_at="2031-01-01T00:00:00Z")
    write_record(tmp_path, "proposal", "p0", later)
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    record = read_record(tmp_path, "proposal", "p0")
    assert record is not None
    assert record["proposal"][0]["created_at"] == "2026-01-02T04:00:00Z"


def test_other_content_replaces_it(tmp_path: Path) -> None:
    write_record(tmp_path, "tokenizer", "t0", {"tokenizer": [TOKENIZER]})
    write_record(tmp_path, "tokenizer", "t0", {"tokenizer": [TOKENIZER | {"name": "gpt2"}]})
    record = read_record(tmp_path, "tokenizer", "t0")
    assert record == {"tokenizer": [TOKENIZER | {"name": "gpt2"}]}


@pytest.mark.parametrize("content", ["{", "[]", '{"kind": 1}', '{"rows": {"tokenizer": [1]}}'])
def test_a_broken_record_is_written_again(tmp_path: Path, content: str) -> None:
    path = write_record(tmp_path, "tokenizer", "t0", {"tokenizer": [TOKENIZER]})
    path.write_text(content)
    write_record(tmp_path, "tokenizer", "t0", {"tokenizer": [TOKENIZER]})
    assert read_record(tmp_path, "tokenizer", "t0") == {"tokenizer": [TOKENIZER]}


def test_numbers_of_numpy_and_whole_floats_are_plain_numbers(tmp_path: Path) -> None:
    row = {"tokenizer_id": "t0", "vocab_size": np.int64(4096)}
    write_record(tmp_path, "tokenizer", "t0", {"tokenizer": [row | {"vocab_size": 5e3}]})
    write_record(tmp_path, "tokenizer", "t0", {"tokenizer": [row]})
    record = read_record(tmp_path, "tokenizer", "t0")
    assert record == {"tokenizer": [{"tokenizer_id": "t0", "vocab_size": 4096}]}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"tokeniser": [TOKENIZER]}, r"no table 'tokeniser' \(did you mean 'tokenizer'\?\)"),
        ({"tokenizer": [TOKENIZER | {"vocab": 1}]}, "no column 'vocab'"),
        ({"tokenizer": [{"name": "x"}]}, "lacks its key 'tokenizer_id'"),
        ({"tokenizer": [TOKENIZER | {"vocab_size": "4096"}]}, "vocab_size must be BIGINT"),
        ({"tokenizer": [TOKENIZER | {"vocab_size": True}]}, "vocab_size must be BIGINT"),
        ({"tokenizer": [TOKENIZER | {"vocab_size": 1.5}]}, "vocab_size must be BIGINT"),
        ({"tokenizer": [TOKENIZER | {"name": 5}]}, "name must be VARCHAR"),
        ({"fit_parameter": [{"fit_id": "f", "name": "a", "value": float("nan")}]}, "DOUBLE"),
        ({"proposal": [{"proposal_id": "p", "created_at": "yesterday"}]}, "TIMESTAMP"),
        ({"proposal_weight": [{"proposal_id": "p", "domain": "d", "is_held": 1}]}, "BOOLEAN"),
        ({"run": [{"run_id": "r0"}]}, "its rows come from run folders"),
        ({"ingested": [{"file": "x"}]}, "no table 'ingested'"),
        ({"edge": [{"child": "r", "parent": "t", "role": "training_tokens"}]}, "run folders"),
    ],
)
def test_mistakes_are_errors_and_nothing_is_written(
    tmp_path: Path, rows: dict[str, Any], message: str
) -> None:
    with pytest.raises(MixtureError, match=message):
        write_record(tmp_path, "tokenizer", "t0", rows)
    assert list_records(tmp_path) == []


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "a b", "x" * 200])
def test_a_record_cannot_leave_its_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(MixtureError, match="cannot name a record"):
        write_record(tmp_path, name, "t0", {})
    with pytest.raises(MixtureError, match="cannot name a record"):
        write_record(tmp_path, "tokenizer", name, {})
