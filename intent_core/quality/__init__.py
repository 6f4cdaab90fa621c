"""Findings about a dataset: coverage, consistency, label errors."""
