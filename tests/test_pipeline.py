"""The main job, end to end, on a tiny experiment."""

import json

import pytest
from click.testing import CliRunner

from mixture_assets.cli import cli
from mixture_assets.core.errors import MixtureError
from mixture_assets.core.mixture import Mixture
from mixture_assets.corpus import Workspace, build_corpus
from mixture_assets.plans import plan_proxies
from mixture_assets.store.query import query


def invoke(*arguments):
    return CliRunner().invoke(cli, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def finished(tiny_template, tmp_path_factory):
    """The tiny experiment, run to its end by the command."""
    import shutil

    folder = tmp_path_factory.mktemp("finished") / "tiny"
    shutil.copytree(tiny_template, folder)
    result = invoke("run", "--experiment", folder / "tiny.toml", "--json")
    assert result.exit_code == 0, result.output
    return folder / "tiny.toml", json.loads(result.stdout)


def test_the_proposal_is_a_mixture_with_all_that_is_needed_to_judge_it(finished):
    _, answer = finished
    proposal = answer["proposal"]
    assert set(proposal["weights"]) == {"animals", "numbers", "plants"}
    assert sum(proposal["weights"].values()) == pytest.approx(1)
    assert sum(proposal["natural"].values()) == pytest.approx(1)
    assert proposal["extrapolation_factor"] == pytest.approx(10_000 / 6144, rel=1e-3)
    assert set(proposal["epochs"]) <= set(proposal["weights"])
    assert len(proposal["fits"]) == 6
    assert {fit["degrees_of_freedom"] for fit in proposal["fits"]} == {1}  # four points
    assert proposal["noise_sd"] > 0
    assert len(proposal["interval"]) == 3


def test_every_run_realises_its_request_within_one_sequence(finished):
    path, _ = finished
    result = invoke(
        "query",
        "SELECT domain, requested_tokens, realised_tokens FROM run_domain_tokens",
        "--json",
        "--experiment",
        path,
    )
    rows = json.loads(result.output)
    assert len(rows) == 3 * (16 + 6)
    assert all(abs(r["requested_tokens"] - r["realised_tokens"]) <= 32 for r in rows)


def test_lineage_leads_from_a_weight_to_the_raw_shards(finished):
    path, answer = finished
    proposal_id = answer["proposal"]["proposal_id"]
    store = path.parent / "store"
    found = query(
        store,
        "SELECT DISTINCT node_kind FROM lineage "
        f"WHERE proposal_id = '{proposal_id}' AND domain = 'plants'",
    )
    kinds = {row[0] for row in found.rows}
    assert {"fit", "run", "token_set", "token_shard", "shard"} <= kinds


def test_comparisons_are_recorded_with_their_noise(finished):
    path, answer = finished
    assert {c["baseline"] for c in answer["comparisons"]} == {"natural", "uniform"}
    rows = query(path.parent / "store", "SELECT baseline, n_seeds, noise_sd FROM comparison").rows
    assert sorted(r[0] for r in rows) == ["natural", "uniform"]
    assert all(r[1] == 2 and r[2] > 0 for r in rows)


def test_run_again_trains_nothing(finished):
    path, answer = finished
    runs = path.parent / "store" / "runs"
    stamps = {p: p.stat().st_mtime_ns for p in runs.glob("*/result.json")}
    result = invoke("run", "--experiment", path)
    assert result.exit_code == 0, result.output
    assert "nothing to do" in result.output
    assert stamps == {p: p.stat().st_mtime_ns for p in runs.glob("*/result.json")}
    again = json.loads(invoke("run", "--experiment", path, "--json").stdout)
    assert again["proposal"] == answer["proposal"]


def test_the_report_is_one_page_that_holds_the_weights(finished):
    path, answer = finished
    page = (path.parent / "store" / "reports" / "tiny").glob("*.html")
    text = next(page).read_text()
    assert answer["proposal"]["proposal_id"] in text
    assert 'src="http' not in text


def test_a_new_objective_needs_no_new_proxy_run(finished, tmp_path):
    """All domains' losses are kept, so the objective is a choice made at fit time."""
    path, answer = finished
    other = path.parent / "other.toml"
    other.write_text(path.read_text() + '[objective]\nmetric = "loss"\nweights = {plants = 1.0}\n')
    result = invoke("propose", "--experiment", other, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["weights"] != answer["proposal"]["weights"]


def test_a_budget_that_would_read_a_domain_too_often_is_refused_before_it_starts(tiny):
    workspace = Workspace.open(tiny)
    available = build_corpus(workspace).available_tokens
    scarcest = min(available, key=available.__getitem__)
    # A little less than the large x3 run reads it.
    allowed = 0.99 * 3 * 2048 / available[scarcest]
    tiny.write_text(tiny.read_text().replace("max_epochs = 20", f"max_epochs = {allowed}"))
    workspace = Workspace.open(tiny)
    message = rf"'{scarcest}' would be read [\d.]+ times in the run 'large {scarcest} x3 seed 0'"
    with pytest.raises(MixtureError, match=message) as caught:
        plan_proxies(workspace, build_corpus(workspace))
    assert "max_epochs" in caught.value.hint
    assert not (workspace.store / "runs").exists()


def test_an_unknown_domain_in_custom_weights_is_named(finished):
    path, _ = finished
    other = path.parent / "custom.toml"
    text = path.read_text().replace("evaluations = 3", 'evaluations = 3\nmixtures = ["custom"]')
    other.write_text(text + "[full.weights]\nplans = 0.5\nanimals = 0.5\n")
    result = invoke("run", "--experiment", other)
    assert result.exit_code == 1
    assert "unknown domains: 'plans' (did you mean 'plants'?)" in result.output


def test_custom_weights_that_do_not_sum_to_1_are_refused(finished):
    path, _ = finished
    other = path.parent / "custom.toml"
    text = path.read_text().replace("evaluations = 3", 'evaluations = 3\nmixtures = ["custom"]')
    other.write_text(text + "[full.weights]\nplants = 0.5\nanimals = 0.7\n")
    result = invoke("run", "--experiment", other)
    assert result.exit_code == 1
    assert "must sum to 1, got 1.2" in result.output


def test_whole_tokens_sum_to_the_budget():
    mixture = Mixture.proportional_to({"a": 1.0, "b": 1.0, "c": 1.0})
    tokens = mixture.split(1000)
    assert sum(tokens.values()) == 1000
    assert sorted(tokens.values()) == [333, 333, 334]


def test_the_stages_can_be_gone_one_by_one(tiny):
    """As the jobs of the graph: tokens, proxy runs, some of the full runs, the rest."""
    runs = tiny.parent / "store" / "runs"
    data = json.loads(invoke("run", "--until", "data", "--experiment", tiny, "--json").stdout)
    assert data["available_tokens"].keys() == {"animals", "numbers", "plants"}
    assert not runs.exists()
    proxies = json.loads(invoke("run", "--until", "proxies", "--experiment", tiny, "--json").stdout)
    assert proxies["n_runs"] == proxies["n_trained"] == 16
    assert not (tiny.parent / "store" / "latest").exists()
    weights = json.loads(invoke("run", "--until", "weights", "--experiment", tiny, "--json").stdout)
    assert sum(weights["weights"].values()) == pytest.approx(1)
    assert len(list(runs.glob("*/result.json"))) == 16

    some = ("--mixtures", "proposal,natural", "--seeds", "1")
    answer = json.loads(invoke("run", *some, "--experiment", tiny, "--json").stdout)
    assert answer["proposal"]["weights"] == weights["weights"]
    assert answer["full_runs"].keys() == {"proposal seed 1", "natural seed 1"}
    assert [c["verdict"] for c in answer["comparisons"]] == ["one seed: unknown"]
    every = json.loads(invoke("run", "--experiment", tiny, "--json").stdout)
    assert len(every["full_runs"]) == 6
    assert every["n_trained"] == 4


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--mixtures", "propsal"), "no full runs of mixtures 'propsal'"),
        (("--seeds", "7"), "no full runs of seeds 7"),
        (("--seeds", "one"), "--seeds has 'one'"),
        (("--mixtures", "proposal,uniforn"), "no full runs of mixtures 'uniforn'"),
        (("--until", "data", "--seeds", "1"), "trains no full run"),
    ],
)
def test_a_part_that_there_is_not_is_named(finished, arguments, problem):
    result = invoke("run", *arguments, "--experiment", finished[0])
    assert result.exit_code == 1
    assert problem in result.output
    assert "tokenizing" not in result.output  # before anything starts


def test_an_earlier_proposal_can_be_reported(finished):
    path, undisturbed = finished
    proposal_id = undisturbed["proposal"]["proposal_id"]
    result = invoke("report", "--proposal", proposal_id[:6], "--experiment", path)
    assert result.exit_code == 0, result.output
    assert proposal_id in (path.parent / "store" / "reports" / "tiny" / "report.md").read_text()
    unknown = invoke("report", "--proposal", "zzz", "--experiment", path)
    assert "there is no proposal 'zzz'" in unknown.output
