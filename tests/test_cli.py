import json
import math
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from mixture_assets.cli import cli
from mixture_assets.cli.app import print_json
from mixture_assets.store.status import next_commands


def invoke(*arguments):
    return CliRunner().invoke(cli, [str(a) for a in arguments])


def all_commands(group):
    """Every verb and every group, by the words that call it."""
    for name, command in group.commands.items():
        yield name, command
        if isinstance(command, click.Group):
            yield from ((f"{name} {words}", found) for words, found in all_commands(command))


COMMANDS = dict(all_commands(cli))


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_every_command_explains_itself_with_an_example(command):
    assert command.help
    assert (command.epilog or "").startswith("Example: mixture ")


def test_every_command_of_the_promise_is_there():
    promised = {"demo", "plan", "run", "status", "propose", "query", "report", "doctor"}
    promised |= {"history", "why", "diff"}
    assert promised | {"ddo", "extrapolate", "ui"} <= set(cli.commands)


def test_every_command_but_the_server_prints_json():
    without = {
        n
        for n, c in COMMANDS.items()
        if not isinstance(c, click.Group) and "--json" not in {o for p in c.params for o in p.opts}
    }
    assert without == {"ui"}


def test_plan_tells_the_cost_before_anything_starts(tiny):
    result = invoke("plan", "--experiment", tiny, "--json")
    assert result.exit_code == 0, result.output
    small, large, full = json.loads(result.output)
    assert (small["runs"], large["runs"], full["runs"]) == (8, 8, 6)  # 2 x 3 + 1, and a repeat
    share = 2048 / 3
    expected = 2048 * 2 + 3 * (2048 + 2 * share) + 3 * (2048 - 0.8 * share)
    assert small["tokens"] == pytest.approx(expected, rel=0.01)
    assert full["tokens"] == 6 * 10_000
    assert all(
        row["flops"] > 0 and row["hours"] > 0 and row["disk_bytes"] > 0
        for row in (small, large, full)
    )
    assert not (tiny.parent / "store" / "runs").exists()


def test_status_of_an_empty_store_names_the_next_command(tiny):
    result = invoke("status", "--experiment", tiny)
    assert result.exit_code == 0
    assert "next: mixture run" in result.output


def test_json_has_no_infinity(capsys):
    print_json({"low": -math.inf, "rows": [(1.5, math.nan)]})
    assert json.loads(capsys.readouterr().out) == {"low": None, "rows": [[1.5, None]]}


def test_what_goes_on_with_open_runs_depends_on_what_they_are_for():
    def rows(*pairs):
        return [{"purpose": p, "status": s} for p, s in pairs]

    assert next_commands(rows(("full", "done"), ("finetune", "done"))) == []
    (line,) = next_commands(rows(("full", "interrupted"), ("finetune", "done")))
    assert line.startswith("next: mixture run,")
    (line,) = next_commands(rows(("full", "done"), ("finetune", "interrupted")))
    assert line.startswith("next: mixture select run,")


def test_propose_names_the_runs_that_are_missing(tiny):
    result = invoke("propose", "--experiment", tiny)
    assert result.exit_code == 1
    assert "16 have no result" in result.output or "16" in result.output
    assert "Traceback" not in result.output


def test_an_unknown_experiment_is_a_users_mistake(tmp_path):
    result = invoke("run", "--experiment", tmp_path / "none.toml")
    assert result.exit_code == 1
    assert "no experiment file" in result.output


def test_the_installed_command_exits_0_1_and_2(tmp_path):
    def code(*arguments):
        program = "import sys; sys.argv[0] = 'mixture'; from mixture_assets.cli import main; main()"
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments], capture_output=True, text=True
        )
        assert "Traceback" not in done.stderr
        return done.returncode

    assert code("--help") == 0
    assert code("--version") == 0
    assert code("run", "--experiment", str(tmp_path / "none.toml")) == 1
    assert code("no-such-verb") == 1
    assert code("query", "--no-such-option") == 1
