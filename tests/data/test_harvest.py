import hashlib
import json
import shutil
import sys

import pytest
import zstandard

from mixture_assets.core.errors import MixtureError, MixtureWarning
from mixture_assets.core.names import validate_domain
from mixture_assets.data import harvest as harvest_module
from mixture_assets.data.harvest import DomainCount, harvest, main
from mixture_assets.data.harvest_sources import Sources
from mixture_assets.data.harvest_text import (
    CODE_CUTS,
    HEADING_CUTS,
    PROSE_CUTS,
    cut,
    decode,
    docstrings,
    is_prose,
    is_readable,
    is_text,
    prose,
    without_licence,
)

DOMAINS = ["cpp_headers", "javascript", "licences", "prose", "python_stdlib", "readmes"]
SENTENCE = "The {} walks along the river in the morning and {} counts every bridge. "


def words(tag, n=8):
    return "".join(SENTENCE.format(tag, i) for i in range(n))


def module(tag):
    return f'import os\n\n\ndef {tag}():\n    """{words(tag)}"""\n    return "{tag}"\n'


def script(tag):
    body = "\n".join(f"  const value{i} = compute{i}(first, second);" for i in range(12))
    return f"export function {tag}(first, second) {{\n{body}\n}}\n"


FILES = {
    "lib/os.py": module("stdlib_os"),
    "lib/email/mime.py": module("stdlib_mime"),
    "lib/test/test_os.py": module("never_tests"),
    "lib/_sysconfigdata__linux.py": module("never_sysconfig"),
    "lib/LICENSE.txt": "PSF licence. " + words("psf"),
    "lib/pydoc_data/topics.py": f"topics = {{'assert': {words('topic')!r}}}\n",
    "site/alpha/core.py": module("alpha"),
    "site/alpha/copy.py": module("alpha"),
    "site/alpha/include/a.h": "#pragma once\n" + script("header").replace("export", "int"),
    "site/alpha/ui.js": script("ui"),
    "site/alpha/ui.min.js": "function a(){" + "b(c,d);" * 500 + "}",
    "site/alpha/tiny.css": "a { color: red; }\n",
    "site/alpha/bundle.js.map": json.dumps(
        {
            "sources": ["webpack://_N_E/../src/app.tsx", "webpack://_N_E/./src/none.ts"],
            "sourcesContent": [script("app"), None],
        }
    ),
    "site/alpha/broken.js.map": "{",
    "site/alpha-1.0.dist-info/METADATA": f"Name: alpha\nVersion: 1.0\n\n# Alpha\n\n{words('one')}",
    "site/alpha-1.0.dist-info/licenses/LICENSE": "MIT licence. " + words("mit"),
    "site/beta/README.md": "# Beta\n\n" + words("beta"),
    "site/beta/LICENSE": "MIT licence.\n\n" + words("mit"),  # the same words
    "site/beta/NOTES.md": "MIT licence. " + words("mit"),  # the same, in another domain
    "site/beta-2.0.dist-info/METADATA": "Name: beta\nVersion: 2.0\n\n",
    "site/mixture_assets/core.py": module("never_ours"),
    "site/mixture_assets-0.1.0.dist-info/METADATA": "Name: mixture-assets\nVersion: 0.1.0\n\n"
    + words("never_ours"),
    "site/__editable__.mixture_assets.py": module("never_ours"),
    "site/alpha/__pycache__/core.js": script("never_cache"),
}


def install(folder, order=1):
    for name, text in list(FILES.items())[::order]:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (folder / "site/alpha/latin.h").write_bytes(b"// caf\xe9 \n" * 40)
    return Sources(folder / "lib", (folder / "site",), "3.11.7")


@pytest.fixture
def sources(tmp_path):
    return install(tmp_path / "python")


def documents(root, domain):
    lines = []
    for path in sorted((root / domain).glob("*.jsonl.zst")):
        lines += zstandard.ZstdDecompressor().decompress(path.read_bytes()).splitlines()
    return [json.loads(line) for line in lines]


def fingerprint(root):
    files = sorted(p for p in root.rglob("*") if p.is_file())
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_six_domains_as_shards_with_a_marker(tmp_path, sources):
    report = harvest(tmp_path / "raw", sources=sources)
    assert list(report.domains) == DOMAINS
    assert not report.skipped
    for name, count in report.domains.items():
        validate_domain(name)
        found = documents(tmp_path / "raw", name)
        assert len(found) == count.n_documents > 0
        assert sum(len(d["text"].encode()) for d in found) == count.n_bytes
        assert (tmp_path / "raw" / name / "_SUCCESS").exists()
    left = {p.name for p in (tmp_path / "raw").rglob("*") if p.is_file()}
    assert left == {"harvest.json", "_SUCCESS", "part-00000.jsonl.zst"}  # no temporary file


def test_the_kinds_of_text_land_where_they_belong(tmp_path, sources):
    harvest(tmp_path / "raw", sources=sources)
    origin = {d: {x["source"] for x in documents(tmp_path / "raw", d)} for d in DOMAINS}
    assert origin["cpp_headers"] == {"alpha/include/a.h"}
    assert origin["javascript"] == {"alpha/ui.js", "alpha/src/app.tsx"}
    assert origin["python_stdlib"] == {"os.py", "email/mime.py"}
    assert "pydoc_data/topics.py" in origin["prose"]
    assert origin["readmes"] == {"alpha-1.0.dist-info/METADATA", "beta/README.md"}
    everything = "".join(x["text"] for d in DOMAINS for x in documents(tmp_path / "raw", d))
    assert "never_" not in everything
    assert "Version: 1.0" not in everything


def test_what_is_left_out_is_counted(tmp_path, sources):
    counts = harvest(tmp_path / "raw", sources=sources).domains
    assert counts["licences"].n_duplicates == 1  # the same words with other white space
    assert counts["readmes"].n_duplicates == 1  # licences come first
    assert counts["prose"].n_duplicates == 1
    assert counts["javascript"].n_too_short == 1
    assert counts["javascript"].n_unreadable > 0
    assert counts["cpp_headers"].n_undecodable == 1


def test_the_same_installation_gives_the_same_bytes_anywhere(tmp_path, sources):
    harvest(tmp_path / "one", sources=sources)
    moved = install(tmp_path / "elsewhere" / "deep", order=-1)
    shutil.rmtree(moved.sites[0] / "mixture_assets")
    harvest(tmp_path / "two", sources=moved)
    assert fingerprint(tmp_path / "one") == fingerprint(tmp_path / "two")
    content = (tmp_path / "one" / "harvest.json").read_text()
    texts = [d for name in DOMAINS for d in documents(tmp_path / "one", name)]
    assert str(tmp_path) not in content + json.dumps(texts)


def test_a_second_run_skips(tmp_path, sources):
    first = harvest(tmp_path / "raw", sources=sources)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "raw").rglob("*")}
    second = harvest(tmp_path / "raw", sources=sources)
    assert second.skipped
    assert second.domains == first.domains
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / "raw").rglob("*")}
    assert "there already" in str(second)


def test_a_changed_installation_keeps_the_corpus_and_warns(tmp_path, sources):
    harvest(tmp_path / "raw", sources=sources)
    before = fingerprint(tmp_path / "raw")
    (sources.sites[0] / "alpha-1.0.dist-info/METADATA").write_text("Name: alpha\nVersion: 1.1\n\n")
    with pytest.warns(MixtureWarning, match=r"1 distributions: 'alpha'.*delete the folder"):
        report = harvest(tmp_path / "raw", sources=sources)
    assert report.skipped
    with pytest.warns(MixtureWarning, match="settings"):
        harvest(tmp_path / "raw", sources=sources, shard_bytes=1000)
    assert fingerprint(tmp_path / "raw") == before
    (tmp_path / "raw/prose/part-00000.jsonl.zst").unlink()
    with pytest.raises(MixtureError, match=r"lacks shards.*prose/part-00000"):
        harvest(tmp_path / "raw", sources=sources)


def test_lost_shards_of_the_same_installation_come_back(tmp_path, sources):
    harvest(tmp_path / "raw", sources=sources)
    before = fingerprint(tmp_path / "raw")
    shutil.rmtree(tmp_path / "raw/prose")
    assert not harvest(tmp_path / "raw", sources=sources).skipped
    assert fingerprint(tmp_path / "raw") == before


def test_an_interrupted_harvest_is_not_a_corpus_and_is_finished_later(
    tmp_path, sources, monkeypatch
):
    harvest(tmp_path / "whole", sources=sources)
    write = harvest_module._write

    def stop_at_prose(path, content):
        if path.parent.name == "prose":
            raise KeyboardInterrupt
        write(path, content)

    monkeypatch.setattr(harvest_module, "_write", stop_at_prose)
    with pytest.raises(KeyboardInterrupt):
        harvest(tmp_path / "raw", sources=sources)
    assert (tmp_path / "raw/licences/_SUCCESS").exists()
    assert not (tmp_path / "raw/prose").exists()
    monkeypatch.undo()
    (tmp_path / "raw/licences/part-00007.jsonl.zst").write_bytes(b"of other settings")
    assert not harvest(tmp_path / "raw", sources=sources).skipped
    assert fingerprint(tmp_path / "raw") == fingerprint(tmp_path / "whole")


def test_folders_of_somebody_else_are_refused(tmp_path, sources):
    (tmp_path / "raw/prose").mkdir(parents=True)
    with pytest.raises(MixtureError, match="'prose'"):
        harvest(tmp_path / "raw", sources=sources)
    assert list((tmp_path / "raw").iterdir()) == [tmp_path / "raw/prose"]


def test_a_foreign_manifest_is_named(tmp_path, sources):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/harvest.json").write_text("[]")
    with pytest.raises(MixtureError, match="not a harvest manifest"):
        harvest(tmp_path / "raw", sources=sources)


def test_an_installation_without_a_domain_is_an_error(tmp_path, sources):
    (sources.sites[0] / "alpha/include/a.h").unlink()
    with pytest.raises(MixtureError, match="no text for 'cpp_headers'"):
        harvest(tmp_path / "raw", sources=sources)


def test_a_size_limit_takes_a_spread_sample_in_even_shards(tmp_path, sources):
    for package in range(30):
        for part in range(10):
            path = sources.sites[0] / f"pack{package:02d}/m{part}.h"
            path.parent.mkdir(exist_ok=True)
            path.write_text(script(f"f{package}_{part}"))
    report = harvest(
        tmp_path / "raw", sources=sources, max_bytes_per_domain=30_000, shard_bytes=10_000
    )
    count = report.domains["cpp_headers"]
    assert 28_000 < count.n_bytes <= 30_000
    found = documents(tmp_path / "raw", "cpp_headers")
    assert len({d["source"].split("/")[0] for d in found}) > 15
    sizes = [
        len(zstandard.ZstdDecompressor().decompress(p.read_bytes()))
        for p in (tmp_path / "raw/cpp_headers").glob("*.zst")
    ]
    assert len(sizes) == count.n_shards >= 3
    assert max(sizes) - min(sizes) < 2_000


@pytest.mark.parametrize("places", [CODE_CUTS, PROSE_CUTS, HEADING_CUTS])
def test_pieces_join_to_the_text_and_keep_the_limit(places):
    text = "\n\n".join(module(f"name{i}") + f"\n## Part {i}\n" for i in range(9)) + "x" * 900
    pieces = list(cut(text, places, 700))
    assert "".join(pieces) == text
    assert max(map(len, pieces)) <= 700


def test_code_is_cut_between_definitions():
    text = "\n\n".join(script(f"name{i}") for i in range(9))
    pieces = list(cut(text, CODE_CUTS, 1200))
    assert len(pieces) > 2
    assert all(piece.startswith("export function") for piece in pieces)


def test_decoding_refuses_other_encodings_and_binary():
    assert decode(b"\xef\xbb\xbfa\r\nb\rc") == "a\nb\nc"
    assert decode(b"\xff\xfe") is None
    assert decode(b"a\0b") is None


def test_docstrings_of_modules_classes_and_functions():
    code = '#!/usr/bin/env python\n"""Module\ntext."""\nclass A:\n    r"""Raw \\d."""\n'
    code += '    def f(self, x={"a": 1}) -> None:  # note\n        """Tab\\u00e9\n        end."""\n'
    code += '        y = """no docstring"""\n'
    assert list(docstrings(code)) == ["Module\ntext.", "Raw \\d.", "Tabé\nend."]


def test_prose_drops_code():
    text = "Sentence one.\n\n>>> code\n1\n\nUse it::\n\n    block\n\n    more\n\nLast words.\n\n"
    assert prose(text + "Examples\n--------\n```py\nx = 1\n```\n") == (
        "Sentence one.\n\nUse it::\n\nLast words."
    )
    assert is_prose(words("fox"))
    assert not is_prose("shape=(BATCH, 4, 8) -> x[0:1, None] * W_q + B_q")


def test_readable_text():
    assert is_readable(script("ui"))
    assert not is_readable("a=1;" * 400)
    assert is_text(words("unwrapped"))
    assert not is_readable("0x1f, 0x2e, 0x00, 12, 13,\n" * 50)


def test_licence_comments_are_taken_off_code():
    assert without_licence("/* Copyright me */\nint a;") == "\nint a;"
    assert without_licence("// Licensed to all\n// of you\nint a;") == "int a;"
    assert without_licence("// What this does\nint a;") == "// What this does\nint a;"


def test_the_command_prints_a_table_or_a_hint(tmp_path, sources, monkeypatch, capsys):
    monkeypatch.setattr(Sources, "running", classmethod(lambda cls: sources))
    assert main([str(tmp_path / "raw")]) == 0
    assert "cpp_headers" in capsys.readouterr().out
    assert main([]) == 1
    (tmp_path / "mine/prose").mkdir(parents=True)
    assert main([str(tmp_path / "mine")]) == 1
    assert "hint: " in capsys.readouterr().err


@pytest.mark.slow
def test_this_installation_has_all_six(tmp_path):
    report = harvest(tmp_path / "raw", max_bytes_per_domain=300_000)
    assert list(report.domains) == DOMAINS
    for name, count in report.domains.items():
        assert count.n_documents > 20, name
        texts = documents(tmp_path / "raw", name)
        assert not any(d["source"].startswith(("/", "mixture_assets")) for d in texts)
        assert not any(sys.prefix in d["text"] for d in texts)
    assert isinstance(report.domains["prose"], DomainCount)


def test_the_names_told_before_a_harvest_are_those_of_the_harvest():
    assert list(harvest_module.DOMAINS) == DOMAINS
