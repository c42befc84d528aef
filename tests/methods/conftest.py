"""Published numbers, typed in with their source so that these tests run anywhere."""

import csv
import math
from pathlib import Path

import pytest

from mixture_assets.core.problem import Objective, Problem, ProxyResult

DOMAINS = ("common_crawl", "github", "books", "wiki", "c4", "stackexchange", "arxiv")
REFERENCE = Path(__file__).parents[3] / "shared" / "reference" / "autoscale"


def named(values, names=DOMAINS):
    return dict(zip(names, values, strict=True))


@pytest.fixture
def reference():
    """Read a table of the reference data, which is not part of the repository."""

    def read(name):
        path = REFERENCE / name
        if not path.exists():
            pytest.skip(f"reference data {name} is not beside this checkout")
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    return read


@pytest.fixture
def notebook_rows():
    """Mean perplexity of 15 GPT-2 Large runs: AutoScale's DDO_example.ipynb, commit f3cae22."""
    shrunk = [30.11152249, 28.37687875, 29.85955983, 29.90195668, 30.37704005, 29.23766591]
    grown = [25.78619752, 27.68033216, 26.25833879, 26.47376351, 25.49797272, 27.01485416]
    return [
        ("", 1.0, 28.11373645),
        *((d, 0.2, y) for d, y in named([*shrunk, 28.92552215]).items()),
        *((d, 3.0, y) for d, y in named([*grown, 27.24200395]).items()),
    ]


@pytest.fixture
def published():
    """Best tokens, in units of 1e9: AutoScale's AutoScale_example.ipynb, commit f3cae22."""
    n03 = [1.55818971, 0.2, 1.1645966, 1.42333261, 1.49550525, 0.68184781, 0.47652801]
    n12 = [1.63121445, 0.2, 1.30180479, 1.21425702, 1.83266187, 0.62006189, 0.2]
    return {
        "small": named([x / 7 * 0.3 for x in n03]),
        "large": named([x / 7 * 1.2 for x in n12]),
    }


@pytest.fixture
def problem():
    return Problem(
        available_tokens={"web": 6_000_000, "code": 2_000_000, "books": 2_000_000},
        budget_tokens=1_000_000,
        objective=Objective(metric="loss"),
    )


GAINS = {"web": (2e3, 0.3), "code": (1e3, 0.6), "books": (1e3, 0.5)}


def toy_loss(tokens, gains=GAINS):
    """Stands in for training: more tokens help, domains alike in kind and not in degree."""
    return 1 + math.fsum(_gap(tokens, n, *gain) for n, gain in gains.items())


def toy_losses(tokens, gains=GAINS):
    """By domain, each helped by its own tokens only; their mean is `toy_loss`."""
    return {n: 1 + len(gains) * _gap(tokens, n, *gain) for n, gain in gains.items()}


def _gap(tokens, domain, unit, b):
    own = tokens.get(domain, 0) + tokens.get(f"{domain}@before", 0)
    return (1 + own / unit) ** -b


@pytest.fixture
def train():
    """Results for every planned run, with `disturb(run)` added to the loss."""

    def run_all(method, problem, loss=None, disturb=lambda run: 0.0):
        def losses(run):
            known = {n: x for n, x in toy_losses(run.tokens).items() if n in problem.domains}
            found = known if loss is None else dict.fromkeys(problem.domains, loss(run.tokens))
            wanted = problem.domains if run.measured is None else run.measured
            return {n: found[n] + disturb(run) for n in wanted}

        return [ProxyResult(run=run, loss_nats=losses(run)) for run in method.plan(problem)]

    return run_all
