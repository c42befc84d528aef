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
