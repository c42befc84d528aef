"""A short `make chaos`, and proof that each of its checks can fail."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from mixture_assets.store.ingest import ingest
from mixture_assets.store.runs import MetricsLog, RunFolder
from tests.store import fakes

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
STAGES = ("tokenizing", "proxies", "fits", "full", "ingest")


@pytest.mark.slow
def test_a_short_chaos_costs_nothing():
    command = [sys.executable, BENCHMARKS / "_chaos.py", "--kills", "5", "--scale", "0.1"]
    done = subprocess.run(
        [*map(str, command), "--minutes", "8"], capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stdout + done.stderr
    answer = json.loads(done.stdout)
    assert answer["violations"] == []
    assert all(answer["kills_by_stage"][stage] for stage in STAGES)
    assert answer["acknowledged"] > 100


@pytest.fixture
def checks(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import _chaos_checks

    return _chaos_checks


@pytest.fixture
def logged(tmp_path):
    """A run of three steps, the second twice, as its ledger says too."""
    run, ledger = RunFolder(tmp_path / "store", "writer0"), tmp_path / "writer0.ledger"
    run.create(fakes.header("writer0", experiment="writers"))
    with MetricsLog(run) as log:
        for step, attempt in ((1, 1), (2, 1), (2, 2), (3, 2)):
            log.append(fakes.step_row("writer0", step, attempt))
            with open(ledger, "a") as file:
                file.write(f"{step} {attempt}\n")
    ingest(tmp_path / "store")
    return tmp_path / "store", ledger, run.metrics_path


def wrong(checks, store, ledger):
    found = checks.check_rows(store, {"writer0": ledger})
    counted = ("acknowledged", "steps", "repeated_by_resumes")
    return {name: n for name, n in found.items() if n and name not in counted}


def test_nothing_is_wrong_with_what_was_left_alone(checks, logged):
    store, ledger, _ = logged
    assert wrong(checks, store, ledger) == {}
    assert checks.differing_tables(store, lambda: ingest(store)) == []


def test_a_lost_row_is_found_in_files_and_index(checks, logged):
    store, ledger, metrics = logged
    lines = metrics.read_text().splitlines(keepends=True)
    metrics.write_text("".join(lines[:-1]))
    assert wrong(checks, store, ledger)["lost_in_files"] == 1
    metrics.write_text("".join(lines))
    with metrics.open("a") as file:
        file.write(json.dumps(fakes.step_row("writer0", 4, 2)) + "\n")
    assert wrong(checks, store, ledger) == {"lost_in_index": 1}


def test_a_row_that_is_there_twice_or_outdated_is_found(checks, logged):
    store, ledger, metrics = logged
    lines = metrics.read_text().splitlines(keepends=True)
    metrics.write_text("".join([*lines, lines[-1]]))
    assert wrong(checks, store, ledger) == {"duplicated_in_files": 1}
    metrics.write_text("".join([lines[0], lines[2], lines[1], lines[3]]))
    assert wrong(checks, store, ledger) == {"outdated_in_index": 1}


def test_an_index_that_is_not_its_files_is_found(checks, logged):
    import duckdb

    store, _, _ = logged
    with duckdb.connect(str(store / "mixture.duckdb")) as connection:
        connection.execute("UPDATE step_metric SET grad_norm = 7 WHERE step = 3")
    assert checks.differing_tables(store, lambda: ingest(store)) == ["step_metric"]


def test_one_bit_of_a_product_is_found(checks, tmp_path):
    path = tmp_path / "tokens" / "a" / "x.npy"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"\0\1")
    before = checks.token_bytes(tmp_path)
    path.write_bytes(b"\0\2")
    assert checks.different(before, checks.token_bytes(tmp_path)) == ["tokens/a/x.npy"]
    folder = fakes.finished_run(tmp_path, "r0")
    (folder / "model").mkdir()
    (folder / "model" / "model.safetensors").write_bytes(b"weights")
    bits = checks.run_bits(tmp_path)
    (folder / "model" / "model.safetensors").write_bytes(b"weightz")
    assert checks.different(bits, checks.run_bits(tmp_path)) == ["r0 model.safetensors"]


def test_a_violation_and_a_check_without_subject_are_told(checks):
    import _chaos

    quota = Counter(dict.fromkeys(STAGES, 1))
    seen = dict.fromkeys(
        ("acknowledged", "answers", "holds", "compared_tokens", "compared_runs"), 5
    )
    seen["killed_in_training"] = 1
    assert _chaos.violations(Counter(seen), quota, quota) == []
    assert _chaos.violations(Counter(seen | {"killed_in_training": 0}), quota, quota)
    assert _chaos.violations(Counter(seen | {"went_back": 1}), quota, quota) == ["went_back: 1"]
    assert _chaos.violations(Counter(seen | {"answers": 0}), quota, quota)
    assert _chaos.violations(Counter(seen), quota - Counter(fits=1), quota)
