"""What an experiment's [selection] will take in runs and tokens, told before anything starts."""

from collections.abc import Sequence
from dataclasses import dataclass

from mixture_assets.core.errors import MixtureError
from mixture_assets.core.experiment import Experiment, SelectionSpec
from mixture_assets.core.run import ModelSpec
from mixture_assets.corpus import Workspace
from mixture_assets.data.shards import file_system
from mixture_assets.selection.costs import FORWARD, GRADIENT_FORWARDS, TRAINING

_BYTES_PER_TOKEN = 4  # of raw shards: text nobody has tokenized yet


@dataclass(frozen=True)
class SelectionStage:
    """Work of one kind with one model."""

    name: str
    runs: int
    tokens: int  # as training counts them: scoring a token takes a third of learning from it
    model: ModelSpec


def selection_stages(workspace: Workspace) -> list[SelectionStage]:
    """Base models, selectors, scoring, runs on subsets; none without [selection].

    Reads no document: without `pool_tokens` a token is four bytes of the raw shards. Gradients
    are of a document's first window, so that long documents cost less than is said.

    Raises:
        MixtureError: There is no such pool.
    """
    e, spec = workspace.experiment, workspace.experiment.selection
    if spec is None:
        return []
    models = dict(spec.models) or {"model": e.model}
    selector = spec.selector or min(models)
    pool = _pool_tokens(e, spec)
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
        passes = GRADIENT_FORWARDS * spec.warmup_epochs * FORWARD / TRAINING
        most = round(passes * pool)
        stages.append(SelectionStage("selection: gradients, at most", 1, most, model))
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
    return min(most, round(share * _bytes_at(e.beside(e.specialist.path)) / _BYTES_PER_TOKEN))


def _pool_tokens(e: Experiment, spec: SelectionSpec) -> int:
    """What `pool_tokens` asks for, or all; never more than there are bytes."""
    if spec.pool:
        n_bytes = _bytes_at(e.beside(spec.pool))
        if not n_bytes:
            raise MixtureError(
                f"[selection] pool: there is no text at {spec.pool!r}",
                hint="name a folder or file with documents",
            )
    else:
        root = e.beside(e.data.root)
        parts = [f"{root}/{name}" for name in spec.domains] or [root]
        n_bytes = sum(map(_bytes_at, parts))  # 0 before the text is harvested
    if not spec.pool_tokens:
        return n_bytes // _BYTES_PER_TOKEN
    return min(spec.pool_tokens, n_bytes or spec.pool_tokens)


def _bytes_at(root: str) -> int:
    """On disk; 0 where nothing is there yet."""
    fs, path = file_system(root)
    return int(fs.du(path)) if fs.exists(path) else 0
