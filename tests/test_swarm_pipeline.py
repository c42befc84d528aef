"""A search by random mixtures, through the pipeline: plan, weights, lineage, report, re-fit."""

import json
import math

import pytest
from click.testing import CliRunner

from mixture_assets import pipeline
from mixture_assets.cli import cli
from mixture_assets.core.errors import MixtureError
from mixture_assets.core.experiment import load_experiment
from mixture_assets.plans import plan_proxies
from mixture_assets.reasons import reasons
from mixture_assets.standing import possible_searches
from mixture_assets.store.query import query
from tests.trained import run_experiment


@pytest.fixture
def swarm(tiny):
    text = tiny.read_text()
    tiny.write_text(text.replace("[proxy]\n", '[proxy]\nmethod = "swarm"\nswarm_runs = 12\n'))
    return tiny


def test_weights_rest_on_every_run_of_the_swarm(swarm):
    workspace, corpus, proposal_id = run_experiment(swarm)
    planned = plan_proxies(workspace, corpus)
    assert len(planned) == 13  # twelve mixtures, and uniform with a second seed
    assert {sum(p.spec.tokens.values()) for p in planned} == {6144}
    pipeline.refresh_database(workspace)
    found = reasons(workspace.store, "tiny", "plants", proposal_id)
    (fit,) = found["fits"]
    assert {run["run_id"] for run in fit["runs"]} == {p.run_id for p in planned}
    assert {t["domain"] for t in found["token_sets"]} == set(corpus.domains)
    assert found["shards"]
    rows = query(
        workspace.store,
        "SELECT method, sum(weight) FROM proposal JOIN proposal_weight "
        "USING (proposal_id) GROUP BY method",
    ).rows
    assert rows[0][0] == "swarm"
    assert math.isclose(rows[0][1], 1)


def test_it_can_be_asked_why_and_reported(swarm):
    workspace, _corpus, proposal_id = run_experiment(swarm)
    pipeline.refresh_database(workspace)
    why = CliRunner().invoke(cli, ["why", "plants", "--experiment", str(swarm)])
    assert why.exit_code == 0, why.output
    assert "one law through 13 runs of random mixtures" in why.stdout
    paths = pipeline.make_report(workspace, proposal_id)
    assert "swarm for 10k tokens" in paths.markdown.read_text()
    told = CliRunner().invoke(cli, ["propose", "--experiment", str(swarm), "--json"])
    assert json.loads(told.stdout)["method"] == "swarm"


def test_what_a_swarm_expects_is_scored_by_the_full_runs(swarm):
    workspace, _corpus, proposal_id = run_experiment(swarm)
    pipeline.refresh_database(workspace)
    sql = (
        "SELECT baseline, predicted, low, high, measured, state FROM calibration "
        f"WHERE proposal_id = '{proposal_id}' ORDER BY baseline"
    )
    rows = query(workspace.store, sql).to_dicts()
    assert [row["baseline"] for row in rows] == ["natural", "uniform"]
    for row in rows:
        assert row["low"] <= row["predicted"] <= row["high"]
        assert row["state"] == "scored"
        assert math.isfinite(row["measured"])


def test_a_swarm_is_not_extended(swarm):
    workspace, corpus, _ = run_experiment(swarm)
    assert "a swarm is not extended" in possible_searches(workspace, corpus)["extend"]


def test_a_swarm_too_small_for_its_domains_is_named_in_the_plan(swarm):
    swarm.write_text(swarm.read_text().replace("swarm_runs = 12", "swarm_runs = 7"))
    with pytest.raises(MixtureError, match="swarm_runs must be from 8"):
        load_experiment(swarm)
