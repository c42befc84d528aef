"""Every check, tripped by a store that is really broken."""

import json
import math

import numpy as np
import pyarrow.parquet as pq
import pytest

from mixture_assets.corpus import Workspace, build_corpus

CHECKS = [
    ("validation_set", "none_quarantined"),
    ("validation_set", "no_empty_domain"),
    ("validation_set", "token_audit"),
    ("validation_set", "validation_unseen"),
    ("proxy_runs", "finite_proxy_losses"),
    ("chosen_mixture", "weights_on_simplex"),
    ("chosen_mixture", "epochs_within_cap"),
    ("full_run", "finite_full_losses"),
]


def array_of(graph, domain):
    (path,) = (graph.store / "tokens" / domain).glob("*.npy")
    return path


def edit_array(path, change):
    array = np.load(path)
    np.save(path, change(array))


def edit_json(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def edit_loss(graph, purpose, value):
    for path in sorted(graph.store.glob("runs/*/spec.json")):
        if json.loads(path.read_text())["purpose"] == purpose:
            result = path.with_name("result.json")
            edit_json(result, lambda c: c["losses"]["plants"].update(loss_nats=value))
            return


def edit_weights(graph, weights):
    (path,) = graph.store.glob("mixtures/*.json")
    edit_json(path, lambda content: content.update(weights=weights))


@pytest.mark.parametrize(("asset", "name"), CHECKS)
def test_a_check_passes_on_a_sound_store(graph, asset, name):
    assert graph.check(asset, name).passed


def test_a_quarantined_domain_is_a_warning_with_its_reason(broken):
    bad = broken.experiment.parent / "raw" / "bad"
    bad.mkdir()
    (bad / "a.txt").write_bytes(b"caf\xe9")
    with pytest.warns(match="'bad' is quarantined"):
        build_corpus(Workspace.open(broken.experiment))
    found = broken.check("validation_set", "none_quarantined")
    assert not found.passed
    assert not found.blocking
    assert found.severity.value == "WARN"
    assert "is not UTF-8" in found.metadata["problems"].value["bad"]


def test_a_domain_without_training_tokens_is_noticed(broken):
    edit_array(array_of(broken, "plants"), lambda a: a[:0])
    found = broken.check("validation_set", "no_empty_domain")
    assert not found.passed
    assert found.metadata["empty_domains"].value == ["plants"]


def test_a_domain_without_validation_documents_is_noticed(broken):
    (path,) = (broken.store / "validation" / "plants").glob("*.parquet")
    pq.write_table(pq.read_table(path).slice(0, 0), path)
    assert not broken.check("validation_set", "no_empty_domain").passed


def test_a_lost_token_is_noticed(broken):
    edit_array(array_of(broken, "animals"), lambda a: a[:-1])
    found = broken.check("validation_set", "token_audit")
    assert not found.passed
    lost = found.metadata["tokens_expected"].value - found.metadata["tokens_found"].value
    assert lost == 1
    assert "'animals'" in found.metadata["problems"].value[0]


def test_two_documents_run_into_one_are_noticed(broken):
    path = array_of(broken, "animals")
    eos = np.load(path)[-1]
    edit_array(path, lambda a: np.where(np.cumsum(a == eos) == 3, a * 0 + 5, a))
    found = broken.check("validation_set", "token_audit")
    assert not found.passed
    assert "end-of-text" in found.metadata["problems"].value[0]


def test_a_truncated_array_is_noticed(broken):
    path = array_of(broken, "numbers")
    path.write_bytes(path.read_bytes()[:-100])
    found = broken.check("validation_set", "token_audit")
    assert not found.passed
    assert "cannot be audited" in found.metadata["problems"].value[0]


def test_a_validation_document_in_another_domains_training_tokens_is_noticed(broken):
    (path,) = (broken.store / "validation" / "plants").glob("*.parquet")
    leaked = pq.read_table(path)["input_ids"][0].values.to_numpy()
    target = array_of(broken, "animals")
    eos = np.load(target)[-1]
    edit_array(target, lambda a: np.concatenate([a, leaked, [eos]]).astype(a.dtype))
    found = broken.check("validation_set", "validation_unseen")
    assert not found.passed
    assert found.metadata["leaked_by_domain"].value == {"animals": 1, "numbers": 0, "plants": 0}


@pytest.mark.parametrize("value", [math.nan, math.inf, None])
@pytest.mark.parametrize(
    ("asset", "name", "purpose"),
    [("proxy_runs", "finite_proxy_losses", "proxy"), ("full_run", "finite_full_losses", "full")],
)
def test_a_loss_that_is_not_finite_is_noticed(broken, asset, name, purpose, value):
    edit_loss(broken, purpose, value)
    found = broken.check(asset, name)
    assert not found.passed
    assert list(found.metadata["not_finite"].value.values()) == [["plants"]]


@pytest.mark.parametrize(
    "weights",
    [
        {"animals": 0.5, "numbers": 0.5, "plants": 0.5},
        {"animals": 1.5, "numbers": -0.5, "plants": 0.0},
        {"animals": math.nan, "numbers": 0.5, "plants": 0.5},
        {"animals": 0.5, "numbers": 0.5},
    ],
    ids=["sum", "negative", "nan", "domain"],
)
def test_weights_off_the_simplex_are_noticed(broken, weights):
    edit_weights(broken, weights)
    found = broken.check("chosen_mixture", "weights_on_simplex")
    assert not found.passed
    assert found.description


def test_a_domain_read_too_often_is_noticed(broken):
    broken.experiment.write_text(
        broken.experiment.read_text().replace("max_epochs = 20", "max_epochs = 0.5")
    )
    edit_weights(broken, {"animals": 0.0, "numbers": 0.0, "plants": 1.0})
    found = broken.check("chosen_mixture", "epochs_within_cap")
    assert not found.passed
    assert list(found.metadata["over"].value) == ["plants"]


def test_nothing_is_trained_on_a_corpus_that_fails_its_audit(broken):
    path = array_of(broken, "animals")
    eos = np.load(path)[-1]
    edit_array(path, lambda a: np.where(a == eos, a * 0 + 5, a))
    events = broken.n_events("proxy_plan")
    result = broken.run("validation_set", "proxy_plan", partitioned=False, raise_on_error=False)
    assert not result.success
    assert broken.n_events("proxy_plan") == events
