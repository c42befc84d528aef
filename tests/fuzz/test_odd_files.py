"""Odd names and kinds of files under a raw root: read, passed over or named; never waited on."""

import gzip
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import zstandard
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from mixture_assets.cli import cli
from mixture_assets.core.errors import MixtureError, MixtureWarning
from mixture_assets.core.experiment import load_experiment
from mixture_assets.data.landing import look
from mixture_assets.data.readers import document_lists
from mixture_assets.data.shards import discover
from tests.fuzz.endings import Endings, check_error, fuzz_settings

GOOD = b'{"text": "one"}\n'
_ODD = "a \n ' \" ä 😀 : % * [ ~ \\ \x1b[0m - _ . .. # ?".split(" ")
_PIECES = st.sampled_from([*_ODD, " ", "\n", "\udce9", "books", "x" * 120])
_NAMES = st.lists(_PIECES, min_size=1, max_size=4).map("".join)


def is_name(name: str) -> bool:
    return name not in (".", "..") and len(os.fsencode(name)) < 240


@given(
    folder=_NAMES.filter(is_name),
    names=st.lists(_NAMES.filter(is_name), min_size=1, max_size=3, unique=True),
    extension=st.sampled_from([".jsonl", ".JSONL", ".txt", "", ".tmp", ".jsonl.part"]),
)
@fuzz_settings(0.02, small=100)
def test_any_name_of_a_file_or_folder_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, folder: str, names: list[str], extension: str
) -> None:
    root = tmp_path_factory.mktemp("names")
    (root / "raw" / folder).mkdir(parents=True)
    for number, name in enumerate(names):
        (root / "raw" / folder / (name + extension)).write_bytes(b'{"text": "%d"}\n' % number)
    look(str(root / "raw"))
    found = Endings("names").of(lambda: discover(str(root / "raw"), cache=root / "shards.json"))
    for shard in (found or {}).get(folder, []):
        own = [i for i, name in enumerate(names) if Path(shard.url).name == name + extension]
        texts = [text for texts in document_lists(shard) for text in texts]
        assert texts == [f'{{"text": "{i}"}}\n' if extension == ".txt" else str(i) for i in own]
        assert len(own) == 1


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    folder = tmp_path / "raw"
    (folder / "books").mkdir(parents=True)
    (folder / "books/good.jsonl").write_bytes(GOOD)
    return folder


def names(raw: Path) -> list[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MixtureWarning)  # of a link to nothing
        found = discover(str(raw), cache=raw.parent / "shards.json")
        look(str(raw))
    return [shard.name for shard in found["books"]]


def test_a_pipe_is_passed_over_and_not_opened(raw: Path) -> None:
    os.mkfifo(raw / "books/pipe.jsonl")
    (raw / "books/link.jsonl").symlink_to(raw / "books/pipe.jsonl")
    assert names(raw) == ["books/good.jsonl"]


def test_a_folder_called_like_a_shard_is_a_folder(raw: Path) -> None:
    (raw / "books/a.jsonl").mkdir()
    (raw / "books/a.jsonl/b.jsonl").write_bytes(b'{"text": "two"}\n')
    assert names(raw) == ["books/a.jsonl/b.jsonl", "books/good.jsonl"]


def test_a_circle_of_links_ends(raw: Path) -> None:
    (raw / "books/self.jsonl").symlink_to("self.jsonl")
    (raw / "books/up").symlink_to("..")
    assert names(raw) == ["books/good.jsonl"]


def test_a_link_to_a_file_elsewhere_counts_as_what_it_leads_to(raw: Path) -> None:
    (raw.parent / "elsewhere.jsonl").write_bytes(b'{"text": "two"}\n')
    (raw / "books/link.jsonl").symlink_to(raw.parent / "elsewhere.jsonl")
    assert names(raw) == ["books/good.jsonl", "books/link.jsonl"]


def test_a_file_of_holes_is_no_line(raw: Path) -> None:
    os.truncate(raw / "books/good.jsonl", 80 << 20)
    (shard,) = discover(str(raw), cache=raw / "c.json")["books"]
    with pytest.raises(MixtureError, match="line 2 is longer than 64 MiB"):
        list(document_lists(shard))


def _bomb(path: Path) -> None:
    """1 GB of zeros, in 1 MB or less."""
    opened = gzip.open if path.suffix == ".gz" else zstandard.open
    with opened(path, "wb") as file:
        for _ in range(64):
            file.write(bytes(1 << 24))


_READ = """
import resource, sys
from mixture_assets.core.errors import MixtureError, MixtureWarning
from mixture_assets.data.landing import look
from mixture_assets.data.readers import document_lists
from mixture_assets.data.shards import discover
(shard,) = discover(sys.argv[1], cache=__import__("pathlib").Path(sys.argv[2]))["books"]
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    print(sum(len(text) for texts in document_lists(shard) for text in texts))
except MixtureError as error:
    print(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a.jsonl.gz", "'books/a.jsonl.gz' line 1 is longer than 64 MiB"),
        ("a.jsonl.zst", "'books/a.jsonl.zst' line 1 is longer than 64 MiB"),
        ("a.txt.gz", str(1 << 30)),
        ("a.txt.zst", str(1 << 30)),
    ],
)
def test_a_bomb_of_a_gigabyte_takes_little_memory(raw: Path, name: str, said: str) -> None:
    (raw / "books/good.jsonl").unlink()
    _bomb(raw / "books" / name)
    command = [sys.executable, "-c", _READ, str(raw), str(raw.parent / "shards.json")]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")
    assert out[0] == said
    assert int(out[1]) < 320  # MB; unpacked it is 1,024


def test_an_experiment_that_is_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "e.toml")
    for path in (tmp_path / "e.toml", tmp_path, Path("/dev/zero")):
        with pytest.raises(MixtureError, match="is not a file"):
            load_experiment(path)


def _cli_cases() -> dict[str, tuple[bytes, list[str]]]:
    """(content, arguments): the file stands for FILE."""
    plan, ddo = ["plan", "--experiment", "FILE"], ["ddo", "FILE", "--objective", "loss"]
    header = b'name = "e"\n[data]\nroot = "raw"\n'
    return {
        "no TOML": (b"\xff\xfe", plan),
        "deep TOML": (b"x = " + b"[" * 5000, plan),
        "a number of 5,000 digits": (b"x = " + b"9" * 5000, plan),
        "a store below a file": (
            b'store = "/dev/null/x"\n' + header + b"[full]\nbudget_tokens = 9",
            plan,
        ),
        "a store without end": (
            b'store = "' + b"x" * 5000 + b'"\n' + header + b"[full]\nbudget_tokens=9",
            plan,
        ),
        "too many tokens": (header + b"[full]\nbudget_tokens = 1e30", plan),
        "an unknown protocol": (
            header.replace(b"raw", b"nonsense://x") + b"[full]\nbudget_tokens = 9",
            plan,
        ),
        "a newline in a key": (header + b'[full]\n"budget\\ntokens" = 9', plan),
        "no CSV": (b"\xff\xfe", ddo),
        "a decimal comma": (b"domain,factor,loss\n,1,3\na,0,2,4\n", ddo),
        "deep JSON": (b"[" * 100_000, ["extrapolate", "FILE", "--tokens", "5e9"]),
        "half a character": (
            b'{"small": {"\\ud83d": 1, "b": 1}, "large": {"\\ud83d": 4, "b": 3}}',
            ["extrapolate", "FILE", "--tokens", "5e9"],
        ),
    }


@pytest.mark.parametrize("case", _cli_cases())
def test_the_command_line_says_one_error_and_no_traceback(tmp_path: Path, case: str) -> None:
    content, arguments = _cli_cases()[case]
    path = tmp_path / "input"
    path.write_bytes(content)
    result = CliRunner().invoke(cli, [str(path) if a == "FILE" else a for a in arguments])
    check_said(result.exit_code, result.output)
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.slow
@pytest.mark.parametrize("case", ["no TOML", "too many tokens", "half a character"])
def test_a_real_process_ends_the_same_way(tmp_path: Path, case: str) -> None:
    content, arguments = _cli_cases()[case]
    (path := tmp_path / "input").write_bytes(content)
    program = "from mixture_assets.cli import main; main()"
    command = [sys.executable, "-c", program, *(str(path) if a == "FILE" else a for a in arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert not done.stdout
    check_said(done.returncode, done.stderr)


def check_said(code: int, said: str) -> None:
    assert code == 1, said
    assert "Traceback" not in said
    lines = said.strip().split("\n")
    assert lines[0].startswith("Error: ")
    assert all(line.startswith("hint: ") for line in lines[1:])
    assert len(lines) <= 2


_BUG = """
import sys
from mixture_assets.cli import cli, main
@cli.command()
def broken():
    raise KeyError("x" * 9)
main()
"""


def test_a_bug_is_one_line_and_its_traceback_a_file(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _BUG, "broken"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert done.returncode == 2
    assert done.stderr.startswith("this is a bug of mixture_assets (KeyError: ")
    assert len(done.stderr.strip().split("\n")) == 1
    (report,) = tmp_path.glob("mixture-bug-*.txt")
    assert str(report) in done.stderr
    assert "Traceback" in report.read_text()
    assert "in broken" in report.read_text()


def test_a_message_is_one_line_whatever_the_names_in_it() -> None:
    error = MixtureError("no \n\x1b[31m\ud83d 'x'" + "y" * 9000, hint="a\nb")
    check_error(error)
    assert str(error).startswith("no \\n\\x1b[31m\\ud83d 'x'yyy")
    assert error.hint == "a\\nb"
    assert json.loads(json.dumps(str(MixtureError("caf\u00e9")))) == "caf\u00e9"
