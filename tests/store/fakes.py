"""Run folders and records written by hand, exactly as docs/store.md describes them."""

import json
from pathlib import Path
from typing import Any

DOMAINS = ("code", "prose")
VALIDATION_SETS = {"code": "a" * 16, "prose": "b" * 16}
TOKEN_SETS = {"code": "c0de000000000001", "prose": "9e05e00000000001"}


def spec(seed: int = 0, tokens: dict[str, int] | None = None) -> dict[str, Any]:
    return {
        "tokens": tokens or {"code": 640, "prose": 1280},
        "seed": seed,
        "model": {"family": "llama", "width": 64},
        "training": {"batch_tokens": 128},
        "token_sets": TOKEN_SETS,
        "numeric_path": "cpu-fp32",
    }


def header(run_id: str, *, seed: int = 0, **changes: Any) -> dict[str, Any]:
    return {
        "run_id": run_id,
        "purpose": "proxy",
        "label": f"small base seed {seed}",
        "experiment": "demo",
        "scale": "small",
        "mixture_name": "base",
        "created_at": "2026-01-02T03:04:05Z",
        "spec": spec(seed),
        "measurement": {"validation_sets": VALIDATION_SETS, "evaluations": 2, "metric_version": 1},
    } | changes


def step_row(run_id: str, step: int, loss: float = 5.0) -> dict[str, Any]:
    return {
        "kind": "step",
        "run_id": run_id,
        "step": step,
        "tokens": step * 128,
        "loss_nats": loss,
        "learning_rate": 0.003,
        "grad_norm": 1.5,
        "tokens_per_second": 18000.0,
        "seconds": step * 0.1,
    }


def evaluation_row(run_id: str, step: int, domain: str, loss: float = 4.0) -> dict[str, Any]:
    return {
        "kind": "evaluation",
        "run_id": run_id,
        "step": step,
        "tokens": step * 128,
        "domain": domain,
        "validation_id": VALIDATION_SETS.get(domain, "c" * 16),
        "loss_nats": loss,
        "loss_se_nats": 0.02,
        "bits_per_byte": 2.0,
        "bits_per_byte_se": 0.01,
        "perplexity": 54.6,
        "n_tokens": 4096,
        "n_documents": 20,
        "metric_version": 1,
    }


def result(run_id: str, steps: int, losses: dict[str, float]) -> dict[str, Any]:
    return {
        "run_id": run_id,
        "status": "done",
        "losses": {
            domain: {
                "loss_nats": loss,
                "loss_se_nats": 0.02,
                "bits_per_byte": 2.0,
                "bits_per_byte_se": 0.01,
                "perplexity": 54.6,
                "n_tokens": 4096,
                "n_documents": 20,
            }
            for domain, loss in losses.items()
        },
        "validation_sets": VALIDATION_SETS,
        "metric_version": 1,
        "requested_tokens": {"code": 640, "prose": 1280},
        "realised_tokens": {"code": 640, "prose": 1216},
        "n_params": 700_000,
        "flops_train": 8.1e9,
        "flops_eval": 1.2e9,
        "seconds": 12.5,
        "steps": steps,
        "device": "cpu",
        "numeric_path": "cpu-fp32",
        "code_version": "training-1",
        "versions": {"torch": "2.13.0"},
        "finished_at": "2026-01-02T03:05:05Z",
        "peak_memory_bytes": 400_000_000,
    }


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def append_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def finished_run(
    store: Path, run_id: str, *, n_steps: int = 10, seed: int = 0, **changes: Any
) -> Path:
    """A run that is done: its folder."""
    folder = store / "runs" / run_id
    write_json(folder / "spec.json", header(run_id, seed=seed, **changes))
    rows = [step_row(run_id, step) for step in range(1, n_steps + 1)]
    rows += [evaluation_row(run_id, step, d) for step in (n_steps // 2, n_steps) for d in DOMAINS]
    append_rows(folder / "metrics.jsonl", rows)
    write_json(
        folder / "result.json", result(run_id, n_steps, {"code": 4.0 + seed / 10, "prose": 4.2})
    )
    return folder


def lineage_records(store: Path, run_ids: list[str]) -> None:
    """A proposal of two weights that rests on `run_ids`, down to two raw shards a domain."""
    write_json(
        store / "records" / "tokenizer" / "70ce000000000001.json",
        {
            "kind": "tokenizer",
            "id": "70ce000000000001",
            "rows": {
                "tokenizer": [
                    {
                        "tokenizer_id": "70ce000000000001",
                        "vocab_size": 4096,
                        "kind": "bpe",
                        "name": "trained",
                    }
                ]
            },
        },
    )
    for domain, token_set in TOKEN_SETS.items():
        write_json(
            store / "records" / "domain" / f"{token_set}.json",
            {"kind": "domain", "id": token_set, "rows": _domain_rows(domain, token_set)},
        )
    write_json(
        store / "records" / "proposal" / "90a1000000000001.json",
        {"kind": "proposal", "id": "90a1000000000001", "rows": proposal_rows(run_ids)},
    )


def _domain_rows(domain: str, token_set: str) -> dict[str, list[dict[str, Any]]]:
    rows: dict[str, list[dict[str, Any]]] = {
        "domain": [
            {
                "token_set_id": token_set,
                "domain": domain,
                "available_tokens": 50_000,
                "n_documents": 90,
                "validation_id": "a" * 16,
                "validation_tokens": 4096,
                "validation_documents": 20,
            }
        ],
        "shard": [],
        "token_shard": [],
        "edge": [],
    }
    for number in (0, 1):
        shard, tokens = f"raw-{domain}-{number}", f"tok-{domain}-{number}"
        rows["shard"].append(
            {
                "shard_id": shard,
                "domain": domain,
                "url": f"data/raw/{domain}/{number}.jsonl.zst",
                "n_bytes": 100_000,
                "n_documents": 55,
                "n_empty_documents": 0,
                "format": "jsonl.zst",
            }
        )
        rows["token_shard"].append(
            {
                "token_shard_id": tokens,
                "shard_id": shard,
                "domain": domain,
                "tokenizer_id": "70ce000000000001",
                "n_tokens": 27_000,
                "n_documents": 55,
                "n_bytes": 99_000,
                "engine": "gigatoken",
            }
        )
        rows["edge"] += [
            {"child": token_set, "parent": tokens, "role": "shard"},
            {"child": tokens, "parent": shard, "role": "raw"},
            {"child": tokens, "parent": "70ce000000000001", "role": "tokenizer"},
        ]
    return rows


def proposal_rows(
    run_ids: list[str], proposal_id: str = "90a1000000000001", **changes: Any
) -> dict[str, list[dict[str, Any]]]:
    """Rows of a proposal with one fit a domain, each resting on all runs."""
    rows: dict[str, list[dict[str, Any]]] = {
        "proposal": [
            {
                "proposal_id": proposal_id,
                "experiment": "demo",
                "method": "ddo",
                "objective": "mean perplexity",
                "budget_tokens": 4_000_000,
                "extrapolation_factor": 3.3,
                "noise_sd": 0.4,
                "created_at": "2026-01-02T04:00:00Z",
                "notes": "[]",
            }
            | changes
        ],
        "proposal_weight": [],
        "fit": [],
        "fit_parameter": [],
        "cost": [
            {
                "decision_id": proposal_id,
                "run_id": run_id,
                "flops": 9.3e9,
                "device_seconds": 12.5,
                "device": "cpu",
                "role": "proxy",
            }
            for run_id in run_ids
        ],
        "edge": [],
    }
    for domain, weight in (("code", 0.4), ("prose", 0.6)):
        fit, node = f"fit-{proposal_id}-{domain}", f"{proposal_id}:{domain}"
        rows["proposal_weight"].append(
            {
                "proposal_id": proposal_id,
                "domain": domain,
                "weight": weight,
                "weight_low": weight - 0.05,
                "weight_high": weight + 0.05,
                "natural_weight": 0.5,
                "uniform_weight": 0.5,
                "epochs": 1.2,
                "is_at_floor": False,
                "is_held": False,
                "is_capped": False,
                "is_improving": True,
            }
        )
        rows["fit"].append(
            {
                "fit_id": fit,
                "proposal_id": proposal_id,
                "domain": domain,
                "scale": "small",
                "base_tokens": 960.0,
                "optimum": 1.3,
                "degrees_of_freedom": 1,
                "residual_sd": 0.01,
                "is_improving": True,
                "is_at_floor": False,
            }
        )
        rows["fit_parameter"] += [
            {"fit_id": fit, "name": name, "value": value}
            for name, value in (("a", 0.1), ("b", 0.5), ("c", 0.3))
        ]
        rows["edge"] += [{"child": proposal_id, "parent": node, "role": "weight"}]
        rows["edge"] += [{"child": node, "parent": fit, "role": "fit"}]
        rows["edge"] += [{"child": fit, "parent": r, "role": "proxy_run"} for r in run_ids]
    return rows


def later_records(store: Path) -> None:
    """What a while of work adds: a second proposal, a test of it, an edit of the file, a copy."""
    old, new = "90a1000000000001", "90a1000000000002"
    rows = proposal_rows(["r0"], new, created_at="2026-01-03T04:00:00Z")
    rows["input"] = [_input(new, "proxy", "grow", "4.0")]
    rows["prediction"] = [prediction_row(new, "natural", -0.04)]
    rows["proposal_weight"][0] |= {"weight_low": 0.25, "weight_high": 0.55}  # natural is 0.5
    write_json(store / "records/proposal" / f"{new}.json", _record("proposal", new, rows))
    write_json(store / "latest" / "demo.json", {"proposal_id": new})
    said = [_input(old, "proxy", "grow", "3.0"), _input("experiment:demo", "proxy", "grow", "5.0")]
    comparison = {
        "comparison_id": "c0",
        "experiment": "demo",
        "proposal_id": new,
        "baseline": "natural",
        "objective": "mean perplexity",
        "difference": -0.1,
        "verdict": "one seed: unknown",
    }
    copied = {"shard_id": "raw-code-0", "domain": "code", "url": "data/raw/code/again.jsonl.zst"}
    rows = {"input": said, "comparison": [comparison], "shard": [copied]}
    write_json(store / "records/note/later.json", _record("note", "later", rows))
    append_rows(store / "runs/r0/metrics.jsonl", [step_row("r0", 11) | {"grad_norm": 9.0}])


def prediction_row(
    proposal_id: str, baseline: str, value: float, half: float = 0.02
) -> dict[str, Any]:
    """What a proposal expects beside a baseline."""
    return {
        "proposal_id": proposal_id,
        "quantity": "log of the objective over the baseline's",
        "baseline": baseline,
        "value": value,
        "low": value - half,
        "high": value + half,
    }


def _input(owner: str, kind: str, name: str, value: str) -> dict[str, Any]:
    return {"owner": owner, "kind": kind, "name": name, "value": value}


def _record(kind: str, name: str, rows: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    return {"kind": kind, "id": name, "rows": rows}


def full_run(
    store: Path, run_id: str, mixture_name: str, seed: int, loss: float, **changes: Any
) -> None:
    """A finished full run of the demo."""
    names = {"purpose": "full", "scale": "full", "mixture_name": mixture_name} | changes
    folder = finished_run(store, run_id, seed=seed, label=f"{mixture_name} seed {seed}", **names)
    write_json(folder / "result.json", result(run_id, 10, {"code": loss, "prose": loss}))
