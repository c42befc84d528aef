"""The demo from nothing: wall time, peak memory of all its processes, and the second run.

Copies the experiment to a temporary folder, so that your own store is left alone.
Prints one JSON line. As long as the demo takes.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

PROGRAM = "from mixture_assets.cli import main; main()"


def timed(experiment):
    """Seconds and peak resident bytes of the whole process tree."""
    command = [sys.executable, "-c", PROGRAM, "run", "--experiment", str(experiment)]
    begun, peak = time.monotonic(), 0
    with open(experiment.with_suffix(".log"), "a") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        while process.poll() is None:
            peak = max(peak, resident_bytes(process.pid))
            time.sleep(0.25)
    assert process.returncode == 0, experiment.with_suffix(".log").read_text()[-2000:]
    return time.monotonic() - begun, peak


def resident_bytes(pid):
    """Proportional set size, so that pages shared by the workers count once."""
    total = 0
    try:
        parent = psutil.Process(pid)
        for process in [parent, *parent.children(recursive=True)]:
            try:
                total += process.memory_full_info().pss
            except psutil.Error:
                continue
    except psutil.Error:
        return 0
    return total


def main():
    """Run it twice."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "experiments"
        folder.mkdir()
        experiment = Path(shutil.copy("experiments/demo.toml", folder))
        first, peak = timed(experiment)
        second, _ = timed(experiment)
        assert "nothing to do" in experiment.with_suffix(".log").read_text()
    answer = {"benchmark": "demo", "seconds": round(first), "peak_memory_gb": round(peak / 1e9, 2)}
    print(json.dumps(answer | {"second_run_seconds": round(second, 1)}))


if __name__ == "__main__":
    main()
