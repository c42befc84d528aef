"""Runs towards a specialist set: which are planned, what is refused, what the command says."""

import dataclasses
import json
import pathlib
import random
import re

import pytest
from click.testing import CliRunner

from mixture_assets import policy_runs
from mixture_assets.cli import cli
from mixture_assets.core.errors import MixtureError, MixtureWarning
from mixture_assets.core.experiment import SpecialistSpec, load_experiment
from mixture_assets.corpus import Workspace, build_corpus
from mixture_assets.data.token_store import load_validation
from mixture_assets.methods.dga import DGA
from mixture_assets.plans import plan_full_runs
from mixture_assets.specialist import specialist_set, steering_texts, with_specialist
from mixture_assets.store.query import query
from mixture_assets.store.runs import RunFolder

OFTEN = {"update_steps": 2}  # fewer than 20 updates in a run are warned of
ANIMALS = "cat dog horse mouse bird fish runs sleeps eats jumps slowly quickly".split()


@pytest.fixture
def wishes(tmp_path):
    """Texts in the words of one domain, none of which that domain has."""
    folder = tmp_path / "wishes"
    folder.mkdir()
    rng = random.Random(7)
    rows = [{"text": " ".join(rng.choices(ANIMALS, k=40)) + f" wish {i}"} for i in range(20)]
    (folder / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def planned(path, folder, *policies, **online):
    workspace = policy_runs.with_policies(
        with_specialist(Workspace.open(path), str(folder)), policies
    )
    e = workspace.experiment
    full = dataclasses.replace(e.full, seeds=(0,))
    online = {"dga": OFTEN, "doge": OFTEN} | online
    e = dataclasses.replace(e, full=full, online=dataclasses.replace(e.online, **online))
    workspace = Workspace(e)
    corpus = build_corpus(workspace)
    runs = {run.mixture_name: run for run in plan_full_runs(workspace, corpus, None)}
    return workspace, corpus, runs


def test_the_baselines_stand_beside_every_policy(tiny, wishes):
    _, _, runs = planned(tiny, wishes, "dga")
    assert list(runs) == ["natural", "uniform", "dga"]
    assert runs["dga"].spec.tokens == runs["natural"].spec.tokens
    assert all(run.measurement == runs["dga"].measurement for run in runs.values())


def test_importance_is_the_share_of_wishes_nearest_to_each_domain(tiny, wishes):
    _, _, runs = planned(tiny, wishes, "importance")
    tokens = runs["importance"].spec.tokens
    assert tokens["animals"] == sum(tokens.values())


def test_a_steered_run_can_start_from_importance(tiny, wishes):
    _, _, runs = planned(tiny, wishes, "dga", "importance", start="importance")
    assert runs["dga"].spec.tokens == runs["importance"].spec.tokens


def test_the_specialist_baseline_reads_what_steers_and_nothing_that_judges(tiny, wishes):
    workspace, corpus, runs = planned(tiny, wishes, "specialist")
    found = specialist_set(workspace, corpus)
    assert runs["specialist"].spec.token_sets == {"specialist": found.tokens.digest}
    (stream,) = found.tokens.windows(workspace.store)
    text = corpus.tokenizer.decode(stream)
    assert all(wish in text for wish in steering_texts(workspace, corpus, found))
    judging = load_validation(workspace.store, "specialist", found.judging)
    first = corpus.tokenizer.decode(judging.input_ids[: judging.offsets[1]])
    assert first not in text


def test_a_domains_held_out_documents_can_be_the_specialist_set(tiny):
    workspace = Workspace.open(tiny)
    said = SpecialistSpec(domain="plants")
    workspace = Workspace(dataclasses.replace(workspace.experiment, specialist=said))
    corpus = build_corpus(workspace)
    found = specialist_set(workspace, corpus)
    texts = steering_texts(workspace, corpus, found)
    plants = load_validation(workspace.store, "plants", corpus.domains["plants"].validation_digest)
    steers = load_validation(workspace.store, "specialist_steering", found.steering)
    assert not set(plants.doc_ids) & set(steers.doc_ids)  # its validation loss stays what it is
    assert texts
    assert all("plants" in text for text in texts)
    (trained,) = corpus.domains["plants"].windows(workspace.store)
    stream = corpus.tokenizer.decode(trained)
    assert not any(text in stream for text in texts)


def test_judging_documents_that_a_domain_trains_on_are_told(tiny):
    raw = tiny.parent / "raw" / "plants"
    workspace = with_specialist(Workspace.open(tiny), str(raw))
    with pytest.warns(MixtureWarning, match=r"% of the text that judges stands word for word"):
        specialist_set(workspace, build_corpus(workspace))


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ('[specialist]\npath = "a"\ndomain = "b"', "a path or a domain, one of the two"),
        ("[specialist]", "a path or a domain, one of the two"),
        ('[specialist]\npath = "a"\njudging_fraction = 1.0', "between 0 and 1"),
        ('[online]\nclip_by = "domain"', "'naive' where clip_by is 'domain'"),
        ("[online]\ngroup_tokens = -1", "group_tokens must be >= 0"),
    ],
)
def test_what_cannot_be_meant_is_refused(tiny, said, message):
    tiny.write_text(f"{tiny.read_text()}\n{said}\n")
    with pytest.raises(MixtureError, match=message):
        load_experiment(tiny)


def test_a_policy_without_a_specialist_set_is_refused(tiny):
    settings = tiny.read_text().replace("seeds = [0, 1]", 'seeds = [0]\nmixtures = ["dga"]')
    tiny.write_text(settings)
    with pytest.raises(MixtureError, match="specialist must be there for the full runs of dga"):
        load_experiment(tiny)


@pytest.mark.parametrize("name", ["dgaa", "proposal"])
def test_an_unknown_policy_names_the_known_ones(tiny, wishes, name):
    with pytest.raises(MixtureError, match="there is no policy"):
        planned(tiny, wishes, name)


def test_a_run_that_is_hardly_steered_is_warned_of(tiny, wishes):
    _, _, runs = planned(tiny, wishes, "dga")
    spec = runs["dga"].spec
    n, batch = round(spec.budget_tokens / 32), spec.training.batch_tokens // 32
    updates = first = 0  # counted step by step, as long as the next update fits
    while first + (9 if not updates else 8) * batch + 3 * 2 <= n:
        first += (9 if not updates else 8) * batch + 3 * 2
        updates += 1
    with pytest.warns(MixtureWarning, match=rf"'dga' updates .* {updates} times in"):
        planned(tiny, wishes, "dga", dga={"update_steps": 9})


def test_a_run_is_named_by_every_setting_and_not_by_how_it_is_written(tiny, wishes):
    def name(**dga):
        return planned(tiny, wishes, "dga", dga=OFTEN | dga)[2]["dga"].spec

    said = name().online.settings
    assert said == dataclasses.asdict(DGA(update_steps=2))
    assert name().digest == name(**said).digest == name(eta=int(said["eta"])).digest
    assert name(eta=said["eta"] + 1).digest != name().digest


def test_other_documents_that_judge_leave_a_steered_run_as_it_is(tiny, wishes):
    workspace, corpus, runs = planned(tiny, wishes, "dga", "specialist")
    before = specialist_set(workspace, corpus)
    file = wishes / "a.jsonl"
    lines = file.read_text().splitlines()
    for number, line in enumerate(lines):  # change one document, until it is one that judges
        changed = [*lines[:number], line.replace("wish", "hope"), *lines[number + 1 :]]
        file.write_text("\n".join(changed))
        after = specialist_set(workspace, corpus)
        if after.steering == before.steering:
            break
    assert after.judging != before.judging
    _, _, again = planned(tiny, wishes, "dga", "specialist")
    for name, run in again.items():
        assert run.run_id == runs[name].run_id
        assert run.measurement != runs[name].measurement
    old = load_validation(workspace.store, "specialist", before.judging)
    assert len(old.doc_ids) == before.n_judging


@pytest.mark.parametrize(
    ("budget", "steps", "hint"),
    [("10_000", 10_000, r"\[online.dga\] update_steps = 1, or"), ("400", 1, "larger .full. bud")],
)
def test_a_run_without_any_update_is_refused_with_the_way_out(tiny, wishes, budget, steps, hint):
    tiny.write_text(tiny.read_text().replace("10_000", budget))
    with pytest.raises(MixtureError, match="'dga' would never update its weights") as caught:
        planned(tiny, wishes, "dga", dga={"update_steps": steps})
    assert re.search(hint, "".join(caught.value.__notes__))


@pytest.mark.filterwarnings("ignore:'dga' updates its weights")
def test_update_steps_that_take_many_tokens_are_warned_of(tiny, wishes):
    tiny.write_text(tiny.read_text().replace("batch_tokens = 256", "batch_tokens = 32"))
    with pytest.warns(MixtureWarning, match=r"update steps of 'dga' take 73% of the tokens"):
        # 312 sequences: three of 1, then 38 times an update step of 6 and two of 1
        planned(tiny, wishes, "dga", dga={"update_steps": 3})


def test_no_domain_can_be_called_like_the_specialist_set(tiny):
    tiny.write_text(
        tiny.read_text().replace('root = "raw"', 'root = "raw"\ndomains = ["specialist"]')
    )
    with pytest.raises(MixtureError, match="no domain can be called 'specialist'"):
        load_experiment(tiny)


def test_the_command_trains_says_what_came_of_it_and_does_nothing_twice(tiny, wishes):
    settings = (
        tiny.read_text() + "\n[online.dga]\nupdate_steps = 2\n[online.doge]\nupdate_steps = 2\n"
    )
    tiny.write_text(settings)
    arguments = ["run", "--experiment", str(tiny), "--specialist", str(wishes)]
    arguments += ["--policy", "dga,importance,specialist,doge"]
    first = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert first.exit_code == 0
    for words in ("dga against natural: specialist loss", "mean of domains", "steering", "±"):
        assert words in first.output
    (page,) = re.findall(r"figures: (\S+)", first.output)
    text = pathlib.Path(page).read_text()
    assert "dga against natural: specialist loss" in text
    for name in re.findall(r"\]\((\S+)\)", text):
        assert pathlib.Path(page).with_name(name).read_bytes()[:4] == b"\x89PNG"
    assert text.count("![") == 4  # two policies steer, with two seeds
    assert "over 3 domains" in first.output  # and not the two parts of the specialist set too
    assert "doge 0 answer" in first.output
    assert "dga answer" not in first.output
    again = CliRunner().invoke(cli, [*arguments, "--json"], catch_exceptions=False)
    found = json.loads(again.stdout)
    assert found["n_trained"] == 0
    assert len(found["full_runs"]) == 12
    run = found["full_runs"]["dga seed 0"]
    assert set(run["final_weights"]) == {"animals", "numbers", "plants"}
    rows = query(
        load_experiment(tiny).store_path,
        "SELECT role, sum(flops) AS flops FROM cost GROUP BY role ORDER BY role",
    ).to_dicts()
    by_role = {row["role"]: row["flops"] for row in rows}
    steered = [r["flops_steering"] for r in found["full_runs"].values() if "flops_steering" in r]
    assert by_role["steering"] == pytest.approx(sum(steered))
    assert len(steered) == 4


def test_every_specialist_set_stands_for_itself(tiny, wishes, tmp_path):
    """Runs that two sets share are measured on both: each judged loss beside its own steering."""
    other = tmp_path / "others"
    other.mkdir()
    rows = [{"text": f"one plus {i} equals two times {i} minus zero " * 3} for i in range(20)]
    (other / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    truth = set()
    for folder in (wishes, other):
        workspace = policy_runs.with_policies(
            with_specialist(Workspace.open(tiny), str(folder)), ["importance"]
        )
        summary = policy_runs.run_policies(workspace)
        for run in summary.runs:
            found = RunFolder(workspace.store, run.run_id).losses(run.measurement)
            pair = (found[name]["loss_nats"] for name in ("specialist", "specialist_steering"))
            truth.add((run.run_id, *pair))
    rows = query(
        workspace.store,
        "SELECT run_id, specialist_loss_nats, steering_loss_nats FROM specialist_leaderboard",
    ).rows
    assert len(rows) == len(truth) == 12  # natural and uniform twice
    assert set(map(tuple, rows)) == truth


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (["--until", "data"], "trains full runs towards a specialist set, and nothing else"),
        (["--mixtures", "natural"], "trains full runs towards a specialist set, and nothing else"),
        (["--policy", ","], "--policy names no policy to train towards the specialist set"),
    ],
    ids=["until", "mixtures", "comma"],
)
def test_options_that_contradict_a_policy_are_refused(tiny, wishes, extra, words):
    arguments = ["run", "--experiment", str(tiny), "--specialist", str(wishes), "--policy", "dga"]
    found = CliRunner().invoke(cli, [*arguments, *extra])
    assert found.exit_code == 1
    assert words in found.output
    assert not (tiny.parent / "store" / "runs").exists()


def test_basis_members_that_are_the_same_are_told_before_training(tiny, wishes):
    for name in ("one", "other"):
        (wishes.parent / name).mkdir()
        (wishes.parent / name / "a.txt").write_text("one plus two equals three times zero " * 9)
    basis = {name: str(wishes.parent / name) for name in ("one", "other")}
    with pytest.raises(MixtureError, match="'one' and 'other' are the same distribution"):
        planned(tiny, wishes, "dga", basis=basis)


def test_basis_text_that_judges_is_counted(tiny, wishes):
    workspace = with_specialist(Workspace.open(tiny), str(wishes))
    judging = specialist_set(workspace, build_corpus(workspace)).n_judging
    other = wishes.parent / "mixed"
    other.mkdir()
    numbers = [json.dumps({"text": f"one two three {i}"}) for i in range(9)]
    (other / "a.jsonl").write_text("\n".join([(wishes / "a.jsonl").read_text(), *numbers]))
    with pytest.warns(MixtureWarning, match=rf"{judging} of the {judging} .* basis text 'mixed'"):
        planned(tiny, wishes, "dga", basis={"mixed": str(other)})


def test_an_experiment_of_policies_alone_searches_nothing(tiny, wishes):
    settings = tiny.read_text().replace(
        "seeds = [0, 1]", 'seeds = [0]\nmixtures = ["natural", "importance"]'
    )
    tiny.write_text(f'{settings}\n[specialist]\npath = "{wishes}"\n')
    planned_rows = CliRunner().invoke(cli, ["plan", "--experiment", str(tiny), "--json"])
    assert [row["stage"] for row in json.loads(planned_rows.output)] == ["full runs"]
    arguments = ["run", "--experiment", str(tiny), "--json"]
    runs = tiny.parent / "store" / "runs"
    for some in (["--mixtures", "importance"], ["--mixtures", "natural"], []):
        found = CliRunner().invoke(cli, [*arguments, *some], catch_exceptions=False)
        named = some[1:] or ["natural", "importance"]
        assert set(json.loads(found.stdout)["full_runs"]) == {f"{name} seed 0" for name in named}
    assert len(list(runs.iterdir())) == 2
    unknown = CliRunner().invoke(cli, [*arguments, "--mixtures", "dga"])
    assert "no full runs of mixtures 'dga'" in unknown.output


def test_a_policy_beside_a_proposal_can_be_run_alone(tiny, wishes):
    settings = tiny.read_text().replace(
        "seeds = [0, 1]", 'seeds = [0]\nmixtures = ["natural", "proposal", "importance"]'
    )
    tiny.write_text(f'{settings}\n[specialist]\npath = "{wishes}"\n')
    arguments = ["run", "--experiment", str(tiny), "--json", "--mixtures", "importance"]
    found = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert set(json.loads(found.stdout)["full_runs"]) == {"importance seed 0"}
    assert len(list((tiny.parent / "store" / "runs").iterdir())) == 1
