"""A domain lands after the proxy runs: three ways, priced before, measured after."""

import json
import shutil

import pytest
from click.testing import CliRunner

from mixture_assets import pipeline
from mixture_assets.cli import cli
from mixture_assets.core.errors import MixtureError
from mixture_assets.corpus import Workspace, build_corpus
from mixture_assets.plans import plan_proxies
from mixture_assets.prices import price
from mixture_assets.refit import decide
from mixture_assets.standing import current_search, settled_search
from mixture_assets.store.query import query
from mixture_assets.validity import run_validity

pytestmark = pytest.mark.slow

# Two scales, two base seeds. Each scale over 2 domains: 2 base runs and 4 others.
N_BEFORE = 12


@pytest.fixture(scope="module")
def before(tiny_template, tmp_path_factory):
    """Weights of two domains; the third lies aside."""
    folder = tmp_path_factory.mktemp("before") / "tiny"
    shutil.copytree(tiny_template / "raw", folder / "raw")
    shutil.copy(tiny_template / "tiny.toml", folder)
    (folder / "raw" / "plants").rename(folder / "plants")
    workspace = Workspace.open(folder / "tiny.toml")
    pipeline.refit(workspace, build_corpus(workspace))
    return folder


@pytest.fixture
def landed(before, tmp_path):
    """A copy in which the third domain has landed."""
    shutil.copytree(before, tmp_path / "tiny")
    folder = tmp_path / "tiny"
    (folder / "plants").rename(folder / "raw" / "plants")
    return Workspace.open(folder / "tiny.toml")


def result_times(workspace):
    runs = (workspace.store / "runs").glob("*/result.json")
    return {p.parent.name: p.stat().st_mtime_ns for p in runs}


def counts(option):
    return {action: option.n(action) for action in ("train", "measure", "keep")}


def test_a_first_search_takes_no_decision(before):
    workspace = Workspace.open(before / "tiny.toml")
    assert settled_search(workspace, build_corpus(workspace)).way == "full"
    assert len(result_times(workspace)) == N_BEFORE
    assert query(workspace.store, "SELECT * FROM refit").rows == []


def test_a_new_domain_leaves_the_tokens_of_the_others_as_they_were(before, landed):
    earlier = build_corpus(Workspace.open(before / "tiny.toml"))
    now = build_corpus(landed)
    assert now.tokenizer.digest == earlier.tokenizer.digest
    assert set(now.domains) == {"animals", "numbers", "plants"}
    assert all(now.domains[n].digest == d.digest for n, d in earlier.domains.items())


def test_each_way_is_priced_before_anything_starts(landed):
    corpus, stamps = build_corpus(landed), result_times(landed)
    found = {option.way: option for option in price(landed, corpus)}
    assert counts(found["full"]) == {"train": 16, "measure": 0, "keep": 0}
    assert counts(found["extend"]) == {"train": 4, "measure": 4, "keep": 8}
    assert counts(found["reuse"]) == {"train": 12, "measure": 0, "keep": 0}
    assert found["extend"].flops < found["reuse"].flops < found["full"].flops
    assert result_times(landed) == stamps
    assert current_search(landed, corpus).way == "extend"


def test_every_earlier_run_has_its_fate_and_a_reason(landed):
    corpus = build_corpus(landed)
    rows = run_validity(landed, corpus, price(landed, corpus))
    fates = {}
    for row in rows:
        fates.setdefault((row["way"], row["fate"], row["reason"]), []).append(row["label"])
    assert {key: len(runs) for key, runs in fates.items()} == {
        ("full", "unused", "trained without plants"): N_BEFORE,
        ("extend", "measured", "its model is kept, and is measured on plants"): 4,
        ("extend", "kept", "trained on the same tokens, measured on the same documents"): 8,
        ("reuse", "unused", "trained without plants"): N_BEFORE,
    }
    (measured,) = (runs for (_, fate, _), runs in fates.items() if fate == "measured")
    assert all("base" in label for label in measured)


@pytest.mark.parametrize("way", ["full", "extend", "reuse"])
def test_a_way_trains_what_it_said_and_costs_what_it_was_priced(landed, way):
    corpus, stamps = build_corpus(landed), result_times(landed)
    earlier = pipeline.latest_proposal(landed)
    option = next(o for o in price(landed, corpus) if o.way == way)
    said = []
    proposal_id, proposal = pipeline.refit(landed, corpus, way, say=said.append)
    after = result_times(landed)
    assert set(proposal.mixture) == {"animals", "numbers", "plants"}
    assert len(after) - len(stamps) == option.n("train")
    assert all(after[run_id] == stamp for run_id, stamp in stamps.items())
    assert sum("->" in line for line in said) == 1

    (row,) = query(landed.store, "SELECT * FROM refit_cost").to_dicts()
    assert row["way"] == way
    assert row["measured_flops"] == pytest.approx(option.flops, rel=0.1)
    assert row["measured_over_priced"] == pytest.approx(1, abs=0.1)
    ids = {r[0] for r in query(landed.store, "SELECT proposal_id FROM weight_history").rows}
    assert ids == {earlier, proposal_id}, "the old proposal must stay"
    costs = f"SELECT role, n_runs FROM cost_by_decision WHERE decision_id = '{proposal_id}'"
    assert query(landed.store, costs).rows == [("proxy", len(option.steps))]
    chain = query(
        landed.store, f"SELECT DISTINCT node_kind FROM lineage_from('{proposal_id}:animals')"
    )
    assert {"fit", "run", "shard"} <= {r[0] for r in chain.rows}


def test_runs_whose_models_were_deleted_cost_their_training_again(landed):
    for path in (landed.store / "runs").glob("*/model"):
        shutil.rmtree(path)
    corpus, stamps = build_corpus(landed), result_times(landed)
    (option,) = (o for o in price(landed, corpus) if o.way == "extend")
    assert counts(option) == {"train": 8, "measure": 0, "keep": 8}
    pipeline.refit(landed, corpus, "extend")
    assert len(result_times(landed)) - len(stamps) == 4
    (row,) = query(landed.store, "SELECT * FROM refit_cost").to_dicts()
    assert row["measured_flops"] == pytest.approx(option.flops, rel=0.02)


def test_the_frozen_ratios_are_those_of_the_earlier_proposal(landed):
    before = query(landed.store, "SELECT domain, weight FROM weight_history").rows
    weights = dict(before)
    _, proposal = pipeline.refit(landed, build_corpus(landed), "reuse")
    ratio = proposal.mixture["animals"] / proposal.mixture["numbers"]
    assert ratio == pytest.approx(weights["animals"] / weights["numbers"])
    assert any("were not fitted again" in note for note in proposal.notes)
    old = query(landed.store, "SELECT parent FROM edge WHERE role = 'reused'").rows
    assert len(old) == 2


def test_a_second_time_there_is_nothing_to_do(landed):
    corpus = build_corpus(landed)
    first = pipeline.refit(landed, corpus, "extend")
    stamps = result_times(landed)
    said = []
    assert pipeline.refit(landed, build_corpus(landed), say=said.append) == first
    assert result_times(landed) == stamps
    assert not any("->" in line for line in said)


def test_a_domain_that_went_costs_nothing(landed):
    pipeline.refit(landed, build_corpus(landed), "extend")
    stamps = result_times(landed)
    shutil.rmtree(landed.store.parent / "raw" / "animals")
    corpus = build_corpus(landed)
    found = {option.way: counts(option) for option in price(landed, corpus)}
    assert found["extend"] == {"train": 0, "measure": 0, "keep": 12}
    assert found["reuse"] == {"train": 0, "measure": 0, "keep": 0}
    assert found["full"]["train"] == 12
    _, proposal = pipeline.refit(landed, corpus)
    assert set(proposal.mixture) == {"numbers", "plants"}
    assert result_times(landed) == stamps


def test_a_domain_that_grew_is_shrunk_and_grown_with_its_new_text(landed):
    raw = landed.store.parent / "raw"
    shutil.rmtree(raw / "plants")
    text = [json.dumps({"text": f"ten zero plus {i} equals {i} "}) for i in range(60)]
    (raw / "numbers" / "part-00001.jsonl").write_text("\n".join(text))
    corpus = build_corpus(landed)
    found = {option.way: counts(option) for option in price(landed, corpus)}
    # 2 scales: the base twice and animals twice, measured on new documents; numbers twice again
    assert found["extend"] == {"train": 4, "measure": 8, "keep": 0}
    _, proposal = pipeline.refit(landed, corpus)
    assert set(proposal.mixture) == {"animals", "numbers"}
    specs = [run.spec for run in plan_proxies(landed, corpus)]
    assert len({spec.token_sets["numbers"] for spec in specs}) == 2


def test_a_way_without_an_earlier_search_is_refused(tiny):
    workspace = Workspace.open(tiny)
    with pytest.raises(
        MixtureError, match="way 'reuse' is not open: there is no earlier search"
    ) as caught:
        decide(workspace, build_corpus(workspace), "reuse")
    assert "full" in caught.value.hint


def test_the_command_prices_the_ways_and_goes_one(landed):
    path = landed.store.parent / "tiny.toml"
    invoke = CliRunner().invoke
    shown = invoke(cli, ["refit", "--experiment", str(path)])
    assert shown.exit_code == 0, shown.output
    assert shown.output.count("runs to train") == 3
    assert "trained without plants" in shown.output
    table = json.loads(invoke(cli, ["refit", "--experiment", str(path), "--json"]).stdout)
    assert [o["way"] for o in table["options"]] == ["full", "extend", "reuse"]
    done = invoke(cli, ["refit", "--way", "extend", "--experiment", str(path), "--json"])
    assert done.exit_code == 0, done.output
    assert set(json.loads(done.stdout)["weights"]) == {"animals", "numbers", "plants"}
