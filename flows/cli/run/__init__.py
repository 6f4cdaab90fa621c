"""Commands that start pipeline runs."""
