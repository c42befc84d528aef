"""A plan for somebody's pool and target: text is counted, points are read, all is priced."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mixture_assets.core.errors import MixtureError, shortlist
from mixture_assets.core.units import flops_text, tokens_text
from mixture_assets.data.document_sample import content_hash
from mixture_assets.data.readers import document_lists
from mixture_assets.data.shards import file_system, shards_at
from mixture_assets.selection.carried import carried
from mixture_assets.selection.costs import TRAINING
from mixture_assets.selection.planner import METHODS, WITH_SELECTOR, plan
from mixture_assets.selection.points import Point
from mixture_assets.selection.question import Plan, Question
from mixture_assets.selection.search_prices import SearchPrice, published_prices
from mixture_assets.selection_table import read_points
from mixture_assets.tables import Table

BYTES_PER_TOKEN = 4.0  # of English text under a vocabulary of 30,000 or more
_TOKENS_PER_PARAMETER = 20.0  # of a model that is sized for its budget (Chinchilla)
_SELECTOR_RATIOS = (1.0, 10.0)  # of trained to selector parameters: the published range
_NAMES = {"ppl": "perplexity", "less": "gradient", "embed": "embedding"}  # the source's names
_SAME = 0.01
_OTHER_POOL = 2.0  # times as many tokens, or as few


@dataclass(frozen=True, kw_only=True)
class PlanOptions:
    """What is asked, beside the text."""

    budget_flops: float
    train_params: float | None = None  # by default that of the points, or sized for the budget
    selector_params: tuple[float, ...] = ()  # by default those of the points, or two
    n_tasks: int = 1
    bytes_per_token: float = BYTES_PER_TOKEN
    step_tokens: float = 2048
    text_field: str = "text"
    cpu_seconds: Mapping[str, float] = field(default_factory=dict)  # of bm25 and embedding
    flops_per_second: float = 0.0
    searches: Mapping[str, float] | None = None  # name -> overhead; by default published ones

    def __post_init__(self) -> None:
        if not 0 < self.bytes_per_token < math.inf:
            raise MixtureError(f"bytes per token must be above 0, got {self.bytes_per_token:g}")
        if not 0 < self.budget_flops < math.inf:
            raise MixtureError(
                f"the budget must be above 0 FLOP and finite, got {self.budget_flops:g}"
            )


@dataclass(frozen=True, kw_only=True)
class Counted:
    """Text of a folder; empty documents are not counted."""

    hashes: frozenset[bytes]  # of the documents; empty for a pool
    n_documents: int
    n_bytes: int  # UTF-8
    n_left_out: int  # documents of the specialist set
    domains: tuple[str, ...]  # first folders below the root


def plan_selection(
    pool: str, specialist: str, options: PlanOptions, *, points: Path | None = None
) -> dict[str, Any]:
    """What to select with, how much, and whether to: for a pool, a target and a budget.

    Args:
        pool: Folder or URL with the documents to choose from.
        specialist: Folder, file or URL with documents of the target.
        options: The budget and what else is known.
        points: A table as `read_points` reads it: what was measured before.
    """
    target = count_text(specialist, "specialist", text_field=options.text_field)
    counted = count_text(pool, "pool", text_field=options.text_field, leave_out=target.hashes)
    notes = _notes_of_text(counted, options)
    known = [_renamed(p) for p in read_points(points)] if points else []
    train_params, chosen, more = _sized(known, options)
    question = Question(
        budget_flops=options.budget_flops,
        pool_tokens=counted.n_bytes / options.bytes_per_token,
        train_params=train_params,
        selector_params=options.selector_params or _selectors(chosen, train_params),
        specialist_tokens=target.n_bytes / options.bytes_per_token,
        n_tasks=options.n_tasks,
        step_tokens=options.step_tokens,
        cpu_seconds=options.cpu_seconds,
        flops_per_second=options.flops_per_second,
        searches=_searches(options, len(counted.domains)),
    )
    found = plan(question, chosen)
    return _answer(question, found, counted, target, [*notes, *more, *_pool_note(chosen, question)])


def count_text(
    path: str, name: str, *, text_field: str = "text", leave_out: frozenset[bytes] = frozenset()
) -> Counted:
    """Documents and bytes of a folder or file, read once.

    Args:
        path: Folder, file or URL.
        name: What messages call it.
        text_field: Field or column that holds the text.
        leave_out: Hashes of documents that do not count: they are in the specialist set. Without
            any, the hashes of all documents are kept.
    """
    root = file_system(path)[1]
    hashes, domains = set(), set()
    n_documents = n_bytes = n_left_out = 0
    noun = name if name == "pool" else f"{name} set"
    for shard in shards_at(path, name, cache=Path(os.devnull), noun=noun):
        location = shard.url.rpartition("://")[2]
        below = Path(location).parts[len(Path(root).parts) :]
        domains |= {below[0]} if len(below) > 1 else set()
        for texts in document_lists(shard, text_field=text_field):
            for text in texts:
                if not text.strip():
                    continue
                content = content_hash(text)
                if content in leave_out:
                    n_left_out += 1
                    continue
                if not leave_out:
                    hashes.add(content)
                n_documents += 1
                n_bytes += len(text.encode())
    if not n_documents:
        what = "nothing but documents of the specialist set" if n_left_out else "no text"
        raise MixtureError(
            f"the {name} at {path!r} has {what}", hint="name a folder with documents"
        )
    return Counted(
        hashes=frozenset(hashes),
        n_documents=n_documents,
        n_bytes=n_bytes,
        n_left_out=n_left_out,
        domains=tuple(sorted(domains)),
    )


def plan_table(answer: Mapping[str, Any]) -> Table:
    """Header and rows for people: the best share of each method and selector."""
    header = ("method", "selector", "share", "selection", "in all", "predicted", "over random")
    seen: set[tuple[str, float | None]] = set()
    rows = []
    for row in answer["rows"]:
        key = (row["method"], row["selector_params"])
        if key in seen:
            continue
        seen.add(key)
        size = row["selector_params"]
        rows.append(
            [
                row["method"],
                "-" if size is None else tokens_text(size),
                f"{100 * row['share']:.3g} %",
                flops_text(row["selection_flops"]),
                flops_text(row["total_flops"]),
                _interval(row, "performance"),
                _interval(row, "gain"),
                row["basis"],
            ]
        )
    return (*header, "from"), rows


def plan_lines(answer: Mapping[str, Any]) -> list[str]:
    """The verdict and the question, for people."""
    q = answer["question"]
    return [
        answer["verdict"],
        f"{tokens_text(q['pool_tokens'])} tokens in {q['pool_documents']:,} documents; "
        f"{tokens_text(q['train_params'])} parameters; {flops_text(q['budget_flops'])}; "
        f"predicted: {answer['unit']}",
    ]


def _interval(row: Mapping[str, Any], name: str) -> str:
    if row[name] is None:
        return "no record"
    return f"{row[name]:.3f} ({row[f'{name}_low']:.3f} to {row[f'{name}_high']:.3f})"


def _answer(
    question: Question, found: Plan, pool: Counted, target: Counted, notes: Sequence[str]
) -> dict[str, Any]:
    return {
        "question": {
            "budget_flops": question.budget_flops,
            "pool_tokens": question.pool_tokens,
            "pool_bytes": pool.n_bytes,
            "pool_documents": pool.n_documents,
            "pool_domains": list(pool.domains),
            "left_out_documents": pool.n_left_out,
            "specialist_documents": target.n_documents,
            "specialist_tokens": question.specialist_tokens,
            "train_params": question.train_params,
            "selector_params": list(question.selector_params),
            "n_tasks": question.n_tasks,
        },
        "choice": found.choice.to_json(),
        "favourite": found.favourite.to_json(),
        "verdict": found.verdict,
        "unit": found.unit,
        "rows": [row.to_json() for row in found.rows],
        "notes": [*notes, *found.notes],
    }


def _notes_of_text(pool: Counted, options: PlanOptions) -> list[str]:
    notes = [f"tokens are bytes / {options.bytes_per_token:g}: no tokenizer was asked"]
    if pool.n_left_out:
        notes.append(
            f"{pool.n_left_out} documents of the pool are in the specialist set and are left out"
        )
    if len(pool.domains) < 2 and not options.searches:
        notes.append("the pool has no two folders, so there is no mixture to search for")
    return notes


def _sized(points: Sequence[Point], options: PlanOptions) -> tuple[float, list[Point], list[str]]:
    """Parameters of the model to be trained, the points that speak for it, and remarks."""
    sizes = sorted({p.train_params for p in points if p.train_params is not None})
    asked = options.train_params
    if asked is None and len(sizes) > 1:
        raise MixtureError(
            f"the points are of models of {len(sizes)} sizes: {', '.join(f'{s:g}' for s in sizes)}",
            hint="pass --train-params",
        )
    if asked is None and sizes:
        return sizes[0], list(points), []
    if asked is None:
        size = math.sqrt(options.budget_flops / (TRAINING * _TOKENS_PER_PARAMETER))
        note = f"{size:.3g} parameters: {_TOKENS_PER_PARAMETER:g} tokens a parameter at this budget"
        return size, list(points), [note]
    if not sizes or any(abs(s - asked) <= _SAME * asked for s in sizes):
        near = [p for p in points if _is_near(p.train_params, asked)]
        return asked, near, []
    nearest = min(sizes, key=lambda s: abs(math.log(s / asked)))
    own = [p for p in points if p.train_params == nearest]
    return asked, carried(own, asked), [f"performances are of models of {nearest:g} parameters"]


def _is_near(size: float | None, asked: float) -> bool:
    return size is None or abs(size - asked) <= _SAME * asked


def _selectors(points: Sequence[Point], train_params: float) -> tuple[float, ...]:
    sizes = {p.selector_params for p in points if p.method in WITH_SELECTOR and p.selector_params}
    return tuple(sorted(sizes)) or tuple(train_params / ratio for ratio in _SELECTOR_RATIOS)


def _searches(options: PlanOptions, n_domains: int) -> tuple[SearchPrice, ...]:
    if options.searches is None:
        return tuple(published_prices(n_domains))
    taken = sorted(set(options.searches) & set(METHODS))
    if taken:
        raise MixtureError(f"{shortlist(taken)} selects documents and searches for no mixture")
    return tuple(
        SearchPrice(name=name, overhead=overhead, basis="as asked")
        for name, overhead in options.searches.items()
    )


def _pool_note(points: Sequence[Point], question: Question) -> list[str]:
    """Shares of another pool are taken for shares of this one: say so where they cannot be."""
    if not points:
        return []
    full = sorted(p.full_flops for p in points)[len(points) // 2]
    tokens = full / (TRAINING * question.train_params)
    if 1 / _OTHER_POOL <= tokens / question.pool_tokens <= _OTHER_POOL:
        return []
    return [
        f"the points are of a pool of about {tokens_text(tokens)} tokens, this one has "
        f"{tokens_text(question.pool_tokens)}: what a share teaches is taken to be the same, and "
        "selection to cost in proportion to the pool"
    ]


def _renamed(point: Point) -> Point:
    name = point.method.lower()
    name = _NAMES.get(name, name)
    return replace(point, method=name if name in METHODS else point.method)
