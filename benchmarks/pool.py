"""Proxy runs per hour with one worker per core, beside one worker.

The same eight runs, trained twice in fresh stores. Start-up of the workers is part of it.
Prints one JSON line. About two minutes on two cores.
"""

import dataclasses
import json
import tempfile
from pathlib import Path

from _corpus import make

from mixture_assets.compute.pool import default_workers, run_pool
from mixture_assets.plans import plan_proxies
from mixture_assets.running import create_runs

N_RUNS, TOKENS = 8, 200_000


def runs_per_hour(workers):
    """Train the eight runs in a fresh store."""
    with tempfile.TemporaryDirectory() as folder:
        workspace, corpus = make(Path(folder), tokens=TOKENS)
        base = plan_proxies(workspace, corpus)[-1]
        planned = [
            dataclasses.replace(base, spec=dataclasses.replace(base.spec, seed=seed))
            for seed in range(N_RUNS)
        ]
        create_runs(workspace, planned)
        ids = [run.run_id for run in planned]
        report = run_pool(workspace.store, ids, workers=workers)
        assert sorted(report.done) == sorted(ids)
        return 3600 * N_RUNS / report.seconds


def main():
    """One worker, then one per core."""
    cores = default_workers()
    one, many = runs_per_hour(1), runs_per_hour(cores)
    answer = {"benchmark": "pool", "n_cores": cores, "runs_per_hour_one_worker": round(one)}
    answer |= {"runs_per_hour": round(many), "ratio": round(many / one, 2)}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
