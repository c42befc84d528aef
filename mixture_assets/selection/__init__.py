"""Compute-constrained selection: what to train on, counting what choosing it costs."""
