"""The demo, killed with SIGKILL at random moments and started again, beside an undisturbed one.

Every other kill takes the whole process group; the others only the main process, whose workers
must then find out by themselves. At the end the weights and the final losses must be equal, to
the last bit. Not part of `make bench`: it takes about two and a half demos.

    .venv/bin/python benchmarks/_kill_demo.py [KILLS [SEED]]
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROGRAM = "from mixture_assets.cli import main; main()"


def start(experiment):
    """The demo as a process group of its own."""
    command = [sys.executable, "-c", PROGRAM, "run", "--experiment", str(experiment), "--json"]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )


def finish(experiment):
    """Weights and final losses, by run label."""
    output, _ = start(experiment).communicate()
    answer = json.loads(output)
    return {"weights": answer["proposal"]["weights"], "full_runs": answer["full_runs"]}


def disturb(experiment, kills, rng):
    """Start and kill; returns the seconds that each killed process had lived."""
    lives = []
    for number in range(kills):
        process = start(experiment)
        life = rng.uniform(2, 50)
        try:
            process.wait(life)
        except subprocess.TimeoutExpired:
            lives.append(round(life, 1))  # alive until now: this kill counts
            if number % 2:
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()
            process.wait()
    return lives


def main():
    """Undisturbed, then disturbed, then compared."""
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    rng = random.Random(int(sys.argv[2]) if len(sys.argv) > 2 else time.time_ns())
    with tempfile.TemporaryDirectory() as name:
        experiments = []
        for copy in ("undisturbed", "disturbed"):
            folder = Path(name) / copy / "experiments"
            folder.mkdir(parents=True)
            experiments.append(Path(shutil.copy("experiments/demo.toml", folder)))
        expected = finish(experiments[0])
        lives = disturb(experiments[1], kills, rng)
        found = finish(experiments[1])
    answer = {"benchmark": "kill_demo", "kills": len(lives), "lives_seconds": lives}
    answer |= {"is_bit_equal": found == expected, "n_full_runs": len(found["full_runs"])}
    print(json.dumps(answer))
    sys.exit(found != expected)


if __name__ == "__main__":
    main()
