import csv
import json

import numpy as np
import pytest
from click.testing import CliRunner

from mixture_assets.cli import cli

SHARES = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0)


def invoke(*arguments):
    return CliRunner().invoke(cli, ["select", "plan", *map(str, arguments)])


def write(folder, texts, name="part.jsonl"):
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"text": text}, ensure_ascii=False) for text in texts]
    (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.fixture
def pool(tmp_path):
    write(tmp_path / "pool" / "web", [f"web {i} " + "ä" * 500 for i in range(100)])
    write(tmp_path / "pool" / "code", [f"code {i} " + "x" * 1000 for i in range(100)])
    return tmp_path / "pool"


@pytest.fixture
def target(tmp_path):
    return write(tmp_path / "target", [f"target {i} " + "y" * 400 for i in range(10)])


@pytest.fixture
def ask(pool, target):
    def run(*arguments, budget=1e13):
        result = invoke(
            "--pool", pool, "--specialist", target, "--budget-flops", budget, "--json", *arguments
        )
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    return run


def bytes_of(folder):
    paths = folder.rglob("*.jsonl")
    lines = [line for path in paths for line in path.read_text(encoding="utf-8").splitlines()]
    return sum(len(json.loads(line)["text"].encode()) for line in lines)


TOKENS = 50_000  # of the pool, about


def points_file(path, rate_by_method, *, params=1e6, noise=0.01, start=0.0):
    full = 6 * params * TOKENS
    rng = np.random.default_rng(0)
    rows = [
        {
            "method": method,
            "share": share,
            "total_flops": (share + (start if method != "Random" else 0.0)) * full,
            "full_flops": full,
            "selection_flops": (start if method != "Random" else 0.0) * full,
            "performance": -2 - 2 * np.exp(-rate * share) + noise * rng.standard_normal(),
            "seed": seed,
            "train_params": params,
        }
        for method, rate in rate_by_method.items()
        for share in SHARES
        for seed in (0, 1, 2)
    ]
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    return path


def test_text_is_counted_and_priced(ask, pool, target):
    answer = ask("--train-params", 1e6, "--selector-params", 1e5)
    q = answer["question"]
    assert q["pool_bytes"] == bytes_of(pool)
    assert q["pool_tokens"] == bytes_of(pool) / 4
    assert q["pool_documents"] == 200
    assert q["pool_domains"] == ["code", "web"]
    assert q["specialist_documents"] == 10
    assert q["specialist_tokens"] == bytes_of(target) / 4
    random = next(r for r in answer["rows"] if r["method"] == "random")
    assert random["training_flops"] == pytest.approx(6 * 1e6 * min(q["pool_tokens"], 1e13 / 6e6))
    perplexity = next(r for r in answer["rows"] if r["method"] == "perplexity")
    expected = 2e5 * q["pool_tokens"] + 25 * 6e5 * q["specialist_tokens"]
    assert perplexity["selection_flops"] == pytest.approx(expected)
    assert {"ddo", "swarm", "dga"} <= {r["method"] for r in answer["rows"]}
    assert any("bytes / 4" in note for note in answer["notes"])


def test_the_size_of_a_token_is_said(ask, pool):
    answer = ask("--bytes-per-token", 2)
    assert answer["question"]["pool_tokens"] == bytes_of(pool) / 2


def test_documents_of_the_target_are_taken_out_of_the_pool_and_told(ask, pool, target):
    lines = (target / "part.jsonl").read_text(encoding="utf-8").splitlines()[:3]
    before = bytes_of(pool)
    write(pool / "web", [json.loads(line)["text"] for line in lines], "leak.jsonl")
    answer = ask()
    assert answer["question"]["pool_bytes"] == before
    assert answer["question"]["left_out_documents"] == 3
    assert any("3 documents of the pool are in the specialist set" in n for n in answer["notes"])


def test_points_replace_priors(ask, tmp_path):
    path = points_file(tmp_path / "points.csv", {"Random": 2.0, "BM25": 8.0})
    answer = ask("--points", path, budget=0.2 * 6e6 * TOKENS)  # a fifth of the pool
    assert answer["question"]["train_params"] == 1e6
    assert answer["choice"]["method"] == "bm25"
    assert answer["choice"]["share"] == pytest.approx(0.2, rel=0.01)
    assert answer["choice"]["basis"] == "points"
    truth = -2 - 2 * np.exp(-8 * 0.2)
    assert answer["choice"]["performance"] == pytest.approx(truth, abs=0.03)
    assert answer["unit"] == "performance"
    others = {r["basis"] for r in answer["rows"] if r["method"] == "perplexity"}
    assert others == {"prior: published rates beside 'random', whose points are here"}


def test_points_of_another_size_speak_with_their_shares(ask, tmp_path):
    path = points_file(tmp_path / "points.csv", {"Random": 2.0, "BM25": 8.0})
    answer = ask("--points", path, "--train-params", 1e7, budget=0.2 * 6e7 * TOKENS)
    assert answer["choice"]["method"] == "bm25"
    assert answer["choice"]["share"] == pytest.approx(0.2, rel=0.01)
    assert "performances are of models of 1e+06 parameters" in answer["notes"]


def test_selection_costs_what_it_cost_whatever_is_trained(ask, tmp_path):
    """A selector of a fifth of a small model's training is a fiftieth of one ten times larger."""
    path = points_file(tmp_path / "points.csv", {"Random": 2.0, "other": 8.0}, start=0.2)
    small = ask("--points", path, budget=3e6 * TOKENS)
    large = ask("--points", path, "--train-params", 1e7, budget=3e7 * TOKENS)
    for answer in (small, large):
        row = next(r for r in answer["rows"] if r["method"] == "other")
        assert row["selection_flops"] == pytest.approx(0.2 * 6e6 * TOKENS, rel=0.01)


def test_points_of_another_pool_are_seen(ask, tmp_path, pool):
    path = points_file(tmp_path / "points.csv", {"Random": 2.0})
    assert not any("of a pool of about" in note for note in ask("--points", path)["notes"])
    notes = ask("--points", path, "--bytes-per-token", 0.4)["notes"]
    assert any("the points are of a pool of about 50k tokens" in note for note in notes)


@pytest.mark.parametrize("bytes_per_token", [0.1, 4.0, 160.0])
def test_points_of_another_pool_never_lead_beyond_the_budget(ask, tmp_path, bytes_per_token):
    path = points_file(tmp_path / "points.csv", {"Random": 2.0, "other": 8.0}, start=0.2)
    answer = ask("--points", path, "--bytes-per-token", bytes_per_token, budget=5e10)
    full = 6e6 * answer["question"]["pool_tokens"]
    assert answer["rows"]
    for row in answer["rows"]:
        assert row["selection_flops"] + 6e6 * row["tokens"] <= 5e10 * (1 + 1e-9)
        if row["method"] == "other":
            assert row["selection_flops"] == pytest.approx(0.2 * full)


def test_points_of_several_sizes_ask_which_one_is_meant(pool, target, tmp_path):
    a = points_file(tmp_path / "a.csv", {"Random": 2.0})
    b = points_file(tmp_path / "b.csv", {"Random": 2.0}, params=1e7)
    (tmp_path / "both.csv").write_text(
        a.read_text(encoding="utf-8") + "\n".join(b.read_text(encoding="utf-8").splitlines()[1:]),
        encoding="utf-8",
    )
    common = ("--pool", pool, "--specialist", target, "--budget-flops", 1e13)
    result = invoke(*common, "--points", tmp_path / "both.csv")
    assert result.exit_code == 1
    assert "models of 2 sizes: 1e+06, 1e+07" in result.output
    assert "--train-params" in result.output
    assert invoke(*common, "--points", tmp_path / "both.csv", "--train-params", 1e7).exit_code == 0


def test_a_search_of_your_own_has_your_price(ask):
    answer = ask("--search", "ddo=0.5", "--train-params", 1e6, budget=1e11)
    (ddo,) = (r for r in answer["rows"] if r["method"] == "ddo")
    assert ddo["selection_flops"] == pytest.approx(0.5 * ddo["training_flops"])
    assert ddo["performance"] is None
    assert {r["method"] for r in answer["rows"]} & {"swarm", "dga"} == set()


def test_seconds_of_a_cpu_have_the_price_that_is_stated(ask):
    free = ask("--train-params", 1e6, budget=1e11)
    paid = ask(
        *("--train-params", 1e6, "--cpu-seconds", "bm25=3", "--flops-per-second", 1e10),
        budget=1e11,
    )
    found = [next(r for r in a["rows"] if r["method"] == "bm25") for a in (free, paid)]
    assert [r["selection_flops"] for r in found] == [0, 3e10]
    assert "selection is taken to be free" in found[0]["notes"]
    assert "selection is taken to be free" not in found[1]["notes"]


def test_one_folder_has_no_mixture(pool, target):
    result = invoke(
        "--pool", pool / "web", "--specialist", target, "--budget-flops", 1e13, "--json"
    )
    answer = json.loads(result.stdout)
    assert {r["method"] for r in answer["rows"]} & {"ddo", "swarm", "dga"} == set()
    assert any("no mixture to search for" in note for note in answer["notes"])


def test_people_read_a_verdict_and_a_table(pool, target):
    result = invoke("--pool", pool, "--specialist", target, "--budget-flops", 1e13)
    assert result.exit_code == 0
    first = result.output.splitlines()[0]
    assert first.startswith(("random is the honest answer", "train on the whole pool"))
    assert "prior: published" in result.output
    assert "no record" in result.output


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--budget-flops", "5"), "a budget of 5 FLOP is below one training step"),
        (("--budget-flops", "nan"), "the budget must be above 0 FLOP"),
        (("--budget-flops", "1e13", "--bytes-per-token", "0"), "bytes per token must be above 0"),
        (("--budget-flops", "1e13", "--search", "ddo"), "'ddo' is no name and amount"),
        (("--budget-flops", "1e13", "--search", "bm25=1"), "'bm25' selects documents"),
        (("--budget-flops", "1e13", "--cpu-seconds", "bm25=9"), "9 s of CPU time have no price"),
        (("--budget-flops", "1e13", *(2 * ("--search", "ddo=1"))), "'ddo' is there twice"),
        (("--budget-flops", "1e13", "--cpu-seconds", "ppl=9"), "'ppl' has no price in seconds"),
        (("--budget-flops", "1e13", "--selector-params", "0"), "must be above 0, got 0"),
    ],
)
def test_bad_input_is_one_readable_error(pool, target, arguments, problem):
    result = invoke("--pool", pool, "--specialist", target, "--train-params", 1e6, *arguments)
    assert result.exit_code == 1
    assert problem in result.output
    assert "Traceback" not in result.output


def test_an_empty_pool_and_a_pool_of_the_target_alone_are_told(tmp_path, pool, target):
    (tmp_path / "empty").mkdir()
    result = invoke("--pool", tmp_path / "empty", "--specialist", target, "--budget-flops", 1e13)
    assert result.exit_code == 1
    assert f"the pool at {str(tmp_path / 'empty')!r} has no shard" in result.output
    result = invoke("--pool", target, "--specialist", target, "--budget-flops", 1e13)
    assert result.exit_code == 1
    assert "has nothing but documents of the specialist set" in result.output
    blank = write(tmp_path / "blank", ["", "  "])
    result = invoke("--pool", pool, "--specialist", blank, "--budget-flops", 1e13)
    assert result.exit_code == 1
    assert "has no text" in result.output
