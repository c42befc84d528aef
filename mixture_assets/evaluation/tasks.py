"""How often a model chooses the right answer, by lm-eval, on a task that lies on this disk.

Source: L. Gao et al., "The Language Model Evaluation Harness", EleutherAI, version 0.4.13.
Differs from the source: the task and its data are local files, so nothing is fetched and no code
beside the task is run; a question whose answer is none of its choices is an error, not a miss;
questions longer than the model's context are told.

The extra `tasks` brings lm-eval; nothing else here needs it.
"""

import contextlib
import functools
import importlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

from mixture_assets.core.errors import MixtureError, MixtureWarning, quoted, shortlist

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

_METRICS = ("acc", "acc_norm")  # of the most likely choice; of the likeliest by character
_LOCAL = ("json", "csv", "parquet")  # readers of files that `datasets` has itself
_BATCH = 16  # choices in one forward pass
_FEWSHOT_SEED = 1234
_TASK_HINT = "see examples/tasks/python_next_line.yaml for a task that works"


def accuracy(
    model_folder: Path, task_file: Path, *, limit: int | None = None
) -> list[dict[str, Any]]:
    """Score a model on a multiple-choice task by the log-likelihood of each choice.

    Args:
        model_folder: A causal LM with its tokenizer, as a finished run leaves it.
        task_file: Task of lm-eval in YAML, with `output_type: multiple_choice`; paths in its
            `data_files` are beside it.
        limit: At most so many questions, the first ones.

    Returns:
        A row for each metric: task, metric, value, stderr (None for a single question), n.

    Raises:
        MixtureError: lm-eval is not installed, or the task or the model cannot be read.
    """
    if limit is not None and limit < 1:
        raise MixtureError(f"limit must be at least 1 question, got {limit}")
    lm_eval = _lm_eval()
    settings = _settings(task_file)
    lm = _language_model(model_folder)
    with tempfile.TemporaryDirectory() as cache:
        task = _task(settings, task_file, cache)
        questions = list(_questions(task, limit))
        _require_answers(task, questions, task_file)
        _check_lengths(lm, task, len(questions))
        loaded = {"tasks": {settings["task"]: task}}
        with _quiet():
            found = lm_eval.evaluate(lm=lm, task_dict=loaded, limit=limit, log_samples=False)
    return _rows(found["results"][settings["task"]], settings, len(questions))


def _lm_eval() -> Any:
    try:
        return importlib.import_module("lm_eval")
    except ImportError as error:
        raise MixtureError(
            "accuracy on a task needs lm-eval, which is not installed",
            hint="pip install 'mixture-assets[tasks]'",
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without lm-eval's bars, and its line for every choice that is cut; we say so once."""
    logger = logging.getLogger("lm_eval")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logger.setLevel(before)


# --- the task ---------------------------------------------------------------------------------


def _settings(path: Path) -> dict[str, Any]:
    """The task's definition, its data files found, and all that lm-eval would fetch refused."""
    settings = _yaml(path)
    name, kind = settings.get("task"), settings.get("output_type")
    if not isinstance(name, str) or kind != "multiple_choice":
        raise MixtureError(
            f"{path} is no task with a name and output_type multiple_choice: "
            f"task is {quoted(name)}, output_type {quoted(kind)}",
            hint=_TASK_HINT,
        )
    asked = settings.setdefault("metric_list", [{"metric": m} for m in _METRICS])
    metrics = [m.get("metric") if isinstance(m, dict) else m for m in asked]
    if strange := [str(m) for m in metrics if m not in _METRICS]:
        raise MixtureError(
            f"{path} asks for the metric {shortlist(strange)}",
            hint=f"a metric is one of {shortlist(_METRICS)}",
        )
    settings["dataset_kwargs"] = {"data_files": _data_files(settings, path)}
    return {"num_fewshot": 0} | settings


def _yaml(path: Path) -> dict[str, Any]:
    yaml = importlib.import_module("yaml")  # which comes with lm-eval
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeError, yaml.YAMLError) as error:
        words = " ".join(str(error).split())
        raise MixtureError(
            f"the task {path} cannot be read: {words}",
            hint=f"a task is YAML without !function; {_TASK_HINT}",
        ) from error
    if not isinstance(found, dict) or "include" in found:
        raise MixtureError(f"{path} is not one whole task", hint=_TASK_HINT)
    return found


def _data_files(settings: Mapping[str, Any], path: Path) -> dict[str, str]:
    """Split -> file, which exists."""
    options = settings.get("dataset_kwargs")
    files = options.get("data_files") if isinstance(options, dict) else None
    reader = settings.get("dataset_path")
    files = files if isinstance(files, dict) and reader in _LOCAL else {}
    if not files or not all(isinstance(name, str) for name in files.values()):
        raise MixtureError(
            f"{path} reads no file beside it: dataset_path is {quoted(reader)}",
            hint=f"dataset_path is one of {shortlist(_LOCAL)}, dataset_kwargs has "
            "data_files: {test: FILE}",
        )
    found = {split: path.parent.resolve() / name for split, name in files.items()}
    if missing := [str(file) for file in found.values() if not file.is_file()]:
        raise MixtureError(
            f"the task {path} has no data: {shortlist(missing)} is not there",
            hint="data_files are beside the task",
        )
    return {split: str(file) for split, file in found.items()}


def _task(settings: Mapping[str, Any], path: Path, cache: str) -> Any:
    manager = importlib.import_module("lm_eval.tasks").TaskManager(include_defaults=False)
    datasets = importlib.import_module("datasets")
    datasets.disable_progress_bars()
    read = getattr(datasets.Dataset, f"from_{settings['dataset_path']}")
    files = settings["dataset_kwargs"]["data_files"]
    try:
        rows = {split: read(file, cache_dir=cache) for split, file in files.items()}
        # `load_dataset`, which lm-eval would call, counts the use of local files on a server.
        given = {**settings, "custom_dataset": lambda **_: datasets.DatasetDict(rows)}
        with _quiet():
            task = manager.load([given])["tasks"][settings["task"]]
    except Exception as error:  # whatever lm-eval, datasets and jinja raise of a broken file
        raise _broken(path, error) from error
    task.set_fewshot_seed(seed=_FEWSHOT_SEED)
    return task


def _questions(task: Any, limit: int | None) -> Iterator[Any]:
    for _, question in task.doc_iterator(limit=limit):
        yield question


def _require_answers(task: Any, questions: list[Any], path: Path) -> None:
    if not questions:
        raise MixtureError(f"the task {path} has no question", hint="add rows to its data")
    for number, question in enumerate(questions, start=1):
        try:
            answer, choices = task.doc_to_target(question), task.doc_to_choice(question)
        except Exception as error:  # a template can raise anything
            raise _broken(path, error) from error
        is_known = answer in range(len(choices)) if isinstance(answer, int) else answer in choices
        if len(choices) < 2 or not is_known:
            raise MixtureError(
                f"the answer to question {number} of {path} is {quoted(answer)}, which is none "
                f"of its {len(choices)} choices",
                hint="an answer is the position of a choice, from 0, or the choice itself",
            )


def _broken(path: Path, error: Exception) -> MixtureError:
    words = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return MixtureError(f"lm-eval cannot read the task {path}: {words}", hint=_TASK_HINT)


# --- the model --------------------------------------------------------------------------------


def _language_model(folder: Path) -> Any:
    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    if not (folder / "config.json").is_file():
        raise MixtureError(
            f"there is no model in {folder}", hint="a finished run has one: runs/<id>/model"
        )
    try:
        model = AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True, **options)
        tokenizer = AutoTokenizer.from_pretrained(folder, **options)
    except (OSError, LookupError, RuntimeError, TypeError, ValueError) as error:
        words = " ".join(str(error).split())
        raise MixtureError(
            f"{folder} is no causal language model with a tokenizer: {words}",
            hint="a finished run leaves both: runs/<id>/model",
        ) from error
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.nn.Module.to(model, device)
    with _quiet():
        lm = importlib.import_module("lm_eval.models.huggingface").HFLM(
            pretrained=model.eval(), tokenizer=tokenizer, backend="causal", batch_size=_BATCH
        )
    lm.loglikelihood = functools.partial(lm.loglikelihood, disable_tqdm=True)
    return lm


def _check_lengths(lm: Any, task: Any, n: int) -> None:
    """Refuse choices that no window holds; tell of questions that lose their beginning."""
    task.build_all_requests(limit=n, rank=0, world_size=1)
    cut = set()
    for request in task.instances:
        context, choice = request.args
        whole = len(lm.tok_encode(context + choice))
        if whole - len(lm.tok_encode(context.rstrip())) > lm.max_length:
            raise MixtureError(
                f"a choice of question {request.doc_id + 1} is longer than the model's "
                f"{lm.max_length} tokens: {quoted(choice)}",
                hint="shorten the choices, or take a model with a longer context",
            )
        if whole > lm.max_length + 1:
            cut.add(request.doc_id)
    if cut:
        warnings.warn(
            f"{len(cut)} of {n} questions are longer than the model's {lm.max_length} tokens: "
            "only their ends are read",
            MixtureWarning,
            stacklevel=3,
        )


def _rows(found: Mapping[str, Any], settings: Mapping[str, Any], n: int) -> list[dict[str, Any]]:
    return [
        {
            "task": settings["task"],
            "metric": name,
            "value": float(found[f"{name},none"]),
            "stderr": float(found[f"{name}_stderr,none"]) if n > 1 else None,
            "n": n,
        }
        for name in _METRICS
        if f"{name},none" in found
    ]
