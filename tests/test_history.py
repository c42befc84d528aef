"""`mixture history`, `mixture why` and `mixture diff` beside what the files say."""

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mixture_assets import pipeline
from mixture_assets.cli import cli
from mixture_assets.corpus import Workspace
from mixture_assets.history import weight_history
from mixture_assets.store.records import write_record
from mixture_assets.store.runs import RunFolder, list_runs
from tests.store import fakes
from tests.trained import Trained, loss_nats


def invoke(*words: object) -> Any:
    return CliRunner().invoke(cli, [str(w) for w in words])


def answer(*words: object) -> Any:
    result = invoke(*words, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def complaint(*words: object) -> str:
    result = invoke(*words)
    assert (result.exit_code, result.stdout) == (1, "")
    assert len(result.stderr.splitlines()) == 2
    return str(result.stderr)


def runs_by_label(path: Path) -> dict[str, Any]:
    return {run.spec()["label"]: run for run in list_runs(path.parent / "store")}


@pytest.fixture
def twice(trained: Trained) -> tuple[Path, str, str]:
    """The experiment after its objective was changed: two proposals, the second one current."""
    path, _, corpus, first = trained
    path.write_text(path.read_text() + '[objective]\nmetric = "loss"\n')
    second, _ = pipeline.propose(Workspace.open(path), corpus)
    record = path.parent / "store" / "records" / "proposal" / f"{second}.json"
    later = json.loads(record.read_text())
    later["rows"]["proposal"][0]["created_at"] = "2999-01-01T00:00:00Z"  # same second otherwise
    record.write_text(json.dumps(later))
    return path, first, second


def test_history_shows_each_change_to_the_proposal_before(twice: tuple[Path, str, str]) -> None:
    path, first, second = twice
    rows = answer("history", "--experiment", path)
    assert [r["proposal_id"] for r in rows] == [first] * 3 + [second] * 3
    old, new = ({r["domain"]: r for r in rows if r["proposal_id"] == p} for p in (first, second))
    assert all(row["change"] is None and not row["is_latest"] for row in old.values())
    for domain, row in new.items():
        assert row["is_latest"]
        assert row["change"] == pytest.approx(row["weight"] - old[domain]["weight"])
    assert math.fsum(row["change"] for row in new.values()) == pytest.approx(0, abs=1e-9)
    only = answer("history", "--experiment", path, "--domain", "plants")
    assert [r["weight"] for r in only] == [r["weight"] for r in rows if r["domain"] == "plants"]
    text = invoke("history", "--experiment", path).stdout
    assert text.count("latest") == 3


def test_why_leads_from_the_weight_to_the_raw_shard(trained: Trained) -> None:
    path, workspace, corpus, proposal_id = trained
    found = answer("why", "plants", "--experiment", path)
    assert found["proposal"]["proposal_id"] == proposal_id
    assert [fit["scale"] for fit in found["fits"]] == ["small", "large"]
    for fit in found["fits"]:
        assert sorted(round(run["x"], 1) for run in fit["runs"]) == [0.2, 1, 1, 3]
        for run in fit["runs"]:
            spec = RunFolder(workspace.store, run["run_id"]).spec()["spec"]
            losses = {d: loss_nats(d, n, spec["seed"]) for d, n in spec["tokens"].items()}
            assert run["loss_nats"] == pytest.approx(losses["plants"])
            assert run["objective"] == pytest.approx(sum(map(math.exp, losses.values())) / 3)
    sets = {row["domain"]: row["token_set_id"] for row in found["token_sets"]}
    assert sets == {name: d.digest for name, d in corpus.domains.items()}
    (shard,) = found["shards"]
    raw = path.parent / "raw" / "plants" / "part-00000.jsonl"
    assert Path(shard["url"]).name == raw.name
    assert shard["n_bytes"] == raw.stat().st_size
    assert shard["n_documents"] == 120
    assert [t["tokenizer_id"] for t in found["tokenizers"]] == [corpus.tokenizer.digest]
    cost = {row["role"]: row["n_runs"] for row in found["cost"]}
    assert cost == {"proxy": 16, "full": 6}
    assert found["stale"] == []


def test_why_fits_on_one_screen_and_says_what_moved(trained: Trained) -> None:
    path, _, _, _ = trained
    path.write_text(path.read_text().replace("max_epochs = 20", "max_epochs = 19"))
    text = invoke("why", "plants", "--experiment", path).stdout
    assert "stale: constraints max_epochs changed: 20.0 -> 19.0" in text
    assert "part-00000.jsonl" in text
    assert len(text.splitlines()) <= 40


def test_why_of_an_older_proposal_by_the_beginning_of_its_id(twice: tuple[Path, str, str]) -> None:
    path, first, second = twice
    assert answer("why", "plants", "--experiment", path)["proposal"]["proposal_id"] == second
    old = answer("why", "plants", "--experiment", path, "--proposal", first[:10])
    assert old["proposal"]["proposal_id"] == first
    assert old["proposal"]["objective"] == "mean perplexity"


def test_diff_of_runs_names_inputs_and_sets_the_noise_beside_the_gap(trained: Trained) -> None:
    path = trained[0]
    runs = runs_by_label(path)
    a, b = runs["natural seed 0"].run_id, runs["uniform seed 1"].run_id
    found = answer("diff", a, b[:12], "--experiment", path)
    assert (found["kind"], found["a"], found["b"]) == ("run", a, b)
    names = {row["name"] for row in found["inputs"]}
    assert names == {"seed", "tokens.animals", "tokens.numbers", "tokens.plants"}
    said = [runs[label].spec()["spec"]["tokens"] for label in ("natural seed 0", "uniform seed 1")]
    for row in found["results"]:
        domain = row["name"].split()[0]
        gap = loss_nats(domain, said[1][domain], 1) - loss_nats(domain, said[0][domain], 0)
        assert row["difference"] == pytest.approx(gap)
        assert row["noise_sd"] == pytest.approx(0.01 / math.sqrt(2))  # seeds lie 0.01 apart
        assert row["is_within_noise"] == (abs(gap) <= 1.645 * 0.01)


def test_diff_of_a_run_with_itself_is_nothing(trained: Trained) -> None:
    run_id = runs_by_label(trained[0])["natural seed 0"].run_id
    found = answer("diff", run_id, run_id, "--experiment", trained[0])
    assert found["inputs"] == []
    assert {row["difference"] for row in found["results"]} == {0}
    assert "no input differs" in invoke("diff", run_id, run_id, "--experiment", trained[0]).stdout


def test_diff_of_proposals_names_the_setting(twice: tuple[Path, str, str]) -> None:
    path, first, second = twice
    found = answer("diff", first, second, "--experiment", path)
    changed = {row["name"]: (row["a"], row["b"]) for row in found["inputs"]}
    assert changed == {
        "objective": ("mean perplexity", "mean loss (nats)"),
        "objective.metric": ('"perplexity"', '"loss"'),
    }
    names = {row["name"] for row in found["results"]}
    assert {"weight of plants", "mean perplexity against natural"} <= names


def test_what_is_not_there_is_one_sentence_with_the_nearest_name(trained: Trained) -> None:
    path, _, _, proposal_id = trained
    option = ("--experiment", path)
    run_id = runs_by_label(path)["natural seed 0"].run_id
    assert "'plants'?" in complaint("why", "plant", *option)
    assert "'plants'?" in complaint("history", "--domain", "plantz", *option)
    wrong = run_id[:-1] + ("0" if run_id[-1] != "0" else "1")
    assert f"'{run_id}'?" in complaint("diff", wrong, run_id, *option)
    assert "begin with ''" not in complaint("diff", "", run_id, *option)
    assert "is a run and" in complaint("diff", run_id, proposal_id, *option)
    assert "there is no proposal 'zz'" in complaint("why", "plants", "--proposal", "zz", *option)


def test_before_the_first_proposal_all_say_so(tiny: Path) -> None:
    assert "next: mixture run" in invoke("history", "--experiment", tiny).stdout
    assert "has no proposal yet" in complaint("why", "plants", "--experiment", tiny)
    assert "no run or proposal" in complaint("diff", "a", "b", "--experiment", tiny)


def test_a_domain_that_came_back_is_new_beside_the_proposal_before(tmp_path: Path) -> None:
    for number, domains in enumerate((("code", "prose"), ("prose",), ("code", "prose"))):
        rows = fakes.proposal_rows([], f"p{number}", created_at=f"2026-01-0{number + 1}T00:00:00Z")
        weights = [r for r in rows["proposal_weight"] if r["domain"] in domains]
        write_record(
            tmp_path,
            "proposal",
            f"p{number}",
            {"proposal": rows["proposal"], "proposal_weight": weights},
        )
    changes = [(r["proposal_id"], r["change"]) for r in weight_history(tmp_path, "demo", "code")]
    assert changes == [("p0", None), ("p2", None)]
    changes = [(r["proposal_id"], r["change"]) for r in weight_history(tmp_path, "demo", "prose")]
    assert changes == [("p0", None), ("p1", 0), ("p2", 0)]


def test_a_question_is_answered_where_nothing_can_be_written(trained: Trained) -> None:
    """A process whose files may hold nothing: to the kernel, a full disk."""
    path = trained[0]
    path.write_text(path.read_text().replace("max_epochs = 20", "max_epochs = 19"))
    program = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))\n"
    )
    command = "from mixture_assets.cli import main; main()"
    verb = (
        "import sys; from mixture_assets.corpus import Workspace; from pathlib import Path\n"
        "from mixture_assets.reasons import reasons; w = Workspace.open(Path(sys.argv[-1]))\n"
        "print(reasons(w.store, w.experiment.name, 'plants')['weight']['weight'])"
    )
    for words in (
        (command, "query", "SELECT count(*) FROM run", "--json"),
        (command, "why", "plants", "--json"),
        (verb,),
    ):
        line = [sys.executable, "-c", program + words[0], *words[1:], "--experiment", str(path)]
        done = subprocess.run(line, capture_output=True, text=True, check=False)
        assert (done.returncode, bool(done.stdout)) == (0, True), done.stderr
