"""The score sets of an experiment's selection: each method's selector, and what it cost."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixture_assets.core.names import STEERING
from mixture_assets.data.document_sample import sample_texts
from mixture_assets.data.validation import validation_path
from mixture_assets.embeddings import learn, settings_of
from mixture_assets.methods.embedding import Embedding
from mixture_assets.plans import PlannedRun
from mixture_assets.pools import Selection, Starts
from mixture_assets.selection.choose import choose
from mixture_assets.selection.documents import Documents, Pool
from mixture_assets.selection.scores import ScoreSet, write_scores
from mixture_assets.selection.selector import Selector
from mixture_assets.selection.selectors import build_selector
from mixture_assets.specialist import steering_texts
from mixture_assets.store.runs import RunFolder

_WARMUP_SEED = 1 << 31  # a random choice that no fine-tuning seed makes too
_SAMPLE_CHARS = 20_000  # of each document
_SAMPLE_DOCUMENTS = 20_000  # of the pool, that TF-IDF is learned from


@dataclass(frozen=True)
class SelectorRuns:
    """Runs that selectors score with; None where no method needs one."""

    reference: PlannedRun | None
    warmup: PlannedRun | None
    warmup_order: ScoreSet | None = None  # what the warm-up's documents were drawn by

    @property
    def planned(self) -> list[PlannedRun]:
        """Those that there are."""
        return [run for run in (self.reference, self.warmup) if run is not None]


def score_set(
    selection: Selection, method: str, seed: int, starts: Starts, runs: SelectorRuns
) -> ScoreSet:
    """The scores of one method over the pool, made unless they are there.

    Args:
        selection: What is chosen from.
        method: A name in `[selection] methods`.
        seed: Of 'random'; the other methods score alike in every seed.
        starts: Models that runs go on from.
        runs: Finished runs that selectors score with.
    """
    store = selection.workspace.store
    pool = Pool(selection.pool.paths(store), selection.corpus.tokenizer)
    name = selection.specialist.steering
    steering = Documents.read(validation_path(store, STEERING, name))
    selector = _selector(selection, method, seed, starts, runs, pool)
    return write_scores(store, selector, pool, steering, name)


def selector_runs(selection: Selection, starts: Starts) -> SelectorRuns:
    """The runs that the experiment's methods score with, before they are trained."""
    methods = selection.spec.methods
    reference = selection.reference_run(starts) if "perplexity" in methods else None
    warmup, order = None, None
    if "gradient" in methods:
        none = SelectorRuns(None, None)
        order = score_set(selection, "random", _WARMUP_SEED, starts, none)
        warmup = selection.warmup_run(starts, choose(order, selection.spec.warmup_share).doc_ids)
    return SelectorRuns(reference, warmup, order)


def _selector(
    selection: Selection,
    method: str,
    seed: int,
    starts: Starts,
    runs: SelectorRuns,
    pool: Pool,
) -> Selector:
    """The selector of a method, with the models that it scores with."""
    settings: dict[str, Any] = {}
    store = selection.workspace.store
    if method == "random":
        settings = {"seed": seed}
    elif method == "embedding":
        settings = {"embedding": _embedding(selection, pool)}
    elif method == "perplexity":
        assert runs.reference is not None
        folder = RunFolder(store, runs.reference.run_id).model_path
        settings = {"folder": folder, "order": selection.spec.order, "training": selection.training}
    elif method == "gradient":
        settings = {
            "snapshots": _snapshots(selection, starts, runs),
            "dimensions": selection.spec.dimensions,
            "training": selection.training,
        }
    return build_selector(method, **settings)


def _snapshots(selection: Selection, starts: Starts, runs: SelectorRuns) -> list[Any]:
    """Points of the warm-up, by number: a killed write leaves others behind."""
    from mixture_assets.selection.snapshots import Snapshot  # loads torch

    assert runs.warmup is not None
    store = selection.workspace.store
    base = store / "models" / starts[selection.selector][0]
    folder = RunFolder(store, runs.warmup.run_id).path / "snapshots"
    return [Snapshot(base, folder / str(k)) for k in range(1, runs.warmup.spec.snapshots + 1)]


class _LearnedLater:
    """TF-IDF of a sample of the pool and of what steers: named by these, learned when it is used.

    So scores that are there are found without reading the pool, and learning is in their time.
    """

    def __init__(self, selection: Selection, pool: Pool) -> None:
        self._selection, self._pool = selection, pool
        self._found: Embedding | None = None
        sources = {"pool": selection.pool.digest, "steering": selection.specialist.steering}
        self.settings = settings_of("tfidf") | sources | {"documents": _SAMPLE_DOCUMENTS}

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """N x K, float32, of length 1."""
        if self._found is None:
            self._found = learn("tfidf", self._sample())
        return self._found.embed(texts)

    def _sample(self) -> list[str]:
        texts = (
            text.decode("utf-8", "replace")
            for shard in sorted(self._pool.shards)
            for documents in self._pool.pieces(shard)
            for text in self._pool.texts(documents)
        )
        sample = sample_texts(texts, _SAMPLE_DOCUMENTS, seed=0, chars=_SAMPLE_CHARS)
        s = self._selection
        return [*sample.values(), *steering_texts(s.workspace, s.corpus, s.specialist)]


def _embedding(selection: Selection, pool: Pool) -> Embedding:
    """The experiment's embedding."""
    name = selection.embedding
    if name == "tfidf":
        return _LearnedLater(selection, pool)
    return learn(name, [], store=selection.workspace.store)
