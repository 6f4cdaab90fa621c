"""The decision to promote a candidate, and its text."""
