"""What an experiment's [selection] will take in runs and tokens, told before anything starts."""

from collections.abc import Sequence
from dataclasses import dataclass

from mixture_assets.core.experiment import Experiment, SelectionSpec
from mixture_assets.core.run import ModelSpec
from mixture_assets.corpus import Workspace
from mixture_assets.data.shards import file_system
from mixture_assets.selection.costs import FORWARD, TRAINING

_BYTES_PER_TOKEN = 4  # of raw shards: text nobody has tokenized yet


@dataclass(frozen=True)
class SelectionStage:
    """Work of one kind with one model."""

    name: str
    runs: int
    tokens: int  # as training counts them: scoring a token takes a third of learning from it
    model: ModelSpec


def selection_stages(workspace: Workspace) -> list[SelectionStage]:
    """Base models, selectors, scoring by perplexity, runs on subsets; none without [selection].

    Reads no document: without `pool_tokens` a token is four bytes of the raw shards. Scoring by
    gradients is not counted, which depends on how many documents the pool has.
    """
    e, spec = workspace.experiment, workspace.experiment.selection
    if spec is None:
        return []
    models = dict(spec.models) or {"model": e.model}
    selector = spec.selector or min(models)
    pool = spec.pool_tokens or _tokens_at(e.beside(spec.pool or e.data.root))
    stages = [
        SelectionStage(f"selection: base {name}", 1, spec.base_tokens, model)
        for name, model in sorted(models.items())
        if name not in spec.base
    ]
    stages += _selectors(e, spec, pool, models[selector])
    runs, tokens = _subsets(spec, pool)
    return stages + [
        SelectionStage(f"selection: runs on subsets, {name}", runs, tokens, model)
        for name, model in sorted(models.items())
    ]


def _selectors(
    e: Experiment, spec: SelectionSpec, pool: int, model: ModelSpec
) -> Sequence[SelectionStage]:
    stages = []
    if "perplexity" in spec.methods:
        tokens = spec.reference_epochs * _steering_tokens(e)
        stages.append(SelectionStage("selection: reference", 1, tokens, model))
        tokens = round(pool * FORWARD / TRAINING)
        stages.append(SelectionStage("selection: perplexities", 1, tokens, model))
    if "gradient" in spec.methods:
        tokens = round(spec.warmup_epochs * spec.warmup_share * pool)
        stages.append(SelectionStage("selection: warm-up", 1, tokens, model))
    return stages


def _subsets(spec: SelectionSpec, pool: int) -> tuple[int, int]:
    """Runs and their tokens, for one model: the whole pool is one subset for all methods."""
    parts = [share for share in spec.shares if share < 1]
    n_whole = len(spec.shares) - len(parts)
    runs = len(spec.seeds) * (len(spec.methods) * len(parts) + n_whole)
    shares = len(spec.seeds) * (len(spec.methods) * sum(parts) + n_whole)
    return runs, round(shares * pool)


def _steering_tokens(e: Experiment) -> int:
    """Of the documents that steer."""
    if e.specialist is None:
        return 0
    most = e.specialist.most_tokens
    if not e.specialist.path:
        return most
    share = 1 - e.specialist.judging_fraction
    return min(most, round(share * _tokens_at(e.beside(e.specialist.path))))


def _tokens_at(root: str) -> int:
    """Bytes on disk over the bytes of a token; 0 where nothing is there yet."""
    fs, path = file_system(root)
    return int(fs.du(path)) // _BYTES_PER_TOKEN if fs.exists(path) else 0
