"""Compute-constrained data selection: what selecting training data is worth, and what it costs."""
