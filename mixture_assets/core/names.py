"""Domain names become folders, partition keys and SQL values: check them once, here."""

import difflib
import re
from collections.abc import Iterable

from mixture_assets.core.errors import MixtureError

# No slash, backslash, comma (Dagster cannot backfill such a partition), quote or space; ':' is
# allowed inside for `source:topic`. A leading dot or dash would be a hidden file or an option.
_DOMAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:+-]{0,99}")

# What the specialist set's documents are called where domains are: those that judge, or are
# trained on by its own baseline, and those that steer.
SPECIALIST, STEERING = "specialist", "specialist_steering"
RESERVED = (SPECIALIST, STEERING)
# Documents to choose from, and those that were chosen, where token sets have a domain.
POOL, SELECTED = "selection_pool", "selection"


def validate_domain(name: str, where: str = "", *, noun: str = "domain name") -> str:
    """Return `name` if it is safe as a folder and a partition key, else raise MixtureError."""
    if not _DOMAIN.fullmatch(name) or ".." in name:
        article = "no" if where else "not a"
        raise MixtureError(
            f"{where}{' = ' if where else ''}{name!r} is {article} {noun}",
            hint="use letters, digits and _ . : + - (at most 100), starting with a letter or digit",
        )
    return name


def by_prefix(prefix: str, known: Iterable[str]) -> str | None:
    """The one name that begins so, or is the prefix itself; None if there is none, or several."""
    names = set(known)
    found = [name for name in names if name.startswith(prefix)] if prefix else []
    return prefix if prefix in names else found[0] if len(found) == 1 else None


def require_one(prefix: str, known: Iterable[str], *, noun: str, hint: str) -> str:
    """The one name that a prefix means, or MixtureError where there is none, or several."""
    names = list(known)
    found = by_prefix(prefix, names)
    if found is not None:
        return found
    n_matching = sum(bool(prefix) and name.startswith(prefix) for name in names)
    problem = f"{n_matching} {noun}s begin with" if n_matching else f"there is no {noun}"
    raise MixtureError(f"{problem} {prefix!r}{nearest(prefix, names)}", hint=hint)


def nearest(name: str, known: Iterable[str]) -> str:
    """' (did you mean ...?)' for a misspelt name, or an empty string."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
