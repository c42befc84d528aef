"""What a thing was made from, as rows of the table `input`: a change of any makes it stale."""

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from mixture_assets.core.digest import canonical_json, digest
from mixture_assets.core.errors import MachineError
from mixture_assets.core.experiment import Experiment
from mixture_assets.core.run import METRIC_VERSION, TRAINING_VERSION, RunSpec
from mixture_assets.store.records import read_record, write_record

Inputs = dict[tuple[str, str], str]  # (kind, name) -> value: see the table `input`

RECORD_KIND = "experiment_input"
PROPOSAL_VERSION = 1  # raise when a change of code changes a proposal

# Of an experiment's inputs: what its weights rest on, and what only its comparisons do.
PROPOSAL_KINDS = (
    *("token_set", "validation_set", "tokenizer", "proxy", "proxy_model", "training"),
    *("objective", "constraints", "budget", "training_code", "code"),
)
COMPARISON_KINDS = ("full", "objective", "budget")


def setting_inputs(experiment: Experiment) -> Inputs:
    """The part that stands in the experiment file, and the versions of our code."""
    e = experiment
    full, proxy = dataclasses.asdict(e.full), dataclasses.asdict(e.proxy)
    del full["evaluations"], proxy["evaluations"]  # how often, not what
    tables = {
        "model": dataclasses.asdict(e.model),
        "proxy_model": dataclasses.asdict(e.proxy_model or e.model),
        "training": dataclasses.asdict(e.training),
        "proxy": proxy,
        "objective": dataclasses.asdict(e.objective),
        "constraints": dataclasses.asdict(e.constraints),
        "budget": {"full.budget_tokens": full.pop("budget_tokens")},
        "full": full,
        "training_code": {"version": TRAINING_VERSION},
        "code": {"metric": METRIC_VERSION, "proposal": PROPOSAL_VERSION},
    }
    if e.specialist is not None:
        tables |= {
            "specialist": dataclasses.asdict(e.specialist),
            "online": dataclasses.asdict(e.online),
        }
    return _settings(tables)


def run_inputs(spec: RunSpec) -> Inputs:
    """The same of one run."""
    said = spec.to_json()
    settings = {
        "model": said["model"],
        "training": said["training"],
        "training_code": {"version": said["training_version"]},
        "online": said.get("online") or {},
    }
    return (
        {("tokenizer", "tokenizer"): spec.tokenizer}
        | {("token_set", name): value for name, value in said["token_sets"].items()}
        | _settings(settings)
    )


def _settings(tables: Mapping[str, Mapping[str, Any]]) -> Inputs:
    """Every key with its value as JSON; a table inside becomes 'weights.code'."""
    found = {}
    for kind, table in tables.items():
        for key, value in table.items():
            several = value if isinstance(value, Mapping) else {"": value}
            for inner, one in several.items():
                if one is not None:
                    found[kind, f"{key}.{inner}".rstrip(".")] = canonical_json(one)
    return found


def input_rows(owner: str, inputs: Inputs, kinds: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Rows of the table `input`: of some kinds, or of all."""
    return [
        {"owner": owner, "kind": kind, "name": name, "value": value}
        for (kind, name), value in sorted(inputs.items())
        if not kinds or kind in kinds
    ]


def record_inputs(experiment: Experiment, part: str, inputs: Inputs) -> None:
    """Say what an experiment is made from now: its 'settings', or its 'corpus'."""
    name = digest([experiment.name, part])
    rows = {"input": input_rows(f"experiment:{experiment.name}", inputs)}
    if read_record(experiment.store_path, RECORD_KIND, name) != rows:
        write_record(experiment.store_path, RECORD_KIND, name, rows)


def record_settings(experiment: Experiment) -> None:
    """Let the store know what the experiment file says now."""
    record_inputs(experiment, "settings", setting_inputs(experiment))


def note_settings(experiment: Experiment) -> None:
    """The same where the disk allows it: on a full or a read-only one can still be asked."""
    with contextlib.suppress(OSError, MachineError):
        record_settings(experiment)
