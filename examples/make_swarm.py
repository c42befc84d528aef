"""Make examples/swarm: 48 runs on random mixtures of five domains, and what came of them.

No model was trained. The loss on text of each kind is 1.2 + exp(a + b . w) for the run's weights
w, plus noise with a standard deviation of 0.01: made up, like the domains.
"""

import csv
import io
import random
import sys
from math import exp
from operator import mul
from pathlib import Path

DOMAINS = ("web", "code", "books", "maths", "wiki")
NATURAL = (0.60, 0.15, 0.12, 0.05, 0.08)
LAWS = {  # metric: (a, b)
    "web_loss": (0.8, (-0.5, 0.4, -0.8, 0.5, -0.5)),
    "code_loss": (0.3, (0.1, -1.6, 0.2, -0.5, 0.1)),
    "maths_loss": (0.6, (0.0, -0.6, 0.1, -1.9, -0.1)),
}

rng = random.Random(0)
tables: dict[str, list[list[str]]] = {"ratios": [["run", *DOMAINS]], "metrics": [["run", *LAWS]]}
for i in range(48):
    amounts = [rng.gammavariate(1 + 6 * share, 1) for share in NATURAL]
    weights = [round(x / sum(amounts), 4) for x in amounts[1:]]
    weights = [round(1 - sum(weights), 4), *weights]
    losses = [1.2 + exp(a + sum(map(mul, b, weights))) for a, b in LAWS.values()]
    tables["ratios"].append([f"run-{i:02}", *(f"{w:.4f}" for w in weights)])
    tables["metrics"].append([f"run-{i:02}", *(f"{y + rng.gauss(0, 0.01):.4f}" for y in losses)])
for name, rows in tables.items():
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    if "--write" in sys.argv:
        (Path(__file__).parent / "swarm" / f"{name}.csv").write_text(text.getvalue())
    else:
        print(text.getvalue())
