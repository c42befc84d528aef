"""`mixture next`: from two tables to runs that can be launched, and to the tables of the next."""

import csv
import json
import math
import re

import numpy as np
import pytest
from click.testing import CliRunner

from mixture_assets.cli import cli
from mixture_assets.decision_table import DecisionOptions
from mixture_assets.methods.swarm import Swarm
from mixture_assets.next_table import other_scales, plan_next, ratios_csv
from mixture_assets.swarms import SwarmOptions, read_swarm

QUICK = ("--draws", "100")


def write(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture
def tables(tmp_path):
    """Runs of two domains, their loss a known law and a little noise."""

    def made(n=16, prefix="", first="r00", **settings):
        names = [first, *(f"r{i:02d}" for i in range(1, n))]
        share = [i / (n - 1) for i in range(n)]
        ratios = [
            {"run": r, f"{prefix}web": x, f"{prefix}code": 1 - x}
            for r, x in zip(names, share, strict=True)
        ]
        metrics = [
            {"run": r, "loss": 2 + math.exp(-2 * x) + math.sin(37 * i) / 8, **settings}
            for i, (r, x) in enumerate(zip(names, share, strict=True))
        ]
        return write(tmp_path / "ratios.csv", ratios), write(tmp_path / "metrics.csv", metrics)

    return made


def told(tables, *options):
    arguments = ("--ratios", str(tables[0]), "--metrics", str(tables[1]), "--objective", "loss")
    return CliRunner().invoke(cli, ["next", *arguments, *QUICK, *options])


def test_the_runs_can_be_read_back_with_those_that_there_are(tables, tmp_path):
    out = tmp_path / "next.csv"
    made = tables(prefix="train_", params=2e6, tokens=4e7)
    result = told(made, "--weights-prefix", "train_", "--count", "3", "--out", str(out), "--json")
    answer = json.loads(result.stdout)
    header, *rows = out.read_text().splitlines()
    assert header == "run,train_code,train_web,params,tokens"
    ratios = tmp_path / "all.csv"
    known = [line + ",2000000,40000000" for line in made[0].read_text().splitlines()[1:]]
    ratios.write_text("\n".join(["run,train_web,train_code,params,tokens", *known]))
    both = list(csv.DictReader(ratios.open())) + list(csv.DictReader(out.open()))
    write(ratios, [{n: row[n] for n in header.split(",")} for row in both])
    measured = [*csv.DictReader(made[1].open())]
    measured += [{**measured[0], "run": row.split(",")[0], "loss": "2.5"} for row in rows]
    swarm = read_swarm(
        ratios,
        write(tmp_path / "m.csv", measured),
        tables=SwarmOptions.from_text(objective="loss", weights_prefix="train_").tables,
    ).swarm
    assert len(swarm.runs) == 19
    at = swarm.runs.index("next-001")
    expected = [answer["runs"][0]["mixture"][name] for name in swarm.domains]
    assert swarm.weights[at] == pytest.approx(expected, abs=1e-12)
    assert swarm.groups.max() <= 18


def test_a_run_costs_six_flops_for_each_parameter_and_token(tables):
    answer = json.loads(told(tables(params=2e6, tokens=4e7), "--json").stdout)
    assert {run["flops"] for run in answer["runs"]} == {6 * 2e6 * 4e7}
    assert "flops" not in json.loads(told(tables(), "--json").stdout)["runs"][0]


def test_names_go_on_where_earlier_ones_end(tables):
    answer = json.loads(told(tables(first="next-007"), "--count", "2", "--json").stdout)
    assert [run["run"] for run in answer["runs"]] == ["next-008", "next-009"]


def test_what_is_printed_is_what_is_meant(tables):
    made = tables(params=2e6, tokens=4e7)
    answer, shown = json.loads(told(made, "--json").stdout), told(made).output
    assert answer["reason"] in shown
    assert "2M parameters, 40M tokens" in shown
    assert "3.84 PFLOP" in shown  # eight runs
    for run in answer["runs"]:
        assert f"+- {run['half_width']:.4g}" in shown
    widths = [answer["half_width"], *(run["half_width"] for run in answer["runs"])]
    assert widths == sorted(widths, reverse=True)


def test_bounds_of_the_weights_hold_for_the_runs(tables):
    answer = json.loads(told(tables(), "--cap", "web=0.7", "--json").stdout)
    assert max(run["mixture"]["web"] for run in answer["runs"]) <= 0.7 + 1e-9


def test_only_the_scale_that_the_weights_rest_on_is_planned_for(tables, tmp_path):
    ratios, metrics = tables()
    rows = list(csv.DictReader(metrics.open()))
    for i, row in enumerate(rows):
        row["params"] = 1e6 if i % 2 else 8e6
    answer = plan_next(
        SwarmOptions(
            ratios=ratios, metrics=write(tmp_path / "m.csv", rows), objective={"loss": 1.0}
        ),
        DecisionOptions.from_text(draws=100),
    )
    assert {run["params"] for run in answer["runs"]} == {8e6}
    assert answer["n_runs"] == 8
    assert any("8 at other scales are left out" in note for note in answer["notes"])
    assert ratios_csv(answer).splitlines()[0] == "run,code,web,params"


def test_a_smaller_size_with_the_same_noise_tells_more_by_what_it_saves():
    """The same losses at an eighth of the parameters and of the tokens: 64 times per FLOP."""
    rng = np.random.default_rng(0)
    share = rng.uniform(size=20)
    loss = 2 + np.exp(-2 * share) + 0.05 * rng.normal(size=20)
    mixtures, metrics, settings = {}, {}, {}
    for size, params in (("s", 1e6), ("l", 8e6)):
        for i in range(20):
            run = f"{size}{i}"
            mixtures[run] = {"a": share[i], "b": 1 - share[i]}
            metrics[run] = {"loss": loss[i]}
            settings[run] = {"params": params, "tokens": 20 * params}
    swarm = Swarm.of(mixtures, metrics, settings=settings)
    large = swarm.subset(np.flatnonzero(swarm.params == 8e6))
    (note,) = other_scales(swarm, large, {"loss": 1.0})
    assert "1M parameters and 20M tokens would tell 64 times as much per FLOP" in note
    assert float(re.search(r"Spearman (0\.\d+|1\.00)", note)[1]) > 0.8
    assert other_scales(large, large, {"loss": 1.0}) == []


def test_no_runs_are_an_error_with_its_hint():
    result = CliRunner().invoke(cli, ["next"])
    assert result.exit_code == 1
    assert "--ratios FILE" in result.output
