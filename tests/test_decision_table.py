"""Two tables in, weights with error bars out: the command, its options and its answers."""

import csv
import json
import math

import numpy as np
import pytest
from click.testing import CliRunner

from mixture_assets.cli import cli
from mixture_assets.core.errors import MixtureError
from mixture_assets.decision_table import DecisionOptions, parse_amounts
from mixture_assets.methods.swarm import Swarm
from mixture_assets.scale_choice import one_scale

DOMAINS = ("web", "code", "books", "maths")
EFFECT = {"web": -0.6, "code": 0.4, "books": -0.2, "maths": 0.8}


def write(path, rows):
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


@pytest.fixture
def tables(tmp_path):
    """40 runs whose loss is 2 + exp(effect . weights), and a little noise."""
    rng = np.random.default_rng(5)
    ratios, metrics = [], []
    for i, weights in enumerate(rng.dirichlet(np.ones(len(DOMAINS)), 40)):
        mixture = dict(zip(DOMAINS, weights.tolist(), strict=True))
        loss = 2 + math.exp(sum(EFFECT[d] * w for d, w in mixture.items()))
        ratios.append({"run": f"r{i}", **mixture})
        metrics.append({"run": f"r{i}", "loss": loss + 0.01 * rng.standard_normal()})
    return ratios, metrics, tmp_path


def ask(tables, *options, verb="propose"):
    ratios, metrics, folder = tables
    files = [
        *("--ratios", write(folder / "ratios.csv", ratios)),
        *("--metrics", write(folder / "metrics.csv", metrics), "--objective", "loss"),
    ]
    return CliRunner().invoke(cli, [verb, *files, *options])


def answer(tables, *options):
    result = ask(tables, *options, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_the_bare_optimum_is_that_of_the_law_that_made_the_runs(tables):
    """The law rises with effect . weights, so its least is all of the domain of least effect."""
    found = answer(tables, "--kl", "0", "--beyond-samples")
    assert found["verdict"] == "supported"
    assert found["weights"]["web"] == pytest.approx(1, abs=1e-6)
    assert found["mixtures"]["worst"]["maths"] == pytest.approx(1, abs=1e-6)
    truth = 2 + math.exp(-0.6)
    assert found["predicted"]["proposal"]["low"] < truth < found["predicted"]["proposal"]["high"]


def test_weights_keep_to_the_range_that_was_run(tables):
    most = {d: max(row[d] for row in tables[0]) for d in DOMAINS}
    found = answer(tables, "--kl", "0")
    assert all(w <= most[d] + 1e-9 for d, w in found["weights"].items())
    assert found["weights"]["web"] == pytest.approx(most["web"])


def test_every_constraint_holds_and_has_its_price(tables):
    found = answer(
        tables,
        *("--available", "web=1e9,code=2e9,books=1e9,maths=1e9", "--budget", "4e9"),
        *("--max-epochs", "2", "--floor", "code=0.1", "--group", "web+books<=0.55"),
        *("--protect", "maths", "--kl", "0"),
    )
    weights = found["weights"]
    assert math.fsum(weights.values()) == pytest.approx(1, abs=1e-12)
    assert weights["web"] + weights["books"] == pytest.approx(0.55)
    assert weights["maths"] == pytest.approx(0.2)  # its natural weight, protected
    assert found["epochs"]["web"] == pytest.approx(weights["web"] * 4e9 / 1e9)
    assert found["epochs"]["web"] <= 2 + 1e-9
    prices = {(p["what"], p["domain"]): p["per_percent"] for p in found["prices"]}
    assert prices["web+books<=0.55", ""] > 0
    assert prices["protected", "maths"] > 0
    unbound = answer(tables, "--kl", "0", "--beyond-samples")["predicted"]["proposal"]["value"]
    assert found["predicted"]["unconstrained"]["value"] == pytest.approx(unbound, rel=1e-6)


def test_by_default_the_proposal_stays_near_natural_at_little_cost(tables):
    near, bare = answer(tables), answer(tables, "--kl", "0")
    natural = near["mixtures"]["natural"]

    def distance(found):
        return sum(abs(w - natural[d]) for d, w in found["weights"].items())

    assert distance(near) < distance(bare)
    given_up = near["predicted"]["proposal"]["value"] - bare["predicted"]["proposal"]["value"]
    assert 0 <= given_up < bare["gain"]["value"] / 4


def test_order_of_rows_and_columns_changes_nothing(tables):
    ratios, metrics, folder = tables
    turned = [dict(reversed(row.items())) for row in reversed(ratios)]
    assert answer(tables) == answer((turned, metrics[::-1], folder))


def test_a_run_that_crashed_is_listed_and_not_counted(tables):
    ratios, metrics, folder = tables
    broken = [{**row, "loss": "nan"} if row["run"] == "r7" else row for row in metrics]
    found = answer((ratios, broken, folder))
    assert found["n_runs"] == 39
    assert list(found["excluded"]) == ["r7"]
    assert "left out: r7" in ask((ratios, broken, folder)).stdout


def test_noise_proposes_natural(tables):
    ratios, _, folder = tables
    rng = np.random.default_rng(1)
    noise = [{"run": row["run"], "loss": 3 + rng.standard_normal()} for row in ratios]
    found = answer((ratios, noise, folder), "--available", "web=1,code=1,books=1,maths=1")
    assert found["verdict"] == "not identifiable"
    assert found["weights"] == pytest.approx(dict.fromkeys(DOMAINS, 0.25), abs=5e-3)
    assert "no better than their mean" in found["sentence"]


def test_an_export_repeats_a_doubt(tmp_path):
    path = tmp_path / "weights.json"
    for verdict, is_said in (("not identifiable", True), ("supported", False)):
        path.write_text(json.dumps({"weights": {"a": 0.5, "b": 0.5}, "verdict": verdict}))
        made = CliRunner().invoke(cli, ["export", str(path), "--json"])
        notes = json.loads(made.stdout)["notes"]
        assert any("not identifiable" in note for note in notes) == is_said


def test_from_tables_to_another_trainer(tables, tmp_path):
    out = tmp_path / "weights.json"
    assert ask(tables, "--out", str(out)).exit_code == 0
    made = CliRunner().invoke(cli, ["export", str(out), "--format", "megatron", "--paths", "t/{}"])
    assert made.exit_code == 0
    _, *words = made.stdout.split()
    weights = dict(zip((p.removeprefix("t/") for p in words[1::2]), words[::2], strict=True))
    expected = json.loads(out.read_text())["weights"]
    assert {d: float(w) for d, w in weights.items()} == pytest.approx(expected)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--kl", "much"], "--kl is 'much'"),
        (["--floor", "web"], "'web' is neither name=number nor a file"),
        (["--floor", "wob=0.1"], "there is no domain 'wob' (did you mean 'web'?)"),
        (["--cap", "web=1.4"], "the cap of 'web' is 1.4"),
        (["--floor", "web=0.6,code=0.6"], "add up to 1.2"),
        (["--group", "web~0.3"], "is no bound on a sum"),
        (["--group", "web+code<=0.05", "--floor", "web=0.1"], "no mixture is within all bounds"),
        (["--max-epochs", "4"], "max_epochs needs the tokens of"),
        (["--natural", "web=1,code=1"], "disagree on domains"),
        (["--draws", "5"], "5 draws give no interval"),
        (["--objective", "los"], "metrics.csv has no metric 'los'"),
    ],
)
def test_a_slip_is_one_sentence(tables, options, problem):
    result = ask(tables, *options)
    assert result.exit_code == 1
    said = str(result.exception) + result.output
    assert problem in said


def test_options_for_own_runs_mean_nothing_for_an_experiment():
    result = CliRunner().invoke(cli, ["propose", "--cap", "web=0.3"])
    assert "--cap is about runs of your own" in str(result.exception) + result.output


def test_amounts_from_a_file(tmp_path):
    table, mapping = tmp_path / "tokens.csv", tmp_path / "tokens.json"
    table.write_text("domain,tokens\nweb,2e9\ncode,3\n")
    mapping.write_text('{"web": 2e9, "code": 3}')
    expected = {"web": 2e9, "code": 3.0}
    assert parse_amounts(str(table), "--available") == expected
    assert parse_amounts(str(mapping), "--available") == expected
    assert parse_amounts("web=2e9, code=3", "--available") == expected
    with pytest.raises(MixtureError, match="twice"):
        parse_amounts("web=1,web=2", "--available")


def test_groups_have_two_sides():
    limits = DecisionOptions.from_text(group=["0.1<=a+b<=0.3", "c>=0.2"]).settings.limits
    assert limits.groups == {
        "0.1<=a+b<=0.3": (["a", "b"], (0.1, 0.3)),
        "c>=0.2": (["c"], (0.2, 1.0)),
    }


def test_runs_of_several_sizes_are_not_mixed():
    rng = np.random.default_rng(0)
    weights = rng.dirichlet(np.ones(3), 24)
    params = np.array([1e6] * 12 + [6e7] * 9 + [1e9] * 3)
    swarm = Swarm(
        runs=tuple(f"{i:02}" for i in range(24)),
        domains=("a", "b", "c"),
        weights=weights,
        metrics={"loss": rng.random(24)},
        params=params,
    )
    kept, notes = one_scale(swarm)
    assert kept.runs == tuple(f"{i:02}" for i in range(12, 21))
    assert (kept.params == 6e7).all()
    assert "15 at other scales are left out" in notes[0]


def two_sizes(folder):
    """24 mixtures at each of two sizes, the larger 0.5 lower; one table for all."""
    rng = np.random.default_rng(2)
    rows = []
    for i, weights in enumerate(rng.dirichlet(np.ones(len(DOMAINS)), 48)):
        mixture = dict(zip(DOMAINS, weights.tolist(), strict=True))
        loss = math.exp(sum(EFFECT[d] * w for d, w in mixture.items()))
        size = {"params": 1e6, "tokens": 2e7} if i % 2 else {"params": 1e7, "tokens": 2e8}
        rows.append({"run": f"r{i}", **mixture, **size, "loss": loss + (2 if i % 2 else 1.5)})
    return write(folder / "runs.csv", rows)


def test_laws_are_compared_at_one_size_and_across_sizes(tmp_path):
    table = ["--runs", two_sizes(tmp_path), "--domains", ",".join(DOMAINS), "--objective", "loss"]
    result = CliRunner().invoke(cli, ["laws", *table, "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["n_runs"] == 24  # the larger size alone
    across = found["across_scales"]
    assert across["held_out"] == {"params": 1e7, "tokens": 2e8}
    ranks = {s["law"]: s["spearman"] for s in across["laws"]}
    assert ranks["exponential"] == pytest.approx(1, abs=0.01)
    assert "fitted to smaller runs" in CliRunner().invoke(cli, ["laws", *table]).stdout


def test_weights_rest_on_the_largest_size(tmp_path):
    table = ["--runs", two_sizes(tmp_path), "--domains", ",".join(DOMAINS), "--objective", "loss"]
    result = CliRunner().invoke(cli, ["propose", *table, "--json"])
    found = json.loads(result.stdout)
    assert found["n_runs"] == 24
    assert any("24 at other scales are left out" in note for note in found["notes"])


def test_figures_are_written_beside_the_answer(tables):
    folder = tables[2] / "made" / "figures"
    result = ask(tables, "--figures", str(folder), "--json", "--kl", "0")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["prices"]  # web is at the most that was run
    names = {"predicted.png", "weights.png", "effects.png", "prices.png"}
    assert {path.name for path in folder.iterdir()} == names
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in folder.iterdir())


def test_a_figure_that_does_not_apply_is_said_on_stderr(tables):
    folder = tables[2] / "figures"
    result = ask(tables, "--figures", str(folder), "--json", "--beyond-samples")
    assert json.loads(result.stdout)["prices"] == []
    assert "no figure 'prices': no bound holds the weights back" in result.stderr
    assert not (folder / "prices.png").exists()


def test_figures_are_of_own_runs_only(tmp_path):
    result = CliRunner().invoke(cli, ["propose", "--figures", str(tmp_path)])
    assert result.exit_code != 0
    assert "--figures is about runs of your own" in result.output + str(result.exception)
