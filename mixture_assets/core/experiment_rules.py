"""What an experiment's values must be beyond their types: each rule names its key.

The upper limits are far above what anybody trains today. They are there so that a slip of the
keyboard, or a unit taken for another, is told at once instead of by a crash in some library.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from mixture_assets.core.errors import MixtureError, quoted
from mixture_assets.core.names import RESERVED, nearest, validate_domain

if TYPE_CHECKING:
    from mixture_assets.core.experiment import Experiment
    from mixture_assets.core.run import ModelSpec

Rule = tuple[bool, str, str]  # holds, key, what it must be

_MOST_TOKENS = 10**15
_MOST_BYTES = 10**12
_MOST_PARAMETERS = 10**13
_MOST_SEEDS = 100
POLICIES = ("importance", "specialist", "dga", "doge")  # full runs that need a specialist set
SELECTORS = ("random", "bm25", "embedding", "perplexity", "gradient")
_MIXTURES = ("natural", "uniform", "proposal", "custom", *POLICIES)


def check(e: "Experiment", where: str) -> None:
    """Raise MixtureError for the first rule that does not hold.

    Args:
        e: The experiment, its types already right.
        where: Name of its file.
    """
    for holds, key, expected in _rules(e):
        if not holds:
            raise MixtureError(f"{where}: {key} must be {expected}")
    _check_names(e, where)
    _check_paths(e, where)


def _rules(e: "Experiment") -> Iterator[Rule]:
    yield from _data_rules(e)
    yield from _proxy_rules(e)
    yield from _full_rules(e)
    yield from _specialist_rules(e)
    yield from _selection_rules(e)
    yield from _training_rules(e)
    yield from _model_rules(e.model, "model", e.training.batch_tokens)
    yield from _model_rules(e.proxy_model or e.model, "proxy_model", e.training.batch_tokens)


def _data_rules(e: "Experiment") -> Iterator[Rule]:
    data, tokenizer, limit = e.data, e.tokenizer, f"from 1 to {_MOST_BYTES:,}"
    sample = tokenizer.sample_bytes_per_domain
    is_local = bool(data.root) and "://" not in data.root
    yield 0 < data.validation_fraction < 1, "data: validation_fraction", "between 0 and 1"
    yield 0 < data.validation_tokens <= _MOST_BYTES, "data: validation_tokens", limit
    yield 0 <= data.max_shared <= 1, "data: max_shared", "in [0, 1]"
    yield 0 <= data.settle_seconds <= 86_400, "data: settle_seconds", "from 0 to 86400, a day"
    yield 0 <= data.txt_document_chars <= 1 << 26, "data: txt_document_chars", "from 0 to 2^26"
    yield bool(data.root or data.datasets), "data: root", "a folder, unless there are datasets"
    yield is_local or not data.harvest, "data: root", "a local folder, for a harvest"
    yield (
        257 <= tokenizer.vocab_size <= 10**7,
        "tokenizer: vocab_size",
        ">= 257: bytes and end of text; and <= 10 million",
    )
    yield 0 < sample <= _MOST_BYTES, "tokenizer: sample_bytes_per_domain", limit
    for source in data.datasets.values():
        yield source.max_documents >= 0, "data: datasets: max_documents", ">= 0"
        yield bool(source.path), "data: datasets: path", "a folder or a hub name"


def _proxy_rules(e: "Experiment") -> Iterator[Rule]:
    p, budgets = e.proxy, e.proxy.budgets_tokens
    is_told = len(budgets) in (1, 2)
    yield is_told, "proxy: budgets_tokens", "one or two budgets"
    yield min(budgets, default=1) > 0, "proxy: budgets_tokens", "> 0"
    yield max(budgets, default=1) <= _MOST_TOKENS, "proxy: budgets_tokens", "<= 1e15"
    grows = list(budgets) == sorted(set(budgets))
    yield grows, "proxy: budgets_tokens", f"growing, not {list(budgets[:3])}"
    yield 0 < p.shrink < 1 < p.grow <= 1000, "proxy: shrink and grow", "around 1, grow <= 1000"
    yield 0 <= p.floor < 1, "proxy: floor", "in [0, 1)"
    yield 0 < p.evaluations <= 10**6, "proxy: evaluations", "> 0 and <= a million"
    yield 8 <= p.swarm_runs <= 10**5, "proxy: swarm_runs", "from 8 to 100,000"
    yield 0 <= p.bootstrap <= 10**5, "proxy: bootstrap", "from 0 to 100,000"
    yield from _seed_rules(p.seeds, "proxy: seeds")
    yield from _seed_rules(p.base_seeds or (0,), "proxy: base_seeds")


def _full_rules(e: "Experiment") -> Iterator[Rule]:
    full, weights = e.full, e.objective.weights.values()
    yield 0 < full.budget_tokens <= _MOST_TOKENS, "full: budget_tokens", "> 0 and <= 1e15"
    yield 0 < full.evaluations <= 10**6, "full: evaluations", "> 0 and <= a million"
    yield from _seed_rules(full.seeds, "full: seeds")
    is_distinct = len(set(full.mixtures)) == len(full.mixtures) > 0
    yield is_distinct, "full: mixtures", "at least one, and different"
    yield max(full.weights.values(), default=0) <= 1, "full: weights", "<= 1"
    yield min(weights, default=0) >= 0, "objective: weights", ">= 0"
    yield max(weights, default=1) > 0, "objective: weights", "> 0 somewhere"
    yield max(weights, default=1) <= 1e9, "objective: weights", "<= 1e9"
    yield 0 < e.constraints.max_epochs, "constraints: max_epochs", "> 0"
    yield 0 <= e.constraints.floor < 1, "constraints: floor", "in [0, 1)"
    yield 0 <= e.compute.workers <= 1024, "compute: workers", ">= 0 and <= 1024"
    yield 0 < e.compute.attempts <= 100, "compute: attempts", "> 0 and <= 100"


def _specialist_rules(e: "Experiment") -> Iterator[Rule]:
    s, online = e.specialist, e.online
    if s is not None:
        yield bool(s.path) != bool(s.domain), "specialist", "a path or a domain, one of the two"
        yield 0 < s.judging_fraction < 1, "specialist: judging_fraction", "between 0 and 1"
        yield 0 < s.most_tokens <= _MOST_BYTES, "specialist: most_tokens", "> 0 and <= 1e12"
    needs = [name for name in e.full.mixtures if name in POLICIES and s is None]
    yield not needs, "specialist", f"there for the full runs of {', '.join(needs)}"
    is_batch = 0 <= online.specialist_tokens <= 10**9
    yield is_batch, "online: specialist_tokens", ">= 0 and <= a billion"
    is_group = 0 <= online.group_tokens <= 10**9
    yield is_group, "online: group_tokens", ">= 0 and <= a billion"
    yield 0 <= online.clip_norm <= 1e9, "online: clip_norm", ">= 0 and <= 1e9"
    is_known = online.clip_by == "training" or online.alignment == "naive"
    yield is_known, "online: alignment", "'naive' where clip_by is 'domain'"


def _selection_rules(e: "Experiment") -> Iterator[Rule]:
    s = e.selection
    if s is None:
        return
    yield e.specialist is not None, "specialist", "there: selection is towards its documents"
    yield not (s.pool and s.domains), "selection: domains", "left out where there is a pool"
    yield 0 <= s.pool_tokens <= _MOST_TOKENS, "selection: pool_tokens", ">= 0 and <= 1e15"
    known = set(s.methods) <= set(SELECTORS)
    yield known, "selection: methods", f"of {', '.join(SELECTORS)}"
    is_distinct = len(set(s.methods)) == len(s.methods) > 0
    yield is_distinct, "selection: methods", "at least one, and different"
    yield "random" in s.methods, "selection: methods", "with 'random' among them: the baseline"
    for key, shares in (("shares", s.shares), ("pilot_shares", s.pilot_shares)):
        is_growing = list(shares) == sorted(set(shares)) and len(shares) > 0
        yield is_growing, f"selection: {key}", "growing, at least one"
        yield 0 < min(shares, default=1), f"selection: {key}", "> 0"
        yield max(shares, default=1) <= 1, f"selection: {key}", "<= 1: the whole pool"
    yield set(s.pilot_shares) <= set(s.shares), "selection: pilot_shares", "some of the shares"
    yield s.budget_share in s.shares, "selection: budget_share", "one of the shares"
    yield from _seed_rules(s.seeds, "selection: seeds")
    names = s.models or {"model": e.model}
    yield not s.selector or s.selector in names, "selection: selector", f"of {', '.join(names)}"
    yield set(s.base) <= set(names), "selection: base", f"for models of {', '.join(names)}"
    yield 0 < s.base_tokens <= _MOST_TOKENS, "selection: base_tokens", "> 0 and <= 1e15"
    yield 0 <= s.learning_rate <= 100, "selection: learning_rate", ">= 0 and <= 100"
    yield 0 <= s.batch_tokens <= 10**9, "selection: batch_tokens", ">= 0 and <= a billion"
    yield 0 <= s.lora_rank <= 10**4, "selection: lora_rank", ">= 0 and <= 10,000"
    yield 1 <= s.dimensions <= 1 << 20, "selection: dimensions", "from 1 to 2^20"
    yield 1 <= s.reference_epochs <= 1000, "selection: reference_epochs", "from 1 to 1000"
    yield 1 <= s.warmup_epochs <= 100, "selection: warmup_epochs", "from 1 to 100"
    yield 0 < s.warmup_share <= 1, "selection: warmup_share", "> 0 and <= 1"
    for name, model in s.models.items():
        batch = s.batch_tokens or e.training.batch_tokens
        yield from _model_rules(model, f"selection: models: {name}", batch)


def _seed_rules(seeds: tuple[int, ...], key: str) -> Iterator[Rule]:
    yield len(seeds) > 0, key, "at least one seed"
    yield len(seeds) <= _MOST_SEEDS, key, f"at most {_MOST_SEEDS} seeds"
    yield len(set(seeds)) == len(seeds), key, "different"
    yield 0 <= min(seeds, default=0) <= max(seeds, default=0) < 1 << 63, key, "from 0 to 2^63 - 1"


def _training_rules(e: "Experiment") -> Iterator[Rule]:
    t = e.training
    yield 0 < t.batch_tokens <= 10**9, "training: batch_tokens", "> 0 and <= a billion"
    yield 0 < t.threads <= 1024, "training: threads", "> 0 and <= 1024"
    yield 0 < t.learning_rate <= 100, "training: learning_rate", "> 0 and <= 100"
    yield 0 < t.clip_norm <= 1e9, "training: clip_norm", "> 0 and <= 1e9"
    yield 0 <= t.warmup_fraction < 1, "training: warmup_fraction", "in [0, 1)"
    yield 0 <= t.final_fraction <= 1, "training: final_fraction", "in [0, 1]"
    yield 0 <= t.weight_decay <= 1e4, "training: weight_decay", ">= 0 and <= 1e4"
    yield 0 <= min(t.beta1, t.beta2), "training: beta1, beta2", ">= 0"
    yield max(t.beta1, t.beta2) < 1, "training: beta1, beta2", "< 1"


def _model_rules(model: "ModelSpec", section: str, batch_tokens: int) -> Iterator[Rule]:
    is_within = batch_tokens >= model.context > 0 and model.context <= 1 << 24
    yield is_within, f"{section}: context", "from 1 to [training] batch_tokens, and <= 2^24"
    yield min(model.width, model.layers, model.heads) > 0, section, "of sizes > 0"
    yield model.layers <= 1000, f"{section}: layers", "<= 1000"
    yield model.width <= 1 << 20, f"{section}: width", "<= 2^20"
    n_parameters = 12 * model.layers * model.width**2
    yield n_parameters <= _MOST_PARAMETERS, section, "of at most 10 trillion parameters"
    yield model.width % max(1, model.heads) == 0, f"{section}: width", "a multiple of heads"
    is_turnable = model.family != "llama" or model.width // max(1, model.heads) % 2 == 0
    yield is_turnable, f"{section}: width", "an even multiple of heads, for rotary positions"


def _check_names(e: "Experiment", where: str) -> None:
    validate_domain(e.name, f"{where}: name", noun="name of an experiment")
    for domain in (*e.data.domains, *e.data.datasets):
        validate_domain(domain)
        if domain in RESERVED:
            raise MixtureError(
                f"{where}: no domain can be called {domain!r}: that is the specialist set",
                hint="rename its folder",
            )
    for mixture in e.full.mixtures:
        if mixture not in _MIXTURES:
            close = nearest(mixture, _MIXTURES)
            raise MixtureError(
                f"{where}: full: mixtures has an unknown name {mixture!r}{close}",
                hint=f"known names: {', '.join(_MIXTURES)}",
            )


def _check_paths(e: "Experiment", where: str) -> None:
    """Refuse what no file system takes, and a store that would be a file."""
    paths = {"store": e.store, "tokenizer: name": e.tokenizer.name}
    paths |= {f"data: datasets: {name}: path": s.path for name, s in e.data.datasets.items()}
    if e.specialist is not None and "://" not in e.specialist.path:
        paths["specialist: path"] = e.specialist.path
    if "://" not in e.data.root:
        paths["data: root"] = e.data.root
    for key, name in paths.items():
        try:
            _stat_or_none(Path(e.folder) / name)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise MixtureError(f"{where}: {key} = {quoted(name)} is no path: {reason}") from error
    store = Path(e.folder) / e.store
    found = next(filter(None, map(_stat_or_none, (store, *store.parents))), None)
    if found and not stat.S_ISDIR(found.st_mode):
        raise MixtureError(f"{where}: store = {quoted(e.store)} is not a folder, but a file")


def _stat_or_none(path: Path) -> os.stat_result | None:
    try:
        return os.stat(path)
    except FileNotFoundError:
        return None
