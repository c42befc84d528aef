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
from mixture_assets.run_tables import TableOptions
from mixture_assets.swarms import SwarmOptions, parse_objective, read_runs, read_swarm

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
        (lambda r, m: m[3].update(loss=""), "r03", "no 'loss'"),
        (lambda r, m: m[3].update(loss="inf"), "r03", "no 'loss'"),
        (lambda r, m: m.pop(3), "r03", "not in metrics.csv"),
        (lambda r, m: r.pop(3), "r03", "not in ratios.csv"),
        (
            lambda r, m: [x.update(state="crashed" if x["run"] == "r03" else "done") for x in m],
            "r03",
            "its state is 'crashed'",
        ),
        (
            lambda r, m: [x.update(status="" if x["run"] == "r03" else "done") for x in r],
            "r03",
            "it has no status",
        ),
        (
            lambda r, m: [x.update(params="" if x["run"] == "r03" else 1e6) for x in r],
            "r03",
            "no 'params'",
        ),
        (
            lambda r, m: [x.update(tokens=0 if x["run"] == "r03" else 1e9) for x in m],
            "r03",
            "its tokens is 0",
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
        (lambda r, m: [x.update(loss=2.5, bpb=1) for x in m], "is 1 in every run: there is"),
        (
            lambda r, m: (
                [r[2].update(seed=1), m[2].update(seed=2)]
                and [x.setdefault("seed", 1) for x in r + m]
            ),
            "do not agree on the seed of the run 'r02'",
        ),
        (lambda r, m: [(x.pop("loss"), x.pop("bpb")) for x in m], "has no column of metrics"),
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


def test_normalise_rescales_every_row_and_says_how_many(tables):
    plain = read_swarm(*tables())

    def edit(ratios, metrics):
        for row in ratios[:3]:
            row.update({d: 100 * row[d] for d in ("code", "web", "wiki")})
        ratios[5].update(code=ratios[5]["code"] + 0.005)
        ratios[6].update(code=-1)

    files = tables(edit)
    assert set(read_swarm(*files).excluded) == {"r00", "r01", "r02", "r06"}
    found = read_swarm(*files, tables=TableOptions(normalise=True))
    assert set(found.excluded) == {"r06"}
    (note,) = found.notes
    assert note.startswith("the weights of 4 of 11 runs do not sum to 1 and were rescaled")
    assert note.endswith("with 100")
    np.testing.assert_allclose(found.swarm.weights[:3], plain.swarm.weights[:3], rtol=1e-12)


def test_a_constant_metric_is_a_note_beside_one_that_varies(tables):
    def edit(ratios, metrics):
        for row in metrics:
            row["bpb"] = 1.5

    assert read_swarm(*tables(edit)).notes == ["'bpb' is the same in every run"]


# --- how runs were made -----------------------------------------------------------------------


def test_params_tokens_and_seed_are_settings_and_never_domains_or_metrics(tables):
    def edit(ratios, metrics):
        for i, row in enumerate(ratios):
            row["params"] = 1e6 if i < 6 else 6e7
        for i, row in enumerate(metrics):
            row.update(tokens=2e9, seed=i % 3)

    swarm = read_swarm(*tables(edit)).swarm
    assert swarm.domains == ("code", "web", "wiki")
    assert sorted(swarm.metrics) == ["bpb", "loss"]
    assert swarm.params.tolist() == 6 * [1e6] + 6 * [6e7]
    assert swarm.tokens.tolist() == 12 * [2e9]
    assert swarm.seed.tolist() == 4 * [0, 1, 2]


def test_nothing_is_made_up_where_a_table_says_nothing_of_how_runs_were_made(tables):
    swarm = read_swarm(*tables()).swarm
    assert swarm.params is swarm.tokens is swarm.seed is None


def test_a_domain_that_is_called_tokens_can_be_named(tables):
    def edit(ratios, metrics):
        for row in ratios:
            row["tokens"] = row.pop("web")

    found = read_swarm(*tables(edit), tables=TableOptions(domains=("code", "tokens", "wiki")))
    assert found.swarm.domains == ("code", "tokens", "wiki")
    assert found.swarm.tokens is None


@pytest.mark.parametrize(("made", "expected"), [({}, 3), ({"params": 1e6}, 2), ({"seed": 7}, 3)])
def test_replicates_are_runs_of_one_mixture_at_one_scale(tables, made, expected):
    """Three rows are alike; one of them is made otherwise, which counts unless it is the seed."""

    def edit(ratios, metrics):
        for i in (4, 9):
            ratios[i].update({d: ratios[1][d] for d in ("code", "web", "wiki")})
        for name, value in made.items():
            for row in ratios:
                row[name] = 2 * value
            ratios[9][name] = value

    swarm = read_swarm(*tables(edit)).swarm
    sizes = np.bincount(swarm.groups)
    assert sorted(sizes)[-1] == expected
    assert sizes.sum() == 12
    assert swarm.groups[1] == swarm.groups[4]


# --- one table, and other people's names ------------------------------------------------------


@pytest.fixture
def wide(tables, tmp_path):
    """The same twelve runs in one table, in names of another project."""

    def made(change=lambda rows: None):
        ratios, metrics = (list(csv.DictReader(p.open())) for p in tables())
        rows = [
            {"run": r["run"], "state": "finished", "seed": 1}
            | {f"w/{d}": r[d] for d in ("code", "web", "wiki")}
            | {f"val_{n}_x": m[n] for n in ("loss", "bpb")}
            for r, m in zip(ratios, metrics, strict=True)
        ]
        change(rows)
        return write(tmp_path / "runs.csv", rows)

    return made


OTHERS = TableOptions(weight_pattern="w/{}", metric_pattern="val_{}_x")


def test_one_table_gives_the_same_bits_as_two(tables, wide):
    plain, other = read_swarm(*tables()).swarm, read_runs(wide(), tables=OTHERS).swarm
    assert (other.runs, other.domains) == (plain.runs, plain.domains)
    assert other.weights.tobytes() == plain.weights.tobytes()
    assert {n: x.tobytes() for n, x in other.metrics.items()} == {
        n: x.tobytes() for n, x in plain.metrics.items()
    }
    assert other.seed.tolist() == 12 * [1]


def test_one_table_as_parquet(wide, tmp_path):
    rows = [
        {k: v if k in ("run", "state") else float(v) for k, v in row.items()}
        for row in csv.DictReader(wide().open())
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "runs.parquet")
    one = read_runs(tmp_path / "runs.parquet", tables=OTHERS).swarm
    assert one.weights.tobytes() == read_runs(wide(), tables=OTHERS).swarm.weights.tobytes()


def test_domains_can_be_named_in_place_of_a_pattern(wide):
    found = read_runs(wide(), tables=TableOptions(domains=("w/code", "w/web", "w/wiki")))
    assert found.swarm.domains == ("w/code", "w/web", "w/wiki")
    assert sorted(found.swarm.metrics) == ["val_bpb_x", "val_loss_x"]


def test_a_domain_that_was_not_named_is_missed_in_the_sums(wide):
    with pytest.raises(MixtureError, match=r"of 12 runs cannot be used.*its weights sum to"):
        read_runs(wide(), tables=TableOptions(domains=("w/code", "w/web")))


def test_columns_that_are_no_metrics_by_their_pattern_are_listed(wide):
    def edit(rows):
        for row in rows:
            row["step"] = 100

    found = read_runs(wide(edit), tables=OTHERS)
    assert found.notes == ["runs.csv: not read as metrics: 'step'"]
    assert sorted(found.swarm.metrics) == ["bpb", "loss"]


def test_columns_that_are_left_out_for_how_they_are_called_are_listed(tables):
    """A domain may be called `index`: its weight must not vanish without a word."""

    def edit(ratios, metrics):
        for row in ratios:
            row |= {"index": row.pop("wiki"), "name": "x"}

    found = read_swarm(*tables(edit), tables=TableOptions(normalise=True))
    assert "ratios.csv: 'run' names the runs; not read: 'index', 'name'" in found.notes


def test_they_are_listed_once_if_there_is_one_table(wide):
    def edit(rows):
        for row in rows:
            row["id"] = 7

    told = read_runs(wide(edit), tables=OTHERS).notes
    assert told == ["runs.csv: 'run' names the runs; not read: 'id'"]


def test_a_weight_that_does_not_fit_the_pattern_is_refused(tables):
    def edit(ratios, metrics):
        for row in ratios:
            row |= {"w/code": row.pop("code"), "w/web": row.pop("web")}

    with pytest.raises(MixtureError, match=r"columns that are not like 'w/\{\}': 'wiki'"):
        read_swarm(*tables(edit), tables=TableOptions(weight_pattern="w/{}"))


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({}, "nothing says which columns of runs.csv are weights"),
        ({"weight_pattern": "u/{}"}, "runs.csv has no column like 'u/{}'"),
        ({"weight_pattern": "w/"}, "'w/' does not say where the name is in it"),
        ({"weight_pattern": "{}/{}"}, "'{}/{}' does not say where the name is in it"),
        ({"weight_pattern": "w/{}", "domains": ("cod",)}, "no domain 'cod' (did you mean 'code'?)"),
        ({"domains": ("w/web", "w/web")}, "a domain is named twice"),
        ({"weight_pattern": "w/{}", "metric_pattern": "x_{}"}, "has no column like 'x_{}'"),
    ],
)
def test_what_cannot_be_read_so_is_one_sentence(wide, options, problem):
    with pytest.raises(MixtureError) as caught:
        read_runs(wide(), tables=TableOptions(**options))
    assert problem in str(caught.value)
    assert caught.value.hint


def test_olmix_s_columns_that_name_or_number_runs_are_no_domains(tables):
    """Its tables have an id, a label and, from pandas, a number for each row."""

    def edit(ratios, metrics):
        for rows in (ratios, metrics):
            for i, row in enumerate(rows):
                row |= {"name": f"swarm-{i}", "index": i, "Unnamed: 0": i, "": i}

    swarm = read_swarm(*tables(edit)).swarm
    assert swarm.domains == ("code", "web", "wiki")
    assert swarm.runs[:2] == ("r00", "r01")


# --- the objective ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shares"),
    [
        ("loss", {"loss": 1}),
        (" loss , bpb ", {"loss": 1, "bpb": 1}),
        ("loss=2,bpb=0.5", {"loss": 2, "bpb": 0.5}),
        ("eval/acc=norm=3", {"eval/acc=norm": 3}),
        ("eval/acc=norm", {"eval/acc=norm": 1}),
    ],
)
def test_an_objective_is_metrics_with_shares(text, shares):
    assert parse_objective(text) == shares


@pytest.mark.parametrize("text", ["", " , ", "loss=0", "loss=-1", "loss=nan", "=2", "a,a", "a=inf"])
def test_an_objective_that_is_none_is_refused(text):
    with pytest.raises(MixtureError):
        parse_objective(text)


def test_shares_weigh_the_metrics(tables):
    ratios, metrics = tables()
    options = SwarmOptions.from_text(ratios=ratios, metrics=metrics, objective="loss=3,bpb=1")
    swarm = options.read().swarm
    expected = 0.75 * swarm.metrics["loss"] + 0.25 * swarm.metrics["bpb"]
    np.testing.assert_allclose(swarm.objective(options.objective), expected, rtol=1e-14)


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
        ((), "no metric is to be lowered"),
        (("--objective", "loss", "--runs", "metrics.csv"), "runs are two tables"),
        (
            ("--objective", "loss", "--weights-prefix", "a", "--rename-weights", "a{}"),
            "columns of weights are named in two ways",
        ),
        (("--objective", "los"), "has no metric 'los' (did you mean 'loss'?)"),
        (("--objective", "loss", "--folds", "1"), "1 folds hold nothing out"),
        (("--objective", "loss", "--test-ratios", "ratios.csv"), "runs are two tables"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(tables, tmp_path, monkeypatch, arguments, problem):
    ratios, metrics = tables()
    monkeypatch.chdir(tmp_path)
    result = invoke("laws", "--ratios", ratios, "--metrics", metrics, *arguments)
    assert result.exit_code == 1
    assert problem in result.output


def test_laws_read_one_table_in_other_names(tables, wide):
    ratios, metrics = tables()
    two = ("laws", "--ratios", ratios, "--metrics", metrics, "--objective", "loss", "--json")
    one = ("laws", "--runs", wide(), "--objective", "loss", "--json")
    names = ("--weights-prefix", "w/", "--rename-metrics", "val_{}_x")
    plain, other = (json.loads(invoke(*a).stdout)["laws"] for a in (two, (*one, *names)))
    for scores in (*plain.values(), *other.values()):
        scores.pop("seconds")
    assert other == plain


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [((), "no runs are named"), (("--objective", "loss"), "--objective is about runs of your own")],
)
def test_laws_without_runs_say_how_to_name_them(arguments, problem):
    result = invoke("laws", *arguments)
    assert result.exit_code == 1
    assert problem in result.output
    assert "--runs FILE" in result.output


@pytest.mark.skipif(not REGMIX.exists(), reason="the published runs are not beside the project")
def test_regmix_s_own_files_come_out_in_the_names_of_domains():
    tables = TableOptions(
        weight_pattern="train_the_pile_{}", metric_pattern="metric/the_pile_{}_val_loss"
    )
    files = REGMIX / "train_mixture_1m.csv", REGMIX / "train_pile_loss_1m.csv"
    found = read_swarm(*files, tables=tables)
    assert set(found.swarm.metrics) < set(found.swarm.domains)
    without = set(found.swarm.domains) - set(found.swarm.metrics)
    assert without == {"nih_exporter", "philpapers", "enron_emails", "europarl"}
    (note,) = found.notes
    assert "were rescaled" in note
    plain = read_swarm(*files)
    assert found.swarm.metrics["pile_cc"].tobytes() == (
        plain.swarm.metrics["metric/the_pile_pile_cc_val_loss"].tobytes()
    )


@pytest.mark.skipif(not REGMIX.exists(), reason="the published runs are not beside the project")
def test_regmix_s_own_files_are_read_as_they_are():
    """17 domains of weights and 13 of losses; rounded rows that sum to 0.996 to 1.003."""
    found = read_swarm(REGMIX / "train_mixture_1m.csv", REGMIX / "train_pile_loss_1m.csv")
    assert (len(found.swarm.runs), len(found.swarm.domains)) == (512, 17)
    assert len(found.swarm.metrics) == 13
    assert not found.excluded
