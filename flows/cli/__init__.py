"""The `intent` command."""
