"""Nouns of the field: domains, mixtures, budgets, runs. Standard library only."""
