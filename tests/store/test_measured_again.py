"""A run that was measured again, or that two experiments share, counts once and like with like."""

import math
import re
from pathlib import Path

import pytest

from mixture_assets.difference import difference
from mixture_assets.reasons import reasons
from mixture_assets.store.query import query
from mixture_assets.store.records import write_record
from tests.store import fakes
from tests.store.test_docs import TEXT

NEW = "n" * 16  # validation documents of code, after its validation set grew


def measured_later(store: Path, run_id: str, loss: float, *, domain: str = "code") -> None:
    row = fakes.evaluation_row(run_id, 10, domain, loss)
    keys = ("loss_nats", "loss_se_nats", "bits_per_byte", "perplexity", "n_tokens", "n_documents")
    found = {"domain": domain, "validation_id": NEW, "metric_version": 1}
    path = store / "runs" / run_id / "losses" / f"{NEW}-1.json"
    fakes.write_json(path, found | {"loss": {key: row[key] for key in keys}})


def said_now(store: Path, owner: str, validation_id: str) -> None:
    row = {"owner": owner, "kind": "validation_set", "name": "code", "value": validation_id}
    write_record(store, "note", owner.replace(":", "-"), {"input": [row]})


def documented(title: str) -> str:
    found = re.search(rf"^{title}.*?```sql\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1]


@pytest.fixture
def one_seed(tmp_path: Path) -> Path:
    """Two runs of different tokens and one seed, each measured on old and new documents."""
    for run_id, tokens, loss in (("one", 640, 3.0), ("two", 900, 3.4)):
        spec = fakes.spec(0, {"code": tokens, "prose": 1280})
        fakes.finished_run(tmp_path, run_id, label=run_id, spec=spec)
        measured_later(tmp_path, run_id, loss)  # 4.0 on the old ones
    said_now(tmp_path, "experiment:demo", NEW)
    return tmp_path


def code_row(store: Path, a: str, b: str) -> dict[str, object]:
    return next(r for r in difference(store, a, b)["results"] if r["name"].startswith("code"))


def test_one_seed_on_two_sets_of_documents_is_no_noise(one_seed: Path) -> None:
    row = code_row(one_seed, "one", "two")
    assert (row["a"], row["b"], row["noise_sd"]) == (3.0, 3.4, None)
    assert row["difference"] == pytest.approx(0.4)
    names = {r["name"] for r in difference(one_seed, "one", "two")["inputs"]}
    assert names == {"tokens.code"}


def test_seeds_are_noise_on_the_documents_that_are_compared(one_seed: Path) -> None:
    fakes.finished_run(one_seed, "three", seed=1, label="three")  # 4.1 on the old documents
    measured_later(one_seed, "three", 3.2)
    row = code_row(one_seed, "one", "two")
    assert row["noise_sd"] == pytest.approx(math.sqrt(0.1**2 + 0.1**2))  # of 3.0 and 3.2


def test_runs_are_compared_on_documents_that_both_were_measured_on(one_seed: Path) -> None:
    (one_seed / "runs" / "two" / "losses" / f"{NEW}-1.json").unlink()
    row = code_row(one_seed, "one", "two")
    assert (row["a"], row["b"], row["difference"]) == (4.0, 4.0, 0.0)
    inputs = {r["name"]: (r["a"], r["b"]) for r in difference(one_seed, "one", "two")["inputs"]}
    old = fakes.VALIDATION_SETS["code"]
    assert inputs["validation_set.code"] == (f"{old}, {NEW}", old)


def test_losses_on_different_documents_have_no_difference(one_seed: Path) -> None:
    path = one_seed / "runs" / "two" / "result.json"
    path.write_text(path.read_text().replace(fakes.VALIDATION_SETS["code"], "o" * 16))
    (one_seed / "runs" / "two" / "losses" / f"{NEW}-1.json").unlink()
    row = code_row(one_seed, "one", "two")
    assert row["name"] == "code (nats), other documents"
    assert (row["a"], row["b"]) == (3.0, 4.0)
    assert (row["difference"], row["is_within_noise"]) == (None, None)


@pytest.mark.parametrize(("measured_on", "loss"), [(fakes.VALIDATION_SETS["code"], 4.0), (NEW, 1)])
def test_why_shows_losses_on_the_documents_of_the_proposal(
    store: Path, measured_on: str, loss: float
) -> None:
    measured_later(store, "r0", 1.0)
    said_now(store, "90a1000000000001", measured_on)
    (fit,) = reasons(store, "demo", "code")["fits"]
    losses = {run["run_id"]: run["loss_nats"] for run in fit["runs"]}
    others = (4.1, 4.2) if measured_on != NEW else (None, None)  # those have none on it
    assert [losses[f"r{i}"] for i in range(3)] == [pytest.approx(loss), *others]


def test_the_documented_noise_counts_a_seed_once(store: Path) -> None:
    sql = documented("Noise floor")
    before = query(store, sql).rows
    named = {"purpose": "proxy", "scale": "small", "mixture_name": "base"}
    rows = [
        named | {"experiment": experiment, "run_id": "r0", "label": label}
        for experiment, label in (("other", "a"), ("other", "b"), ("demo", "again"))
    ]
    write_record(store, "experiment_run", "shared", {"experiment_run": rows})
    measured_later(store, "r0", 1.0)
    after = query(store, sql).to_dicts()
    assert len(after) == len(before)
    by_domain = {row["domain"]: row for row in after}
    assert (by_domain["code"]["n_seeds"], by_domain["prose"]["noise_sd_nats"]) == (3, 0)
    assert by_domain["code"]["noise_sd_nats"] == pytest.approx(0.1)  # 4.0, 4.1 and 4.2


def test_the_documented_pairs_are_of_one_seed_budget_and_documents(store: Path) -> None:
    measured_later(store, "f0", 1.0)  # natural on new documents too, the proposal not
    longer = fakes.spec(0, {"code": 6400, "prose": 12800})
    names = {"purpose": "full", "scale": "full", "mixture_name": "natural"}
    fakes.finished_run(store, "f2", label="longer", spec=longer, **names)
    rows = query(store, documented("Each domain at the same seed")).to_dicts()
    assert [row["domain"] for row in rows] == ["code", "prose"]
    for row in rows:
        assert row["budget_tokens"] == 1920
        assert row["difference_nats"] == pytest.approx(3.4 - 3.5)
