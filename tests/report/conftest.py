"""A store with a whole small experiment in it: real proposals over synthetic losses."""

import itertools
import json
import math
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from mixture_assets.core.digest import digest
from mixture_assets.core.mixture import Mixture
from mixture_assets.core.problem import Objective, Problem, Proposal, ProxyResult
from mixture_assets.core.run import Measurement, ModelSpec, RunSpec, TrainingSpec
from mixture_assets.lineage import proposal_rows
from mixture_assets.methods.autoscale import AutoScale
from mixture_assets.methods.ddo import DDO
from mixture_assets.store.records import write_record
from mixture_assets.store.runs import RunFolder

DOMAINS = {"code": 4_000_000, "prose": 1_500_000, "law": 400_000}
BUDGET = 2_400_000
TOKENIZER = digest("tokenizer")


def losses(tokens: Mapping[str, int], seed: int, share: float = 1.0) -> dict[str, float]:
    """A domain's loss falls with its own tokens, and a little with everybody's."""
    noise = random.Random(f"{sorted(tokens.items())} {seed} {share}")
    total = share * sum(tokens.values())
    found = {}
    for k, (domain, amount) in enumerate(sorted(tokens.items())):
        useful = share * amount + 0.08 * total + 2_000
        level = 1.6 + 0.25 * (k % 4)
        found[domain] = level + (14 + k % 3) * useful ** -(0.17 + 0.012 * (k % 3))
        found[domain] += noise.gauss(0, 0.004)
    return found


class Example:
    """Writes run folders and records as training and the pipeline do."""

    def __init__(
        self,
        store: Path,
        domains: Mapping[str, int] = DOMAINS,
        budget: int = BUDGET,
        notes: tuple[str, ...] = (),
        mixtures: tuple[str, ...] = ("natural", "uniform", "proposal"),
        seeds: tuple[int, ...] = (0, 1),
        objective: Objective | None = None,
        better: float = 0.0,
    ) -> None:
        self.store, self.domains, self.budget = store, dict(domains), budget
        self.objective = objective or Objective()
        self.better = better  # nats that the proposal's full runs get for nothing
        self.proposal_id = "feedfacefeedface"
        self.full: dict[tuple[str, int], str] = {}
        self._clock = itertools.count()
        self._write_domains()
        self.proposal = self._propose(notes)
        for mixture, seed in itertools.product(mixtures, seeds):
            self._full_run(mixture, seed)
        self._write_costs("full", list(self.full.values()))

    def _now(self) -> str:
        return f"2026-03-01T10:{next(self._clock) // 60:02d}:{next(self._clock) % 60:02d}Z"

    def _write_domains(self) -> None:
        write_record(
            self.store,
            "tokenizer",
            TOKENIZER,
            {
                "tokenizer": [
                    {
                        "tokenizer_id": TOKENIZER,
                        "vocab_size": 2048,
                        "kind": "byte-level BPE",
                        "name": "",
                    }
                ]
            },
        )
        for domain, tokens in self.domains.items():
            token_set, shard = digest(["tokens", domain]), digest(["shard", domain])
            token_shard = digest(["token_shard", domain])
            rows: dict[str, list[dict[str, Any]]] = {
                "shard": [
                    {
                        "shard_id": shard,
                        "domain": domain,
                        "url": f"raw/{shard}.jsonl.zst",
                        "n_bytes": tokens,
                        "n_documents": tokens // 500,
                        "n_empty_documents": 1,
                        "format": "jsonl.zst",
                    }
                ],
                "token_shard": [
                    {
                        "token_shard_id": token_shard,
                        "shard_id": shard,
                        "domain": domain,
                        "tokenizer_id": TOKENIZER,
                        "n_tokens": round(tokens * 1.05),
                        "n_documents": tokens // 500,
                        "n_bytes": 4 * tokens,
                        "engine": "gigatoken",
                    }
                ],
                "domain": [
                    {
                        "token_set_id": token_set,
                        "domain": domain,
                        "available_tokens": tokens,
                        "n_documents": tokens // 520,
                        "validation_id": digest(["validation", domain]),
                        "validation_tokens": 12_000,
                        "validation_documents": 24,
                    }
                ],
                "edge": [
                    {"child": token_set, "parent": token_shard, "role": "shard"},
                    {"child": token_shard, "parent": shard, "role": "raw"},
                    {"child": token_shard, "parent": TOKENIZER, "role": "tokenizer"},
                ],
            }
            write_record(self.store, "domain", token_set, rows)

    def _spec(self, tokens: Mapping[str, int], seed: int) -> RunSpec:
        return RunSpec(
            tokens=dict(sorted(tokens.items())),
            seed=seed,
            model=ModelSpec(),
            training=TrainingSpec(),
            vocab_size=2048,
            token_sets={d: digest(["tokens", d]) for d in sorted(tokens)},
            numeric_path="cpu-fp32",
            tokenizer=TOKENIZER,
        )

    def run(
        self,
        tokens: Mapping[str, int],
        seed: int,
        *,
        evaluations: int = 1,
        shift: float = 0.0,
        **header: Any,
    ) -> str:
        """Write one finished run; returns its id."""
        spec = self._spec(tokens, seed)
        sets = {d: digest(["validation", d]) for d in sorted(tokens)}
        measured = Measurement(validation_sets=sets, evaluations=evaluations)
        folder = RunFolder(self.store, spec.digest)
        known = {"experiment": "demo", "created_at": self._now(), "spec": spec.to_json()}
        known["measurement"] = measured.to_json()
        folder.create({"mixture_name": ""} | known | header)
        lines, total = [], sum(tokens.values())
        for k in range(1, evaluations + 1):
            at = {"run_id": spec.digest, "step": 100 * k, "tokens": total * k // evaluations}
            by = {d: x + shift for d, x in losses(tokens, seed, k / evaluations).items()}
            for domain, loss in by.items():
                row = {"kind": "evaluation", "domain": domain, "metric_version": 1}
                row |= {"validation_id": sets[domain]}
                lines.append(json.dumps(row | at | self._measures(loss)))
        folder.metrics_path.write_text("\n".join(lines) + "\n")
        folder.write_result(
            {
                "losses": {domain: self._measures(loss) for domain, loss in by.items()},
                "validation_sets": sets,
                "metric_version": 1,
                "requested_tokens": dict(tokens),
                "realised_tokens": dict(tokens),
                "n_params": 230_000,
                "flops_train": 1.5e6 * total,
                "flops_eval": 2e9,
                "seconds": total / 18_000,
                "steps": 100 * evaluations,
                "device": "cpu",
                "numeric_path": "cpu-fp32",
                "code_version": "0.1.0",
                "finished_at": self._now(),
                "peak_memory_bytes": 1,
            }
        )
        return spec.digest

    @staticmethod
    def _measures(loss: float) -> dict[str, Any]:
        return {
            "loss_nats": loss,
            "loss_se_nats": 0.02,
            "bits_per_byte": loss / math.log(2) / 4,
            "bits_per_byte_se": 0.01,
            "perplexity": math.exp(loss),
            "n_tokens": 12_000,
            "n_documents": 24,
        }

    def _propose(self, notes: tuple[str, ...]) -> Proposal:
        problem = Problem(
            available_tokens=self.domains, budget_tokens=self.budget, objective=self.objective
        )
        scales = {
            name: DDO(base_tokens=self.budget // k, base_seeds=(1, 2), scale=name)
            for name, k in (("small", 9), ("large", 3))
        }
        results, runs = [], {}
        for name, ddo in scales.items():
            labels = ddo.labels(problem)
            for asked in ddo.plan(problem):
                run_id = self.run(
                    asked.tokens,
                    asked.seed,
                    purpose="proxy",
                    label=labels[asked.digest],
                    scale=name,
                )
                runs[asked.digest] = run_id
                results.append(
                    ProxyResult(
                        run=asked, loss_nats=losses(asked.tokens, asked.seed), run_id=run_id
                    )
                )
        method = AutoScale(small=scales["small"], large=scales["large"], bootstrap=20)
        proposal = method.propose(problem, results)
        rows = proposal_rows(
            self.proposal_id, proposal, experiment="demo", created_at=self._now(), runs=runs
        )
        known = json.loads(rows["proposal"][0]["notes"])
        rows["proposal"][0]["notes"] = json.dumps([*known, *notes])
        write_record(self.store, "proposal", self.proposal_id, rows)
        self.proxy_ids = sorted(runs.values())
        self._write_costs("proxy", self.proxy_ids)
        return proposal

    def _full_run(self, name: str, seed: int) -> None:
        known = {
            "natural": self.proposal.natural,
            "uniform": self.proposal.uniform,
            "proposal": self.proposal.mixture,
        }
        self.full[name, seed] = self.run(
            self.split(known[name]),
            seed,
            evaluations=10,
            shift=-self.better if name == "proposal" else 0.0,
            purpose="full",
            label=f"{name} seed {seed}",
            scale="full",
            mixture_name=name,
        )

    def split(self, mixture: Mixture) -> dict[str, int]:
        """Whole tokens that sum to the budget."""
        exact = {d: w * self.budget for d, w in mixture.items()}
        tokens = {d: int(x) for d, x in exact.items()}
        short = self.budget - sum(tokens.values())
        for domain in sorted(exact, key=lambda d: (tokens[d] - exact[d], d))[:short]:
            tokens[domain] += 1
        return tokens

    def _write_costs(self, role: str, run_ids: list[str]) -> None:
        rows = []
        for run_id in run_ids:
            result = RunFolder(self.store, run_id).result()
            assert result is not None
            rows.append(
                {
                    "decision_id": self.proposal_id,
                    "run_id": run_id,
                    "flops": result["flops_train"] + result["flops_eval"],
                    "device_seconds": result["seconds"],
                    "device": result["device"],
                    "role": role,
                }
            )
        write_record(self.store, "cost", digest([self.proposal_id, role]), {"cost": rows})


@pytest.fixture(scope="session")
def example(tmp_path_factory: pytest.TempPathFactory) -> Example:
    """Three domains, two scales, three mixtures from two seeds. Read only."""
    return Example(tmp_path_factory.mktemp("example"))


@pytest.fixture
def make_example(tmp_path: Path) -> Callable[..., Example]:
    """A store of one's own: pass what differs."""
    return lambda **changes: Example(tmp_path / "store", **changes)
