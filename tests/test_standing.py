"""What is decided for one corpus, stopped, undone or asked again, and what later ways build on."""

import json
import shutil

import pytest

from mixture_assets import pipeline, running
from mixture_assets.core.errors import MixtureError, MixtureWarning
from mixture_assets.corpus import Workspace, build_corpus
from mixture_assets.plans import plan_proxies
from mixture_assets.prices import price
from mixture_assets.refit import decide
from mixture_assets.standing import current_search
from mixture_assets.store.query import query
from tests.conftest import write_tiny
from tests.trained import finish


@pytest.fixture
def workspace(tmp_path):
    """Weights of two domains; the third lies aside."""
    path = write_tiny(tmp_path)
    (tmp_path / "raw" / "plants").rename(tmp_path / "plants")
    workspace = Workspace.open(path)
    corpus = build_corpus(workspace)
    decide(workspace, corpus)
    propose(workspace, corpus)
    return workspace


def propose(workspace, corpus):
    """With the runs of the search, as if their models were kept."""
    planned = plan_proxies(workspace, corpus)
    finish(workspace, planned)
    for run in planned:
        (workspace.store / "runs" / run.run_id / "model").mkdir(exist_ok=True)
    return pipeline.propose(workspace, corpus)


def land(workspace):
    """The third domain."""
    folder = workspace.store.parent
    (folder / "plants").rename(folder / "raw" / "plants")
    return build_corpus(workspace)


def land_songs(workspace, n_documents=300):
    folder = workspace.store.parent / "raw" / "songs"
    folder.mkdir()
    texts = [json.dumps({"text": f"la {i} lu {i * i} " * 8}) for i in range(n_documents)]
    (folder / "a.jsonl").write_text("\n".join(texts))
    return build_corpus(workspace)


def edit(workspace, *changes):
    path = workspace.store.parent / "tiny.toml"
    text = path.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)
    return Workspace.open(path)


def counts(workspace, corpus):
    """To train, to measure and to keep, by way that is open."""
    return {
        o.way: (o.n("train"), o.n("measure"), o.n("keep"))
        for o in price(workspace, corpus)
        if o.problem is None
    }


PRICES = {"full": (16, 0, 0), "extend": (4, 4, 8), "reuse": (12, 0, 0)}


def test_a_full_search_that_is_stopped_leaves_the_paid_base(workspace):
    corpus = land(workspace)
    assert counts(workspace, corpus) == PRICES
    decide(workspace, corpus, "full")
    assert counts(workspace, corpus) == PRICES
    propose(workspace, corpus)
    songs = counts(workspace, land_songs(workspace))
    assert songs["extend"] == (4, 4, 12)  # around the base of three domains


def test_way_reuse_builds_on_the_weights_before_also_when_another_way_was_gone(workspace):
    first = pipeline.latest_proposal(workspace)
    corpus = land(workspace)
    decide(workspace, corpus, "extend")
    propose(workspace, corpus)
    assert counts(workspace, corpus)["reuse"] == PRICES["reuse"]
    said = []
    search = decide(workspace, corpus, "reuse", say=said.append)
    assert search.frozen_from == first
    assert search.frozen.keys() == {"animals", "numbers"}
    assert said[0].startswith("another way is asked for")


def test_weights_of_text_that_is_gone_are_not_frozen(workspace):
    """`numbers` was written anew; before weights for it were found, another domain lands."""
    raw = workspace.store.parent / "raw"
    shutil.copy(workspace.store.parent / "plants" / "part-00000.jsonl", raw / "numbers")
    decide(workspace, build_corpus(workspace), "reuse")
    search = decide(workspace, land_songs(workspace), "reuse")
    assert search.frozen.keys() == {"animals"}


def test_work_on_one_corpus_goes_on_while_another_is_decided(workspace):
    earlier = land(workspace)
    decide(workspace, earlier, "reuse")
    later = land_songs(workspace)
    decide(workspace, later, "full")
    assert current_search(workspace, earlier).way == "reuse"
    assert current_search(workspace, later).way == "full"
    _, proposal = propose(workspace, earlier)
    assert proposal.mixture.keys() == {"animals", "numbers", "plants"}


def test_a_domain_that_came_and_went_costs_nothing(workspace):
    before = build_corpus(workspace)
    first = pipeline.latest_proposal(workspace)
    decide(workspace, land(workspace), "extend")
    shutil.rmtree(workspace.store.parent / "raw" / "plants")
    corpus = build_corpus(workspace)
    assert corpus.domains.keys() == before.domains.keys()
    assert decide(workspace, corpus).way == "full"
    assert not running.missing_runs(workspace, plan_proxies(workspace, corpus))
    assert pipeline.propose(workspace, corpus)[0] == first


def test_a_way_that_asks_for_too_much_closes_no_other(workspace):
    """Two scales of at most 6,144 tokens: a third of that, three times, fits; a half does not."""
    corpus = land(workspace)
    cap = 6144 / min(corpus.available_tokens.values()) * 1.01
    workspace = edit(workspace, ("max_epochs = 20", f"max_epochs = {cap}"))
    assert counts(workspace, corpus).keys() == {"full"}
    with pytest.raises(
        MixtureError, match="way 'extend' is not open: 'animals' would be"
    ) as caught:
        decide(workspace, corpus)
    assert "open: full (16 runs" in caught.value.hint
    assert decide(workspace, corpus, "full").way == "full"
    rows = query(workspace.store, "SELECT way, n_to_train, problem FROM refit_option").to_dicts()
    by_way = {row["way"]: row for row in rows}
    assert by_way["full"]["n_to_train"] == 16
    assert by_way["extend"]["n_to_train"] is None
    assert "'animals' would be read" in by_way["extend"]["problem"]


def test_a_small_folder_that_lands_ends_no_refit_of_the_others(workspace):
    workspace = edit(workspace, ("max_epochs = 20", "max_epochs = 4"))
    with pytest.warns(MixtureWarning, match="'songs' is quarantined and is left out: .* 4"):
        corpus = land_songs(workspace, n_documents=16)
    assert corpus.domains.keys() == {"animals", "numbers"}
    decide(workspace, corpus)
    named = edit(workspace, ('root = "raw"', 'root = "raw"\ndomains = ["animals", "songs"]'))
    with pytest.raises(MixtureError, match="'songs' would be read"):
        plan_proxies(named, build_corpus(named))


def test_ratios_that_answered_another_question_are_not_reused(workspace):
    corpus = land(workspace)
    decide(workspace, corpus, "reuse")
    edited = edit(workspace, ("[full]", "[objective.weights]\nanimals = 10\n[full]"))
    assert current_search(edited, corpus).way == "extend"
    with pytest.raises(MixtureError, match="are for another objective"):
        decide(edited, corpus, "reuse")
