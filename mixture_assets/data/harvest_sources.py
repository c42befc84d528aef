"""Where the six demo domains come from: the files of a Python installation, by kind.

A unit is one file, or one source inside a source map, under a path relative to the standard
library or to site-packages: the same name wherever the installation lies. Units come in the
order of their names' hashes, so that a size limit takes a fair sample of all packages.
"""

import ast
import hashlib
import json
import os
import platform
import re
import sys
import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import distributions
from pathlib import Path

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

OWN_NAMES = ("mixture_assets", "mixture-assets", "__editable__")  # the corpus never holds us
MAX_FILE_BYTES = 2_000_000  # larger text files are bundles
MAX_MAP_BYTES = 32_000_000  # source maps hold many files
MAX_FILE_DOCUMENTS = 100  # no single file makes up a domain
MIN_PROSE_CHARS = 300  # shorter docstrings are one-liners about arguments

_SKIPPED_FOLDERS = {
    "__pycache__", "_vendor", "site-packages", "dist-packages", "test", "tests", "idle_test",
    "idlelib", "lib2to3", "turtledemo", "encodings", "ensurepip", "lib-dynload",
}  # fmt: skip
_LICENCE_NAME = re.compile(
    r"(?i)(un)?licen[cs]e|copying|notice|third.?party.*(notice|licen)|patents|copyright"
)
_GENERATED_HEADERS = "/ATen/ops/"  # 7000 files from one template
_CODE_SUFFIXES = {".py", ".pyi", ".pyx", ".pxd", ".c", ".cpp", ".h", ".js", ".json", ".html"}
_SCRIPT_SUFFIXES = (".js", ".mjs", ".jsx", ".ts", ".tsx", ".css", ".scss")


@dataclass(frozen=True)
class Sources:
    """An installation: where to read, and what is installed."""

    stdlib: Path
    sites: tuple[Path, ...]
    python: str = field(default_factory=platform.python_version)

    @classmethod
    def running(cls) -> "Sources":
        """The interpreter that runs this."""
        names = ("site-packages", "dist-packages")
        sites = [Path(p).resolve() for p in sys.path if Path(p).name in names]
        present = dict.fromkeys(p for p in sites if p.is_dir())
        return cls(Path(sysconfig.get_paths()["stdlib"]).resolve(), tuple(present))

    def versions(self) -> dict[str, str]:
        """Version by distribution, this project left out."""
        found: dict[str, str] = {}
        for item in distributions(path=[str(site) for site in self.sites]):
            name = re.sub(r"[-_.]+", "-", item.metadata["Name"] or "").lower()
            if name and not name.startswith(OWN_NAMES):
                found.setdefault(name, item.version)
        return dict(sorted(found.items()))


@dataclass
class Unit:
    """One source of documents."""

    name: str  # relative to the installation, with slashes
    load: Callable[[], str | None]  # None: not UTF-8


@dataclass
class Domain:
    """Units in hash order, and how one becomes documents."""

    units: list[Unit]
    documents: Callable[[str, str], Iterator[str]]  # of (name, text)
    is_clean: Callable[[str], bool]
    share: float = 1.0  # of the size limit


def find_domains(sources: Sources) -> dict[str, Domain]:
    """The six domains of an installation, in sorted order.

    Shares keep sampled domains about as large, next to each other, as they are in full (25 MB of
    headers and of prose, 14 MB of scripts, 9 MB of standard library).
    """
    stdlib = _files([sources.stdlib])
    site = _files(sources.sites)
    both = stdlib | site
    licences = {n: p for n, p in both.items() if _is_licence(n)}
    readmes = {n: p for n, p in site.items() if _is_readme(n) and n not in licences}
    headers = {
        n: p
        for n, p in site.items()
        if n.endswith((".h", ".hpp", ".cuh")) and _GENERATED_HEADERS not in n
    }
    modules = {n: p for n, p in stdlib.items() if n.endswith(".py") and "sysconfigdata" not in n}
    topics = {n: modules.pop(n) for n in list(modules) if n.endswith("pydoc_data/topics.py")}
    described = topics | {n: p for n, p in site.items() if n.endswith(".py")}
    scripts = _hashed(_script_units(site))
    return {
        "cpp_headers": Domain(_units(headers), _code, is_readable),
        "javascript": Domain(scripts, _code, is_readable, share=0.5),
        "licences": Domain(_units(licences), _paragraphs, is_text),
        "prose": Domain(_units(described), _prose, is_prose),
        "python_stdlib": Domain(_units(modules), _code, is_readable, share=0.35),
        "readmes": Domain(_units(readmes), _sections, is_text),
    }


def _files(roots: tuple[Path, ...] | list[Path]) -> dict[str, Path]:
    """Files by relative name; of two with one name, the one that Python would import."""
    found: dict[str, Path] = {}
    for root in roots:
        for folder, names, files in os.walk(root):
            at = Path(folder)
            is_top = at == root
            names[:] = [n for n in names if not _is_skipped(n, is_top)]
            for file in files:
                if not file.startswith(".") and not (is_top and file.startswith(OWN_NAMES)):
                    found.setdefault((at / file).relative_to(root).as_posix(), at / file)
    return found


def _is_skipped(folder: str, is_top: bool) -> bool:
    return (
        folder in _SKIPPED_FOLDERS
        or folder.startswith((".", "config-"))
        or (is_top and folder.startswith(OWN_NAMES))
    )


def _is_licence(name: str) -> bool:
    path = Path(name)
    is_named = bool(_LICENCE_NAME.match(path.name)) or "licenses" in path.parts[:-1]
    return is_named and path.suffix not in _CODE_SUFFIXES and "AUTHORS" not in path.name


def _is_readme(name: str) -> bool:
    if name.endswith(".dist-info/METADATA"):
        return name.count("/") == 1
    return name.endswith((".md", ".rst"))


def _hashed(units: list[Unit]) -> list[Unit]:
    return sorted(units, key=lambda unit: hashlib.sha256(unit.name.encode()).digest())


def _units(files: dict[str, Path]) -> list[Unit]:
    return _hashed([Unit(name, partial(_read, path)) for name, path in files.items()])


def _read(path: Path) -> str | None:
    return "" if path.stat().st_size > MAX_FILE_BYTES else decode(path.read_bytes())


def _script_units(site: dict[str, Path]) -> list[Unit]:
    """Script files, and the original sources inside source maps of bundles."""
    units = [Unit(n, partial(_read, p)) for n, p in site.items() if n.endswith(_SCRIPT_SUFFIXES)]
    inside: dict[str, str] = {}
    for name in sorted(n for n in site if n.endswith(".map")):
        inside |= {f"{name.split('/')[0]}/{n}": text for n, text in _map_sources(site[name])}
    return units + [Unit(name, partial(str, text)) for name, text in inside.items()]


def _map_sources(path: Path) -> Iterator[tuple[str, str]]:
    """(name, text) of every script that a source map quotes in full."""
    if path.stat().st_size > MAX_MAP_BYTES:
        return
    try:
        table = json.loads(path.read_bytes())
        pairs = list(zip(table["sources"], table["sourcesContent"], strict=True))
    except (ValueError, KeyError, TypeError):
        return  # an index map, or no map at all
    for source, text in pairs:
        name = re.sub(r"^\w+://(_N_E/)?|\.{1,2}/|\?.*$", "", source)
        is_generated = "/generated/" in name or name.endswith(".types.ts")  # icons, query types
        if isinstance(text, str) and name.endswith(_SCRIPT_SUFFIXES) and not is_generated:
            yield name, text.replace("\r\n", "\n")


def _code(name: str, text: str) -> Iterator[str]:
    yield from cut(without_licence(text), CODE_CUTS)


def _paragraphs(name: str, text: str) -> Iterator[str]:
    yield from cut(text, PROSE_CUTS)


def _sections(name: str, text: str) -> Iterator[str]:
    body = text.partition("\n\n")[2] if name.endswith("METADATA") else text
    yield from cut(body, HEADING_CUTS)


def _prose(name: str, text: str) -> Iterator[str]:
    """Docstrings, and the chapters of the language reference that `help()` shows."""
    chapters = _topics(text) if name.endswith("pydoc_data/topics.py") else docstrings(text)
    for chapter in chapters:
        kept = prose(chapter)
        if len(kept) >= MIN_PROSE_CHARS:
            yield from cut(kept, PROSE_CUTS)


def _topics(code: str) -> Iterator[str]:
    """The values of `topics = {...}`."""
    for node in ast.parse(code).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            yield from map(str, ast.literal_eval(node.value).values())
