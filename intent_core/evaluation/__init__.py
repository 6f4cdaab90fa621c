"""Scores predictions against the test split and builds the evaluation report."""
