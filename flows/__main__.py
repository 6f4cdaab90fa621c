"""`python -m flows`: the same as `intent`."""

from flows.cli.main import app

app()
