"""How a bad input may end: well, or in one readable error. Everything else is a bug."""

import collections
import json
import os
import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from click.testing import CliRunner
from hypothesis import HealthCheck, settings

from mixture_assets.cli import cli
from mixture_assets.core.errors import MixtureError, MixtureWarning

LONGEST_PROBLEM = 700  # characters: a screen's worth
_DIGITS = re.compile(r"0x[0-9a-f]+|[\d,.]+")
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")


def fuzz_settings(share: float, *, small: int) -> settings:
    """`small` examples by default, always the same; that share of $MIXTURE_FUZZ if it is set."""
    asked = int(os.environ.get("MIXTURE_FUZZ", "0"))
    return settings(
        max_examples=round(asked * share) if asked else small,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=True,
    )


def check_error(error: MixtureError) -> None:
    """One sentence on one line, that a terminal can print."""
    problem = str(error)
    assert problem.strip()
    assert len(problem) <= LONGEST_PROBLEM, len(problem)
    for text in (problem, error.hint):
        assert len(text.splitlines()) <= 1, text
        assert "Traceback" not in text
        text.encode("utf-8")
    assert not problem.endswith(".") or problem.endswith("...")  # a list that is cut short


def invoke(*arguments: object) -> str:
    """What a verb prints, through the command line; SystemExit(0) and one error are its ends."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MixtureWarning)
        result = CliRunner().invoke(cli, list(map(str, arguments)))
    lines = result.output.strip().split("\n")
    if result.exit_code:
        assert result.exit_code == 1, result.exception
        assert isinstance(result.exception, SystemExit), result.exception
        assert len(lines) <= 2
        assert lines[0].startswith("Error: ")
        assert all(line.startswith("hint: ") for line in lines[1:])
    assert "Traceback" not in result.output
    return result.output


class Endings:
    """Counts how inputs ended, by kind, and says it on stderr."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.kinds: collections.Counter[str] = collections.Counter()

    @property
    def n_succeeded(self) -> int:
        return self.kinds["success"]

    @property
    def n_refused(self) -> int:
        return sum(self.kinds.values()) - self.n_succeeded

    def of(self, attempt: Callable[[], Any]) -> Any:
        """What the attempt returned; None if it ended in a MixtureError, which is looked at."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", MixtureWarning)
                found = attempt()
        except MixtureError as error:
            check_error(error)
            self.kinds[_kind(str(error))] += 1
            found = None
        else:
            self.kinds["success"] += 1
        n = sum(self.kinds.values())
        if os.environ.get("MIXTURE_FUZZ") and n % 250 == 0:
            print(f"{self.what}: {n:,}", file=sys.__stderr__, flush=True)
        return found

    def report(self) -> None:
        """The counts, for a person; and for a script, where $MIXTURE_FUZZ_REPORT says."""
        print(
            f"\n{self.what}: {sum(self.kinds.values()):,} inputs, {self.n_succeeded:,} successes, "
            f"{self.n_refused:,} readable errors of {len(self.kinds) - 1} kinds",
            file=sys.__stderr__,
        )
        if folder := os.environ.get("MIXTURE_FUZZ_REPORT"):
            path = Path(folder) / f"{self.what.replace(' ', '_')}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(dict(self.kinds.most_common()), indent=1))


def _kind(problem: str) -> str:
    """The sentence without its names and numbers."""
    return _DIGITS.sub("N", _QUOTED.sub("''", problem))[:80]
