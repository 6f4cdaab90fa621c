"""`python -m flows`: the same as `intent`."""

from flows.cli import app

app()
