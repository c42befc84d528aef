"""From a table of proxy runs to weights: DDO on the numbers that AutoScale's authors published.

Source: DDO_example.ipynb of github.com/feiyang-k/AutoScale, commit f3cae22. GPT-2 Large, 1.2 B
tokens; the objective is the mean validation perplexity over seven domains.
"""

from mixture_assets.methods.ddo import ddo_from_table

BASE = 28.11373645
RUNS = {  # domain: (perplexity with 0.2 times its tokens, with 3 times)
    "common_crawl": (30.11152249, 25.78619752),
    "github": (28.37687875, 27.68033216),
    "books": (29.85955983, 26.25833879),
    "wiki": (29.90195668, 26.47376351),
    "c4": (30.37704005, 25.49797272),
    "stackexchange": (29.23766591, 27.01485416),
    "arxiv": (28.92552215, 27.24200395),
}


def main() -> None:
    """Fit a curve for each domain, hand out the tokens, print both."""
    rows: list[tuple[str | None, float, float]] = [(None, 1.0, BASE)]  # the base run: no domain
    for domain, (less, more) in RUNS.items():
        rows += [(domain, 0.2, less), (domain, 3.0, more)]
    fit = ddo_from_table(rows, floor=0.2)
    print(f"{'domain':<14}  {'weight':>6}  {'x base':>6}  objective / base objective")
    for curve in fit.curves:
        law = f"(x + {curve.a:.3f})^-{curve.b:.3f} + {curve.c:.3f}"
        weight = fit.weights[curve.domain]
        print(f"{curve.domain:<14}  {weight:>6.3f}  {curve.optimum:>6.3f}  {law}")
    print(f"at their floor: {', '.join(fit.at_floor)}")


if __name__ == "__main__":
    main()
