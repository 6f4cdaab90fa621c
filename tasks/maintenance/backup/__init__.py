"""Backup and restore of a platform's state."""
