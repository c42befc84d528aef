"""Domains that land, change and vanish; and what is made then without a click."""

import json
import os
import shutil

import dagster as dg
import numpy as np
import pytest

from mixture_assets.corpus import Workspace, build_corpus
from mixture_assets.definitions import defs
from mixture_assets.defs import conditions
from mixture_assets.defs.automation import decide, new_domains
from mixture_assets.defs.resources import Lab
from mixture_assets.quarantine import quarantined

PREPARED = ["shards", "tokenizer", "tokens", "validation_set"]


class Watch:
    """The daemon's work, one step at a time, on one experiment."""

    def __init__(self, instance, experiment):
        self.instance, self.experiment = instance, experiment
        self.cursor = None
        self.condition_cursors = {}

    @property
    def raw(self):
        return self.experiment.parent / "raw"

    def look(self):
        """One tick of the sensor; what it asks for is carried out."""
        lab = Lab(experiment=str(self.experiment))
        context = dg.build_sensor_context(
            instance=self.instance, cursor=self.cursor, resources={"lab": lab}
        )
        found = new_domains(context)
        if isinstance(found, dg.SensorResult):
            self.cursor = found.cursor
            for request in found.dynamic_partitions_requests:
                for key in request.partition_keys:
                    if isinstance(request, dg.AddDynamicPartitionsRequest):
                        self.instance.add_dynamic_partitions("domain", [key])
                    else:
                        self.instance.delete_dynamic_partition("domain", key)
            for event in found.asset_events:
                self.instance.report_runless_asset_event(event)
        return found

    def requested(self, *, is_refit_on=True):
        """Asset -> partitions that automation asks for now; [None] without partitions.

        Only as far as the plan: what follows trains, and is asked for in the same way.
        """
        asked = {}
        for name, assets in (("prepare", PREPARED), ("refit", ["proxy_plan"])):
            if name == "refit" and not is_refit_on:
                continue
            found = dg.evaluate_automation_conditions(
                defs=defs,
                instance=self.instance,
                asset_selection=dg.AssetSelection.assets(*assets),
                cursor=self.condition_cursors.get(name),
            )
            self.condition_cursors[name] = found.cursor
            for asset in assets:
                if found.get_num_requested(dg.AssetKey(asset)):
                    partitions = found.get_requested_partitions(dg.AssetKey(asset))
                    asked[asset] = sorted(partitions, key=str)
        return asked

    def make(self, asked):
        """Run what was asked for, one run for each set of partitions, with its checks."""
        runs = {}
        for name, partitions in asked.items():
            runs.setdefault(tuple(partitions), []).append(name)
        for partitions, names in sorted(runs.items(), key=lambda item: None in item[0]):
            tags = {}
            if None not in partitions:
                tags = {
                    "dagster/asset_partition_range_start": partitions[0],
                    "dagster/asset_partition_range_end": partitions[-1],
                }
            result = dg.materialize(
                [*defs.assets, *defs.asset_checks],
                selection=dg.AssetSelection.assets(*names),
                instance=self.instance,
                resources={"lab": Lab(experiment=str(self.experiment))},
                tags=tags,
                raise_on_error=False,
            )
            yield result.success

    def settle(self, *, is_refit_on=True):
        """Look, ask and make until nothing is asked for; returns what was made, in order."""
        made = []
        for _ in range(12):
            self.look()
            if not (asked := self.requested(is_refit_on=is_refit_on)):
                return made
            made.append(asked)
            assert all(self.make(asked))
        raise AssertionError(f"no end: {made}")


@pytest.fixture
def watch(instance, tiny):
    return Watch(instance, tiny)


@pytest.fixture
def look(watch):
    return watch.look


@pytest.mark.parametrize(
    ("registered", "landed", "reported", "expected"),
    [
        ([], {}, {}, ([], [], [])),
        ([], {"a": "1"}, {}, (["a"], [], ["a"])),
        (["a"], {"a": "1"}, {"a": "1"}, ([], [], [])),
        (["a"], {"a": "2"}, {"a": "1"}, ([], [], ["a"])),
        (["a", "b"], {"a": "1"}, {"a": "1", "b": "1"}, ([], ["b"], [])),
        ([], {"a": ""}, {}, (["a"], [], [])),
    ],
    ids=["nothing", "landed", "unchanged", "changed", "vanished", "to be fetched"],
)
def test_the_decision(registered, landed, reported, expected):
    found = decide(registered, landed, reported)
    assert (found.added, found.vanished, found.changed) == expected


def reported(found):
    """Asset and partition of each event."""
    return [(e.asset_key.to_user_string(), e.partition) for e in found.asset_events]


def test_a_folder_becomes_a_partition_and_raw_is_told_its_fingerprint(look, instance):
    found = look()
    assert sorted(instance.get_dynamic_partitions("domain")) == ["animals", "numbers", "plants"]
    assert reported(found)[-1] == ("domains", None)
    versions = {e.partition: e.tags["dagster/data_version"] for e in found.asset_events[:-1]}
    assert versions == json.loads(found.cursor)


def test_a_second_look_finds_nothing_new(look):
    look()
    assert isinstance(look(), dg.SkipReason)


def test_a_new_folder_an_edit_and_a_removal_are_seen(look, instance, tiny):
    look()
    raw = tiny.parent / "raw"
    (raw / "songs").mkdir()
    (raw / "songs" / "a.txt").write_text("la la la")
    (raw / "empty").mkdir()
    (raw / "not a domain").mkdir()
    os.utime(raw / "animals" / "part-00000.jsonl", (1, 1))
    (raw / "plants" / "part-00000.jsonl").rename(raw / "plants" / "_aside")
    found = look()
    assert sorted(instance.get_dynamic_partitions("domain")) == ["animals", "numbers", "songs"]
    assert reported(found) == [("raw", "animals"), ("raw", "songs"), ("domains", None)]


def test_an_edit_alone_leaves_the_set_of_domains_as_it_is(look, tiny):
    look()
    os.utime(tiny.parent / "raw" / "animals" / "part-00000.jsonl", (1, 1))
    assert reported(look()) == [("raw", "animals")]


def test_a_folder_that_is_being_copied_is_named_and_left_alone(look, tiny):
    tiny.write_text(tiny.read_text().replace("settle_seconds = 0", "settle_seconds = 3600"))
    for folder in (tiny.parent / "raw").iterdir():
        (folder / "_SUCCESS").touch()
    look()
    (tiny.parent / "raw" / "songs").mkdir()
    found = look()
    assert isinstance(found, dg.SkipReason)
    assert found.skip_message == "3 domains, none new or changed; not settled: 'songs'"


def test_a_root_that_is_not_there_makes_no_domain_vanish(look, instance, tiny):
    look()
    (tiny.parent / "raw").rename(tiny.parent / "elsewhere")
    assert "stays as it is" in look().skip_message
    assert len(instance.get_dynamic_partitions("domain")) == 3


def test_training_is_switched_off_until_somebody_turns_it_on():
    status = {s.name: s.default_status for s in defs.sensors}
    assert status["prepare"] == dg.DefaultSensorStatus.RUNNING
    assert status["refit"] == dg.DefaultSensorStatus.STOPPED
    automatic = {s.key for s in defs.resolve_all_asset_specs() if s.automation_condition}
    graph = defs.resolve_asset_graph()
    targets = [s.asset_selection.resolve(graph) for s in (conditions.prepare, conditions.refit)]
    assert targets[0] | targets[1] == automatic
    assert not targets[0] & targets[1]
    assert dg.AssetKey("full_run") not in automatic


@pytest.fixture(scope="module")
def first(tiny_template, tmp_path_factory):
    """The first landing, carried as far as automation carries it: what was made, and when."""
    folder = tmp_path_factory.mktemp("planned") / "tiny"
    shutil.copytree(tiny_template, folder)
    with dg.instance_for_test() as instance:
        watch = Watch(instance, folder / "tiny.toml")
        assert watch.requested() == {}  # nothing has landed
        yield watch, watch.settle()


@pytest.fixture
def planned(first):
    """Everything up to the plan is made; tests add to it and take from it."""
    watch, _ = first
    return watch


@pytest.mark.slow
def test_what_lands_is_tokenized_checked_and_planned_and_nothing_is_done_twice(first):
    watch, made = first
    assert sorted({name for asked in made for name in asked}) == ["proxy_plan", *PREPARED]
    assert made[0] == {"shards": ["animals", "numbers", "plants"]}
    assert made[-2:] == [{"validation_set": [None]}, {"proxy_plan": [None]}]
    assert watch.settle() == []


def write(folder, text, n_documents=300):
    folder.mkdir(exist_ok=True)
    rows = [json.dumps({"text": f"{text} {i} {i * i} " * 6}) for i in range(n_documents)]
    (folder / "a.jsonl").write_text("\n".join(rows))


def corpus_of(watch):
    """Domains of the corpus that validation_set fixed last."""
    event = watch.instance.get_latest_materialization_event(dg.AssetKey("validation_set"))
    corpus_id = event.asset_materialization.metadata["corpus_id"].value
    path = watch.experiment.parent / "store" / "corpora" / f"{corpus_id}.json"
    return set(json.loads(path.read_text())["domains"])


def tokenizers(watch):
    """The tokenizer that the page shows, and those that made the tokens of the fixed corpus."""
    event = watch.instance.get_latest_materialization_event(dg.AssetKey("tokenizer"))
    corpus = build_corpus(Workspace.open(watch.experiment))
    shown = event.asset_materialization.metadata["tokenizer_id"].value
    return shown, corpus.tokenizer.digest, {n: d.digest for n, d in corpus.domains.items()}


@pytest.mark.slow
def test_before_the_first_plan_too_what_lands_is_read_with_the_tokenizer_that_is_shown(watch):
    assert watch.requested(is_refit_on=False) == {}  # nothing has landed
    (watch.raw / "plants").rename(watch.raw.parent / "plants")
    watch.settle(is_refit_on=False)
    shown, used, before = tokenizers(watch)
    assert shown == used
    (watch.raw.parent / "plants").rename(watch.raw / "plants")
    assert watch.settle(is_refit_on=False) == [
        {"shards": ["plants"], "tokens": ["plants"]},
        {"validation_set": [None]},
    ]
    again, used, now = tokenizers(watch)
    assert again == used == shown
    assert now.items() > before.items()

    assert all(watch.make({"tokenizer": [None]}))  # by hand, on all that is there
    anew, used, _ = tokenizers(watch)
    assert anew == used != shown
    assert watch.settle(is_refit_on=False) == [
        {"tokens": ["animals", "numbers", "plants"]},
        {"validation_set": [None]},
    ]
    assert all(watch.make({"proxy_plan": [None]}))
    shutil.rmtree(watch.raw / "animals")
    assert all(watch.make({"tokenizer": [None]}))  # runs may rest on it now
    assert tokenizers(watch)[0] == anew


REFITTED = [{"validation_set": [None]}, {"proxy_plan": [None]}]


@pytest.mark.slow
def test_a_domain_that_lands_and_vanishes_asks_for_a_new_plan_each_time(planned):
    before = corpus_of(planned)
    write(planned.raw / "songs", "la")
    assert planned.settle() == [{"shards": ["songs"], "tokens": ["songs"]}, *REFITTED]
    assert corpus_of(planned) == before | {"songs"}
    shutil.rmtree(planned.raw / "songs")
    assert planned.settle() == REFITTED
    assert corpus_of(planned) == before


@pytest.mark.slow
def test_a_bad_domain_holds_nobody_back_and_is_not_tried_again(planned):
    before = corpus_of(planned)
    write(planned.raw / "tales", "once")
    (planned.raw / "bad").mkdir()
    (planned.raw / "bad" / "a.txt").write_bytes(b"caf\xe9")
    with pytest.warns(match="'bad' is quarantined and is left out"):
        planned.settle()
    assert corpus_of(planned) == before | {"tales"}
    records = planned.instance.fetch_materializations(
        dg.AssetRecordsFilter(dg.AssetKey("tokens"), asset_partitions=["bad"]), limit=5
    ).records
    assert len(records) == 1
    told = records[0].asset_materialization.metadata
    assert "is not UTF-8" in told["quarantined"].value
    assert told["goes_on_with"].value == "nothing"
    assert planned.settle() == []
    assert list(quarantined(Workspace.open(planned.experiment))) == ["bad"]
    shutil.rmtree(planned.raw / "bad")
    planned.settle()
    assert corpus_of(planned) == before | {"tales"}
    assert not quarantined(Workspace.open(planned.experiment))


@pytest.mark.slow
def test_a_failed_check_holds_the_plan_back_until_it_passes(planned):
    write(planned.raw / "psalms", "sela")
    planned.look()
    while "validation_set" not in (asked := planned.requested()):
        assert all(planned.make(asked))
    # The array that training reads is damaged between tokenizing and the check.
    (array,) = (planned.experiment.parent / "store/tokens/psalms").glob("*.npy")
    good = array.read_bytes()
    np.save(array, np.full_like(np.load(array), 7))
    assert not all(planned.make({"validation_set": [None]}))
    assert planned.requested() == {}
    assert planned.requested() == {}
    array.write_bytes(good)
    assert all(planned.make({"validation_set": [None]}))
    assert planned.requested() == {"proxy_plan": [None]}
    assert all(planned.make({"proxy_plan": [None]}))
