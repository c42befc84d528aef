"""The command itself: options that verbs share, how answers are printed, how errors end."""

import json
import math
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mixture_assets.core.errors import MixtureError, MixtureWarning

if TYPE_CHECKING:
    from mixture_assets.core.experiment import Experiment
    from mixture_assets.corpus import Workspace

# Modules that load torch or duckdb are imported inside the commands that need them: help and
# `mixture ddo` answer in a tenth of a second.


class _Group(click.Group):
    """Turns MixtureError into one readable line and its hint, never a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except MixtureError as error:
            notes = getattr(error, "__notes__", [])
            raise click.ClickException("\n".join([str(error), *notes])) from error
        except BrokenPipeError:
            raise
        except OSError as error:  # the machine's fault, not a bug: a file that may not be read
            reason = error.strerror or str(error)
            name = f": {error.filename!r}" if error.filename else ""
            raise click.ClickException(f"{reason}{name}") from error


def main() -> None:
    """Entry point: exit code 0 for success, 1 for a user's mistake, 2 for a bug, 130 if stopped."""
    signal.signal(signal.SIGTERM, _interrupt)
    warnings.formatwarning = _warning_line
    try:
        sys.exit(cli.main(standalone_mode=False))
    except click.exceptions.Abort:
        click.echo("stopped; start again to resume", err=True)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(1)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.exit(0)
    except Exception:
        click.echo(_bug_line(), err=True)
        sys.exit(2)


_python_s_line = warnings.formatwarning


def _warning_line(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    line: str | None = None,
) -> str:
    """Ours in one line, without the place in our source."""
    if issubclass(category, MixtureWarning):
        return f"warning: {message}\n"
    return _python_s_line(message, category, filename, lineno, line)


def _interrupt(_signal: int, _frame: object) -> None:
    """SIGTERM, which ends a process without its `finally`, is taken for a Ctrl-C."""
    raise KeyboardInterrupt


def _bug_line() -> str:
    """One sentence about the exception at hand; its traceback goes to a file."""
    name, error, _ = sys.exc_info()
    with tempfile.NamedTemporaryFile(
        "w", prefix="mixture-bug-", suffix=".txt", encoding="utf-8", errors="replace", delete=False
    ) as file:
        file.write(traceback.format_exc())
    what = f"{name.__name__ if name else ''}: {str(error)!r:.200}"
    return f"this is a bug of mixture_assets ({what}): please report it, with {file.name}"


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="mixture-assets", message="%(prog)s %(version)s")
def cli() -> None:
    """Find, check and train data mixtures."""


def experiment_option(command: Any) -> Any:
    """Add --experiment to a verb."""
    return click.option(
        "--experiment",
        type=click.Path(dir_okay=False, path_type=Path),
        help="Experiment file; default: the only TOML in experiments/.",
    )(command)


def json_option(command: Any) -> Any:
    """Add --json to a verb."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def open_workspace(experiment: Path | None) -> "Workspace":
    """The named experiment, or the only one, with its store."""
    from mixture_assets.corpus import Workspace

    return Workspace.open(experiment or only_experiment())


def only_experiment() -> Path:
    """The only TOML in experiments/."""
    found = sorted(Path("experiments").glob("*.toml"))
    if len(found) != 1:
        what = f"{len(found)} files" if found else "no file"
        raise MixtureError(
            f"there is {what} in experiments/, so which one is meant is unclear",
            hint="pass --experiment FILE",
        )
    return found[0]


def settings_of(experiment: Path | None) -> "Experiment":
    """The experiment file, without loading what only training needs."""
    from mixture_assets.core.experiment import load_experiment

    return load_experiment(experiment or only_experiment())


def store_of(experiment: Path | None) -> Path:
    """The experiment's store."""
    return settings_of(experiment).store_path


def asked_store(experiment: Path | None) -> Path:
    """The store for questions, which then know what the experiment file says today."""
    from mixture_assets.inputs import note_settings

    settings = settings_of(experiment)
    if settings.store_path.is_dir():
        note_settings(settings)
    return settings.store_path


def name_and_store_of(experiment: Path | None) -> tuple[str, Path]:
    """The experiment's name, and its store."""
    found = settings_of(experiment)
    return found.name, found.store_path


def print_json(value: Any) -> None:
    """Data for programs; JSON has no infinity, so that is null."""
    click.echo(json.dumps(_finite(value), indent=2, sort_keys=True, allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def say(line: str) -> None:
    """Words for people, on stderr."""
    click.echo(line, err=True)


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns of words to the left, columns of numbers to the right."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    is_words = [any(row[i][:1].isalpha() for row in rows) for i in range(len(header))]
    for row in [header, ["-" * w for w in widths], *rows]:
        cells = [
            cell.ljust(w) if words else cell.rjust(w)
            for cell, w, words in zip(row, widths, is_words, strict=True)
        ]
        click.echo("  ".join(cells).rstrip())


def print_left_out(answer: Mapping[str, Any]) -> None:
    """Runs that do not count, with their reasons, and what else is to be known of the tables."""
    for run, reason in answer["excluded"].items():
        click.echo(f"left out: {run}: {reason}")
    for note in answer["notes"]:
        click.echo(f"note: {note}")
