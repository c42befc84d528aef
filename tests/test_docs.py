"""The documents say what the code does: keys, defaults, examples, commands, links."""

import dataclasses
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path

import click
import pytest

from mixture_assets.cli import cli
from mixture_assets.core.experiment import (
    ComputeSpec,
    DatasetSource,
    DataSpec,
    Experiment,
    FullSpec,
    OnlineSettings,
    ProxySpec,
    RefitSpec,
    SelectionSpec,
    SpecialistSpec,
    TokenizerSpec,
    load_experiment,
)
from mixture_assets.core.problem import Constraints, Objective
from mixture_assets.core.run import ModelSpec, TrainingSpec
from mixture_assets.methods.registry import METHODS

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("data/*.md")],
)
EXPERIMENT = (ROOT / "docs" / "experiment.md").read_text(encoding="utf-8")
TABLES = {
    "The top of the file": Experiment,
    "[data]": DataSpec,
    "[data.datasets.NAME]": DatasetSource,
    "[tokenizer]": TokenizerSpec,
    "[model]": ModelSpec,
    "[training]": TrainingSpec,
    "[proxy]": ProxySpec,
    "[refit]": RefitSpec,
    "[objective]": Objective,
    "[constraints]": Constraints,
    "[full]": FullSpec,
    "[specialist]": SpecialistSpec,
    "[online]": OnlineSettings,
    "[selection]": SelectionSpec,
    "[compute]": ComputeSpec,
}


def sections(text):
    return dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE))


def blocks(text, *languages):
    found = re.findall(r"^```(\w*)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return [body for language, body in found if language in languages]


# --- the experiment file ----------------------------------------------------------------------


def documented_defaults(section):
    """Key -> what its row says of the default."""
    rows = re.findall(r"^\| `(\w+)` \|[^|]*\| ([^|]*?) \|", section, re.MULTILINE)
    return {key: default.strip("`") for key, default in rows}


def written(field):
    """A dataclass field's default as the page must have it; None for a table of its own."""
    if field.default is not dataclasses.MISSING:
        return field.default
    if field.default_factory is dataclasses.MISSING:
        return "required"
    value = field.default_factory()
    return dict(value) if isinstance(value, Mapping) else "its defaults"


def read_default(text, like):
    if text in ("required", "its defaults") or (text, like) == ("none", None):
        return None if like is None else text
    value = tomllib.loads(f"x = {text}")["x"]
    return tuple(value) if isinstance(like, tuple) else value


@pytest.mark.parametrize("heading", TABLES)
def test_every_key_is_documented_with_its_true_default(heading):
    said = documented_defaults(sections(EXPERIMENT)[heading])
    fields = {f.name: f for f in dataclasses.fields(TABLES[heading]) if f.name != "folder"}
    assert said.keys() == fields.keys()
    for key, field in fields.items():
        true = written(field)
        found = read_default(said[key], true)
        assert (found, type(found)) == (true, type(true)), key


def test_every_table_has_a_section():
    names = {f.name for f in dataclasses.fields(Experiment)} - {"name", "store", "folder"}
    headings = {h.strip("[]") for h in sections(EXPERIMENT)}
    assert names <= headings
    rows = re.findall(r"^\| `(\w+)` .*see \[(\w+)\]", EXPERIMENT, re.MULTILINE)
    assert {key for key, _ in rows} == names
    assert all(key == shown for key, shown in rows)


@pytest.mark.parametrize("number", range(len(blocks(EXPERIMENT, "toml"))))
def test_every_experiment_on_the_page_loads(tmp_path, number):
    path = tmp_path / "page.toml"
    path.write_text(blocks(EXPERIMENT, "toml")[number], encoding="utf-8")
    assert load_experiment(path).name


def test_the_text_that_the_minimal_experiment_needs(tmp_path):
    path = tmp_path / "page.toml"
    path.write_text(blocks(EXPERIMENT, "toml")[0], encoding="utf-8")
    e = load_experiment(path)
    longest = max(e.proxy.grow * max(e.proxy.budgets_tokens), e.full.budget_tokens)
    assert f"{longest / (3 * e.constraints.max_epochs):,.0f} tokens each" in EXPERIMENT


# --- methods ----------------------------------------------------------------------------------


def test_every_method_is_on_the_methods_page():
    text = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8").lower()
    assert all(f"| {name} |" in text for name in METHODS)


def test_the_cost_of_ddo_is_that_of_its_plan():
    from mixture_assets.core.problem import Problem
    from mixture_assets.methods.ddo import DDO

    text = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    for n_domains in (6, 7):
        available = {f"d{i}": 10**12 for i in range(n_domains)}
        base = 420_000
        runs = DDO(base_tokens=base).plan(Problem(available_tokens=available, budget_tokens=1))
        assert len(runs) == 2 * n_domains + 1
        share = sum(run.budget_tokens for run in runs) / base
        assert share == pytest.approx(2 * n_domains - 1 + 3 + 0.2)
        assert re.search(rf"{share:.1f} T at {n_domains}\b", text)


# --- examples ---------------------------------------------------------------------------------


EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_every_example_runs_and_is_short(path, tmp_path):
    assert len(path.read_text(encoding="utf-8").splitlines()) < 40
    done = subprocess.run(
        [sys.executable, path],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) > 3
    assert not list(tmp_path.iterdir())


def test_there_are_examples():
    assert len(EXAMPLES) >= 3


def test_the_example_swarm_is_what_its_script_makes():
    made = subprocess.run(
        [sys.executable, ROOT / "examples" / "make_swarm.py"], capture_output=True, text=True
    ).stdout
    tables = [ROOT / "examples" / "swarm" / f"{name}.csv" for name in ("ratios", "metrics")]
    assert made.split("\n\n") == [*(t.read_text(encoding="utf-8").strip() for t in tables), ""]


# --- the README's own runs --------------------------------------------------------------------


def sessions(text):
    """Commands of a section's blocks, each with the lines that the page shows below it."""
    for body in blocks(text, ""):
        for part in re.split(r"^\$ ", body.replace("\\\n", " "), flags=re.MULTILINE)[1:]:
            command, *shown = part.splitlines()
            yield command, shown[: shown.index("...")] if "..." in shown else shown


def differences(shown, printed):
    """Lines that are not alike: other words, or numbers that are 2 % or 0.002 apart."""
    for one, other in zip(shown, printed, strict=True):
        number = r"-?\d+(?:\.\d+)?(?:e-?\d+)?"
        words = [re.sub(number, "#", line) for line in (one, other)]
        values = [[float(x) for x in re.findall(number, line)] for line in (one, other)]
        if words[0].split() != words[1].split() or values[0] != pytest.approx(
            values[1], rel=0.02, abs=0.002
        ):
            yield one, other


def test_the_readme_s_own_runs_give_what_it_shows(tmp_path):
    """From two tables to exported weights, by the README's section alone."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = readme.split("### Your own runs")[1].split("Which law")[0]
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    found = list(sessions(section))
    assert [c.split()[:2] for c, _ in found][2:] == [["mixture", "propose"], ["mixture", "export"]]
    for command, shown in found:
        words = shlex.split(command)
        if words[0] == "mixture":
            words[:1] = [sys.executable, "-c", "from mixture_assets.cli import cli; cli()"]
        done = subprocess.run(
            words,
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, done.stdout
        printed = done.stdout.splitlines()
        assert list(differences(shown, printed[: len(shown)])) == []


def test_another_number_is_seen():
    assert list(differences(["web 0.236"], ["web  0.2361"])) == []
    assert len(list(differences(["web 0.2", "gain 1"], ["web 0.3", "loss 1"]))) == 2


# --- links and commands -----------------------------------------------------------------------


def prose(text):
    """A page without its fenced blocks."""
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(text):
    headings = re.findall(r"^#+ (.+)$", prose(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


def broken_links(page):
    text = prose(page.read_text(encoding="utf-8"))
    for address in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", address):
            continue
        path, _, anchor = address.partition("#")
        there = (page.parent / path) if path else page
        is_found = there.exists() and (
            not anchor or anchor in anchors(there.read_text(encoding="utf-8"))
        )
        if not is_found:
            yield address


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_relative_link_resolves(page):
    assert not list(broken_links(page))


def test_a_broken_link_is_seen(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# One Two\n[a](#one-two) [b](page.md) [c](none.md) [d](#three) [e](https://x)")
    assert list(broken_links(page)) == ["none.md", "#three"]


def commands(text):
    """Command lines that a page shows: in fenced blocks, and as inline code."""
    for body in blocks(text, "", "sh", "console", "bash"):
        for line in body.replace("\\\n", " ").splitlines():
            if match := re.match(r"(?:\$ )?(mixture \S.*)", line):
                yield match[1]
    yield from re.findall(r"`(mixture [^`]+)`", prose(text))


def complaint(command):
    """Why the command line cannot be one of ours; empty if it can."""
    words = shlex.split(command, comments=True)[1:]
    if words[0] in ("-h", "--help", "--version"):
        return ""
    verb = cli
    while isinstance(verb, click.Group):
        if not words or words[0] not in verb.commands:
            return f"no command {' '.join(words[:1])!r}"
        verb, words = verb.commands[words[0]], words[1:]
    context = click.Context(verb, info_name=verb.name)
    try:
        _, rest, _ = verb.make_parser(context).parse_args(words)
    except click.ClickException as error:
        return error.format_message()
    return f"too many words: {rest}" if rest else ""


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_command_shown_exists_with_its_options(page):
    text = page.read_text(encoding="utf-8")
    assert {c: why for c in commands(text) if (why := complaint(c))} == {}


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("mixture rnu", "no command 'rnu'"),
        ("mixture run --experimnt x", "No such option"),
        ("mixture run x", "too many words"),
        ('mixture query "SELECT 1" --json  # rows', ""),
        ("mixture select fti points.csv", "no command 'fti'"),
        ("mixture select fit points.csv --json", ""),
    ],
)
def test_a_wrong_command_is_seen(command, why):
    assert complaint(command).startswith(why)
    assert bool(complaint(command)) == bool(why)


def test_commands_are_found_in_blocks_and_in_prose():
    text = "`mixture plan` and\n```console\n$ mixture run --json\nmixture demo\n```\n"
    assert sorted(commands(text)) == ["mixture demo", "mixture plan", "mixture run --json"]
