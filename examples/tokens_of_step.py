"""Which tokens stand in step s? Any step can be computed alone: no state, no order, no workers."""

import numpy as np

from mixture_assets.data.sampler import Layout, Sampler

CONTEXT, BATCH = 8, 4  # tokens in a sequence, sequences in a step


def main() -> None:
    """Lay out a run over three domains, and look at steps in any order."""
    arrays = {  # the number says where a token stands in its domain
        "books": [np.arange(0, 400)],
        "code": [np.arange(1000, 1200)],
        "wiki": [np.arange(2000, 2100)],  # 12 sequences: the run reads it more than once
    }
    requested = {"books": 300, "code": 150, "wiki": 150}
    layout = Layout.from_tokens(requested, context=CONTEXT, batch=BATCH)
    sampler = Sampler(layout, arrays, seed=0)
    print(f"{layout.n_sequences} sequences in {layout.n_steps} steps")
    for domain, tokens in layout.realised_tokens.items():
        print(f"  {domain}: {requested[domain]} tokens requested, {tokens} realised")
    for step in (10, 0, layout.n_steps - 1):
        print(f"step {step}")
        domains, _ = layout.sequences(step)
        for domain, row in zip(domains, sampler.batch(step), strict=True):
            print(f"  {layout.domains[domain]:<5}  tokens {row[0]} to {row[-2]}")


if __name__ == "__main__":
    main()
