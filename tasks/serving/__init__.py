"""Serving: targets, promotion, releases and canary trials."""
