"""The two dimensions: domains, and proxy runs. Keys come and go, so both are dynamic."""

import dagster as dg

DOMAINS = dg.DynamicPartitionsDefinition(name="domain")
TRIALS = dg.DynamicPartitionsDefinition(name="proxy_trial")
