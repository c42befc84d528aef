"""Which earlier proxy runs are still worth something, and why the others are not."""

from collections.abc import Mapping, Sequence
from typing import Any

from mixture_assets.corpus import Corpus, Workspace
from mixture_assets.prices import Option, Step
from mixture_assets.search import Changes, sets_of
from mixture_assets.store.runs import RunFolder


def run_validity(
    workspace: Workspace, corpus: Corpus, options: Sequence[Option]
) -> list[dict[str, Any]]:
    """One row per way and earlier proxy run: what becomes of it, and why.

    Columns: way, run_id, label, fate ('kept', 'measured', 'unused'), reason.
    """
    earlier = _proxy_headers(workspace)
    rows = []
    for option in (o for o in options if o.problem is None):
        steps = {step.run.run_id: step for step in option.steps}
        for header in earlier:
            fate, reason = _fate(corpus, header, steps.get(header["run_id"]))
            row = {"way": option.way, "run_id": header["run_id"], "label": header["label"]}
            rows.append(row | {"fate": fate, "reason": reason})
    return rows


def _proxy_headers(workspace: Workspace) -> list[dict[str, Any]]:
    """Finished proxy runs that the experiment was the first to ask for."""
    found = []
    for path in sorted((workspace.store / "runs").glob("*/result.json")):
        header = RunFolder(workspace.store, path.parent.name).spec()
        is_ours = header["experiment"] == workspace.experiment.name
        if is_ours and header["purpose"] == "proxy":
            found.append(header)
    return found


def _fate(corpus: Corpus, header: Mapping[str, Any], step: Step | None) -> tuple[str, str]:
    if step is not None and step.action == "measure":
        return "measured", f"its model is kept, and is measured on {', '.join(step.domains)}"
    if step is not None and step.action == "keep":
        return "kept", "trained on the same tokens, measured on the same documents"
    if step is not None:
        return "unused", "its model was deleted, so it is trained again"
    return "unused", _why_unused(corpus, header["spec"])


def _why_unused(corpus: Corpus, spec: Mapping[str, Any]) -> str:
    now, then = sets_of(corpus), spec["token_sets"]
    changes = Changes.between(then, now)
    if changes.removed:
        return f"trained on {', '.join(changes.removed)}, which is gone"
    if changes.changed:
        return f"trained on the earlier text of {', '.join(changes.changed)}"
    if changes.added:
        return f"trained without {', '.join(changes.added)}"
    if spec["tokenizer"] != corpus.tokenizer.digest:
        return "trained on tokens of another tokenizer"
    return "has amounts of tokens, or settings, that this way does not ask for"
