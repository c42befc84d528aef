"""What a look at a raw root tells: fingerprints, and whether copying is over."""

import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from mixture_assets.data.landing import look


@pytest.fixture
def root(tmp_path):
    for domain in ("books", "code"):
        (tmp_path / domain / "deep").mkdir(parents=True)
        (tmp_path / domain / "deep" / "a.jsonl").write_text('{"text": "x"}\n')
    return tmp_path


def fingerprints(root):
    return {name: folder.fingerprint for name, folder in look(str(root)).folders.items()}


def folder(root, name="books"):
    return look(str(root)).folders[name]


def later():
    """Wait until the file system's clock, which ticks every few milliseconds, has moved on."""
    time.sleep(0.02)


def test_no_root_is_told_from_an_empty_one(tmp_path):
    assert not look(str(tmp_path / "missing")).exists
    assert look(str(tmp_path)).exists
    assert look(str(tmp_path)).folders == {}


def test_the_same_files_have_the_same_fingerprint(root):
    first = fingerprints(root)
    assert list(first) == ["books", "code"]
    assert fingerprints(root) == first


def test_a_file_that_grows_ages_or_is_added_changes_its_domain_alone(root):
    shard = root / "books" / "deep" / "a.jsonl"
    seen = [fingerprints(root)]
    with open(shard, "a") as file:
        file.write("{}\n")
    seen.append(fingerprints(root))
    os.utime(shard, (1, 1))
    seen.append(fingerprints(root))
    (root / "books" / "b.txt").write_text("y")
    seen.append(fingerprints(root))
    assert len({found["books"] for found in seen}) == 4
    assert len({found["code"] for found in seen}) == 1


def test_what_is_no_shard_has_no_part_in_the_fingerprint(root):
    before = fingerprints(root)
    (root / "_aside").mkdir()
    (root / "_aside" / "a.txt").write_text("x")
    (root / "harvest.json").write_text("{}")
    (root / "books" / "a.jsonl.tmp").write_text("x")
    (root / "books" / ".hidden.txt").write_text("x")
    (root / "books" / "README.md").write_text("x")
    assert fingerprints(root) == before
    (root / "empty").mkdir()
    assert fingerprints(root).keys() - before.keys() == {"empty"}
    assert not folder(root, "empty").shards


def test_links_count_as_what_they_lead_to(root, tmp_path_factory):
    aside = tmp_path_factory.mktemp("aside") / "b.txt"
    aside.write_text("four")
    (root / "books" / "b.txt").symlink_to(aside)
    (root / "books" / "gone.txt").symlink_to(aside.with_name("none"))
    (root / "books" / "loop").symlink_to(root / "books")
    found = folder(root)
    assert list(found.shards) == ["b.txt", "deep/a.jsonl"]
    assert found.n_bytes == 4 + len('{"text": "x"}\n')


def test_a_folder_settles_after_its_newest_change(root):
    found = folder(root)
    assert found.is_settled(found.changed_at + 10, 10)
    assert not found.is_settled(found.changed_at + 9.9, 10)
    assert found.is_settled(found.changed_at, 0)
    assert abs(time.time() - found.changed_at) < 5


def test_an_old_modification_time_hides_no_copy(root):
    """`cp -p` and `rsync -t` set it into the past."""
    path = root / "books" / "b.jsonl"
    path.write_text("{}")
    os.utime(path, (1, 1))
    assert time.time() - folder(root).changed_at < 5


def test_a_clock_that_was_set_back_blocks_no_folder(root):
    found = folder(root)
    assert found.is_settled(found.changed_at - 3600, 10)
    assert not found.is_settled(found.changed_at - 5, 10)


CHANGES = {
    "a shard": lambda f: (f / "b.txt").write_text("b"),
    "a shard deeper": lambda f: (f / "deep" / "a.jsonl").write_text("{}"),
    "a half-written name": lambda f: (f / "b.txt.part").write_text("b"),
    "a removal": lambda f: (f / "deep" / "a.jsonl").unlink(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_marker_holds_until_something_changes_after_it(root, change):
    (root / "books" / "_SUCCESS").touch()
    marked = folder(root)
    assert marked.is_marked
    assert marked.is_settled(marked.changed_at, 1e9)
    time.sleep(0.6 if change == "a removal" else 0.02)
    CHANGES[change](root / "books")
    assert not folder(root).is_marked
    later()
    (root / "books" / "_SUCCESS").touch()
    assert folder(root).is_marked


def test_a_marker_that_was_copied_before_its_shards_does_not_count(tmp_path):
    """`_SUCCESS` sorts before `part-0`: many tools copy it first."""
    (tmp_path / "books").mkdir()
    (tmp_path / "books" / "_SUCCESS").touch()
    later()
    (tmp_path / "books" / "part-0.txt").write_text("half of ")
    assert not folder(tmp_path).is_marked


def test_a_log_that_somebody_keeps_writing_needs_a_marker(root):
    (root / "books" / "_SUCCESS").touch()
    later()
    (root / "books" / ".progress").write_text("99 %")
    found = folder(root)
    assert found.newest == ".progress"
    assert found.is_marked


def test_object_stores_tell_their_own_times():
    fs = fsspec.filesystem("memory")
    fs.pipe("/landing-test/books/deep/a.jsonl", b'{"text": "x"}\n')
    fs.pipe("/landing-test/empty.txt", b"no folder")
    (found,) = look("memory://landing-test").folders.values()
    assert list(found.shards) == ["deep/a.jsonl"]
    assert abs(time.time() - found.changed_at) < 5
    before = found.fingerprint
    fs.pipe("/landing-test/books/deep/a.jsonl", b'{"text": "y"}\n')
    assert look("memory://landing-test").folders["books"].fingerprint != before
    assert not look("memory://nowhere-test").exists


def test_a_link_that_leads_to_itself_stops_no_other_folder(root):
    (root / "loop").symlink_to("loop")
    (root / "books" / "loop").symlink_to("loop")
    found = look(str(root)).folders
    assert list(found) == ["books", "code", "loop"]
    assert found["loop"].problem.startswith("Too many levels of symbolic links")
    assert not found["loop"].shards
    assert [found[name].problem for name in ("books", "code")] == ["", ""]
    assert list(found["books"].shards) == ["deep/a.jsonl"]


@pytest.fixture
def public(root):
    """The same folders where every user may come: pytest keeps its own to itself."""
    if os.geteuid():
        pytest.skip("only root can become another user")
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(shutil.copytree(root, Path(folder) / "raw"))


def seen_by_nobody(root):
    """What a user without rights sees: look() in a process of user 65534."""
    script = (
        "import json, os, sys\n"
        "from mixture_assets.core.errors import MixtureError\n"
        "from mixture_assets.data.landing import look\n"
        "os.setuid(65534)\n"
        "try:\n"
        "    folders = look(sys.argv[1]).folders\n"
        "    told = {n: [f.problem, list(f.shards)] for n, f in folders.items()}\n"
        "except MixtureError as error:\n"
        "    told = str(error)\n"
        "print(json.dumps(told))\n"
    )
    command = [sys.executable, "-c", script, str(root)]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


def test_a_folder_that_may_not_be_read_is_named_with_the_reason(public):
    public.chmod(0o755)
    (public / "lost+found").mkdir(mode=0o700)
    (public / "code" / "deep").chmod(0o700)
    assert seen_by_nobody(public) == {
        "books": ["", ["deep/a.jsonl"]],
        "code": [f"Permission denied: {str(public / 'code/deep')!r}", []],
        "lost+found": [f"Permission denied: {str(public / 'lost+found')!r}", []],
    }


def test_a_root_that_may_not_be_read_is_a_mistake_that_can_be_mended(public):
    public.chmod(0o700)
    told = f"the raw root {str(public)!r} cannot be read: Permission denied"
    assert seen_by_nobody(public) == told


def test_a_fault_of_the_machine_is_not_blamed_on_a_folder(root, monkeypatch):
    scandir = os.scandir

    def scarce(path):
        if str(path).endswith("code"):
            raise OSError(errno.EMFILE, "Too many open files", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", scarce)
    with pytest.raises(OSError, match="Too many open files"):
        look(str(root))


class Locked(MemoryFileSystem):
    """A store that lets nobody list `code`."""

    protocol = "locked"
    store = {}  # noqa: RUF012 - fsspec keeps its content in the class
    pseudo_dirs = [""]  # noqa: RUF012

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.removeprefix("locked://"))

    def find(self, path, **keywords):
        if path.endswith("/code"):
            raise PermissionError("Access Denied")
        return super().find(path, **keywords)


def test_a_folder_of_a_store_that_may_not_be_listed_is_named():
    fsspec.register_implementation("locked", Locked, clobber=True)
    fs = fsspec.filesystem("locked")
    for domain in ("books", "code"):
        fs.pipe(f"/raw/{domain}/a.jsonl", b"{}")
    found = look("locked://raw").folders
    assert {n: f.problem for n, f in found.items()} == {"books": "", "code": "Access Denied"}
    assert list(found["books"].shards) == ["a.jsonl"]
