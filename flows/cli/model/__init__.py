"""Commands on models and their reports."""
