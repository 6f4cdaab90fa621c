"""Aliases, API keys and rate limits."""
