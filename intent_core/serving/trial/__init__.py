"""Canary and shadow trials of a candidate on live traffic."""
