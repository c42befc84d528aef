"""Domains that land, change and vanish."""

import json
import os

import dagster as dg
import pytest

from mixture_assets.defs.automation import decide, new_domains
from mixture_assets.defs.resources import Lab


@pytest.fixture
def look(instance, tiny):
    """One tick of the sensor; what it asks for is carried out, as the daemon does."""
    cursor = None

    def tick():
        nonlocal cursor
        context = dg.build_sensor_context(
            instance=instance, cursor=cursor, resources={"lab": Lab(experiment=str(tiny))}
        )
        found = new_domains(context)
        if isinstance(found, dg.SensorResult):
            cursor = found.cursor
            for request in found.dynamic_partitions_requests:
                for key in request.partition_keys:
                    if isinstance(request, dg.AddDynamicPartitionsRequest):
                        instance.add_dynamic_partitions("domain", [key])
                    else:
                        instance.delete_dynamic_partition("domain", key)
        return found

    return tick


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


def test_a_folder_becomes_a_partition_and_raw_is_told_its_fingerprint(look, instance):
    found = look()
    assert sorted(instance.get_dynamic_partitions("domain")) == ["animals", "numbers", "plants"]
    versions = {e.partition: e.tags["dagster/data_version"] for e in found.asset_events}
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
    assert [event.partition for event in found.asset_events] == ["animals", "songs"]
