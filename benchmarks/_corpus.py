"""A corpus for benchmarks: the standard library's sources, cut into three domains."""

import json
import sysconfig
from pathlib import Path

from mixture_assets.corpus import Corpus, Workspace, build_corpus

EXPERIMENT = """
name = "benchmark"
store = "store"
[data]
root = "raw"
validation_tokens = {validation_tokens}
[tokenizer]
vocab_size = 2048
[model]
width = 64
layers = 2
heads = 2
context = 64
[training]
batch_tokens = 512
learning_rate = 7e-3
[constraints]
max_epochs = 100
[proxy]
budgets_tokens = [{tokens}]
[full]
budget_tokens = {tokens}
"""


def make(folder: Path, *, tokens: int, validation_tokens: int = 4096) -> tuple[Workspace, Corpus]:
    """The demo's model and training settings over 6 MB of Python, in three domains."""
    sources = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    for index, domain in enumerate(("a", "b", "c")):
        (folder / "raw" / domain).mkdir(parents=True)
        with open(folder / "raw" / domain / "part.jsonl", "w", encoding="utf-8") as file:
            for path in sources[index::3]:
                text = path.read_text(encoding="utf-8", errors="ignore")
                for start in range(0, len(text), 4000):
                    row = {"text": f"{path.name} {start}\n{text[start : start + 4000]}"}
                    file.write(json.dumps(row) + "\n")
    path = folder / "benchmark.toml"
    path.write_text(EXPERIMENT.format(tokens=tokens, validation_tokens=validation_tokens))
    workspace = Workspace.open(path)
    return workspace, build_corpus(workspace)
