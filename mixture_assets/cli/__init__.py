"""`mixture`: the same steps without Dagster, one verb per step. Data on stdout, words on stderr."""

from mixture_assets.cli import experiment, history, numbers, proposals, records  # each adds verbs
from mixture_assets.cli.app import cli, main

__all__ = ["cli", "experiment", "history", "main", "numbers", "proposals", "records"]
