"""Everything that knows about Dagster. One module per group of assets; no maths in any of them."""

import warnings

# Parts of Dagster that we use on purpose although they may still change; by name only.
for _part in ("backfill_policy", "pool"):
    warnings.filterwarnings("ignore", message=f".*`{_part}`.* is currently in (beta|preview)")
