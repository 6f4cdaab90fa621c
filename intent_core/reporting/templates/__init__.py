"""Jinja templates of the report page."""
