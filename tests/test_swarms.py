"""Somebody's own runs, as tables of every kind: read whole, or left out by name."""

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from mixture_assets.cli import cli
from mixture_assets.core.errors import MixtureError
from mixture_assets.swarms import read_swarm

REGMIX = Path(__file__).parents[2] / "shared" / "reference" / "regmix"


def invoke(*arguments):
    return CliRunner().invoke(cli, [str(a) for a in arguments])


def write(path, rows):
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture
def tables(tmp_path):
    """Twelve runs over three domains; `change` edits the rows before they are written."""
    rng = np.random.default_rng(0)
    weights = rng.dirichlet([1, 1, 1], 12)
    ratios = [
        {"run": f"r{i:02}", "code": w[0], "web": w[1], "wiki": w[2]} for i, w in enumerate(weights)
    ]
    metrics = [
        {"run": f"r{i:02}", "loss": 2 + np.exp(w[0] - w[1]), "bpb": 1 + w[2]}
        for i, w in enumerate(weights)
    ]

    def made(change=lambda ratios, metrics: None):
        change(ratios, metrics)
        return write(tmp_path / "ratios.csv", ratios), write(tmp_path / "metrics.csv", metrics)

    return made


def test_rows_and_columns_in_any_order_give_the_same_bits(tables, tmp_path):
    plain = read_swarm(*tables()).swarm
    rows = [dict(reversed(row.items())) for row in csv.DictReader(open(tmp_path / "ratios.csv"))]
    other = read_swarm(write(tmp_path / "other.csv", rows[::-1]), tmp_path / "metrics.csv").swarm
    assert other.runs == plain.runs
    assert other.domains == plain.domains == ("code", "web", "wiki")
    assert other.weights.tobytes() == plain.weights.tobytes()


def test_parquet_is_read_as_csv_is(tables, tmp_path):
    ratios, metrics = tables()
    rows = [
        {k: v if k == "run" else float(v) for k, v in row.items()}
        for row in csv.DictReader(ratios.open())
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "ratios.parquet")
    plain = read_swarm(ratios, metrics).swarm
    assert read_swarm(tmp_path / "ratios.parquet", metrics).swarm.weights.tobytes() == (
        plain.weights.tobytes()
    )


@pytest.mark.parametrize(
    ("edit", "run", "reason"),
    [
        (lambda r, m: r[3].update(code=0.9, web=0.9), "r03", "its weights sum to"),
        (lambda r, m: r[3].update(code=-0.1), "r03", "the weight of 'code' is below 0"),
        (lambda r, m: r[3].update(wiki=""), "r03", "no weight for 'wiki'"),
        (lambda r, m: m[3].update(loss="nan"), "r03", "no 'loss'"),
        (lambda r, m: m[3].update(loss="inf"), "r03", "no 'loss'"),
        (lambda r, m: m.pop(3), "r03", "not in metrics.csv"),
        (lambda r, m: r.pop(3), "r03", "not in ratios.csv"),
        (
            lambda r, m: [x.update(state="crashed" if x["run"] == "r03" else "done") for x in m],
            "r03",
            "its state is 'crashed'",
        ),
    ],
)
def test_a_run_that_does_not_count_is_listed_with_its_reason(tables, edit, run, reason):
    found = read_swarm(*tables(edit), needed=["loss"])
    assert found.excluded.keys() == {run}
    assert reason in found.excluded[run]
    assert len(found.swarm.runs) == 11


def test_a_running_run_counts_no_more_than_a_crashed_one(tables):
    def edit(ratios, metrics):
        for i, row in enumerate(metrics):
            row["status"] = "running" if i < 5 else "finished"

    assert set(read_swarm(*tables(edit)).excluded.values()) == {"its status is 'running'"}


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (lambda r, m: r.append(r[2]), "ratios.csv has the run 'r02' twice"),
        (lambda r, m: m.append(m[2]), "metrics.csv has the run 'r02' twice"),
        (lambda r, m: r[2].update(code="many"), "code of the run 'r02' is 'many', not a number"),
        (lambda r, m: [x.update(code=100 * x["code"]) for x in r], "12 of 12 runs cannot be used"),
        (lambda r, m: [x.pop("run") for x in m], "share no column that names the runs"),
    ],
)
def test_a_table_that_cannot_be_meant_is_refused(tables, edit, problem):
    with pytest.raises(MixtureError) as caught:
        read_swarm(*tables(edit))
    assert problem in str(caught.value)


def test_weights_that_were_rounded_are_brought_back_to_1(tables):
    def edit(ratios, metrics):
        for row in ratios:
            row.update({d: round(row[d], 2) for d in ("code", "web", "wiki")})

    np.testing.assert_allclose(read_swarm(*tables(edit)).swarm.weights.sum(axis=1), 1)


# --- the command ------------------------------------------------------------------------------


def test_laws_are_compared_from_two_tables(tables):
    def edit(ratios, metrics):
        metrics[3]["loss"] = "nan"
        for row in ratios:
            row["pdf"] = 0.0

    ratios, metrics = tables(edit)
    arguments = ("laws", "--ratios", ratios, "--metrics", metrics, "--objective", "loss")
    answer = json.loads(invoke(*arguments, "--json").stdout)
    assert answer["n_runs"] == 11
    assert answer["excluded"] == {"r03": "no 'loss'"}
    assert answer["notes"] == [
        "'pdf' has the same weight in every run: its effect cannot be learned"
    ]
    keys = {"cv_spearman", "cv_r2", "cv_mae", "cv_regret", "seconds"}
    assert all(scores.keys() == keys for scores in answer["laws"].values())
    shown = invoke(*arguments)
    assert "left out: r03: no 'loss'" in shown.output
    assert "exponential" in shown.output


def test_a_test_set_is_scored_beside_the_held_out_runs(tables):
    ratios, metrics = tables()
    test = ("--test-ratios", ratios, "--test-metrics", metrics)
    result = invoke(
        *("laws", "--ratios", ratios, "--metrics", metrics, "--objective", "loss,bpb"),
        *test,
        "--json",
    )
    scores = json.loads(result.stdout)["laws"]["gaussian_process"]
    assert scores["test_spearman"] > 0.95  # it has seen them
    assert {"test_r2", "test_mae", "test_regret"} <= scores.keys()


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--objective", "los"), "has no metric 'los' (did you mean 'loss'?)"),
        (("--objective", "loss", "--folds", "1"), "1 folds hold nothing out"),
        (("--objective", "loss", "--test-ratios", "ratios.csv"), "a test set is two tables"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(tables, tmp_path, monkeypatch, arguments, problem):
    ratios, metrics = tables()
    monkeypatch.chdir(tmp_path)
    result = invoke("laws", "--ratios", ratios, "--metrics", metrics, *arguments)
    assert result.exit_code == 1
    assert problem in result.output


@pytest.mark.skipif(not REGMIX.exists(), reason="the published runs are not beside the project")
def test_regmix_s_own_files_are_read_as_they_are():
    """17 domains of weights and 13 of losses; rounded rows that sum to 0.996 to 1.003."""
    found = read_swarm(REGMIX / "train_mixture_1m.csv", REGMIX / "train_pile_loss_1m.csv")
    assert (len(found.swarm.runs), len(found.swarm.domains)) == (512, 17)
    assert len(found.swarm.metrics) == 13
    assert not found.excluded
