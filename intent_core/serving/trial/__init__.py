"""Trials of a candidate on live traffic."""
