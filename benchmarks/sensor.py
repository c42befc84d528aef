"""A tick of the sensor over 1,000 domains with 10,000 shards, none of which changed.

`python benchmarks/sensor.py` prints one JSON line. The tick is the sensor's own function, on a
Dagster instance where the domains are registered.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import dagster as dg

from mixture_assets.defs.automation import new_domains
from mixture_assets.defs.partitions import DOMAINS
from mixture_assets.defs.resources import Lab

N_DOMAINS, N_SHARDS, N_TICKS = 1000, 10, 7
EXPERIMENT = 'name = "wide"\nstore = "store"\n[data]\nroot = "raw"\n[full]\nbudget_tokens = 1\n'


def make(folder: Path) -> Path:
    """Domains that have settled, because each carries its marker."""
    for domain in range(N_DOMAINS):
        path = folder / "raw" / f"domain_{domain:04d}"
        path.mkdir(parents=True)
        for shard in range(N_SHARDS):
            (path / f"part-{shard:05d}.jsonl").write_text('{"text": "one"}\n')
        (path / "_SUCCESS").touch()
    experiment = folder / "wide.toml"
    experiment.write_text(EXPERIMENT)
    return experiment


def main() -> None:
    """Print the fastest and the slowest of some ticks."""
    with tempfile.TemporaryDirectory() as folder, dg.instance_for_test() as instance:
        lab = Lab(experiment=str(make(Path(folder))))

        def tick(cursor: str | None) -> tuple[float, dg.SensorResult | dg.SkipReason]:
            context = dg.build_sensor_context(
                instance=instance, cursor=cursor, resources={"lab": lab}
            )
            started = time.perf_counter()
            found = new_domains(context)
            return time.perf_counter() - started, found

        first_seconds, first = tick(None)
        assert isinstance(first, dg.SensorResult)
        assert DOMAINS.name is not None
        instance.add_dynamic_partitions(DOMAINS.name, list(json.loads(first.cursor or "{}")))
        ticks = [tick(first.cursor) for _ in range(N_TICKS)]
        assert all(isinstance(found, dg.SkipReason) for _, found in ticks), ticks[0][1]
        seconds = sorted(t for t, _ in ticks)
        row = {
            "benchmark": "sensor",
            "n_domains": N_DOMAINS,
            "n_shards": N_DOMAINS * N_SHARDS,
            "tick_seconds": round(seconds[0], 3),
            "slowest_tick_seconds": round(seconds[-1], 3),
            "first_tick_seconds": round(first_seconds, 3),
        }
        sys.stdout.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
