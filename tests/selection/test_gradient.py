"""Gradient scores against autograd and torch's own AdamW, one document at a time."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from mixture_assets.core.errors import MixtureError
from mixture_assets.selection.choose import choose
from mixture_assets.selection.gradient import Gradient
from mixture_assets.selection.scores import write_scores
from mixture_assets.selection.sequence_gradients import watched
from mixture_assets.selection.snapshots import Snapshot
from tests.selection.conftest import CONTEXT, PLANTED, SPECIALIST, doc_id, texts_of
from tests.selection.snapshots import ALPHA, is_compared, make_case, reference

KINDS = [(family, lora) for family in ("llama", "gpt2") for lora in (False, True)]
EXACT = 1 << 17  # buckets: more than the models have entries, so that no two share one


@pytest.fixture(scope="session")
def cases(tmp_path_factory, tokenizer, english):
    made = {}
    for family, lora in KINDS:
        folder = tmp_path_factory.mktemp(f"{family}{lora}")
        made[family, lora] = make_case(folder, family, lora, tokenizer, english[:3])
    return made


def selector_of(case, **settings):
    alpha = ALPHA if case.lora else None
    return Gradient([Snapshot(case.base, f, alpha) for f in case.folders], **settings)


def ids_of(pool, texts):
    return [pool.tokenizer.reference.encode(t).ids for t in texts]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch_tokens", [1, 0])
def test_scores_are_those_of_autograd_where_nothing_is_projected(
    cases, pool, specialist, scores_of, kind, batch_tokens
):
    case, texts = cases[kind], texts_of(pool)
    selector = selector_of(case, dimensions=EXACT, batch_tokens=batch_tokens)
    selector.prepare(specialist, pool)
    found = scores_of(selector, pool)
    some = list(texts)[::4]
    documents, targets = (ids_of(pool, t) for t in ([texts[i] for i in some], SPECIALIST))
    expected = reference(case, documents, targets, pool.tokenizer.eos_id)
    assert np.std(expected) > 0.003
    assert [found[i] for i in some] == pytest.approx(expected, abs=2e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_projected_scores_are_within_the_projections_error(
    cases, pool, specialist, scores_of, kind
):
    def scores(**settings):
        selector = selector_of(cases[kind], **settings)
        selector.prepare(specialist, pool)
        found = scores_of(selector, pool)
        return np.array([found[i] for i in sorted(found)])

    exact = scores(dimensions=EXACT)
    # A score is a mean of cosines with sd sqrt((1 + c^2) / K); errors of documents are alike.
    errors = [scores(dimensions=512, seed=seed) - exact for seed in range(4)]
    sd = (1 / 512) ** 0.5
    assert np.abs(errors).max() < 4 * sd
    assert np.sqrt(np.mean(np.square(errors))) < 1.5 * sd
    assert np.abs(errors).max() > 1e-4  # it was projected


@pytest.mark.parametrize("kind", KINDS)
def test_near_copies_of_the_specialist_set_come_first(
    cases, pool, specialist, first_are_planted, tmp_path, kind
):
    case = cases[kind]
    usual = rewritten(case, tmp_path / "usual", numbers={"eps": 1e-8})
    selector = Gradient([Snapshot(case.base, usual, ALPHA if case.lora else None)])
    found = write_scores(tmp_path / "store", selector, pool, specialist)
    assert first_are_planted(selector, pool)
    share = sum(len(i) for i in ids_of(pool, PLANTED)) / pool.n_tokens
    assert set(choose(found, share).doc_ids) == set(map(doc_id, PLANTED))


def test_a_document_counts_by_its_first_tokens(cases, pool, specialist, scores_of):
    case, texts = cases["llama", False], texts_of(pool)
    selector = selector_of(case, dimensions=EXACT, most_tokens=10)
    selector.prepare(specialist, pool)
    found, some = scores_of(selector, pool), list(texts)[::9]
    documents, targets = (ids_of(pool, t) for t in ([texts[i] for i in some], SPECIALIST))
    expected = reference(case, documents, targets, pool.tokenizer.eos_id, most=10)
    assert [found[i] for i in some] == pytest.approx(expected, abs=2e-5)
    assert selector.settings["most_tokens"] == 10
    assert selector_of(case).settings["most_tokens"] == CONTEXT
    with pytest.raises(MixtureError, match=f"from 1 to the model's context of {CONTEXT}, got 33"):
        selector_of(case, most_tokens=33)


@pytest.mark.parametrize("kind", KINDS)
def test_which_parameters_take_part_is_recorded(cases, kind):
    case = cases[kind]
    trained = load_file(case.folders[0] / "model.safetensors")
    compared = sum(p.numel() for n, p in trained.items() if is_compared(n))
    settings = selector_of(case).settings
    assert settings["n_parameters"] == compared
    assert settings["n_parameters_left_out"] == sum(p.numel() for p in trained.values()) - compared
    assert (settings["n_parameters_left_out"] == 0) is case.lora
    assert str(case.base) not in json.dumps(settings)


def rewritten(case, target, *, names=lambda n: n, numbers=None):
    """A copy of the first snapshot with other names, or other numbers."""
    target.mkdir(parents=True)
    for file in ("model.safetensors", "moments.safetensors"):
        tensors = load_file(case.folders[0] / file)
        save_file({names(n): t for n, t in tensors.items() if names(n)}, target / file)
    said = json.loads((case.folders[0] / "snapshot.json").read_text())
    (target / "snapshot.json").write_text(json.dumps(said | (numbers or {})))
    return target


def test_adapters_go_by_any_of_pefts_names_and_their_alpha_is_found(
    cases, pool, specialist, scores_of, tmp_path
):
    case = cases["llama", True]

    def scores(snapshot):
        selector = Gradient([snapshot], dimensions=1024)
        selector.prepare(specialist, pool)
        return scores_of(selector, pool)

    expected = scores(Snapshot(case.base, case.folders[0], ALPHA))

    def bare(name):
        return name.replace("base_model.model.", "").replace(".default.", ".")

    lora = {"lora": {"rank": 4, "alpha": ALPHA, "targets": []}}
    said = rewritten(case, tmp_path / "a/snapshots/1", names=bare, numbers=lora)
    assert scores(Snapshot(case.base, said)) == expected
    of_run = rewritten(case, tmp_path / "b/snapshots/1", names=bare)
    with pytest.raises(MixtureError, match="has LoRA adapters, and nothing says their alpha"):
        Gradient([Snapshot(case.base, of_run)]).settings  # noqa: B018
    spec = {"spec": {"start": {"model": "abc", "lora": {"rank": 4, "alpha": ALPHA}}}}
    (tmp_path / "b/spec.json").write_text(json.dumps(spec))
    assert scores(Snapshot(case.base, of_run)) == expected
    assert scores(Snapshot(case.base, said, 2 * ALPHA)) != expected


def test_settings_follow_content(cases, tmp_path):
    case = cases["gpt2", False]
    copies = [shutil.copytree(f, tmp_path / f"copy{i}") for i, f in enumerate(case.folders)]
    one, same = (
        Gradient([Snapshot(case.base, f) for f in folders]).settings
        for folders in (case.folders, copies)
    )
    assert one == same
    other = rewritten(case, tmp_path / "other", numbers={"learning_rate": 1.0})
    assert Gradient([Snapshot(case.base, other)]).settings["snapshots"] != one["snapshots"][:1]


def test_what_is_no_snapshot_of_the_model_is_refused(cases, pool, specialist, tmp_path):
    case = cases["llama", False]

    def refusal(snapshots):
        with pytest.raises(MixtureError) as error:
            Gradient(snapshots).prepare(specialist, pool)
        return str(error.value)

    assert "need a snapshot of a run, and got none" in refusal([])
    mixed = [Snapshot(c.base, c.folders[0]) for c in (case, cases["gpt2", False])]
    assert "are not of one model" in refusal(mixed)
    wrong_base = Snapshot(cases["gpt2", False].base, case.folders[0])
    assert "has no trained linear layer of the blocks of GPT2LMHeadModel" in refusal([wrong_base])
    assert "is no snapshot of a run" in refusal([Snapshot(case.base, tmp_path)])
    halves = rewritten(case, tmp_path / "half", names=lambda n: n * ("exp_avg_sq" not in n))
    assert "and not its moments" in refusal([Snapshot(case.base, halves)])
    small = AutoModelForCausalLM.from_pretrained(case.base)
    small.resize_token_embeddings(90)
    small.save_pretrained(tmp_path / "small")
    refused = refusal([Snapshot(tmp_path / "small", case.folders[0])])
    assert "a vocabulary of 90 tokens" in refused


def test_a_layer_that_is_used_twice_or_not_at_all_is_refused(cases):
    def forward(layers, name):
        model = AutoModelForCausalLM.from_pretrained(cases["llama", False].base)
        model.requires_grad_(False)
        layers(model.model.layers)
        with watched(model, {f"{name}.weight"}, lambda *_: None):
            model(torch.tensor([[1, 2, 3]]))

    def share(layers):
        layers[1] = layers[0]

    def bypass(layers):
        weight = layers[1].mlp.up_proj.weight
        layers[1].mlp.up_proj.forward = None
        layers[1].mlp.forward = lambda x: x @ weight.T @ weight

    with pytest.raises(MixtureError, match=r"'model.layers.0.mlp.up_proj'.*is used twice"):
        forward(share, "model.layers.0.mlp.up_proj")
    with pytest.raises(MixtureError, match=r"goes past its layers 'model.layers.1.mlp.up_proj'"):
        forward(bypass, "model.layers.1.mlp.up_proj")


def test_flops_are_three_forward_passes_of_the_layers(cases, pool, specialist, documents_of):
    case = cases["llama", False]
    selector = selector_of(case)
    selector.prepare(specialist, pool)
    before, documents = selector.flops, documents_of(SPECIALIST * 3)
    selector.score(documents)
    shapes = {n: t.numel() for n, t in load_file(case.folders[0] / "model.safetensors").items()}
    blocks = sum(n for name, n in shapes.items() if is_compared(name))
    other = sum(n for name, n in shapes.items() if "norm" in name or "embed" in name)  # tied head
    attention = 12 * 2 * 32 * CONTEXT
    expected = 2 * CONTEXT * len(documents) * (6 * blocks + 4 * other + attention)
    assert selector.flops - before == pytest.approx(expected, rel=0.01)


def test_a_broken_snapshot_leaves_one_sentence(cases, pool, specialist, tmp_path):
    case = cases["llama", False]
    folder = rewritten(case, tmp_path / "broken")
    moments = load_file(folder / "moments.safetensors")
    next(t for n, t in moments.items() if "q_proj.weight" in n)[0, 0] = float("nan")
    save_file(moments, folder / "moments.safetensors")
    with pytest.raises(MixtureError, match="'gradient' gave 43 of 43 documents no finite number"):
        write_scores(tmp_path / "store", Gradient([Snapshot(case.base, folder)]), pool, specialist)
