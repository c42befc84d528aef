"""The second door: somebody's own numbers, through the command line, against the paper's."""

import csv
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from mixture_assets.cli import cli

REFERENCE = Path("../shared/reference/autoscale")
needs_reference = pytest.mark.skipif(
    not REFERENCE.exists(), reason="the published runs are not beside the project"
)


def invoke(*arguments):
    return CliRunner().invoke(cli, [str(a) for a in arguments])


def read(name):
    with open(REFERENCE / name, newline="") as file:
        return list(csv.DictReader(file))


@needs_reference
def test_ddo_reproduces_the_authors_notebook_from_a_csv(tmp_path):
    path = tmp_path / "runs.csv"
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["domain", "factor", "note", "ppl"])
        for row in reversed(read("ddo_gpt2large_1p2B_proxy_ppl.csv")):
            factor = row["multiplier_used_in_fit"]
            writer.writerow([row["perturbed_domain"], factor, "x", row["val_ppl_avg"]])
    result = invoke("ddo", path, "--objective", "ppl", "--floor", "0.2", "--json")
    assert result.exit_code == 0, result.output
    answer = json.loads(result.output)
    for row in read("ddo_fit_params_notebook.csv"):
        published = {k: float(row[k]) for k in "abc"}
        assert answer["fits"][row["domain"]] == pytest.approx(published, abs=1e-6)
    for row in read("ddo_optimum_1p2B.csv"):
        exact = float(row["n_rel_exact_KKT_lb0.2"])
        assert answer["optimum"][row["domain"]] == pytest.approx(exact, abs=1e-6)
        assert answer["weights"][row["domain"]] == pytest.approx(
            float(row["weight_exact"]), abs=1e-6
        )


# DDO_example.ipynb: the runs that mean perplexities are of, and papers' two readings of them
BASE = 28.11373645
SHRUNK = {
    "common_crawl": 30.11152249,
    "github": 28.37687875,
    "books": 29.85955983,
    "wiki": 29.90195668,
    "c4": 30.37704005,
    "stackexchange": 29.23766591,
    "arxiv": 28.92552215,
}
GROWN = {
    "common_crawl": 25.78619752,
    "github": 27.68033216,
    "books": 26.25833879,
    "wiki": 26.47376351,
    "c4": 25.49797272,
    "stackexchange": 27.01485416,
    "arxiv": 27.24200395,
}
AS_A_FIFTH = [1.62475352, 0.2, 1.27415166, 1.17979573, 1.85189980, 0.63716376, 0.23223551]
AS_A_THIRD = [1.50096, 0.2, 1.24667, 1.17676, 1.66602, 0.75753, 0.45207]


@pytest.mark.parametrize("cell", ["0.2", "reduced"])
@pytest.mark.parametrize(("reading", "optimum"), [("0.2", AS_A_FIFTH), ("1/3", AS_A_THIRD)])
def test_the_reduced_run_can_be_read_both_ways(tmp_path, cell, reading, optimum):
    """The text says 1/3 and the code 0.2; the file may say either, or neither."""
    path = tmp_path / "runs.csv"
    rows = [f",1,{BASE}", *(f"{d},{cell},{y}" for d, y in SHRUNK.items())]
    rows += [f"{d},3,{y}" for d, y in GROWN.items()]
    path.write_text("\n".join(["domain,factor,ppl", *rows]))
    result = invoke("ddo", path, "--objective", "ppl", "--read", f"{cell}={reading}", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.output)["optimum"]
    assert [found[d] for d in SHRUNK] == pytest.approx(optimum, abs=1e-5)


@pytest.mark.parametrize(
    ("reading", "message"),
    [
        ("0.3=1/3", "no row of runs.csv has a factor of '0.3'"),
        ("0.2", "'0.2' cannot be read as '', not a factor"),
        ("0.2=1/0", "'0.2' cannot be read as '1/0', not a factor"),
        ("0.2=nan", "'0.2' cannot be read as 'nan', not a factor"),
        ("0.2=-1", "has a factor of -1"),
    ],
)
def test_a_reading_that_says_nothing_is_refused(tmp_path, reading, message):
    path = tmp_path / "runs.csv"
    path.write_text("domain,factor,ppl\n,1,9\na,0.2,10\na,3,8\nb,0.2,10\nb,3,8\n")
    result = invoke("ddo", path, "--objective", "ppl", "--read", reading)
    assert result.exit_code == 1
    assert message in result.output


@needs_reference
def test_joint_fits_every_column_of_the_published_runs(tmp_path):
    """Seven laws for seven perplexities; on one column it is the three-point fit."""
    runs = read("ddo_gpt2large_1p2B_proxy_ppl.csv")
    path = tmp_path / "runs.csv"
    columns = [f"val_ppl_{d}" for d in SHRUNK]
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["domain", "factor", "val_ppl_avg", *columns])
        for run in runs:
            domain, factor = run["perturbed_domain"], run["multiplier_used_in_fit"]
            writer.writerow([domain, factor, run["val_ppl_avg"], *(run[c] for c in columns)])
    one = invoke("ddo", path, "--objective", "val_ppl_avg", "--fit", "joint", "--json")
    found = json.loads(one.output)["optimum"]
    assert [found[d] for d in SHRUNK] == pytest.approx(AS_A_FIFTH, abs=1e-4)
    every = invoke("ddo", path, "--objective", ",".join(columns), "--fit", "joint", "--json")
    answer = json.loads(every.output)
    assert answer["fits"].keys() == set(columns)
    assert sum(answer["optimum"].values()) == pytest.approx(7)
    assert answer["weights"]["c4"] == max(answer["weights"].values())
    mean = invoke("ddo", path, "--objective", ",".join(columns), "--json")
    found = json.loads(mean.output)["optimum"]
    assert [found[d] for d in SHRUNK] == pytest.approx(AS_A_FIFTH, abs=1e-5)
    table = invoke("ddo", path, "--objective", ",".join(columns), "--fit", "joint")
    assert "x base" in table.output


def test_runs_of_one_seed_are_a_block(tmp_path):
    """Seed 1 is 1 higher in all runs and lacks one: its effect must not pass for the domain's."""
    rows = [("", 1, 9.0), ("a", 0.2, 10.0), ("a", 3, 8.0), ("b", 0.2, 9.6), ("b", 3, 8.5)]
    lines = [f"{d},{x},{y + s},{s}" for s in (0, 1) for d, x, y in rows]
    path, clean = tmp_path / "runs.csv", tmp_path / "clean.csv"
    path.write_text("\n".join(["domain,factor,loss,seed", *lines[:-1]]))
    clean.write_text("\n".join(["domain,factor,loss,seed", *lines]))
    optima = [
        json.loads(invoke("ddo", p, "--objective", "loss", "--json").output)["optimum"]
        for p in (path, clean)
    ]
    assert optima[0] == pytest.approx(optima[1], abs=1e-3)


@needs_reference
def test_extrapolate_reproduces_the_authors_ladder_from_json(tmp_path):
    rows = {row["row"]: row for row in read("autoscale_extrapolation_notebook.csv")}

    def tokens(name):
        return {
            key.removeprefix("Btokens_"): 1e9 * float(value)
            for key, value in rows[name].items()
            if key.startswith("Btokens_")
        }

    path = tmp_path / "optima.json"
    path.write_text(json.dumps({"small": tokens("N1_0.3B_DDO"), "large": tokens("N2_1.2B_DDO")}))
    for step in (1, 2, 3, 4):
        row = rows[f"N_pred_step{step}"]
        budget = 1e9 * float(row["total_Btokens"])
        result = invoke("extrapolate", path, "--tokens", repr(budget), "--json")
        answer = json.loads(result.output)
        assert answer["t"] == pytest.approx(step + 1, abs=1e-6)
        for domain, weight in answer["weights"].items():
            assert weight == pytest.approx(float(row[f"w_{domain}"]), abs=1e-7)
        assert answer["at_floor"] == ["arxiv", "github"]
        assert sum(answer["tokens"].values()) == pytest.approx(budget)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no column 'domain'"),
        ("domain,factor,loss\n", "has no rows"),
        ("domain,factor,los\n,1,2\n", "has no column 'loss' (did you mean 'los'?)"),
        ("domain,factor,loss\n,1,two\n", "line 2: loss is 'two', not a number"),
        ("domain,factor,loss\n,1,nan\n", "line 2: loss is nan"),
        ("domain,factor,loss\na,3,1\n", "none of 1 runs is a base run"),
        ("domain,factor,loss\n,1,2\na,0,2,1\n", "line 3: 4 cells under 3 columns"),
        ("domain,factor,loss\n,1,2\na,3\n", "line 3: 2 cells under 3 columns"),
        ("domain,factor,loss,loss\n,1,2,3\n", "has two columns 'loss'"),
        ("domain,factor,loss\n,1,1e308\n", "line 2: loss is 1e+308, which is no amount"),
        ('domain,factor,loss\n\n"a\nb",3,2\n', r"line 4: 'a\nb' is not a name of a domain"),
        ('domain,factor,loss\n,1,"2\n', "is not a CSV in UTF-8"),
        ("domain,factor,loss\n,1,2\na,3,1\n", "DDO mixes two domains or more"),
    ],
)
def test_a_mistake_in_the_csv_is_one_line_and_a_hint(tmp_path, text, message):
    path = tmp_path / "runs.csv"
    path.write_text(text)
    result = invoke("ddo", path, "--objective", "loss")
    assert result.exit_code == 1
    assert message in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "lacks 'small'"),
        ('{"scales": 3}', "lacks 'scale 1'"),
        ('{"scales": [{"a": 1, "b": 1}]}', "a trend needs two scales or more, got 1"),
        ('{"scales": [{"a": 1}, {"a": "x"}]}', "scale 2 'a' is 'x', not a token count"),
        ('{"small": {"a": 1}}', "lacks 'large'"),
        ('{"small": {"a": "x"}, "large": {"a": 1}}', "small 'a' is 'x', not a token count"),
        ('{"small": {"a": 1, "b": 1}, "large": {"a": 2}}', "disagree on domains"),
        ('{"small": {"a": 1, "a": 1}, "large": {"a": 2}}', "'a' is there twice"),
        ('{"small": {"a": 1%s}, "large": {"a": 2}}' % ("0" * 400), "no token count that there can"),
        ('{"small": {"a": 1%s}, "large": {"a": 2}}' % ("0" * 5000), "is not JSON: Exceeds"),
        ('{"small": {"\\ud83d": 1}, "large": {"a": 2}}', r"'\ud83d' is not a name of a domain"),
        ("[" * 100_000, "is not JSON: maximum recursion depth"),
    ],
)
def test_a_mistake_in_the_json_is_one_line(tmp_path, text, message):
    path = tmp_path / "optima.json"
    path.write_text(text)
    result = invoke("extrapolate", path, "--tokens", "10")
    assert result.exit_code == 1
    assert message in result.output


def test_scales_in_any_order_are_one_answer(tmp_path):
    scales = [{"a": 10, "b": 20}, {"a": 50, "b": 30}, {"a": 200, "b": 150}]
    path, answers = tmp_path / "optima.json", []
    for order in (scales, scales[::-1]):
        path.write_text(json.dumps({"scales": order}))
        answers.append(json.loads(invoke("extrapolate", path, "--tokens", "900", "--json").output))
    assert answers[0] == answers[1]
    assert answers[0]["r2"].keys() == {"a", "b"}
    assert all(0.9 < r2 <= 1 for r2 in answers[0]["r2"].values())
    shown = invoke("extrapolate", path, "--tokens", "900").output
    worst = min(answers[0]["r2"].values())
    assert f"R2 of the lines through the scales: {worst:.3f} or more" in shown


def test_a_budget_far_below_the_scales_is_named(tmp_path):
    path = tmp_path / "optima.json"
    path.write_text('{"small": {"a": 1, "b": 1, "c": 1e8}, "large": {"a": 1, "b": 2, "c": 1e8}}')
    result = invoke("extrapolate", path, "--tokens", "1e-300", "--rule", "paper")
    assert result.exit_code == 1
    assert "too far below the small scale: the rule reaches down to 100M" in result.output


@pytest.mark.parametrize("floor", ["nan", "-1", "1", "inf"])
def test_a_floor_that_is_none_is_refused(tmp_path, floor):
    path = tmp_path / "optima.json"
    path.write_text('{"small": {"a": 1, "b": 1}, "large": {"a": 3, "b": 2}}')
    result = invoke("extrapolate", path, "--tokens", "9", "--floor", floor)
    assert result.exit_code == 1
    assert "floor must be in [0, 1)" in result.output
