"""The verbs of the command line as jobs: the same answers, seen in an output's metadata."""

import json
import math
from pathlib import Path

import pytest
from click.testing import CliRunner

from mixture_assets.cli import cli
from mixture_assets.defs import decisions, numbers, verbs
from mixture_assets.defs.resources import Lab

VERBS = [*verbs.verbs, *numbers.verbs, *decisions.verbs]
JOBS = {verb.name: verb for verb in VERBS}
SQL = "SELECT purpose, count(*) AS n FROM run GROUP BY purpose ORDER BY purpose"


def run(name, experiment, config=None, *, raise_on_error=True):
    """Run one verb's job as the launchpad does."""
    job = JOBS[f"desk_{name}"]
    settings = {"ops": {name: {"config": config}}} if config else {}
    return job.execute_in_process(
        run_config=settings,
        raise_on_error=raise_on_error,
        resources={"lab": Lab(experiment=str(experiment))},
    )


def answer(name, experiment, config=None):
    """What the verb said."""
    result = run(name, experiment, config)
    (output,) = [e for e in result.all_events if e.event_type_value == "STEP_OUTPUT"]
    return {key: value.value for key, value in output.step_output_data.metadata.items()}


def told(verb, *arguments):
    """What the command line answers as JSON."""
    result = CliRunner().invoke(cli, [verb, *arguments, "--json"])
    return json.loads(result.stdout)


def cells(markdown):
    return [
        [cell.strip().replace("\u00a0", " ") for cell in line.strip("|").split("|")]
        for line in markdown.splitlines()
    ]


def test_a_query_gives_the_rows_of_the_command_line(graph):
    found = answer("query", graph.experiment, {"sql": SQL})
    assert found["n_rows"] == 2
    header, _, *rows = cells(found["answer"])
    assert header == ["purpose", "n"]
    expected = told("query", SQL, "--experiment", str(graph.experiment))
    assert rows == [[row["purpose"], str(row["n"])] for row in expected]


def test_a_query_shows_as_many_rows_as_asked_for(graph):
    settings = {"sql": "SELECT run_id FROM run", "max_rows": 3}
    found = answer("query", graph.experiment, settings)
    assert (found["n_rows"], found["n_rows_shown"]) == (22, 3)
    assert len(cells(found["answer"])) == 2 + 3


def test_a_query_that_writes_ends_at_once_with_its_reason(graph):
    result = run("query", graph.experiment, {"sql": "DROP TABLE run"}, raise_on_error=False)
    assert not result.success
    (failure,) = [e for e in result.all_events if e.is_step_failure]
    assert "DROP is refused" in failure.step_failure_data.user_failure_data.description


@pytest.mark.parametrize("rows", [0, 5000, "many"])
def test_settings_are_checked_before_anything_runs(graph, rows):
    with pytest.raises(Exception, match="max_rows"):
        run("query", graph.experiment, {"sql": SQL, "max_rows": rows})


def test_status_counts_every_run(graph):
    found = answer("status", graph.experiment)
    assert found["n_runs"] == len(list(graph.store.glob("runs/*/spec.json")))
    assert cells(found["runs"])[2:] == [["full", "done", "6"], ["proxy", "done", "16"]]


def test_a_plan_counts_the_runs_of_the_experiment(graph):
    found = answer("plan", graph.experiment)
    expected = told("plan", "--experiment", str(graph.experiment))
    assert found["n_runs"] == sum(row["runs"] for row in expected)
    assert found["flops"] == pytest.approx(sum(row["flops"] for row in expected))


def test_a_proposal_is_the_one_of_the_graph(graph):
    found = answer("propose", graph.experiment)
    assert found["proposal_id"] == graph.metadata("proposals")["proposal_id"]


def test_doctor_names_every_check(graph):
    names = [row[0] for row in cells(answer("doctor", graph.experiment)["findings"])[2:]]
    expected = told("doctor", "--experiment", str(graph.experiment))
    assert names == [finding["check"] for finding in expected]


def test_own_runs_give_the_weights_of_the_command_line(tiny, tmp_path):
    path = tmp_path / "runs.csv"
    lines = ["domain,factor,ppl", ",1,30", "a,0.5,33", "a,2,28", "b,0.5,31", "b,2,29.5"]
    path.write_text("\n".join(lines))
    settings = {"runs": str(path), "objective": "ppl"}
    shown = {row[0]: row[2] for row in cells(answer("ddo", tiny, settings)["weights"])[2:]}
    expected = told("ddo", str(path), "--objective", "ppl")["weights"]
    assert shown == {name: f"{weight:.4f}" for name, weight in expected.items()}


def test_own_optima_give_the_weights_of_the_command_line(tiny, tmp_path):
    path = tmp_path / "optima.json"
    path.write_text(json.dumps({"small": {"a": 1e6, "b": 1e6}, "large": {"a": 3e6, "b": 2e6}}))
    found = answer("extrapolate", tiny, {"optima": str(path), "tokens": 1e8})
    shown = {row[0]: row[1] for row in cells(found["weights"])[2:]}
    expected = told("extrapolate", str(path), "--tokens", "1e8")["weights"]
    assert shown == {name: f"{weight:.4f}" for name, weight in expected.items()}


def test_a_file_that_is_not_there_is_named(tiny):
    settings = {"runs": "no such.csv", "objective": "ppl"}
    result = run("ddo", tiny, settings, raise_on_error=False)
    (failure,) = [e for e in result.all_events if e.is_step_failure]
    assert "'no such.csv'" in failure.step_failure_data.user_failure_data.description


def test_every_setting_has_a_description():
    with_settings = []
    for verb in VERBS:
        assert verb.description, verb.name
        (step,) = verb.graph.node_defs
        fields = getattr(step.config_schema.config_type, "fields", {})
        for name, field in fields.items():
            assert field.description, f"{verb.name}: {name}"
        with_settings += [verb.name.removeprefix("desk_")] if fields else []
    expected = {"query", "history", "why", "diff", "gc", "ddo", "laws", "extrapolate"}
    expected |= {"cluster", "export", "next", "propose_from_runs", "select_plan"}
    assert set(with_settings) == expected


def test_laws_are_compared_as_by_the_command(tiny, tmp_path):
    rows = [f"r{i},{i / 11},{1 - i / 11},{2 + (i / 11) ** 2}" for i in range(12)]
    for name, keep in (("ratios.csv", (0, 1, 2)), ("metrics.csv", (0, 3))):
        header = ["run", "a", "b", "loss"]
        lines = [",".join(row.split(",")[k] for k in keep) for row in rows]
        (tmp_path / name).write_text("\n".join([",".join(header[k] for k in keep), *lines]))
    files = [str(tmp_path / name) for name in ("ratios.csv", "metrics.csv")]
    config = {"ratios": files[0], "metrics": files[1], "objective": "loss"}
    found = answer("laws", tiny, config)
    options = ("--ratios", files[0], "--metrics", files[1], "--objective", "loss")
    expected = told("laws", *options)
    assert (found["n_runs"], found["n_domains"]) == (12, 2)
    shown = [row[0] for row in cells(found["laws"])[2:]]
    assert shown[0] == expected["best"]
    assert set(shown) == expected["laws"].keys()


def test_runs_are_named_as_by_the_command(tiny, tmp_path):
    path = tmp_path / "runs.csv"
    rows = [
        f"r{i},{i / 15},{1 - i / 15},{2 + math.exp(-2 * i / 15) + i % 3 / 9}" for i in range(16)
    ]
    path.write_text("\n".join(["run,a,b,loss", *rows]))
    config = {"runs": str(path), "objective": "loss", "domains": "a,b", "cap": "a=0.9"}
    found = answer("next", tiny, config | {"count": 3, "draws": 100})
    options = ("--runs", str(path), "--objective", "loss", "--domains", "a,b", "--cap", "a=0.9")
    expected = told("next", *options, "--count", "3", "--draws", "100")
    assert found["reason"] == expected["reason"]
    shown = [(row[0], row[2]) for row in cells(found["runs"])[2:]]
    assert shown == [(r["run"], f"+- {r['half_width']:.4g}") for r in expected["runs"]]
    assert len(shown) == 3


def test_weights_from_own_runs_are_those_of_the_command(tiny, tmp_path):
    rows = [(f"r{i:02}", i / 11, 1 - i / 11, 2 + (i / 11) ** 2) for i in range(12)]
    files = {"ratios": (0, 1, 2), "metrics": (0, 3)}
    header = ("run", "a", "b", "loss")
    for name, keep in files.items():
        lines = [",".join(str(row[k]) for k in keep) for row in (header, *rows)]
        (tmp_path / f"{name}.csv").write_text("\n".join(lines))
    paths = {name: str(tmp_path / f"{name}.csv") for name in files}
    found = answer("propose_from_runs", tiny, {**paths, "objective": "loss", "cap": "b=0.8"})
    options = [x for name, path in paths.items() for x in (f"--{name}", path)]
    expected = told("propose", *options, "--objective", "loss", "--cap", "b=0.8")
    assert found["verdict"] == expected["verdict"] == "supported"
    shown = {row[0]: float(row[1]) for row in cells(found["weights"])[2:]}
    assert shown == pytest.approx(expected["weights"], abs=1e-4)


def test_every_verb_of_the_command_line_that_asks_is_on_the_desk():
    # Assets make what these do; `refit` prices on the desk, and `select` plans there.
    makes = {"demo", "run", "report", "ui", "refit", "select"}
    names = {name.removeprefix("desk_") for name in JOBS}
    assert set(cli.commands) - makes <= names


def test_a_weight_is_explained_by_the_runs_that_it_rests_on(graph):
    found = answer("why", graph.experiment, {"domain": "plants"})
    expected = told("why", "plants", "--experiment", str(graph.experiment))
    ids = {run["run_id"] for fit in expected["fits"] for run in fit["runs"]}
    assert {row[1] for row in cells(found["runs"])[2:]} == ids
    assert len(ids) > 4


def test_weights_are_exported_as_by_the_command(graph):
    found = answer("export", graph.experiment, {"format": "toml"})
    options = ("--format", "toml", "--experiment", str(graph.experiment))
    assert found["text"] == told("export", *options)["text"]
    assert found["notes"] == "none"


def test_clusters_are_made_as_by_the_command(graph, tmp_path):
    raw = str(graph.experiment.parent / "raw")
    config = {"root": raw, "out": str(tmp_path / "desk"), "clusters": 3, "least": 2}
    found = answer("cluster", graph.experiment, config)
    options = ("--root", raw, "--out", str(tmp_path / "command"), "--clusters", "3", "--least", "2")
    made = told("cluster", *options)["clusters"]
    rows = cells(found["clusters"])[2:]
    assert [row[:2] for row in rows] == [
        [name, f"{made[name]['n_documents']:,}"] for name in sorted(made)
    ]
    assert {p.name for p in (tmp_path / "desk").iterdir() if p.is_dir()} == set(made)


def test_a_selection_is_planned_as_by_the_command(graph):
    raw = graph.experiment.parent / "raw"
    pool, target = str(raw / "animals"), str(raw / "plants")
    config = {"pool": pool, "specialist": target, "budget_flops": 1e9, "train_params": 1e4}
    found = answer("select_plan", graph.experiment, config)
    options = ("--pool", pool, "--specialist", target, "--budget-flops", "1e9")
    expected = told("select", "plan", *options, "--train-params", "1e4")
    assert found["verdict"] == expected["verdict"]
    methods = {row["method"] for row in expected["rows"]}
    assert {row[0] for row in cells(found["plan"])[2:]} == methods
    assert "random" in methods


def test_history_has_every_domain_of_the_proposal(graph):
    found = answer("history", graph.experiment)
    assert {row[2] for row in cells(found["history"])[2:]} == {"animals", "numbers", "plants"}


def test_two_runs_differ_in_their_seed(graph):
    sql = "SELECT run_id FROM run WHERE mixture_name = 'natural' AND purpose = 'full'"
    a, b = (r["run_id"] for r in told("query", sql, "--experiment", str(graph.experiment)))
    found = answer("diff", graph.experiment, {"a": a, "b": b})
    assert found["kind"] == "run"
    assert "seed" in found["inputs"]


def test_nothing_is_removed_unless_asked(broken):
    orphan = broken.store / "logs" / "worker-1-1.log"
    orphan.parent.mkdir(exist_ok=True)
    orphan.write_text("x" * 100)
    before = sorted(broken.store.rglob("*"))
    found = answer("gc", broken.experiment, {"older_than_days": 0.0})
    assert found["freed_bytes"] == 0
    assert sorted(broken.store.rglob("*")) == before


def test_the_ways_of_a_refit_are_priced(graph):
    found = answer("refit_prices", graph.experiment)
    expected = told("refit", "--experiment", str(graph.experiment))
    assert found["n_ways"] == sum("n_runs" in option for option in expected["options"])
    assert [o["way"] for o in expected["options"]] == ["full", "extend", "reuse"]
    assert "reuse  is not open: there are no weights for earlier domains" in found["ways"]


def test_no_answer_is_kept_in_a_file(graph, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    answer("status", graph.experiment)
    assert not list(Path(tmp_path).rglob("*"))
