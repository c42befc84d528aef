"""A run that steers itself: what it draws, that it steers, and that nothing is lost on the way."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mixture_assets import policy_page
from mixture_assets.core.errors import MixtureError
from mixture_assets.core.experiment import SpecialistSpec
from mixture_assets.corpus import Workspace, build_corpus
from mixture_assets.plans import PlannedRun, plan_full_runs
from mixture_assets.running import create_runs
from mixture_assets.store.ingest import ingest
from mixture_assets.store.query import query
from mixture_assets.store.runs import RunFolder
from mixture_assets.training.loop import Interrupted, train
from mixture_assets.training.state import prepare

# The runs are short.
pytestmark = pytest.mark.filterwarnings("ignore:'(dga|doge)' updates its weights")

ANIMALS = "cat dog horse mouse bird fish runs sleeps eats jumps slowly quickly".split()


def quiet(line):
    pass


def wishes(folder, words=ANIMALS, n=24):
    """A specialist set in one domain's words."""
    rng = np.random.default_rng(3)
    folder.mkdir()
    rows = [{"text": " ".join(rng.choice(words, 40)) + f". wish {i}"} for i in range(n)]
    (folder / "a.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    return folder


def steered(tiny, *, policy="dga", seed=0, constraints=None, **online):
    """A steered run of the tiny experiment, towards the words of its animals."""
    folder = tiny.parent / "wishes"
    if not folder.exists():
        wishes(folder)
    workspace = Workspace.open(tiny)
    e = workspace.experiment
    dga = {"update_steps": 4, "eta": 3.0} | online.pop("dga", {})
    e = dataclasses.replace(
        e,
        specialist=SpecialistSpec(path=str(folder)),
        online=dataclasses.replace(e.online, dga=dga, **online),
        full=dataclasses.replace(e.full, mixtures=(policy,), seeds=(seed,)),
        constraints=constraints or e.constraints,
    )
    workspace = Workspace(e)
    (run,) = plan_full_runs(workspace, build_corpus(workspace), None)
    create_runs(workspace, [run])
    return workspace, run


def rows(workspace, run, kind):
    folder = RunFolder(workspace.store, run.run_id)
    return [r for r in folder.metrics() if r["kind"] == kind]


def path_of(workspace, run):
    """Step -> domain -> the row of weights, the last of each."""
    found = {}
    for row in rows(workspace, run, "weights"):
        found.setdefault(row["step"], {})[row["domain"]] = row
    return found


def test_the_domain_of_the_specialists_words_gains(tiny):
    workspace, run = steered(tiny)
    result = train(workspace.store, run.run_id, say=quiet)
    path = path_of(workspace, run)
    first, last = path[0], path[max(path)]
    assert last["animals"]["weight"] > first["animals"]["weight"] + 0.1
    assert last["animals"]["weight"] == max(r["weight"] for r in last.values())
    assert result["n_updates"] == len(path) - 1 == (result["steps"] - 1) // 4
    for by_domain in path.values():
        assert sum(r["weight"] for r in by_domain.values()) == pytest.approx(1)
    assert all(r["alignment_se"] > 0 for r in path[max(path)].values())
    assert result["alignment_way"] == "ghost"
    assert "mean_weights" not in result  # DGA answers nothing for other runs


def test_the_run_is_as_long_as_asked_and_says_what_it_drew(tiny):
    workspace, run = steered(tiny)
    result = train(workspace.store, run.run_id, say=quiet)
    context = run.spec.model.context
    drawn = sum(result["realised_tokens"].values())
    assert abs(drawn - run.spec.budget_tokens) < context
    steps = rows(workspace, run, "step")
    assert steps[-1]["tokens"] == drawn
    assert len(steps) == result["steps"]
    ends = {row["step"]: row["tokens"] for row in steps}
    updates = sum(ends[step] - ends[step - 1] for step in path_of(workspace, run) if step)
    assert result["update_share"] == pytest.approx(updates / drawn)
    assert f"updates {updates / drawn:.1%} of tokens" in policy_page.overhead_text(result)


@pytest.mark.parametrize("is_capped_basis", [False, True])
def test_a_run_killed_anywhere_ends_in_the_same_weights_and_the_same_path(
    tiny, tmp_path, is_capped_basis
):
    said = {}
    if is_capped_basis:
        wishes(tiny.parent / "counting", "one two three four".split())
        e = Workspace.open(tiny).experiment
        most = 1.1 * 10_000 / sum(build_corpus(Workspace(e)).available_tokens.values())
        said["constraints"] = dataclasses.replace(e.constraints, max_epochs=most)
        said["basis"] = {"counting": str(tiny.parent / "counting")}
    workspace, run = steered(tiny, **said)
    train(workspace.store, run.run_id, say=quiet)
    folder = RunFolder(workspace.store, run.run_id).path
    whole, whole_path = load_file(folder / "model" / "model.safetensors"), path_of(workspace, run)
    folder.rename(tmp_path / "kept")
    create_runs(workspace, [run])
    for stops_after in (1, 3, 1, 5, 2, 8):  # before, in and after update steps
        steps = iter(range(stops_after - 1))
        with pytest.raises(Interrupted):
            train(
                workspace.store,
                run.run_id,
                say=quiet,
                should_stop=lambda steps=steps: next(steps, None) is None,
            )
    result = train(workspace.store, run.run_id, say=quiet)
    again = load_file(folder / "model" / "model.safetensors")
    assert all(torch.equal(again[k], whole[k]) for k in whole)
    assert path_of(workspace, run) == whole_path
    kept = json.loads((tmp_path / "kept" / "result.json").read_text())
    assert result["realised_tokens"] == kept["realised_tokens"]
    assert result["final_weights"] == kept["final_weights"]
    if is_capped_basis:
        assert min(result["final_weights"].values()) == 0  # a cap was met


@pytest.mark.parametrize("way", ["naive", "jvp", "finite_difference"])
def test_every_way_steers_alike(tiny, way):
    workspace, run = steered(tiny)
    train(workspace.store, run.run_id, say=quiet)
    _, other = steered(tiny, alignment=way)
    train(workspace.store, other.run_id, say=quiet)
    one, two = path_of(workspace, run)[5], path_of(workspace, other)[5]
    for domain, row in one.items():
        tolerance = 1e-2 if way == "finite_difference" else 1e-4
        assert two[domain]["alignment"] == pytest.approx(row["alignment"], rel=tolerance)


def test_a_domain_is_never_read_more_often_than_max_epochs(tiny):
    workspace, run = steered(tiny)
    corpus = build_corpus(workspace)
    most = 1.2 * run.spec.budget_tokens / sum(corpus.available_tokens.values())
    constraints = dataclasses.replace(workspace.experiment.constraints, max_epochs=most)
    workspace, run = steered(tiny, constraints=constraints)
    result = train(workspace.store, run.run_id, say=quiet)
    for domain, tokens in result["realised_tokens"].items():
        assert tokens <= most * corpus.available_tokens[domain]
    assert abs(sum(result["realised_tokens"].values()) - run.spec.budget_tokens) < 32


def test_domains_are_measured_to_the_last_update_within_their_caps(tiny):
    workspace, run = steered(tiny)
    available = build_corpus(workspace).available_tokens
    most = (run.spec.budget_tokens + 8 * 32) / sum(available.values())  # just enough
    constraints = dataclasses.replace(workspace.experiment.constraints, max_epochs=most)
    workspace, run = steered(tiny, constraints=constraints, start="uniform")
    result = train(workspace.store, run.run_id, say=quiet)
    path = path_of(workspace, run)
    used_up = {d for d, n in result["realised_tokens"].items() if n > most * available[d] - 4 * 32}
    assert used_up == {"animals", "numbers", "plants"}
    for step in sorted(path)[1:]:
        assert any(row.get("alignment") is not None for row in path[step].values())


@pytest.mark.parametrize("spare", [0, -1])
def test_a_run_that_was_planned_does_not_die_at_its_caps(tiny, spare):
    """The largest budget that planning admits is trained to its end; a sequence more is refused."""
    available = build_corpus(Workspace.open(tiny)).available_tokens
    e = Workspace.open(tiny).experiment
    constraints = dataclasses.replace(e.constraints, max_epochs=0.5)
    room = sum(int(0.5 * n) // 32 - 2 for n in available.values())
    tiny.write_text(tiny.read_text().replace("10_000", str(32 * (room - spare))))
    if spare < 0:
        with pytest.raises(MixtureError, match=f"where max_epochs leaves {32 * room:,}"):
            steered(tiny, constraints=constraints)
        return
    workspace, run = steered(tiny, constraints=constraints)
    result = train(workspace.store, run.run_id, say=quiet)
    assert sum(result["realised_tokens"].values()) == 32 * room
    assert all(n <= 0.5 * available[d] for d, n in result["realised_tokens"].items())


def test_the_specialist_documents_are_in_no_training_batch(tiny):
    workspace, run = steered(tiny)
    state = prepare(workspace.store, run.run_id, say=quiet)
    assert set(state.sampler.windows.domains) == {"animals", "numbers", "plants"}
    assert "specialist" not in run.spec.token_sets


def test_judged_and_steering_losses_are_measured_beside_the_domains(tiny):
    workspace, run = steered(tiny)
    result = train(workspace.store, run.run_id, say=quiet)
    assert set(result["losses"]) == {
        "animals",
        "numbers",
        "plants",
        "specialist",
        "specialist_steering",
    }


def test_a_handful_of_wishes_steers_without_a_crash(tiny):
    wishes(tiny.parent / "wishes", n=2)
    workspace, run = steered(tiny)
    result = train(workspace.store, run.run_id, say=quiet)
    assert result["losses"]["specialist"]["n_documents"] == 1


def test_the_database_holds_the_path_and_what_it_cost(tiny):
    workspace, run = steered(tiny)
    result = train(workspace.store, run.run_id, say=quiet)
    ingest(workspace.store)
    found = query(
        workspace.store,
        "SELECT step, domain, weight, alignment, alignment_se, from_token "
        f"FROM weight_trajectory WHERE run_id = '{run.run_id}' ORDER BY step, domain",
    ).to_dicts()
    path = path_of(workspace, run)
    assert len(found) == sum(map(len, path.values()))
    for row in found:
        said = path[row["step"]][row["domain"]]
        assert row["weight"] == said["weight"]
        assert row["from_token"] == said["tokens"]
        assert row["alignment"] == said.get("alignment")
    (cost,) = query(
        workspace.store, f"SELECT * FROM specialist_leaderboard WHERE run_id = '{run.run_id}'"
    ).to_dicts()
    assert cost["flops_steering"] == result["flops_steering"] > 0
    assert cost["specialist_loss_nats"] == result["losses"]["specialist"]["loss_nats"]
    general = [result["losses"][d]["loss_nats"] for d in ("animals", "numbers", "plants")]
    assert cost["mean_loss_nats"] == pytest.approx(np.mean(general))


def test_a_basis_of_texts_is_mixed_instead_of_domains(tiny):
    for name, words in (("counting", "one two three four".split()), ("trees", "oak pine".split())):
        wishes(tiny.parent / name, words)
    basis = {n: str(tiny.parent / n) for n in ("counting", "trees")}
    workspace, run = steered(tiny, basis=basis)
    train(workspace.store, run.run_id, say=quiet)
    path = path_of(workspace, run)
    assert set(path[0]) == {"counting", "natural", "specialist", "trees"}
    assert path[max(path)]["specialist"]["weight"] > path[0]["specialist"]["weight"]


def test_what_a_basis_ends_with_is_what_is_drawn_and_not_what_is_wanted(tiny):
    wishes(tiny.parent / "counting", "one two three four".split())
    basis = {"counting": str(tiny.parent / "counting")}
    available = build_corpus(Workspace.open(tiny)).available_tokens
    most = 1.1 * 10_000 / sum(available.values())
    constraints = dataclasses.replace(Workspace.open(tiny).experiment.constraints, max_epochs=most)
    dga = {"eta": 60.0, "update_steps": 2}
    workspace, run = steered(tiny, basis=basis, constraints=constraints, dga=dga)
    result = train(workspace.store, run.run_id, say=quiet)
    path = path_of(workspace, run)
    wanted = sum(
        row["weight"] * run.spec.online.basis[group]["animals"]
        for group, row in path[max(path)].items()
    )
    assert wanted > 0.5
    assert result["realised_tokens"]["animals"] > most * available["animals"] - 4 * 32
    assert result["final_weights"]["animals"] < 0.01  # nothing of it is left


def test_doges_answer_is_the_mean_of_its_weights_over_all_updates(tiny):
    doge = {"update_steps": 3, "floor": 0.05}
    workspace, run = steered(tiny, policy="doge", doge=doge)
    result = train(workspace.store, run.run_id, say=quiet)
    path = path_of(workspace, run)
    for domain, answer in result["mean_weights"].items():
        iterates = [rows[domain]["iterate"] for step, rows in path.items() if step]
        assert len(iterates) == result["n_updates"]
        assert answer == pytest.approx(np.mean(iterates))
    drawn = result["realised_tokens"]
    total = sum(drawn.values())
    assert result["drawn_shares"] == {d: n / total for d, n in drawn.items()}


def test_settings_that_no_method_knows_are_told_before_training(tiny):
    with pytest.raises(MixtureError, match="etta"):
        steered(tiny, dga={"etta": 1.0})


def test_a_static_run_keeps_the_name_that_it_had_before_runs_could_steer(tiny):
    _, run = steered(tiny)
    static = dataclasses.replace(run.spec, online=None)
    assert "online" not in static.to_json()
    assert static.digest != run.spec.digest
    assert type(run.spec).from_json(run.spec.to_json()) == run.spec
    assert isinstance(run, PlannedRun)
