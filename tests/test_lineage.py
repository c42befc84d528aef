"""What is recorded about inputs: nothing is stale after a run, and what changed is named."""

import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from mixture_assets import pipeline
from mixture_assets.cli import cli
from mixture_assets.corpus import Workspace, build_corpus
from mixture_assets.store.query import query
from tests.trained import Trained, run_experiment


def stale(workspace: Workspace, columns: str = "thing_kind, input_kind, input_name, change") -> Any:
    return query(workspace.store, f"SELECT DISTINCT {columns} FROM stale ORDER BY ALL").rows


def reopened(path: Path, old: str, new: str) -> Workspace:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return Workspace.open(path)


def add_document(path: Path, domain: str) -> None:
    with open(path.parent / "raw" / domain / "part-00000.jsonl", "a") as file:
        file.write(json.dumps({"text": "an oak of another wood, tall and green " * 9}) + "\n")


def test_nothing_is_stale_right_after_a_run_nor_after_looking_again(trained: Trained) -> None:
    _, workspace, corpus, proposal_id = trained
    assert stale(workspace) == []
    assert query(workspace.store, "SELECT count(*) FROM comparison").rows == [(2,)]
    again = build_corpus(workspace)
    assert pipeline.propose(workspace, again)[0] == proposal_id
    assert again == corpus
    assert stale(workspace) == []


def test_a_domain_that_grew_makes_all_stale_until_it_is_run_again(trained: Trained) -> None:
    tiny, workspace, before, proposal_id = trained
    add_document(tiny, "plants")
    after = build_corpus(workspace)
    rows = query(
        workspace.store,
        "SELECT input_name, was, now, change FROM stale "
        f"WHERE thing = '{proposal_id}' AND input_kind = 'token_set' ORDER BY 1",
    ).rows
    pairs = {d: (before.domains[d].digest, after.domains[d].digest) for d in before.domains}
    # A tokenizer that is trained here moves with the text, and takes the others along.
    assert rows == [(d, *pair, "changed") for d, pair in sorted(pairs.items()) if len({*pair}) == 2]
    assert "plants" in [row[0] for row in rows]
    assert [k for (k,) in stale(workspace, "thing_kind")] == ["comparison", "proposal", "run"]
    run_experiment(tiny)
    assert stale(workspace) == []


def test_an_edit_of_the_file_is_named_by_its_key(trained: Trained) -> None:
    workspace = reopened(trained[0], "learning_rate = 1e-2", "learning_rate = 3e-5")
    build_corpus(workspace)
    change = ("training", "learning_rate", "changed")
    assert stale(workspace) == [(kind, *change) for kind in ("comparison", "proposal", "run")]
    assert stale(workspace, "was, now") == [("0.01", "3e-05")]


def test_a_query_alone_sees_an_edit_of_the_file(trained: Trained) -> None:
    path = trained[0]
    path.write_text(path.read_text().replace("budget_tokens = 10_000", "budget_tokens = 20_000"))
    sql = "SELECT DISTINCT thing_kind, input_kind, was, now FROM stale ORDER BY 1"
    answer = CliRunner().invoke(cli, ["query", sql, "--csv", "--experiment", str(path)])
    rows = [line.split(",", 1)[1] for line in answer.stdout.splitlines()[1:]]
    assert rows == ["budget,10000,20000"] * 2  # the comparison, and the proposal


def test_what_concerns_the_comparison_alone_leaves_the_weights_alone(trained: Trained) -> None:
    workspace = reopened(trained[0], "seeds = [0, 1]", "seeds = [0, 1, 2]")
    build_corpus(workspace)
    assert stale(workspace) == [("comparison", "full", "seeds", "changed")]
    run_experiment(trained[0])
    assert stale(workspace) == []
    assert query(workspace.store, "SELECT count(*) FROM comparison").rows == [(4,)]  # history


def test_new_weights_of_the_objective_are_added_inputs(trained: Trained) -> None:
    workspace = reopened(trained[0], "[full]", "[objective]\nweights = {plants = 1.0}\n[full]")
    build_corpus(workspace)
    row = ("objective", "weights.plants", "added")
    assert stale(workspace) == [(kind, *row) for kind in ("comparison", "proposal")]


def test_how_often_is_evaluated_makes_nothing_stale(trained: Trained) -> None:
    workspace = reopened(trained[0], "evaluations = 3", "evaluations = 5")
    build_corpus(workspace)
    assert stale(workspace) == []


def test_an_older_proposal_that_is_current_again_is_the_latest(trained: Trained) -> None:
    tiny, workspace, corpus, first = trained
    other = reopened(tiny, "[full]", '[objective]\nmetric = "loss"\n[full]')
    second, _ = pipeline.propose(other, corpus)
    latest = "SELECT DISTINCT proposal_id FROM latest_weights"
    assert query(workspace.store, latest).rows == [(second,)]
    assert pipeline.propose(workspace, corpus)[0] == first
    assert query(workspace.store, latest).rows == [(first,)]


def test_runs_that_two_experiments_share_are_listed_for_both(trained: Trained) -> None:
    tiny, workspace, _, _ = trained
    other = tiny.parent / "other.toml"
    other.write_text(tiny.read_text().replace('name = "tiny"', 'name = "other"'))
    run_experiment(other)
    for view in ("leaderboard", "proxy_results"):
        sql = f"SELECT experiment, count(*), count(DISTINCT run_id) FROM {view} GROUP BY 1"
        (a, n, runs), (b, m, same) = sorted(query(workspace.store, sql).rows)
        assert (a, b) == ("other", "tiny")
        assert n == m > 0
        assert (
            runs
            == same
            == query(workspace.store, f"SELECT count(DISTINCT run_id) FROM {view}").rows[0][0]
        )
    assert query(workspace.store, "SELECT DISTINCT experiment FROM run").rows == [("tiny",)]
    assert stale(workspace) == []
