"""Cleanup, diagnosis, backup and restore."""
