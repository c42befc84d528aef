"""`mixture`: the same steps without Dagster, one verb per step. Data on stdout, words on stderr."""

# each adds its verbs
from mixture_assets.cli import (
    clusters,
    experiment,
    history,
    next_runs,
    numbers,
    proposals,
    records,
    selection,
)
from mixture_assets.cli.app import cli, main

__all__ = [
    "cli",
    "clusters",
    "experiment",
    "history",
    "main",
    "next_runs",
    "numbers",
    "proposals",
    "records",
    "selection",
]
