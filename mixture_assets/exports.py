"""Weights in the words of other trainers: what goes in is checked, what comes out is text.

Floats are written as Python's repr, so that reading them back gives the same bits, after the
weights were brought to a sum of exactly 1. Names are always quoted: `yes`, `1e5` and `a: b` stay
names. A domain of weight 0 is left out, with a note, where a trainer has no use for it.
"""

import json
import math
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from mixture_assets.core.errors import MixtureError, quoted, shortlist
from mixture_assets.core.mixture import Mixture
from mixture_assets.core.names import nearest

_LONGEST_NAME = 200
_SLOTS = (100, 10_000)  # fewest and most entries of a list that repeats names


@dataclass(frozen=True, kw_only=True)
class Weights:
    """What is exported: weights, and what some trainers must know beside them."""

    mixture: Mixture
    budget_tokens: int | None = None  # of the full run
    epochs: Mapping[str, float] | None = None  # passes over each domain in the full run
    paths: Mapping[str, str] | None = None  # domain -> path or prefix; by default its name
    verdict: str = ""  # what the proposal says of itself, if it says anything


@dataclass(frozen=True, kw_only=True)
class Export:
    """Text for a trainer, and what the reader must know of it."""

    text: str
    notes: tuple[str, ...] = ()


def export(weights: Weights, form: str) -> Export:
    """The weights in one of FORMATS.

    Raises:
        MixtureError: An unknown format, or a name or a path that it cannot hold.
    """
    if form not in FORMATS:
        raise MixtureError(
            f"there is no format {form!r}{nearest(form, FORMATS)}",
            hint=f"formats: {', '.join(FORMATS)}",
        )
    for name in weights.mixture:
        if not name or not name.isprintable() or len(name) > _LONGEST_NAME:
            raise MixtureError(
                f"{quoted(name)} is not a name that a file can hold",
                hint=f"at most {_LONGEST_NAME} characters that can be printed",
            )
    return FORMATS[form](weights)


def exact(mixture: Mapping[str, float]) -> dict[str, float]:
    """The weights, of which the exact sum rounds to 1: the largest takes what rounding left."""
    total = math.fsum(mixture.values())
    found = {name: weight / total for name, weight in mixture.items()}
    largest = max(found, key=lambda name: found[name])
    while (total := math.fsum(found.values())) != 1:
        found[largest] += 1 - total
    return found


def paths_like(pattern: str, domains: Sequence[str]) -> dict[str, str]:
    """Domain -> the pattern with its name in place of `{}`."""
    if pattern.count("{}") != 1:
        raise MixtureError(
            f"{quoted(pattern)} does not say where a domain's name is in it",
            hint="put {} there once, as in 'data/{}'",
        )
    return {domain: pattern.replace("{}", domain) for domain in domains}


# --- plain ------------------------------------------------------------------------------------


def _json(weights: Weights) -> Export:
    return Export(text=_dumped(_beside(weights) | {"weights": exact(weights.mixture)}))


def _toml(weights: Weights) -> Export:
    head = [f"{key} = {value}" for key, value in _beside(weights).items()]
    rows = [f"{_name(n)} = {w!r}" for n, w in exact(weights.mixture).items()]
    return Export(text=_lines(*head, "[weights]", *rows))


def _beside(weights: Weights) -> dict[str, int]:
    return {} if weights.budget_tokens is None else {"budget_tokens": weights.budget_tokens}


# --- trainers ---------------------------------------------------------------------------------


def _olmo_core(weights: Weights) -> Export:
    """A SourceMixtureList: `sources`, each with its ratio, paths and cap on repetition."""
    found, notes = _used(weights)
    rows = [] if weights.budget_tokens is None else [f"# requested_tokens: {weights.budget_tokens}"]
    rows.append("sources:")
    for name, weight in found.items():
        rows.append(f"  - source_name: {_name(name)}")
        rows.append(f"    target_ratio: {_yaml_float(weight)}")
        rows.append(f"    paths: [{_name(_path(weights, name))}]")
        if weights.epochs is not None and name in weights.epochs:
            rows.append(f"    max_repetition_ratio: {_repetition(weights.epochs[name])!r}")
    if weights.epochs is None:
        told = "how often domains are read is not known: OLMo-core's cap on repetition stays at 1"
        notes = (*notes, told)
    return Export(text=_lines(*rows), notes=notes)


def _repetition(epochs: float) -> float:
    """At least 1, which OLMo-core demands; up by a hundredth, as it cuts tokens to whole ones."""
    return max(1.0, math.ceil(epochs * 100 + 1e-6) / 100)


def _megatron(weights: Weights) -> Export:
    """Words for a shell: `--data-path weight path weight path`."""
    found, notes = _used(weights)
    words = ["--data-path"]
    for name, weight in found.items():
        path = _path(weights, name)
        if path.startswith("-") or path != path.strip():
            raise MixtureError(
                f"Megatron does not read {quoted(path)} as a path",
                hint="no dash before it and no space around it: --paths 'data/{}'",
            )
        words += [repr(weight), path]
    return Export(text=_lines(shlex.join(words)), notes=notes)


def _huggingface(weights: Weights) -> Export:
    """Names, and probabilities for `datasets.interleave_datasets` in the same order."""
    found, notes = _used(weights)
    text = _dumped({"names": list(found), "probabilities": list(found.values())})
    told = (
        "interleave_datasets draws examples, and weights are of tokens: pack the texts to one "
        "length first"
    )
    return Export(text=text, notes=(*notes, told))


def _levanter(weights: Weights) -> Export:
    """The `train_weights` of a mixture."""
    rows = [f"  {_name(n)}: {_yaml_float(w)}" for n, w in exact(weights.mixture).items()]
    return Export(text=_lines("train_weights:", *rows))


def _nanochat(weights: Weights) -> Export:
    """A list in which names repeat as often as their weights say, evenly spread.

    The length is such that every share is right to one entry.
    """
    found, notes = _used(weights)
    fewest, most = _SLOTS
    n_slots = min(most, max(fewest, math.ceil(2 / min(found.values()))))
    counts = Mixture(found).split(n_slots)
    missing = [name for name, count in counts.items() if not count]
    if missing:
        notes = (*notes, f"less than one of {n_slots:,} entries: {shortlist(missing, 12)}")
    return Export(text=_dumped(_spread(counts)), notes=notes)


def _spread(counts: Mapping[str, int]) -> list[str]:
    """Names as often as counted; each entry is the name that is furthest behind its share."""
    length, given = sum(counts.values()), dict.fromkeys(counts, 0)
    found = []
    for i in range(1, length + 1):
        name = max(counts, key=lambda n: counts[n] * i - given[n] * length)
        given[name] += 1
        found.append(name)
    return found


FORMATS: Mapping[str, Callable[[Weights], Export]] = {
    "json": _json,
    "toml": _toml,
    "olmo-core": _olmo_core,
    "megatron": _megatron,
    "huggingface": _huggingface,
    "levanter": _levanter,
    "nanochat": _nanochat,
}


# --- how things are written -------------------------------------------------------------------


def _used(weights: Weights) -> tuple[dict[str, float], tuple[str, ...]]:
    """Domains with a weight, and a note on the others."""
    unused = [name for name, weight in weights.mixture.items() if not weight]
    found = exact({name: weight for name, weight in weights.mixture.items() if weight})
    return found, (f"left out, as their weight is 0: {shortlist(unused, 12)}",) if unused else ()


def _path(weights: Weights, domain: str) -> str:
    return domain if weights.paths is None else weights.paths[domain]


def _name(text: str) -> str:
    """In double quotes, which TOML and YAML read as JSON does for what can be printed."""
    return json.dumps(text, ensure_ascii=False)


def _yaml_float(value: float) -> str:
    """With a point in it: YAML 1.1 takes 1e-05 for a text."""
    text = repr(value)
    return text if "." in text else text.replace("e", ".0e")


def _dumped(value: object) -> str:
    return _lines(json.dumps(value, indent=2, ensure_ascii=False))


def _lines(*lines: str) -> str:
    return "\n".join(lines) + "\n"
