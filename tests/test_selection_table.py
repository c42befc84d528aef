import csv
import json
import math
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from scipy.stats import norm

from mixture_assets.cli import cli
from tests.selection.conftest import FULL_FLOPS, published  # noqa: F401

ROWS = [
    {"method": m, "total_flops": f * 1e18, "full_flops": 1e18, "performance": y, "ceiling": 48.0}
    for m, points in {
        "random": ((0.025, 44.0), (0.1, 45.0), (0.5, 46.5), (1.0, 48.0)),
        "perplexity": ((0.358, 45.5), (0.433, 47.0), (0.833, 47.5), (1.333, 48.0)),
    }.items()
    for f, y in points
]


def select(*arguments):
    return CliRunner().invoke(cli, ["select", *map(str, arguments)])


def answer(*arguments):
    result = select(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture
def written(tmp_path):
    def write(rows, name="points.csv"):
        with (tmp_path / name).open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, list(rows[0]))
            table.writeheader()
            table.writerows(rows)
        return tmp_path / name

    return write


def test_fit_prints_every_published_fit(published, written):  # noqa: F811
    """Several panels in one table, told apart by name, rows in any order."""
    fits = published("parametric_fit_recovered")
    ceilings = {(r["task"], r["train_model_size"]): r["Pbar"] for r in fits}
    rows = [
        {
            "ceiling": ceilings[r["task"], size],
            "method": f"{r['task']} {size} {r['method']}",
            "performance": r["accuracy_pct"],
            "full_flops": FULL_FLOPS[size],
            "total_flops": r["total_flops_plotted"],
        }
        for r in published("accuracy_vs_flops")
        if r["figure"] in ("fig3", "fig5b")
        for size in (r["train_model_size"],)
    ]
    random.Random(0).shuffle(rows)
    found = answer("fit", written(rows))
    assert len(found) == len(fits) == 35
    for row in fits:
        fit = found[f"{row['task']} {row['train_model_size']} {row['method']}"]
        assert set(fit) == {"ceiling", "zero", "rate"}
        assert fit["ceiling"] == float(row["Pbar"])
        assert fit["rate"] == pytest.approx(float(row["lambda_norm_full_train_flops"]), rel=2e-4)
        assert fit["zero"] == pytest.approx(float(row["P0"]), abs=0.02)


def test_frontier_prints_the_non_dominated_rows(published, written):  # noqa: F811
    rows = [
        {
            "method": r["method"],
            "share": r["data_fraction"],
            "total_flops": r["total_flops_plotted"],
            "full_flops": FULL_FLOPS["70B"],
            "performance": r["accuracy_pct"],
        }
        for r in published("accuracy_vs_flops")
        if (r["figure"], r["task"], r["train_model_size"]) == ("fig2", "BBH", "70B")
    ]
    theirs = [
        (r["method"], float(r["data_fraction"]), float(r["accuracy_pct"]))
        for r in published("nondominated_points")
        if (r["task"], r["train_model_size"]) == ("BBH", "70B")
    ]
    found = answer("frontier", written(rows))
    assert [(r["method"], r["share"], r["performance"]) for r in found if r["share"] < 1] == theirs


def test_what_is_best_of_the_table_is_the_ceiling_of_every_method(written):
    without = [{k: v for k, v in row.items() if k != "ceiling"} for row in ROWS]
    assert answer("fit", written(without)) == answer("fit", written(ROWS))


def test_losses_are_fitted_as_negative_performance(written):
    rows = [
        {**row, "performance": row["performance"] - 50, "ceiling": -2.0}
        for row in ROWS
        if row["method"] == "random"
    ]
    (fit,) = answer("fit", written(rows)).values()
    (positive,) = (f for m, f in answer("fit", written(ROWS)).items() if m == "random")
    assert fit["rate"] == pytest.approx(positive["rate"], rel=1e-4)
    assert fit["zero"] == pytest.approx(positive["zero"] - 50, abs=1e-3)


def test_parquet_is_read_like_csv(written, tmp_path):
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "points.parquet")
    for verb in ("fit", "frontier"):
        assert answer(verb, tmp_path / "points.parquet") == answer(verb, written(ROWS))


def test_seeds_are_averaged_and_give_a_chance(written):
    """Two cells of 4 seeds, +-0.3 about 45 and 45.1: the dearer is better by less than noise."""
    rows = [
        {
            "method": "random",
            "share": share,
            "total_flops": share * 1e18,
            "full_flops": 1e18,
            "performance": level + off,
            "seed": seed,
        }
        for share, level, offs in ((0.1, 45.0, (-3, 3, 3, -3)), (0.5, 45.1, (3, 3, -3, -3)))
        for seed, off in enumerate(x / 10 for x in offs)
    ]
    cheap, dear = answer("frontier", written(rows))
    assert (cheap["performance"], dear["performance"]) == pytest.approx((45.0, 45.1))
    assert cheap["n_seeds"] == 4
    sd = (8 * 0.09 / 6) ** 0.5  # 8 runs, 2 means
    assert dear["standard_error"] == pytest.approx(sd / 2, rel=1e-6)
    assert cheap["chance"] == 1
    expected = norm.cdf(0.1 / (dear["standard_error"] * 2**0.5))
    assert dear["chance"] == pytest.approx(expected, abs=0.03)


def test_a_size_is_chosen_by_its_parameters(written):
    rows = [{**row, "train_params": 1e8} for row in ROWS]
    rows += [
        {**row, "train_params": 1e9, "full_flops": 1e19, "total_flops": 10 * row["total_flops"]}
        for row in ROWS
    ]
    path = written(rows)
    one = answer("fit", written(ROWS, "one.csv"))
    for method, fit in answer("fit", path, "--train-params", 1e9).items():
        assert fit == pytest.approx(one[method], abs=1e-9)
    result = select("fit", path)
    assert result.exit_code == 1
    assert "models of several sizes" in result.output
    result = select("fit", path, "--train-params", 5)
    assert result.exit_code == 1
    assert "no point with train_params 5" in result.output
    assert "1e+08, 1e+09" in result.output


def test_free_fits_have_intervals_that_hold_what_made_the_points(written):
    """Exact curves of known zero, ceiling and rate in the share that is trained on."""
    truth = {"random": (40.0, 48.0, 3.0, 0.0), "perplexity": (40.0, 48.0, 9.0, 1 / 3)}
    rows = [
        {
            "method": method,
            "share": share,
            "total_flops": (share + start) * 1e18,
            "full_flops": 1e18,
            "performance": ceiling - (ceiling - zero) * 2.718281828459045 ** (-rate * share),
            "seed": seed,
        }
        for method, (zero, ceiling, rate, start) in truth.items()
        for share in (0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
        for seed in (0, 1)
    ]
    found = answer("fit", written(rows), "--free")
    for method, (zero, ceiling, rate, start) in truth.items():
        fit = found[method]
        assert [fit[k] for k in ("zero", "ceiling", "rate", "start")] == pytest.approx(
            [zero, ceiling, rate, start], rel=1e-5, abs=1e-9
        )
        for name, value in zip(("zero", "ceiling", "rate"), truth[method], strict=False):
            assert fit[f"{name}_interval"] == pytest.approx([value, value], rel=1e-4)
    shown = select("fit", written(rows), "--free")
    assert "rate" in shown.output
    assert "9 (9 to 9)" in shown.output


def test_break_even_prints_budgets_and_ratios(written):
    """Exact curves that end alike, by their inverses; 3 % for the grid of rates."""

    def learned(rate, share):
        return math.expm1(-rate * share) / math.expm1(-rate)

    rows = [
        {
            "method": method,
            "share": share,
            "total_flops": (share + start) * 1e18,
            "full_flops": 1e18,
            "performance": 40 + 8 * learned(rate, share),
            "seed": seed,
        }
        for method, rate, start in (("random", 3.0, 0.0), ("ppl", 9.0, 0.2), ("less", 2.0, 1.8))
        for share in (0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
        for seed in (0, 1)
    ]
    path = written(rows)
    found = {(r["costly"], r["cheap"]): r for r in answer("break-even", path)}
    ppl, less = found["ppl", "random"], found["less", "random"]
    budget = ppl["budget_flops"] / 1e18
    assert learned(9, budget - 0.2) == pytest.approx(learned(3, budget), rel=0.03)
    left = 0.2 / ppl["ratio"]  # of half of the pool's cost, when as much is learned with less
    assert learned(9, 0.5 - left) == pytest.approx(learned(3, 0.5), rel=0.03)
    assert (ppl["ratio_chance"], ppl["ratio_budget"]) == (1, 0.5)
    assert less["budget_flops"] is None
    assert (less["ratio"], less["ratio_interval"], less["ratio_chance"]) == (None, [None, None], 0)
    assert found["less", "ppl"]["ratio_interval"] is None
    assert answer("break-even", path, "--budget", 0.2)[-1]["ratio_budget"] == 0.2
    shown = select("break-even", path)
    assert shown.exit_code == 0
    assert "its chance" in shown.output
    assert "1.00" in shown.output
    assert "never" in shown.output


def test_three_shares_are_too_few_for_a_free_fit(written):
    rows = [r for r in ROWS if r["method"] == "random"][:3]
    result = select("fit", written(rows), "--free")
    assert result.exit_code == 1
    assert "'random': three points say nothing about their noise" in result.output


def test_tables_for_people_name_the_methods(written):
    path = written(ROWS)
    for verb in ("fit", "frontier"):
        shown = select(verb, path)
        assert shown.exit_code == 0
        assert "perplexity" in shown.output
        assert "random" in shown.output


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"performance": "nan"}, "row 1: performance is nan"),
        ({"performance": ""}, "row 1 (random) has no performance"),
        ({"total_flops": 0}, "row 1: total_flops is 0"),
        ({"full_flops": -1}, "row 1: full_flops is -1"),
        ({"total_flops": "much"}, "row 1: total_flops is 'much', not a number"),
        ({"method": ""}, "row 1: '' is not a name of a method"),
        ({"ceiling": 50}, "'random' has 2 ceilings"),
        ({"full_flops": 2e18}, "'random' has points of models of several sizes"),
    ],
)
def test_a_bad_row_is_one_readable_error(written, change, problem):
    result = select("fit", written([{**ROWS[0], **change}, *ROWS[1:]]))
    assert result.exit_code == 1
    assert problem in result.output
    assert "Traceback" not in result.output


def test_a_missing_column_is_named_with_what_is_near(written):
    rows = [{("flops_total" if k == "total_flops" else k): v for k, v in r.items()} for r in ROWS]
    result = select("fit", written(rows))
    assert result.exit_code == 1
    assert "has no column 'total_flops'" in result.output


def test_one_point_is_no_curve(written):
    result = select("fit", written(ROWS[:1]))
    assert result.exit_code == 1
    assert (
        "'random': a curve of performance needs 2 different costs or more, got 1" in result.output
    )
