"""The loader's share of a training step: the sampler is called in the loop, without workers.

Prints one JSON line. A few seconds.
"""

import json
import tempfile
import time
from pathlib import Path

from _corpus import make

from mixture_assets.training.allocator import tune_allocator

tune_allocator()

N_STEPS = 60


def main():
    """Time the sampler alone, and the step that calls it."""
    from mixture_assets.plans import plan_proxies
    from mixture_assets.running import create_runs
    from mixture_assets.training.loop import _step
    from mixture_assets.training.state import mean_loss, prepare

    with tempfile.TemporaryDirectory() as folder:
        workspace, corpus = make(Path(folder), tokens=400_000)
        planned = plan_proxies(workspace, corpus)[:1]
        create_runs(workspace, planned)
        run = prepare(workspace.store, planned[0].run_id, say=lambda line: None)
        loading, stepping = [], []
        for step in range(N_STEPS):
            start = time.perf_counter()
            run.sampler.batch(step)
            loading.append(time.perf_counter() - start)
            start = time.perf_counter()
            _step(run, mean_loss, step)  # loads its batch too
            stepping.append(time.perf_counter() - start)
    load, whole = sorted(loading)[N_STEPS // 2], sorted(stepping)[N_STEPS // 2]
    answer = {
        "benchmark": "loader",
        "load_ms": round(1e3 * load, 3),
        "step_ms": round(1e3 * whole, 2),
    }
    print(json.dumps(answer | {"share": round(load / whole, 4)}))


if __name__ == "__main__":
    main()
