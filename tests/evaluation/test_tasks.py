"""Accuracy on a local task: lm-eval's own number, against a plain loop over the model."""

import dataclasses
import json
import math
import random
import socket
import sys
from pathlib import Path

import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

from mixture_assets.core.errors import MixtureError, MixtureWarning
from mixture_assets.core.run import ModelSpec
from mixture_assets.corpus import Workspace, build_corpus
from mixture_assets.evaluation.tasks import accuracy
from mixture_assets.plans import PlannedRun, plan_proxies
from mixture_assets.running import create_runs
from mixture_assets.store.runs import RunFolder
from mixture_assets.training.loop import train
from mixture_assets.training.model import build_model

EXAMPLE = Path(__file__).parents[2] / "examples" / "tasks" / "python_next_line.yaml"
ANIMALS = "cat dog horse mouse bird fish runs sleeps eats jumps slowly quickly".split()
NUMBERS = "one two three four five six plus minus times equals zero ten".split()
PLANTS = "oak pine rose grass leaf root grows blooms fades green tall old".split()
TASK = """
task: which_word
dataset_path: json
dataset_kwargs: {data_files: {test: questions.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: context
doc_to_choice: choices
doc_to_target: answer
target_delimiter: " "
metric_list: [{metric: acc}, {metric: acc_norm}]
"""


@pytest.fixture
def lm_eval():
    return pytest.importorskip("lm_eval", reason="the extra 'tasks' is not installed")


@pytest.fixture
def model_folder(tiny):
    """A model of the tiny experiment's tokenizer that knows nothing but is sure of it."""
    return untrained(tiny, context=32)


def untrained(tiny, *, context):
    workspace = Workspace.open(tiny)
    run = plan_proxies(workspace, build_corpus(workspace))[0]
    sure = {"initializer_range": 0.5}
    spec = ModelSpec(width=16, layers=1, heads=2, context=context, overrides=sure)
    folder = tiny.parent / "model"
    model = build_model(spec, vocab_size=320, seed=0, attention="eager")
    model.save_pretrained(folder)
    path = workspace.store / "tokenizers" / run.spec.tokenizer / "tokenizer.json"
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(path))
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(0)
    tokenizer.save_pretrained(folder)
    return folder


def questions(n=30):
    """Which word goes on: the one of the same domain, of three."""
    rng = random.Random(1)
    rows = []
    for _ in range(n):
        domains = rng.sample([ANIMALS, NUMBERS, PLANTS], 3)
        choices = [rng.choice(words) for words in domains]
        right = choices[0]
        rng.shuffle(choices)
        rows.append(
            {
                "context": " ".join(rng.choices(domains[0], k=6)),
                "choices": choices,
                "answer": choices.index(right),
            }
        )
    return rows


def write_task(folder, rows, text=TASK):
    folder.mkdir(exist_ok=True)
    (folder / "questions.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    path = folder / "task.yaml"
    path.write_text(text)
    return path


def by_hand(folder, rows, context=32):
    """(accuracy, accuracy by character): one choice, one token at a time."""
    model, tokenizer = (c.from_pretrained(folder) for c in (AutoModelForCausalLM, AutoTokenizer))
    hits, hits_norm = [], []
    for row in rows:
        sums = []
        for choice in row["choices"]:
            known = len(tokenizer(row["context"])["input_ids"])
            ids = tokenizer(f"{row['context']} {choice}")["input_ids"]
            known, ids = known - max(0, len(ids) - context - 1), ids[-context - 1 :]
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([ids])).logits[0].double()
            steps = range(known, len(ids))
            sums.append(sum(float(logits[t - 1].log_softmax(-1)[ids[t]]) for t in steps))
        by_char = [s / len(c) for s, c in zip(sums, row["choices"], strict=True)]
        hits.append(sums.index(max(sums)) == row["answer"])
        hits_norm.append(by_char.index(max(by_char)) == row["answer"])
    return sum(hits) / len(rows), sum(hits_norm) / len(rows)


def test_lm_eval_agrees_with_a_plain_loop_and_nothing_is_fetched(
    lm_eval, model_folder, tmp_path, monkeypatch
):
    reached = []
    for target, name in ((socket.socket, "connect"), (socket, "getaddrinfo")):
        monkeypatch.setattr(target, name, lambda *a, **_: reached.append(a) or [])
    rows = questions()
    found = accuracy(model_folder, write_task(tmp_path / "task", rows))
    assert not reached
    acc, acc_norm = by_hand(model_folder, rows)
    assert [(r["task"], r["metric"], r["n"]) for r in found] == [
        ("which_word", "acc", 30),
        ("which_word", "acc_norm", 30),
    ]
    assert [r["value"] for r in found] == pytest.approx([acc, acc_norm])
    assert found[0]["stderr"] == pytest.approx(math.sqrt(acc * (1 - acc) / 29))


def test_a_run_that_read_the_words_knows_which_go_together(lm_eval, tiny, tmp_path):
    workspace = Workspace.open(tiny)
    run = plan_proxies(workspace, build_corpus(workspace))[0]
    spec = dataclasses.replace(run.spec, tokens=dict.fromkeys(run.spec.tokens, 40_000))
    run = PlannedRun(spec, run.measurement, "full", "reader")
    create_runs(workspace, [run])
    train(workspace.store, run.run_id, say=lambda line: None)
    folder = RunFolder(workspace.store, run.run_id).model_path
    found = accuracy(folder, write_task(tmp_path / "task", questions(60)))
    assert found[0]["value"] > 1 / 3 + 3 * found[0]["stderr"]


def test_the_first_questions_are_asked_and_one_has_no_error(lm_eval, model_folder, tmp_path):
    rows = questions()
    task = write_task(tmp_path / "task", rows)
    (seven, _), (one, _) = (accuracy(model_folder, task, limit=n) for n in (7, 1))
    assert (seven["n"], one["n"]) == (7, 1)
    assert seven["value"] == pytest.approx(by_hand(model_folder, rows[:7])[0])
    assert one["stderr"] is None
    with pytest.raises(MixtureError, match="limit must be at least 1 question, got 0"):
        accuracy(model_folder, task, limit=0)


def test_questions_longer_than_the_context_are_told(lm_eval, model_folder, tmp_path):
    rows = questions(8)
    for row in rows[:3]:
        row["context"] = " ".join([row["context"]] * 6)
    task = write_task(tmp_path / "task", rows)
    with pytest.warns(MixtureWarning, match="3 of 8 questions are longer than the model's 32"):
        found = accuracy(model_folder, task)
    assert found[0]["value"] == pytest.approx(by_hand(model_folder, rows)[0])


def test_a_choice_that_no_window_holds_is_told(lm_eval, model_folder, tmp_path):
    rows = questions(8)
    rows[4]["choices"][1] = " ".join(PLANTS * 3)
    with pytest.raises(MixtureError, match="a choice of question 5 is longer than the model's 32"):
        accuracy(model_folder, write_task(tmp_path / "task", rows))


def test_the_example_task_is_read_and_chance_is_a_quarter(lm_eval, tiny):
    found = accuracy(untrained(tiny, context=256), EXAMPLE, limit=100)
    assert abs(found[0]["value"] - 0.25) < 4 * math.sqrt(0.25 * 0.75 / 100)


def test_the_example_asks_about_what_the_specialist_set_does_not_show():
    rows = [json.loads(x) for x in EXAMPLE.with_suffix(".jsonl").read_text().splitlines()]
    assert len(rows) == 200
    shown = (EXAMPLE.parents[1] / "specialist" / "python.jsonl").read_text()
    lines = [json.dumps(line)[1:-1] for row in rows for line in row["context"].splitlines()]
    assert not any(f"\\n{line}\\n" in shown for line in lines)
    answers = [row["answer"] for row in rows]
    assert all(30 < answers.count(k) < 70 for k in range(4))
    assert all(len(set(row["choices"])) == 4 for row in rows)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("output_type: multiple_choice", "output_type: generate_until"), "is no task with a name"),
        (("dataset_path: json", "dataset_path: ai2_arc"), "reads no file beside it"),
        (("questions.jsonl", "elsewhere.jsonl"), r"has no data: '.*elsewhere\.jsonl' is not there"),
        (("{metric: acc}", "{metric: bleu}"), "asks for the metric 'bleu'"),
        (("doc_to_text: context", "doc_to_text: !function evil.run"), "cannot be read"),
        (("doc_to_target: answer", "doc_to_target: absent"), "lm-eval cannot read the task|answer"),
        (("test_split: test", "test_split: dev"), "lm-eval cannot read the task"),
        (("task: which_word", "- which_word"), "cannot be read|is not one whole task"),
    ],
)
def test_a_broken_task_is_told_in_one_sentence(lm_eval, model_folder, tmp_path, change, message):
    task = write_task(tmp_path / "task", questions(5), TASK.replace(*change))
    with pytest.raises(MixtureError, match=message) as caught:
        accuracy(model_folder, task)
    assert caught.value.hint


@pytest.mark.parametrize("answer", [3, -1, "seven"])
def test_an_answer_that_is_no_choice_is_not_counted_as_a_miss(
    lm_eval, model_folder, tmp_path, answer
):
    rows = questions(5)
    for row in rows:
        row["answer"] = row["choices"][0] if answer == "seven" else row["answer"]
    rows[2]["answer"] = answer
    task = write_task(tmp_path / "task", rows)
    with pytest.raises(MixtureError, match=f"the answer to question 3 of .* is {answer!r}"):
        accuracy(model_folder, task)
    assert accuracy(model_folder, task, limit=2)[0]["n"] == 2


def test_a_folder_without_a_model_or_a_tokenizer_is_told(lm_eval, model_folder, tmp_path):
    task = write_task(tmp_path / "task", questions(5))
    with pytest.raises(MixtureError, match="there is no model in"):
        accuracy(tmp_path, task)
    for path in model_folder.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(MixtureError, match="is no causal language model with a tokenizer"):
        accuracy(model_folder, task)


def test_without_lm_eval_the_hint_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(MixtureError, match="needs lm-eval, which is not installed") as caught:
        accuracy(tmp_path, EXAMPLE)
    assert "mixture-assets[tasks]" in caught.value.hint
