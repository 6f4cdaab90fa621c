"""Predictions scored against the test split, and the report of it."""
