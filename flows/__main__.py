"""Run `intent` as `python -m flows`."""

from flows.cli.main import app

if __name__ == "__main__":
    app()
