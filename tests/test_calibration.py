"""Predictions on record: before their runs, never rewritten, scored or waiting."""

import json
import math
import shutil

import numpy as np
import pytest
from click.testing import CliRunner

from mixture_assets.calibration import calibration
from mixture_assets.cli import cli
from mixture_assets.store.query import query
from mixture_assets.store.records import write_record
from tests.store import fakes

BUDGET = 4_000_000


def comparison(proposal_id, name, value, baseline_value=20.0, **changes):
    return {
        "comparison_id": name,
        "experiment": "demo",
        "proposal_id": proposal_id,
        "baseline": "natural",
        "objective": "mean perplexity",
        "tokens": BUDGET,
        "proposal_value": value,
        "baseline_value": baseline_value,
        "low": -1.0,
        "high": 1.0,
        "noise_sd": 0.1,
        "n_seeds": 2,
    } | changes


BEFORE, AFTER = "2026-01-02T03:00:00Z", "2026-01-09T03:00:00Z"  # the fake run began


def put(store, proposal_id, predicted, *comparisons, when=BEFORE, run="f0"):
    rows = fakes.proposal_rows([], proposal_id, created_at=when)
    rows["prediction"] = [fakes.prediction_row(proposal_id, "natural", predicted)]
    rows["comparison"] = list(comparisons)
    if run:
        fakes.full_run(store, run, "proposal", 0, 3.0)
        names = [c["comparison_id"] for c in comparisons]
        rows["edge"] += [{"child": n, "parent": run, "role": "full_run"} for n in names]
    write_record(store, "proposal", proposal_id, rows)


def test_measured_is_the_log_ratio_of_the_means(tmp_path):
    put(tmp_path, "p1", -0.05, comparison("p1", "c1", 19.0))
    put(tmp_path, "p2", -0.50, comparison("p2", "c2", 19.0))
    first, second = calibration(tmp_path, "demo").rows
    assert first["measured"] == pytest.approx(math.log(0.95))
    assert first["error"] == pytest.approx(math.log(0.95) + 0.05)
    assert first["measured_low"] == pytest.approx(math.log(0.95))  # 19 = 20 - 1
    assert (first["is_covered"], second["is_covered"]) == (True, False)
    found = calibration(tmp_path, "demo").by_baseline["natural"]
    assert (found.n_scored, found.covered_share) == (2, 0.5)


@pytest.mark.parametrize(
    "change", [{}, {"tokens": 1}, {"objective": "mean loss (nats)"}, {"baseline": "uniform"}]
)
def test_a_prediction_without_its_comparison_waits(tmp_path, change):
    others = [comparison("p1", "c1", 19.0, **change)] if change else []
    put(tmp_path, "p1", -0.05, *others)
    (row,) = calibration(tmp_path, "demo").rows
    assert (row["state"], row["measured"], row["is_covered"]) == ("waiting", None, None)
    assert calibration(tmp_path, "demo").by_baseline["natural"].n_scored == 0


def test_of_several_comparisons_the_one_over_most_seeds_counts(tmp_path):
    more = comparison("p1", "c2", 18.0, n_seeds=5)
    put(tmp_path, "p1", -0.05, comparison("p1", "c1", 19.0), more)
    (row,) = calibration(tmp_path, "demo").rows
    assert row["measured"] == pytest.approx(math.log(0.9))


def test_the_interval_is_widened_by_the_noise_of_the_full_runs(tmp_path):
    """Against a simulation of two means of three runs, the log of their ratio."""
    noisy = comparison("p1", "c1", 18.0, noise_sd=0.8, n_seeds=3)
    put(tmp_path, "p1", -0.05, noisy)
    (row,) = calibration(tmp_path, "demo").rows
    rng = np.random.default_rng(0)
    mine, theirs = (m + 0.8 * rng.normal(size=(200_000, 3)).mean(axis=1) for m in (18.0, 20.0))
    noise = 1.645 * np.log(mine / theirs).std()
    half = math.hypot(0.02, noise)
    assert (row["low"], row["high"]) == pytest.approx((-0.07, -0.03))  # as it was predicted
    assert (row["scored_low"], row["scored_high"]) == pytest.approx(
        (-0.05 - half, -0.05 + half), abs=2e-4
    )
    assert not row["low"] <= row["measured"]
    assert row["is_covered"]
    assert calibration(tmp_path, "demo").by_baseline["natural"].covered_share == 1


def test_without_a_known_noise_the_error_counts_and_the_interval_does_not(tmp_path):
    put(tmp_path, "p1", -0.05, comparison("p1", "c1", 19.0, noise_sd=None, n_seeds=1))
    found = calibration(tmp_path, "demo")
    assert (found.rows[0]["state"], found.rows[0]["is_covered"]) == ("scored", None)
    one = found.by_baseline["natural"]
    assert (one.n_scored, one.n_with_interval) == (1, 0)
    assert one.mean_error == pytest.approx(math.log(0.95) + 0.05)


def test_without_the_time_of_the_full_run_nothing_is_scored(tmp_path):
    put(tmp_path, "p1", -0.05, comparison("p1", "c1", 19.0), run="")
    found = calibration(tmp_path, "demo")
    assert found.rows[0]["state"] == "time unknown"
    assert found.by_baseline["natural"].n_scored == 0


def test_one_full_run_of_unknown_time_may_have_been_the_first(tmp_path):
    rows = {"edge": [{"child": "c1", "parent": "f1", "role": "full_run"}]}
    write_record(tmp_path, "note", "more", rows)
    fakes.full_run(tmp_path, "f1", "proposal", 1, 3.0, created_at=None)
    put(tmp_path, "p1", -0.05, comparison("p1", "c1", 19.0))
    (row,) = calibration(tmp_path, "demo").rows
    assert (row["state"], row["begun_at"]) == ("time unknown", None)


@pytest.mark.parametrize(("when", "state"), [(BEFORE, "scored"), (AFTER, "run came first")])
def test_a_prediction_made_after_its_run_began_does_not_count(tmp_path, when, state):
    put(tmp_path, "p1", -0.05, comparison("p1", "c1", 19.0), when=when)
    found = calibration(tmp_path, "demo")
    assert found.rows[0]["state"] == state
    assert found.by_baseline["natural"].n_scored == (state == "scored")


def invoke(*arguments):
    result = CliRunner().invoke(cli, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_nothing_predicted_is_no_error(tiny):
    assert "no prediction yet" in invoke("calibration", "--experiment", tiny)
    found = json.loads(invoke("calibration", "--experiment", tiny, "--json"))
    assert found == {"predictions": [], "by_baseline": {}}


@pytest.fixture(scope="module")
def finished(tiny_template, tmp_path_factory):
    """The tiny experiment: proxies and a proposal, looked at, then the full runs."""
    folder = tmp_path_factory.mktemp("finished") / "tiny"
    shutil.copytree(tiny_template, folder)
    path = folder / "tiny.toml"
    invoke("refit", "--experiment", path, "--way", "full")
    before = json.loads(invoke("calibration", "--experiment", path, "--json"))
    invoke("run", "--experiment", path)
    return path, before


def test_a_prediction_is_there_before_the_full_runs_and_scored_after(finished):
    path, before = finished
    store = path.parent / "store"
    assert [p["state"] for p in before["predictions"]] == ["waiting", "waiting"]
    after = json.loads(invoke("calibration", "--experiment", path, "--json"))
    assert [p["state"] for p in after["predictions"]] == ["scored", "scored"]
    said = ("predicted_at", "proposal_id", "baseline", "predicted", "low", "high")
    assert [[p[k] for k in said] for p in after["predictions"]] == [
        [p[k] for k in said] for p in before["predictions"]
    ]
    rows = query(store, "SELECT baseline, proposal_value, baseline_value FROM comparison").rows
    measured = {name: math.log(mine / theirs) for name, mine, theirs in rows}
    assert {p["baseline"]: p["measured"] for p in after["predictions"]} == pytest.approx(measured)
    text = invoke("calibration", "--experiment", path)
    assert "too few to judge: 1 prediction with an interval" in text


def test_proposing_again_leaves_what_was_predicted(finished, tmp_path):
    folder = shutil.copytree(finished[0].parent, tmp_path / "copy")
    (record,) = (folder / "store" / "records" / "proposal").glob("*.json")
    unchanged = record.read_bytes()
    invoke("propose", "--experiment", folder / "tiny.toml")
    assert record.read_bytes() == unchanged
    # a later version of the code that would predict otherwise
    value = json.loads(unchanged)
    for row in value["rows"]["prediction"]:
        row["value"] = row["low"] = -9.0
    record.write_text(json.dumps(value))
    shown = json.loads(invoke("propose", "--experiment", folder / "tiny.toml", "--json"))
    kept = json.loads(record.read_text())["rows"]["prediction"]
    assert {row["value"] for row in kept} == {-9.0}
    assert {p["value"] for p in shown["predictions"]} == {-9.0}
