"""Nothing that is read runs code, nothing leaves its folder, nothing listens to the network."""

import ast
import pickle
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixture_assets import choice, corpus
from mixture_assets.core.errors import MixtureError, MixtureWarning
from mixture_assets.core.experiment import load_experiment
from mixture_assets.core.names import validate_domain
from mixture_assets.core.run import ModelSpec
from mixture_assets.corpus import Workspace
from mixture_assets.data.token_store import DomainTokens
from mixture_assets.defs.server import HOST
from mixture_assets.store.records import read_record, write_record
from mixture_assets.store.runs import RunFolder
from mixture_assets.training.checkpoint import load_checkpoint
from mixture_assets.training.model import build_model
from mixture_assets.training.optimizer import build_optimizer

PACKAGE = Path("mixture_assets")
BANNED_CALLS = {"eval", "exec", "compile", "__import__", "torch.load", "yaml.load", "os.system"}
BANNED_MODULES = {"pickle", "cPickle", "dill", "joblib", "marshal", "shelve", "cloudpickle"}
BANNED_WORDS = {"trust_remote_code", "weights_only"}


def trees() -> Iterator[tuple[Path, ast.AST]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path, ast.parse(path.read_text(encoding="utf-8"))


def dangers(tree: ast.AST) -> list[str]:
    """What in a module could run code that it read."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            words = {k.arg: ast.unparse(k.value) for k in node.keywords if k.arg}
            is_array = name in ("np.load", "numpy.load")
            if (
                name in BANNED_CALLS
                or BANNED_WORDS & words.keys()
                or words.get("shell") == "True"
                or words.get("allow_pickle", "False") != "False"
                or (is_array and words.get("allow_pickle") != "False")
            ):
                found.append(ast.unparse(node))
        if isinstance(node, ast.Import):
            found += [a.name for a in node.names if a.name.split(".")[0] in BANNED_MODULES]
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in BANNED_MODULES:
            found.append(str(node.module))
    return found


def test_no_module_unpickles_evaluates_or_starts_a_shell() -> None:
    assert {str(path): found for path, tree in trees() if (found := dangers(tree))} == {}


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from pickle import loads",
        "eval('1')",
        "torch.load(path)",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "yaml.load(text)",
        "subprocess.run('x', shell=True)",
        "AutoModel.from_pretrained(name, trust_remote_code=True)",
    ],
)
def test_the_scan_sees_what_it_is_for(line: str) -> None:
    assert dangers(ast.parse(line))


def test_every_address_that_the_package_names_is_this_machine() -> None:
    addresses = re.compile(r"\b\d+\.\d+\.\d+\.\d+\b|\[?::\]?:|localhost")
    sources = [*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.yaml"), *Path("deploy").rglob("*.yaml")]
    named = {a for path in sources for a in addresses.findall(path.read_text(encoding="utf-8"))}
    assert HOST == "127.0.0.1"
    assert named <= {"127.0.0.1"}
    binds = [n for _, tree in trees() for n in ast.walk(tree) if _is_bind(n)]
    assert binds
    assert all(ast.unparse(b.args[0]).startswith("(HOST, ") for b in binds)


def _is_bind(node: ast.AST) -> Any:
    return isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".bind")


@pytest.mark.parametrize("path", ["mixture_assets/defs/dagster.yaml", "deploy/dagster.yaml"])
def test_telemetry_is_off(path: str) -> None:
    assert "telemetry:\n  enabled: false" in Path(path).read_text(encoding="utf-8")


class Poison:
    """Unpickled, it makes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return (open, (str(self.mark), "w"))


def test_the_poison_works(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Poison(tmp_path / "mark")))
    assert (tmp_path / "mark").exists()


def test_a_poisoned_training_array_is_not_unpickled(tiny: Path, tmp_path: Path) -> None:
    mark, workspace = tmp_path / "mark", Workspace.open(tiny)
    built = corpus.build_corpus(workspace)
    tokens: DomainTokens = built.domains["plants"]
    poisoned = np.array([Poison(mark)] * 3, dtype=object)
    for content in (pickle.dumps(Poison(mark)), None):
        path = workspace.store / tokens.arrays[0][0]
        if content is None:
            np.save(path, poisoned, allow_pickle=True)
        else:
            path.write_bytes(content)
        with pytest.raises(ValueError, match=r"[Pp]ickle|object"):
            tokens.windows(workspace.store)
        rebuilt = corpus.build_corpus(workspace).domains["plants"]
        assert sum(map(len, rebuilt.windows(workspace.store))) == tokens.available_tokens
    assert not mark.exists()


def test_a_poisoned_checkpoint_is_not_unpickled(tmp_path: Path) -> None:
    spec = ModelSpec(width=8, layers=1, heads=1, context=8)
    model = build_model(spec, vocab_size=300, seed=0, attention="eager")
    optimizer = build_optimizer(model, _training())
    mark = tmp_path / "mark"
    (tmp_path / "latest.safetensors").write_bytes(pickle.dumps(Poison(mark)))
    with pytest.warns(MixtureWarning):  # it starts from step 0
        assert load_checkpoint(tmp_path, model, optimizer) is None
    assert not mark.exists()


def _training() -> Any:
    from mixture_assets.core.run import TrainingSpec

    return TrainingSpec()


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer"])
def test_a_poisoned_tokenizer_is_not_unpickled(tiny: Path, tmp_path: Path, name: str) -> None:
    mark, path = tmp_path / "mark", tiny.parent / name
    path.write_bytes(pickle.dumps(Poison(mark)))
    tiny.write_text(tiny.read_text().replace("vocab_size = 320", f'name = "{name}"'))
    with pytest.raises(MixtureError, match="is not a tokenizer"):
        corpus.build_corpus(Workspace.open(tiny))
    assert not mark.exists()


# Names that would leave their folder, hide in it, or be another one.
_ESCAPES = [
    "..",
    ".",
    "",
    "a/b",
    "../a",
    "a/../../b",
    "/etc/passwd",
    "a\\b",
    "a\0b",
    "\0",
    ".a",
    "a\n",
]
_PIECES = st.text(st.sampled_from("ab./\\\0\n:-_ ~$%\u2215\uff0e"), min_size=1, max_size=12)
NAMES = st.one_of(st.sampled_from(_ESCAPES), _PIECES, st.text(max_size=8))
EXPERIMENT = 'name = {name}\nstore = "s"\n[data]\nroot = "raw"\n[full]\nbudget_tokens = 9\n'


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("room") / "inside"
    folder.mkdir()
    (folder / "e.toml").write_text(EXPERIMENT.format(name='"e"'))
    return folder


def paths_of(name: str, room: Path) -> Iterator[tuple[Path, Callable[[], Path]]]:
    """(folder that must hold it, how the path comes about), everywhere that a name is a path."""
    workspace = Workspace(load_experiment(room / "e.toml"))
    store = workspace.store
    yield room, lambda: room / validate_domain(name)
    yield store / "runs", lambda: RunFolder(store, name).path
    yield store / "mixtures", lambda: choice.choice_path(workspace, name)
    for kind, record in (("proposal", name), (name, "r")):
        folder = store / "records"
        yield folder, lambda kind=kind, record=record: write_record(store, kind, record, {})
    yield store / "reports", lambda: store / "reports" / experiment_named(name, room).name
    yield store / "landed", lambda: store / "landed" / dataset_named(name, room)


def experiment_named(name: str, room: Path) -> Any:
    path = room / "named.toml"
    path.write_text(EXPERIMENT.format(name=toml_string(name)), encoding="utf-8")
    return load_experiment(path)


def dataset_named(name: str, room: Path) -> str:
    table = f"[data.datasets.{toml_string(name)}]\npath = 'x'\n"
    path = room / "dataset.toml"
    path.write_text(EXPERIMENT.format(name='"e"') + table, encoding="utf-8")
    return next(iter(load_experiment(path).data.datasets))


def toml_string(text: str) -> str:
    return '"' + "".join(f"\\U{ord(c):08x}" for c in text) + '"'


@given(
    name=NAMES.filter(lambda n: n.isprintable() or not any("\ud800" <= c <= "\udfff" for c in n))
)
@settings(max_examples=150, derandomize=True, database=None, deadline=None)
def test_a_name_stays_in_its_folder_or_is_refused(room: Path, name: str) -> None:
    for folder, make in paths_of(name, room):
        try:
            path = make()
        except MixtureError:
            continue
        inside = path.resolve().relative_to(folder.resolve())
        assert inside.parts, (folder, name)
        assert len(inside.parts) <= 2
        assert not any(part.startswith(".") for part in inside.parts)
    assert {p.name for p in room.parent.iterdir()} == {"inside"}


@pytest.mark.parametrize("name", _ESCAPES)
def test_every_way_out_is_refused_everywhere(room: Path, name: str) -> None:
    for _, make in paths_of(name, room):
        with pytest.raises(MixtureError) as caught:
            make()
        assert len(str(caught.value).splitlines()) == 1
    with pytest.raises(MixtureError):
        corpus.load_corpus(Workspace(load_experiment(room / "e.toml")), name)
    with pytest.raises(MixtureError):
        read_record(room, "proposal", name)


@pytest.mark.parametrize(
    "line",
    [
        'root = "${HOME}"',
        'root = "$(touch mark)"',
        'root = "{{ 7 * 7 }}"',
        'root = "`touch mark`"',
        "root = \"__import__('os').system('touch mark')\"",
    ],
)
def test_toml_is_data(tmp_path: Path, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What looks like code in a value is a folder of that name, which does not exist."""
    monkeypatch.chdir(tmp_path)
    text = EXPERIMENT.format(name='"e"').replace('root = "raw"', line)
    (tmp_path / "e.toml").write_text(text)
    workspace = Workspace.open(tmp_path / "e.toml")
    assert workspace.experiment.data_root.startswith(str(tmp_path))
    with pytest.raises(MixtureError, match="no folder at"):
        corpus.discover_shards(workspace)
    assert not list(tmp_path.rglob("mark"))


@pytest.mark.parametrize(
    "root", ["reference::evil.json", "simplecache::file://x", "dask::x", "filecache::s3://b"]
)
def test_a_root_cannot_chain_file_systems(tmp_path: Path, root: str) -> None:
    text = EXPERIMENT.format(name='"e"').replace('"raw"', f'"{root}"')
    (tmp_path / "e.toml").write_text(text)
    with pytest.raises(MixtureError, match=r"cannot be opened: '::' is not supported"):
        corpus.discover_shards(Workspace.open(tmp_path / "e.toml"))


@pytest.mark.parametrize(
    "override",
    [
        'auto_map = {AutoModelForCausalLM = "evil--x.Model"}',
        'attn_implementation = "me/kernel"',
        "trust_remote_code = true",
        'quantization_config = {quant_method = "x"}',
    ],
)
def test_an_override_cannot_name_code(tmp_path: Path, override: str) -> None:
    text = EXPERIMENT.format(name='"e"') + f"[model]\noverrides = {{{override}}}\n"
    (tmp_path / "e.toml").write_text(text)
    model = load_experiment(tmp_path / "e.toml").model
    with pytest.raises(MixtureError, match="overrides has"):
        build_model(model, vocab_size=300, seed=0, attention="eager")


def test_the_report_lies_under_reports(tiny: Path) -> None:
    from mixture_assets.pipeline import make_report

    with pytest.raises(MixtureError):
        make_report(Workspace.open(tiny), "../../up")
    assert not (tiny.parent.parent / "up").exists()
