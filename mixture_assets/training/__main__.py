"""A training worker: `python -m mixture_assets.training STORE`, run ids on stdin.

Any number of workers may be given the same runs, on one machine or on several that share the
store: each takes the next run whose lock is free, until every run has a result or a failure.
"""

import sys

from mixture_assets.training.allocator import tune_allocator

if __name__ == "__main__":
    tune_allocator()  # before torch is imported
    from mixture_assets.training.worker import main

    sys.exit(main(sys.argv[1:]))
