"""`python -m flows`: the same as `intent`."""

from flows.cli.main import app

if __name__ == "__main__":
    app()
