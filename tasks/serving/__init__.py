"""Serving: targets, promotion, releases and trials."""
