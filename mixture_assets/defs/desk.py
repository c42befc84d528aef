"""The desk: verbs of the command line as jobs.

Arguments go into the launchpad, the answer comes as metadata of the job's only output.

A verb is a function from its settings to metadata, and `desk` makes the job of it; verbs.py has
all of them. What is kept is the event alone: the answer goes to no file.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg

from mixture_assets.core.errors import MixtureError
from mixture_assets.defs.metadata import Metadata, table
from mixture_assets.defs.steps import ending_well


def desk(function: Callable[..., Metadata]) -> dg.JobDefinition:
    """A job of one step that logs what the function returns as metadata of its output.

    A last underscore, as in `next_`, is not part of the verb's name.
    """
    name = function.__name__.removesuffix("_")

    @functools.wraps(function)
    def answer(**arguments: Any) -> dg.Output[None]:
        return dg.Output(None, metadata=function(**arguments))

    answer.__annotations__ = function.__annotations__ | {"return": dg.Output[None]}
    step = dg.op(name=name, out=dg.Out(dg.Nothing))(ending_well(answer))

    @dg.job(
        name=f"desk_{name}",
        description=function.__doc__,
        tags={"mixture/job": "desk"},
    )
    def job() -> None:
        step()

    return job


def listed(rows: Sequence[Mapping[str, Any]], *columns: str) -> dg.MarkdownMetadataValue:
    """Rows of a library call as a table, all columns or some; no rows are 'none'."""
    if not rows:
        return dg.MetadataValue.md("none")
    names = columns or tuple(rows[0])
    return table(names, [[_cell(row[name]) for name in names] for row in rows])


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "-" if value is None else str(value)


def named_file(name: str) -> Path:
    """A file that a setting names."""
    path = Path(name).expanduser()
    if not path.is_file():
        raise MixtureError(f"there is no file {name!r}", hint="give its path on this machine")
    return path
